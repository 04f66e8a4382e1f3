"""`madbench phase`: closed forms of the fresh-data loop, effective sizes, the files it writes, and what it refuses."""

import csv
import dataclasses
import io
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats

from madbench import cli
from madbench.config import base as run_base
from madbench.display import Nothing
from madbench.errors import UserError
from madbench.phase import base, gaussian, job, real_only, settings
from madbench.phase.gaussian import Loops, Simulation, Sizes, chi_square, fixed_point, loops_of
from madbench.phase.settings import Cell
from madbench.randomness import Role
from madbench.report import phase as report

FIRST = ["n_real", "n_synthetic", "bias", "distance", "n_effective", "ratio"]


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def simulated(cells, d, *, diagonal=False, metric="w2", seeds=8, measured=16, ddof=1):
    config = {
        "covariance": "diagonal" if diagonal else "full",
        "data": {"dimension": d},
        "model": {"ddof": ddof},
        "metric": metric,
    }
    return Simulation(loops_of(config, cells), cells, range(seeds), measured, 0.01)


def fits(cell, d, *, diagonal, runs, generations, ddof=1):
    """Means and covariances of many independent loops of one cell, `[run, ...]`."""
    loops = loops_of(
        {
            "covariance": "diagonal" if diagonal else "full",
            "data": {"dimension": d},
            "model": {"ddof": ddof},
            "metric": "w2",
        },
        [cell],
    )
    sizes = Sizes(*(np.asarray([v], float) for v in dataclasses.astuple(cell)))
    seeds = jnp.arange(runs, dtype=jnp.uint32)
    found = loops.start(runs, sizes)
    step = jax.jit(loops.generation)
    for t in range(1, generations + 1):
        found = step(seeds, sizes, np.int64(t), found)
    return np.asarray(found.mean)[:, 0], np.asarray(found.covariance)[:, 0]


def near(values, expected, errors=4.5):
    """The mean over axis 0 lies within so many of its standard errors."""
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return np.all(abs(values.mean(axis=0) - expected) <= errors * error)


# ---------------------------------------------------------------------------------------------------------- the draws


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 10, 1000])
def test_chi_square_draws_have_their_distribution(dof):
    loops = Loops(4000, 1, True, "w2", gaussian.attempts(dof))
    draws = np.asarray(chi_square(jnp.full(4000, float(dof)), loops.noise(3, 1, Role.DATA)))
    assert stats.kstest(draws, stats.chi2(dof).cdf).pvalue > 1e-3


def test_no_degrees_of_freedom_no_scatter():
    noise = Loops(3, 1, True, "w2", 4).noise(0, 1, Role.DATA)
    np.testing.assert_array_equal(chi_square(jnp.asarray([0.0, -1.0, -5.0]), noise), 0)


def test_proposals_enough_for_the_smallest_shape():
    """At shape 1 a proposal fails with a chance of .048, and with less for larger ones."""
    assert 0.05 ** gaussian.attempts(1) < 1e-9
    assert gaussian.attempts(1) >= gaussian.attempts(20) >= gaussian.attempts(2000) >= 2


@pytest.mark.parametrize("n", [3, 5, 30])  # d = 6: of lower rank, square less one, full
def test_wishart_moments(n):
    d = 6
    loops = Loops(d, 1, False, "w2", 7)
    seeds = jnp.arange(3000, dtype=jnp.uint32)
    roots = jax.vmap(lambda s: loops.scatter_root(loops.noise(s, 1, Role.DATA), jnp.float64(n)))(seeds)
    scatter = np.asarray(roots @ roots.mT)
    assert near(scatter, (n - 1) * np.eye(d))
    # Var W_ii = 2 (n-1), Var W_ij = n-1, and E tr W² = (n-1) d (n+d)
    assert near((scatter - (n - 1) * np.eye(d)) ** 2, (n - 1) * (1 + np.eye(d)))
    assert near(np.trace(scatter @ scatter, axis1=1, axis2=2), (n - 1) * d * (n + d))
    assert np.all(np.linalg.matrix_rank(scatter[:50], tol=1e-8) == min(d, n - 1))


