"""The main job end to end: every file of a workdir, the same rows each time, and a run that diverges alone."""

import csv
import io
import json
import math
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench import __version__, data, experiment, results
from madbench.config import base
from madbench.display import PlainLines
from madbench.generation import Generation
from madbench.report import grid
from madbench.report import workdir as workdir_report

pytestmark = pytest.mark.usefixtures("compiled")

LOOPS = ("fully_synthetic", "fresh_data(n_fresh=30,n_synthetic=40)", "fixed_ratio")
# (n_real, n_synthetic) of generation 1 and of the later ones
EATEN = {LOOPS[0]: [(60, 0), (0, 60)], LOOPS[1]: [(60, 0), (30, 40)], LOOPS[2]: [(60, 0), (60, 60)]}
BIASES = (1.0, 0.5)
SEEDS = (0, 5)
GENERATIONS = 3
METRICS = ("fd", "precision", "recall")


def digits(**fleet):
    config = base("digits", "diffusion")
    config.task = "tiny digits"
    config.data.n_reference = 60
    config.n_initial = 60
    config.loops = LOOPS
    config.biases = BIASES
    config.seeds = SEEDS
    config.generations = GENERATIONS
    config.n_grid = 4
    config.model.update(width=16, depth=1, steps=20, batch_size=32, sampler_steps=4, learning_rate=1e-2)
    config.fleet.update(fleet)
    return config


def gaussian():
    config = base("gaussian", "gaussian")
    config.task = "tiny gaussian"
    config.data.update(dimension=2, n_reference=40)
    config.n_initial = 40
    config.loops = ("fully_synthetic", "synthetic_augmentation")
    config.biases = BIASES
    config.seeds = 2
    config.generations = 4
    config.metrics.features = "raw"
    return config


class Told(PlainLines):
    """Keeps what was said."""

    def __init__(self):
        super().__init__(interval=0)
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def run(config, path, cache):
    show = Told()
    experiment.run(config, path, cache=cache, show=show)
    return show.lines