# -------------------------------------------------------------------------------------------------- the loop's law


def test_the_fixed_point_of_the_protocol():
    v, s = fixed_point(Sizes(20.0, 30.0, 0.9))
    assert (round(float(v), 5), round(float(s), 5)) == (0.02742, 0.88416)


@pytest.mark.parametrize("cell", [Cell(20, 30, 0.9), Cell(7, 40, 0.5), Cell(50, 0, 0.8), Cell(3, 1, 1.0)])
@pytest.mark.parametrize("ddof", [0, 1])
def test_the_fixed_point_solves_its_equations(cell, ddof):
    n_r, n_s, bias = dataclasses.astuple(cell)
    v, s = (float(x) for x in fixed_point(Sizes(float(n_r), float(n_s), bias), ddof))
    n, a = n_r + n_s, cell.share
    drawn = v + bias * s / n_s if n_s else 0.0
    assert v == pytest.approx((1 - a) ** 2 / n_r + a**2 * drawn)
    right = (n_r - 1) + max(n_s - 1, 0) * bias * s + n_r * n_s / n * (1 / n_r + drawn)
    assert (n - ddof) * s == pytest.approx(right)


@pytest.mark.parametrize("diagonal", [True, False])
def test_loops_stay_at_the_fixed_point_and_come_to_it(diagonal):
    cell, d = Cell(20, 30, 0.9), 4
    mean, covariance = fits(cell, d, diagonal=diagonal, runs=2000, generations=12)
    variance = covariance if diagonal else np.diagonal(covariance, axis1=1, axis2=2)
    assert near((mean**2).mean(axis=1), 0.02742)
    assert near(variance.mean(axis=1), 0.88416)


def test_the_sufficient_statistics_are_those_of_samples():
    """The same loop, from its start, on samples in plain NumPy: every moment that the distance depends on."""
    cell, d, runs, generations = Cell(6, 9, 0.8), 3, 1500, 4
    mean, covariance = fits(cell, d, diagonal=False, runs=runs, generations=generations)
    rng = np.random.default_rng(5)
    loops = loops_of({"covariance": "full", "data": {"dimension": d}, "model": {"ddof": 1}, "metric": "w2"}, [cell])
    sizes = Sizes(*(np.asarray([v], float) for v in dataclasses.astuple(cell)))
    begun = loops.start(runs, sizes)
    m, c = begun.mean[:, 0], begun.covariance[:, 0]
    for _ in range(generations):
        root = np.linalg.cholesky(cell.bias * c)
        drawn = m[:, None] + rng.normal(size=(runs, cell.n_synthetic, d)) @ root.mT
        x = np.concatenate([rng.normal(size=(runs, cell.n_real, d)), drawn], axis=1)
        m = x.mean(axis=1)
        c = (x - m[:, None]).mT @ (x - m[:, None]) / (x.shape[1] - 1)
    distance = lambda m, c: (m**2).sum(1) + ((np.sqrt(np.linalg.eigvalsh(c)) - 1) ** 2).sum(1)
    trace = lambda m, c: np.trace(c, axis1=1, axis2=2)
    square = lambda m, c: np.trace(c @ c, axis1=1, axis2=2)
    log_det = lambda m, c: np.linalg.slogdet(c)[1]
    for statistic in (distance, trace, square, log_det):
        ours, theirs = statistic(mean, covariance), statistic(m, c)
        error = math.hypot(ours.std(), theirs.std()) / math.sqrt(runs)
        assert abs(ours.mean() - theirs.mean()) < 4 * error


def test_a_loop_of_fewer_samples_than_dimensions_stays_finite():
    cell, d = Cell(4, 5, 1.0), 12
    mean, covariance = fits(cell, d, diagonal=False, runs=400, generations=10)
    assert np.all(np.linalg.matrix_rank(covariance[:20], tol=1e-6) == 8)
    v, s = fixed_point(Sizes(4.0, 5.0, 1.0))
    assert near((mean**2).mean(axis=1), float(v))
    assert near(np.trace(covariance, axis1=1, axis2=2) / d, float(s))


def test_a_cell_does_not_depend_on_its_map():
    cells = [Cell(10, 5, 1.0), Cell(10, 40, 0.8), Cell(30, 30, 0.5)]
    whole = simulated(cells, 3, seeds=2, measured=3).run()
    alone = simulated(cells[1:2], 3, seeds=2, measured=3).run()
    np.testing.assert_allclose(alone[0], whole[1], rtol=1e-9)


def test_the_burn_in_follows_from_the_share_of_synthetic_data():
    lengths = [settings.burn_in(Cell(10, n, 1.0), 0.01) for n in (0, 1, 10, 90, 990)]
    assert lengths == sorted(lengths)
    for n, length in zip((1, 10, 90, 990), lengths[1:], strict=True):
        assert Cell(10, n, 1.0).share ** length <= 0.01


# ----------------------------------------------------------------------------------------- curves and their inverse


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_closed_form_of_real_only_fits(ddof):
    n, rng = 5, np.random.default_rng(0)
    x = rng.normal(size=(200_000, n))
    each = x.mean(1) ** 2 + (x.std(1, ddof=ddof) - 1) ** 2
    assert near(each[:, None], real_only.closed_form("w2", 1, ddof, [n]))
    assert real_only.closed_form("w2", 7, 1, [2.0])[0] == pytest.approx(7 * (0.5 + 2 - 2 * math.sqrt(2 / math.pi)))
    np.testing.assert_allclose(real_only.closed_form("mean", 7, 1, [10, 70]), [0.7, 0.1])


def test_inversion_returns_the_size():
    sizes = real_only.ladder(2, 5000, 100)
    curve = real_only.curve(sizes, real_only.closed_form("w2", 3, 1, sizes))
    n = np.asarray([2.0, 3.0, 17.0, 123.4, 4000.0])
    np.testing.assert_allclose(curve.sizes_at(real_only.closed_form("w2", 3, 1, n)), n, rtol=1e-4)
    assert np.all(np.isnan(curve.sizes_at([100.0, 1e-9, 0.0])))  # never extrapolated
    assert curve.distance_at(17.0) == pytest.approx(real_only.closed_form("w2", 3, 1, [17.0])[0], rel=1e-4)
    assert math.isnan(curve.distance_at(1.5))


def test_a_noisy_curve_is_pooled():
    curve = real_only.curve([10, 20, 40, 80], [8.0, 3.0, 4.0, 1.0], [0.1, 0.3, 0.4, 0.1])
    np.testing.assert_allclose(curve.distance, [8, math.sqrt(12), 1])
    np.testing.assert_allclose(curve.size, [10, math.sqrt(800), 80])
    np.testing.assert_allclose(curve.relative_error[1], 0.1 / math.sqrt(2))


# ------------------------------------------------------------------------------------------------------------ the map


def small(**changes):
    config = base()
    config.task = "toy"
    config.data.dimension = 2
    config.covariance = "diagonal"
    config.n_real = (20,)
    config.seeds = 8
    with config.unlocked():
        for name, value in changes.items():
            config[name] = value
    return config


def rows_of(config):
    plain = settings.resolve(config)
    return job.effective(plain, job._simulated(plain, None, "", Nothing()))