def strict(text):
    """Parses JSON, refusing NaN and Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def read(path):
    return [strict(line) for line in path.read_text().splitlines()]


def key(row):
    return row["loop"], row["bias"], row["seed"], row["generation"]


@pytest.fixture(scope="module")
def job(tmp_path_factory, feature_cache):
    """A finished workdir, and what its run said."""
    path = tmp_path_factory.mktemp("experiment") / "work"
    return path, run(digits(), path, feature_cache)


@pytest.fixture(scope="module")
def workdir(job) -> pathlib.Path:
    return job[0]


# ------------------------------------------------------------------------------------------------- files of a workdir


def test_the_workdir_holds_what_the_architecture_promises_and_no_more(workdir):
    assert {p.name for p in workdir.iterdir()} == {
        "config.json", "environment.json", "reference.json", "metrics.jsonl", "timing.jsonl", "checkpoints", "samples",
        "table.md", "table.csv", "table.json", "table.tex", "curves.png", "curves.svg", "samples.png", "samples.svg",
        "report.html", ".lock",
    }  # fmt: skip


def test_one_row_for_each_run_and_generation_in_the_order_of_the_grid(workdir):
    assert [key(row) for row in read(workdir / "metrics.jsonl")] == [
        (loop, bias, seed, t) for t in range(1, GENERATIONS + 1) for loop in LOOPS for bias in BIASES for seed in SEEDS
    ]


def test_rows_carry_versions_and_composition_and_numbers_are_numbers(workdir):
    label = strict((workdir / "reference.json").read_text())["features"]
    for row in read(workdir / "metrics.jsonl"):
        assert list(row) == [
            "schema", "benchmark", "task", "model", "loop", "bias", "seed", "generation", "n_real", "n_synthetic",
            "n_samples", "status", *results.ACCOUNT, *METRICS, "metric_versions", "features",
        ]  # fmt: skip
        assert (row["schema"], row["benchmark"]) == (results.SCHEMA, __version__)
        assert {name: row[name] for name in results.ACCOUNT} == results.ACCOUNT | {
            "flops": row["flops"], "n_real_seen": row["n_real"]
        }  # fmt: skip
        assert type(row["flops"]) is int
        assert row["flops"] > 0
        assert (row["task"], row["model"], row["status"]) == ("tiny digits", "diffusion", "ok")
        assert row["metric_versions"] == dict.fromkeys(METRICS, 1)
        assert (row["n_samples"], row["features"]) == (60, label)
        assert (row["n_real"], row["n_synthetic"]) == EATEN[row["loop"]][row["generation"] > 1]
        assert all(type(row[name]) is float for name in METRICS)
        assert row["fd"] > 0
        assert all(0 <= row[name] <= 1 for name in ("precision", "recall"))
        assert type(row["bias"]) is float
        assert all(type(row[name]) is int for name in ("seed", "generation", "n_real", "n_synthetic", "n_samples"))


def test_generation_1_of_a_seed_is_the_same_under_each_loop(workdir):
    """Paired by design: it never sees synthetic data, and its keys come from seed, generation and role alone."""
    first = [row for row in read(workdir / "metrics.jsonl") if row["generation"] == 1]
    for bias in BIASES:
        for seed in SEEDS:
            rows = [[r[m] for m in METRICS] for r in first if (r["bias"], r["seed"]) == (bias, seed)]
            assert len(rows) == len(LOOPS)
            assert rows[1] == pytest.approx(rows[0], rel=1e-3)
            assert rows[2] == pytest.approx(rows[0], rel=1e-3)
    assert len({r["fd"] for r in first if r["loop"] == LOOPS[0]}) == len(BIASES) * len(SEEDS)


def test_timing_has_a_row_for_each_generation(workdir):
    rows = read(workdir / "timing.jsonl")
    runs = len(LOOPS) * len(BIASES) * len(SEEDS)
    assert [(r["schema"], r["wave"], r["generation"], r["runs"], r["steps"]) for r in rows] == [
        (results.SCHEMA, 0, t, runs, 20) for t in range(1, GENERATIONS + 1)
    ]
    for row in rows:
        assert all(row[f"{phase}_seconds"] > 0 for phase in ("fit", "sample", "evaluate"))
        assert all(type(row[f"{phase}_flops"]) is int for phase in ("fit", "sample"))
        assert row["fit_flops"] == rows[0]["fit_flops"] > 0
        assert row["sample_flops"] == rows[0]["sample_flops"] > 0
    assert [r["compile_seconds"] > 0 for r in rows] == [True, False, False]


def test_environment_says_on_what_it_ran(workdir):
    environment = strict((workdir / "environment.json").read_text())
    assert environment["versions"]["jax"] == jax.__version__
    assert environment["versions"]["madbench"] == __version__
    assert environment["device"] == {"kind": "cpu", "platform": "cpu", "count": 4}
    assert environment["plan"] == {
        "runs": 12, "devices": 4, "group_size": 1, "runs_per_device": 3, "wave_size": 12, "waves": 1,
        "stepwise": False, "streamed_steps": 0,
    }  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", environment["source_sha256"])
    dataset = environment["dataset"]
    assert (dataset["name"], dataset["count"]) == ("digits", 1797)
    assert re.fullmatch("[0-9a-f]{64}", dataset["sha256"])


def test_config_is_resolved_and_hashed(workdir):
    content = strict((workdir / "config.json").read_text())
    assert content["sha256"] == results.config_hash(content["config"])
    assert content["config"]["seeds"] == list(SEEDS)
    assert content["config"]["biases"] == list(BIASES)
    assert content["config"]["loops"] == list(LOOPS)
    assert content["config"]["model"]["width"] == 16


def test_reference_has_floors_and_the_planned_grid(workdir):
    reference = strict((workdir / "reference.json").read_text())
    assert [(c["loop"], c["bias"]) for c in reference["cells"]] == [(loop, bias) for loop in LOOPS for bias in BIASES]
    assert {c["settings"]["n_initial"] for c in reference["cells"]} == {60}
    assert reference["n_samples"] == 60
    assert re.fullmatch("lenet-1:[0-9a-f]{12}", reference["features"])
    assert list(reference["floors"]) == list(METRICS)
    for floor in reference["floors"].values():
        assert floor["p5"] <= floor["mean"] <= floor["p95"]
    assert reference["floors"]["fd"]["p5"] > 0
    worst = max(row["fd"] for row in read(workdir / "metrics.jsonl"))
    assert worst > reference["floors"]["fd"]["p95"]  # 20 steps do not make a model as good as real data


def test_sample_grids_are_images_on_disk(workdir):
    folders = {results.slug(loop, bias, seed) for loop in LOOPS for bias in BIASES for seed in SEEDS}
    assert {p.name for p in (workdir / "samples").iterdir()} == folders | {"real.npz"}
    for folder in folders:
        files = sorted((workdir / "samples" / folder).iterdir())
        assert [f.name for f in files] == [f"generation-{t:04d}.npz" for t in range(1, GENERATIONS + 1)]
        for file in files:
            with np.load(file, allow_pickle=False) as content:
                assert content["x"].shape == (4, 8, 8, 1)
                assert content["x"].dtype == np.uint8
                assert content["x"].std() > 0


def test_tables_and_pictures(workdir):
    assert "tiny digits" in (workdir / "table.md").read_text()
    assert len({line["loop"] for line in csv.DictReader(io.StringIO((workdir / "table.csv").read_text()))}) == len(
        LOOPS
    )
    assert strict((workdir / "table.json").read_text())
    assert r"\begin{tabular}" in (workdir / "table.tex").read_text()
    for name in ("curves.png", "samples.png"):
        assert (workdir / name).read_bytes().startswith(b"\x89PNG")
        assert (workdir / name).stat().st_size > 5000
        assert (workdir / name).with_suffix(".svg").read_bytes().startswith(b"<?xml")
    assert "<h1>tiny digits</h1>" in (workdir / "report.html").read_text()


def test_what_is_said(job):
    _, lines = job
    assert lines[0].startswith("12 runs: pmap over 4 devices, vmap over 3 runs each, 1 wave; about ")
    generations = [line for line in lines if re.match(r"generation \d/3: fit ", line)]
    assert [g[:14] for g in generations] == [f"generation {t}/3" for t in range(1, GENERATIONS + 1)]
    assert all("steps/s" in g for g in generations)
    assert all(", FD " in g for g in generations)
    shares = [int(m[1]) for line in lines if (m := re.search(r"  +(\d+)%(  |$)", line))]
    assert shares == sorted(shares)
    assert shares.count(100) == 1


# --------------------------------------------------------------------------------------------------- the same again


def test_the_same_config_gives_the_same_bytes(workdir, tmp_path, feature_cache):
    run(digits(), tmp_path / "work", feature_cache)
    for name in ("metrics.jsonl", "reference.json", "config.json", "table.csv"):
        assert (tmp_path / "work" / name).read_bytes() == (workdir / name).read_bytes()
    for file in (workdir / "samples").rglob("*.npz"):
        with np.load(file) as one, np.load(tmp_path / "work" / file.relative_to(workdir)) as two:
            assert np.array_equal(one["x"], two["x"])


def test_waves_give_the_same_rows(workdir, tmp_path, feature_cache):
    lines = run(digits(max_runs_per_device=2), tmp_path / "waves", feature_cache)
    assert "vmap over 2 runs each, 2 waves" in lines[0]
    assert any("of wave 2/2" in line for line in lines)
    one, two = ({key(r): r for r in read(path / "metrics.jsonl")} for path in (workdir, tmp_path / "waves"))
    assert one.keys() == two.keys()
    for each in one:
        assert two[each] == one[each] | {name: pytest.approx(one[each][name], rel=2e-3, abs=0.02) for name in METRICS}
    assert [r["wave"] for r in read(tmp_path / "waves" / "timing.jsonl")] == [0, 0, 0, 1, 1, 1]
    assert (tmp_path / "waves" / "reference.json").read_bytes() == (workdir / "reference.json").read_bytes()


def test_running_again_when_finished_changes_and_compiles_nothing(workdir, feature_cache, monkeypatch):
    content = lambda: {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file() and p.name != ".lock"}
    monkeypatch.setattr("madbench.fleet.Program.compile", lambda *_: pytest.fail("it compiles"))
    before = content()
    run(digits(), workdir, feature_cache)
    assert content() == before


def test_the_picture_numbers_the_generations_that_were_kept(workdir, tmp_path, monkeypatch):
    shutil.copytree(workdir, tmp_path / "work")
    for folder in (p for p in (tmp_path / "work" / "samples").iterdir() if p.is_dir()):
        (folder / "generation-0003.npz").rename(folder / "generation-10000.npz")
    drawn, grid_plot = [], grid.plot
    monkeypatch.setattr(grid, "plot", lambda *args, **options: drawn.append(options) or grid_plot(*args))
    workdir_report.write(results.load(tmp_path / "work"))
    (options,) = drawn
    assert options["generations"] == [1, 2, 10000]
    np.testing.assert_array_equal(options["real"], samples(tmp_path / "work" / "samples" / "real.npz"))


def test_real_images_are_kept_beside_the_samples(workdir):
    real = samples(workdir / "samples" / "real.npz")
    reference = np.asarray(data.load("digits", n_reference=digits().data.n_reference).reference.x)
    np.testing.assert_array_equal(real, np.round((reference[:4] + 1) * 127.5))
    assert real.dtype == np.uint8


def test_a_workdir_without_real_images_has_a_picture_all_the_same(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "work")
    (tmp_path / "work" / "samples" / "real.npz").unlink()
    assert "samples.png" in workdir_report.write(results.load(tmp_path / "work"))


# ------------------------------------------------------------------------------------------- points, and their drift


def samples(file):
    with np.load(file, allow_pickle=False) as content:
        return content["x"]


def test_points_are_kept_as_the_metrics_saw_them(sound_workdir):
    """FD over raw features is the distance of the saved samples from the reference, computed in another way."""
    reference = np.float64(data.load("gaussian", dimension=2, n_reference=40).reference.x)
    folder = sound_workdir / "samples"
    runs = {(row["loop"], row["bias"], row["seed"]) for row in read(sound_workdir / "metrics.jsonl")}
    assert {p.name for p in folder.iterdir()} == {results.slug(*each) for each in runs} | {"density.npz"}
    for row in read(sound_workdir / "metrics.jsonl"):
        name = results.slug(row["loop"], row["bias"], row["seed"])
        assert len(list((folder / name).iterdir())) == 4
        x = samples(folder / name / f"generation-{row['generation']:04d}.npz")
        assert (x.shape, x.dtype) == ((40, 2), np.float32)
        a, b = np.cov(np.float64(x).T), np.cov(reference.T)
        root = np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()
        fd = np.sum((x.mean(0) - reference.mean(0)) ** 2) + np.trace(a) + np.trace(b) - 2 * root
        assert row["fd"] == pytest.approx(fd, rel=1e-3, abs=1e-4)


def test_the_true_density_is_kept_once_and_drift_is_drawn(sound_workdir):
    with np.load(sound_workdir / "samples" / "density.npz", allow_pickle=False) as content:
        axes, density = content["axes"], content["density"]
    x, y = axes
    np.testing.assert_allclose(density, np.exp(-(x[:, None] ** 2 + y**2) / 2) / (2 * np.pi))
    assert axes.dtype == density.dtype == np.float64
    assert (sound_workdir / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert not (sound_workdir / "samples.png").exists()


def test_a_workdir_without_a_density_has_no_drift_chart(sound_workdir, tmp_path):
    shutil.copytree(sound_workdir, tmp_path / "work")
    (tmp_path / "work" / "drift.png").unlink()
    (tmp_path / "work" / "samples" / "density.npz").unlink()
    assert "drift.png" not in workdir_report.write(results.load(tmp_path / "work"))
    assert not (tmp_path / "work" / "drift.png").exists()


def test_samples_of_long_jobs_are_kept_of_some_generations(tmp_path, feature_cache, monkeypatch):
    choose = results.sampled_generations
    monkeypatch.setattr(results, "sampled_generations", lambda generations, at_most=3: choose(generations, at_most))
    run(gaussian(), tmp_path / "work", feature_cache)
    folders = [p for p in (tmp_path / "work" / "samples").iterdir() if p.is_dir()]
    assert len(folders) == 8
    for folder in folders:
        assert sorted(p.name for p in folder.iterdir()) == [f"generation-000{t}.npz" for t in (1, 2, 4)]


# --------------------------------------------------------------------------------------------------------- divergence


@pytest.fixture(scope="module")
def sound_workdir(tmp_path_factory, feature_cache):
    path = tmp_path_factory.mktemp("sound") / "work"
    run(gaussian(), path, feature_cache)
    return path


@pytest.fixture(scope="module")
def sound(sound_workdir):
    return read(sound_workdir / "metrics.jsonl")


def test_a_run_that_diverges_is_null_from_then_on_and_the_others_go_on(tmp_path, feature_cache, monkeypatch, sound):
    """The fit of one run of eight turns to NaN in generation 2."""
    fit = Generation.fit

    def poisoned(self, shared, cell, carry, t):
        work, curve = fit(self, shared, cell, carry, t)
        here = (cell.seed == 1) & (cell.bias == 1) & (cell.loop.n_fixed == 0) & (t == 2)
        poison = lambda a: jnp.where(here, jnp.nan, a)
        return work._replace(state=jax.tree.map(poison, work.state)), curve

    monkeypatch.setattr(Generation, "fit", poisoned)
    run(gaussian(), tmp_path / "work", feature_cache)
    rows = read(tmp_path / "work" / "metrics.jsonl")
    assert [key(r) for r in rows] == [key(r) for r in sound]
    lost = [r for r in rows if r["status"] != "ok"]
    assert [key(r) for r in lost] == [("fully_synthetic", 1.0, 1, t) for t in (2, 3, 4)]
    assert all(r["status"] == "diverged" for r in lost)
    assert all(r[name] is None for r in lost for name in METRICS)
    for row, expected in zip(rows, sound, strict=True):
        if row["status"] == "ok":
            assert row == expected
    table = (tmp_path / "work" / "table.md").read_text()
    (line,) = (x for x in table.splitlines() if re.match(r"\| gaussian +\| fully_synthetic +\| +1 \|", x))
    assert "1/2" in line
    diverged = tmp_path / "work" / "samples" / results.slug("fully_synthetic", 1.0, 1)
    finite = [np.isfinite(samples(diverged / f"generation-{t:04d}.npz")).any() for t in range(1, 5)]
    assert finite == [True, False, False, False]
    assert (tmp_path / "work" / "drift.png").stat().st_size > 5000


def test_divergence_by_settings_alone(tmp_path, feature_cache):
    """Steps of 1e30 leave no finite sample: all rows are null, no warning is raised, and tables are still made."""
    config = digits()
    config.loops = LOOPS[:1]
    config.biases = BIASES[:1]
    config.generations = 2
    config.model.learning_rate = 1e30
    run(config, tmp_path / "work", feature_cache)
    rows = read(tmp_path / "work" / "metrics.jsonl")
    assert [r["status"] for r in rows] == ["diverged"] * 4
    assert all(r[name] is None for r in rows for name in METRICS)
    assert "0/2" in (tmp_path / "work" / "table.md").read_text()
    with np.load(next((tmp_path / "work" / "samples").rglob("*.npz"))) as content:
        assert content["x"].shape == (4, 8, 8, 1)


def test_gaussian_rows_follow_their_closed_form(sound):
    """One seed says little; that λ = 0.5 shrinks the variance each generation shows at once."""
    recall = lambda bias, t: np.mean(
        [r["recall"] for r in sound if (r["loop"], r["bias"], r["generation"]) == ("fully_synthetic", bias, t)]
    )
    assert recall(0.5, 4) < recall(0.5, 1)
    assert recall(0.5, 4) < recall(1.0, 4)
    assert all(math.isfinite(r["fd"]) for r in sound)