def test_for_the_mean_unbiased_synthetic_data_helps_as_the_closed_form_says():
    config = small(metric="mean", n_real=(30,), ratios=(0.0, 0.5, 1.0), seeds=8, averaged=16)
    config.data.dimension = 100
    rows = rows_of(config)
    for row in rows:
        n_r, n_s = row["n_real"], row["n_synthetic"]
        v = float(fixed_point(Sizes(float(n_r), float(n_s), 1.0))[0])
        error = 5 * row["distance_se"] / row["distance"]
        assert row["ratio"] == pytest.approx(1 / (v * n_r), rel=error)  # n_e = 1/V
        assert 1 / (v * n_r) == pytest.approx(1 + n_s / (n_r + n_s), rel=0.05)
        assert error < 0.15
    assert all(row["admissible"] == "yes" for row in rows)
    assert all(row["n_effective_low"] < row["n_effective"] < row["n_effective_high"] for row in rows)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_without_synthetic_data_the_ratio_is_one(covariance):
    config = small(covariance=covariance, n_real=(5, 40), ratios=(0.0,), biases=(1.0, 0.5), averaged=24)
    config.data.dimension = 10
    for row in rows_of(config):
        assert row["n_synthetic"] == 0
        assert row["n_effective_low"] <= row["n_real"] * 1.02
        assert row["n_effective_high"] >= row["n_real"] * 0.98
        assert row["ratio"] == pytest.approx(1, abs=0.08)


def test_beyond_a_threshold_biased_synthetic_data_hurts_and_the_threshold_levels_off():
    """In the limit of many real samples, d = 1: with a = n_s/n_r small, variances fall by a (2-λ) (mean) and a (2-λ²)
    (variance), σ loses b/2 with b = a (1-λ), and E (σ-1)² = E x²/4 - E x³/8 with x = σ² - 1. So the gain and the loss,
    (2-λ) + (2-λ²)/2 - 3 (1-λ)/4 and a n_s (1-λ)²/4 in units of a/n_r, meet at n_s = 32 for λ = 1/2.
    """
    config = small(n_real=(100, 300), n_synthetic=(16, 32, 64, 256), ratios=(), biases=(0.5,), seeds=8, averaged=12)
    config.data.dimension = 300
    rows = rows_of(config)
    found = {n: report.threshold([r for r in rows if r["n_real"] == n]) for n in (100, 300)}
    assert found[300] == pytest.approx(32, rel=0.3)
    assert found[100] == pytest.approx(found[300], rel=0.3)
    last = [r for r in rows if r["n_synthetic"] == 256]
    assert all(r["ratio"] < 1 and r["admissible"] == "no" for r in last)


def test_a_fit_worse_than_any_real_one_has_no_size():
    """A collapsed dimension is at distance 1; two real samples are nearer."""
    rows = rows_of(small(n_real=(4,), n_synthetic=(4000,), ratios=(), biases=(0.1,), forget=0.5, averaged=2))
    (row,) = rows
    assert (row["n_effective"], row["ratio"], row["admissible"]) == (None, None, "no")
    assert "no n_e" in report.markdown(rows, "toy")


def test_a_drift_is_seen():
    steady = np.random.default_rng(0).normal(10, 1, size=(8, 20))
    assert job._converged(steady)[1] == "yes"
    drift, converged = job._converged(steady + np.linspace(0, 8, 20))
    assert converged == "no"
    assert drift == pytest.approx(4.2 / 14, rel=0.3)


# --------------------------------------------------------------------------------------------------------- the command


CONFIG = """
from madbench.phase import base

def get_config():
    config = base()
    config.task = "toy"
    config.data.dimension = 2
    config.n_real = (10, 40)
    config.ratios = (0.0, 0.5, 2.0)
    config.biases = (1.0, 0.5)
    config.seeds = 2
    config.averaged = 2
    return config
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "toy.py").write_text(CONFIG)
    return tmp_path / "toy.py"


def main(*arguments):
    return cli.main(["madbench", "phase", *map(str, arguments)])


def test_what_the_command_writes(config, tmp_path, capsys):
    for name in ("a", "b"):
        assert main(f"--config={config}", f"--workdir={tmp_path / name}") == 0
    out = capsys.readouterr().out
    assert "| λ \\ n_r | 10 | 40 |" in out
    text = (tmp_path / "a" / "phase.csv").read_text()
    assert text == (tmp_path / "b" / "phase.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0])[:6] == FIRST
    assert len(rows) == 12
    assert "nan" not in text.lower()
    assert "inf" not in text.lower()
    assert {(r["n_real"], r["n_synthetic"]) for r in rows} == {
        ("10", "0"), ("10", "5"), ("10", "20"), ("40", "0"), ("40", "20"), ("40", "80")
    }  # fmt: skip
    stored = json.loads((tmp_path / "a" / "config.json").read_text())
    assert len(stored["sha256"]) == 64
    assert stored["config"]["n_real"] == [10, 40]
    assert imread(tmp_path / "a" / "phase.png").shape[1] == 900
    assert (tmp_path / "a" / "phase.svg").read_text().startswith("<?xml")


def test_another_config_is_refused(config, tmp_path, capsys):
    work = f"--workdir={tmp_path / 'a'}"
    assert main(f"--config={config}", work) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    capsys.readouterr()
    assert main(f"--config={config}", work, "--config.biases=(1.0, 0.7)") == 2
    err = capsys.readouterr().err
    assert "belongs to another config" in err
    assert err.count("\n") == 1
    assert {p: p.read_bytes() for p in (tmp_path / "a").iterdir()} == before


def test_a_dry_run_writes_nothing(config, tmp_path, capsys, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(f"--config={config}", "--workdir=work", "--dry_run", "--config.n_real=(12, 40)") == 0
    out = capsys.readouterr().out
    facts, _, stored = out.partition("\n\n{")
    assert json.loads("{" + stored)["n_real"] == [12, 40]
    assert re.search(r"^time +(about \d|under a minute)", facts, re.MULTILINE)
    assert "12 cells x 2 seeds" in out
    assert "FLOPs " in out
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_real": ()}, "config.n_real is empty"),
        ({"n_real": (1,)}, "config.n_real holds 1"),
        ({"n_synthetic": (-1,)}, "config.n_synthetic holds -1"),
        ({"ratios": ()}, "both empty"),
        ({"max_ratio": -1.0}, "config.max_ratio must be at least 0"),
        ({"forget": 1.0}, "config.forget must be"),
        ({"averaged": 1}, "config.averaged must be"),
        ({"seeds": 1}, "two or more"),
        ({"biases": (1.5,)}, "must lie in (0, 1]"),
        ({"covariance": "round"}, "config.covariance must be one of full, diagonal"),
        ({"metric": "kid"}, "config.metric=kid is not measured"),
    ],
)
def test_configs_that_make_no_sense(changes, message):
    with pytest.raises(UserError) as error:
        settings.resolve(small(**changes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_of_run_is_refused():
    with pytest.raises(UserError, match=r"madbench\.phase\.base"):
        settings.resolve(run_base())
    config = base()
    config.model = run_base(family="kde").model
    with pytest.raises(UserError, match=r"config\.metric=w2 is a distance of Gaussians"):
        settings.resolve(config)
    config = small()
    config.model.ddof = 2
    with pytest.raises(UserError, match="ddof must be 0 or 1"):
        job.describe(config)


# ------------------------------------------------------------------------------------------------------ other families


TRAINED = """
from madbench.phase import base

def get_config():
    config = base("mixture", "gaussian")
    config.task = "toy"
    config.data.n_reference = 64
    config.metric = "fd"
    config.n_real = (20, 60)
    config.ratios = (1.0,)
    config.real_only = (10, 60, 1000)
    config.biases = (0.9,)
    config.seeds = 2
    config.forget = 0.5
    config.averaged = 2
    return config
"""


def test_any_other_family_runs_as_jobs_and_goes_on_where_it_stopped(tmp_path, capsys):
    (tmp_path / "toy.py").write_text(TRAINED)
    work = tmp_path / "work"
    arguments = (f"--config={tmp_path / 'toy.py'}", f"--workdir={work}")
    assert main(*arguments, "--dry_run") == 0
    assert "loops       4 runs x 3 generations" in capsys.readouterr().out
    assert main(*arguments) == 0
    text = (work / "phase.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0])[:6] == FIRST
    assert len(rows) == 2
    assert all(float(row["distance"]) > 0 for row in rows)
    each = [json.loads(line) for line in (work / "loops" / "metrics.jsonl").read_text().splitlines()]
    mine = [r["fd"] for r in each if "n_initial=60,n_fresh=60,n_synthetic=60" in r["loop"] and r["generation"] > 1]
    assert float(rows[1]["distance"]) == pytest.approx(np.mean(mine), rel=1e-5)

    # the same command again trains nothing, and a map that was lost is made anew from the rows
    (work / "phase.csv").unlink()
    kept = {p: p.read_bytes() for name in ("loops", "real") for p in [work / name / "metrics.jsonl"]}
    assert main(*arguments) == 0
    assert (work / "phase.csv").read_text() == text
    assert {p: p.read_bytes() for p in kept} == kept


# ---------------------------------------------------------------------------------------------------------- the report


def made(ratio, n_real=(10, 100, 1000), n_synthetic=(0, 10, 100, 1000), biases=(1.0, 0.8)):
    return [
        {
            "n_real": n, "n_synthetic": m, "bias": b, "distance": 1.0, "n_effective": None,
            "ratio": ratio(n, m, b), "admissible": "yes", "converged": "yes",
        }
        for b in biases for n in n_real for m in n_synthetic
    ]  # fmt: skip


def test_thresholds_are_interpolated():
    rows = lambda *ratios: [
        {"n_synthetic": 10**i, "distance": 1.0, "ratio": ratio, "admissible": "unsure"}
        for i, ratio in enumerate(ratios, start=1)
    ]
    assert report.threshold(rows(1.2, 1.1, 1.3)) == "all"
    assert report.threshold(rows(0.9, 0.8, 0.7)) == "none"
    assert report.threshold(rows(2.0, 0.5)) == pytest.approx(10**1.5)
    assert report.threshold(rows(0.9, 2.0, 0.5)) == pytest.approx(10**2.5)
    assert report.threshold(rows(2.0, None)) == 10.0
    beyond = [{"n_synthetic": 5, "distance": 0.1, "ratio": None, "admissible": "yes"}]  # n_e above the curve
    assert report.threshold(beyond) == "all"
    assert report.threshold(beyond + rows(0.5)) == 5.0
    assert report.threshold([{"n_synthetic": 0, "distance": 1.0, "ratio": 1.0}]) is None


def test_all_names_the_largest_size_that_has_a_distance():
    rows = made(lambda n, m, b: 1.2, (10,), (0, 10, 20), (1.0,))
    rows[-1] |= {"distance": None, "ratio": None, "n_effective": None, "admissible": "unsure"}
    text = report.markdown(rows, "t")
    assert "all (10)" in text
    assert "unsure" not in text  # a cell without a distance is counted once, as that


def test_the_map_has_a_panel_for_each_bias_and_a_line_where_the_ratio_is_one():
    rows = made(lambda n, m, b: 1 + m / (n + m) if b == 1 else 1.5 / (1 + m / 50))
    figure = report.plot(rows, "toy")
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["λ = 1", "λ = 0.8"]
    lines = [[c for c in axis.collections if type(c).__name__ == "QuadContourSet"] for axis in panels]
    assert [len(found) for found in lines] == [0, 1]
    heights = np.concatenate([path.vertices[:, 1] for path in lines[1][0].get_paths()])
    assert np.all((heights > 1) & (heights < 2))  # between 10 and 100
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize("n", [1, 3, 4, 7])
def test_the_map_of_any_number_of_biases_and_of_single_sizes(n):
    biases = [1 - i / 10 for i in range(n)]
    single = {"n_real": (10,), "n_synthetic": (0, 5)} if n == 1 else {}
    rows = made(lambda n, m, b: None if n == 10 and m else b, biases=biases, **single)
    figure = report.plot(rows, "toy $x_")
    figure.savefig(io.BytesIO())
    assert sum(bool(axis.get_title()) for axis in figure.axes) == n
    assert "| λ" in report.markdown(rows, "toy")
