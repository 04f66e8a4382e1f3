"""`verdict`: known answers from SciPy and NumPy, and every way in which a cell can be incomplete."""

import dataclasses
import pathlib
import runpy

import numpy as np
import pytest
from scipy import stats
from tables import infos

from madbench import results, verdict
from madbench.verdict import trend as trends

METRICS = infos("fd", "precision", "recall")
FLOORS = {"fd": {"mean": 1.0, "p5": 0.8, "p95": 1.2}}
STEADY = {"fd": 1.0, "precision": 0.9, "recall": 0.9}


def rows_of(runs, *, loop="fully_synthetic", bias=1.0, diverged=()):
    """Rows of one cell from `{seed: {metric: values over generations}}`; `diverged` holds (seed, generation)."""
    return [
        results.row(
            task="toy", model="gaussian", loop=loop, bias=bias, seed=seed, generation=t, n_real=10, n_synthetic=0,
            n_samples=50, status="diverged" if (seed, t) in diverged else "ok",
            metrics={m: None if (seed, t) in diverged else values[t - 1] for m, values in metrics.items()},
            metric_versions=dict.fromkeys(metrics, 1), features="raw",
        )
        for seed, metrics in runs.items()
        for t in range(1, 1 + max(map(len, metrics.values())))
    ]  # fmt: skip


def runs_of(generations=5, seeds=3, noise=0.02, **changes):
    """Noisy runs around STEADY; `changes[metric]` is a function of t (1, 2, …) that replaces the constant."""
    rng = np.random.default_rng(0)
    t = np.arange(1, generations + 1)

    def values(metric):
        return (changes.get(metric, lambda t: np.full(t.shape, STEADY[metric]))(t)) * np.exp(
            noise * rng.standard_normal(generations)
        )

    return {seed: {metric: values(metric).tolist() for metric in METRICS} for seed in range(seeds)}


def judge_one(rows, floors=FLOORS, metrics=METRICS, **plan):
    ((_, judged),) = verdict.judge(rows, floors, metrics, **plan).items()
    return judged


def trend(judged, metric):
    return next(t for t in judged.trends if t.metric == metric)


def rising(t):
    return 2.0 * np.exp(0.4 * (t - 1))


def falling(t):
    return 0.9 - 0.1 * (t - 1)


@pytest.mark.parametrize("seeds", [3, 7])
@pytest.mark.parametrize("rate", [-0.3, 0.0, 0.01, 0.3])
def test_slopes_and_p_values_equal_numpy_and_scipy(seeds, rate):
    runs = runs_of(seeds=seeds, noise=0.1, fd=lambda t: np.exp(rate * t))
    judged = judge_one(rows_of(runs))
    t = np.arange(1, 6)
    for metric, alternative in (("fd", "greater"), ("precision", "less"), ("recall", "less")):
        transform = np.log if metric == "fd" else np.asarray
        slopes = [np.polyfit(t, transform(run[metric]), 1)[0] for run in runs.values()]
        np.testing.assert_allclose(trend(judged, metric).values, slopes, rtol=1e-9, atol=1e-12)
        assert trend(judged, metric).mean == pytest.approx(np.mean(slopes))
        expected = stats.ttest_1samp(slopes, 0, alternative=alternative).pvalue
        assert trend(judged, metric).p_value == pytest.approx(expected)
        assert trend(judged, metric).worsens == (expected < 0.05)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "stable"),
        ({"fd": rising}, "MAD"),
        ({"precision": falling}, "loses quality"),
        ({"recall": falling}, "loses diversity"),
        ({"fd": rising, "recall": falling}, "MAD, loses diversity"),
        ({"fd": rising, "precision": falling, "recall": falling}, "MAD, loses quality, loses diversity"),
        ({"fd": lambda t: 1 / rising(t), "precision": lambda t: 0.3 + 0.1 * t, "recall": lambda t: 0.1 * t}, "stable"),
    ],
)
def test_verdicts(changes, text):
    assert judge_one(rows_of(runs_of(**changes))).text == text


def test_rising_within_the_floor_is_not_mad():
    rows = rows_of(runs_of(noise=0.001, fd=lambda t: 0.5 + 0.1 * t))  # 0.6 to 1.0, under the 95th percentile 1.2
    assert judge_one(rows).text == "stable"
    assert judge_one(rows, {"fd": {"p95": 0.95}}).text == "MAD"
    assert judge_one(rows, {}).text == "MAD undecided: no floor"


def test_seeds_are_the_unit_not_generations():
    """Two runs rise and two fall, each beyond doubt: over seeds there is no trend."""
    up, down = {"fd": [2, 4, 8, 16, 32]}, {"fd": [32, 16, 8, 4, 2]}
    assert judge_one(rows_of({0: up, 1: down, 2: up, 3: down}), metrics=infos("fd")).text == "stable"


def test_equal_slopes_have_no_variance_and_a_sign():
    for values, text in (([2, 4, 8], "MAD"), ([8, 4, 2], "stable"), ([0.1] * 3, "stable"), ([3.3] * 3, "stable")):
        judged = judge_one(rows_of({seed: {"fd": values} for seed in range(3)}), metrics=infos("fd"))
        assert judged.text == text
    assert trend(judged, "fd").values == (0, 0, 0)


def test_zero_distance_is_taken_for_the_smallest_positive_one():
    runs = {seed: {"fd": [0.0, 0.5, 2.0 + seed]} for seed in range(3)}
    expected = [np.polyfit([1, 2, 3], np.log([0.5, 0.5, 2.0 + seed]), 1)[0] for seed in range(3)]
    np.testing.assert_allclose(trend(judge_one(rows_of(runs)), "fd").values, expected)
    nothing = rows_of({seed: {"fd": [0.0, -1e-15, 0.0]} for seed in range(3)})
    assert judge_one(nothing, metrics=infos("fd")).text == "stable"


@pytest.mark.parametrize(("seeds", "generations", "text"), [(2, 5, "too few seeds"), (3, 1, "too few generations")])
def test_too_few(seeds, generations, text):
    judged = judge_one(rows_of(runs_of(generations, seeds, fd=rising)))
    assert judged.text == text
    assert not judged.findings


def test_a_diverged_run_keeps_its_finite_generations_and_is_named():
    runs = runs_of(fd=rising)
    judged = judge_one(rows_of(runs, diverged={(1, 4), (1, 5)}))
    assert judged.text == "MAD, diverged 1/3"
    assert (judged.seeds, judged.finished, judged.diverged, judged.unfinished) == (3, 2, 1, 0)
    expected = np.polyfit([1, 2, 3], np.log(runs[1]["fd"][:3]), 1)[0]
    assert trend(judged, "fd").values[1] == pytest.approx(expected)


def test_a_cell_with_a_diverged_run_is_never_stable():
    assert judge_one(rows_of(runs_of(seeds=4), diverged={(2, 5)})).text == "diverged 1/4"
    all_at_once = {(seed, t) for seed in range(3) for t in range(1, 6)}
    assert judge_one(rows_of(runs_of(), diverged=all_at_once)).text == "too few seeds, diverged 3/3"
    all_but_first = {(seed, t) for seed in range(3) for t in range(2, 6)}
    assert judge_one(rows_of(runs_of(), diverged=all_but_first)).text == "too few generations, diverged 3/3"


def test_what_was_planned_and_is_missing_is_unfinished():
    rows = rows_of(runs_of(fd=rising))
    assert judge_one(rows, seeds=[0, 1, 2, 3], generations=5).text == "MAD, unfinished 1/4"
    assert judge_one(rows, seeds=[0, 1, 2], generations=6).text == "MAD, unfinished 3/3"
    gap = [r for r in rows if (r["seed"], r["generation"]) != (0, 3)]
    assert judge_one(gap).text == "MAD, unfinished 1/3"
    nothing = verdict.judge_cell([], FLOORS, METRICS, seeds=[0, 1, 2], generations=5)
    assert (nothing.text, nothing.unfinished, nothing.half_life) == ("no results", 3, None)


def test_metrics_may_be_absent_or_others_present():
    rows = rows_of(runs_of(fd=rising, precision=falling))
    missing = "MAD undecided: metric fd was not measured"
    assert judge_one(rows, metrics=infos("precision", "coverage")).text == f"loses quality, {missing}"
    assert judge_one(rows, metrics=infos("recall")).text == missing
    assert judge_one(rows, metrics=infos("fd")).text == "MAD"
    judged = judge_one(rows, metrics=infos("coverage"))
    assert (judged.text, judged.half_life) == ("undecided: metric fd was not measured", None)


def test_no_number_is_missing_and_not_an_error():
    rows = rows_of(runs_of(fd=rising))
    for r in rows:
        if r["seed"] == 0:
            r["fd"] = {1: float("nan"), 2: "7", 3: True}.get(r["generation"], r["fd"])
    values = verdict.matrix(rows, "fd", [0, 1, 2], 5)
    np.testing.assert_array_equal(np.isnan(values), [[True, True, True, False, False], [False] * 5, [False] * 5])


def test_order_of_rows_does_not_matter_and_cells_keep_theirs():
    rows = rows_of(runs_of(fd=rising), loop="b") + rows_of(runs_of(), loop="a", bias=0.5)
    judged = verdict.judge(rows, FLOORS, METRICS)
    assert list(judged) == [verdict.Cell("toy", "gaussian", "b", 1.0), verdict.Cell("toy", "gaussian", "a", 0.5)]
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    assert verdict.judge(shuffled, FLOORS, METRICS) == judged
    assert [v.text for v in judged.values()] == ["MAD", "stable"]


def test_a_verdict_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        judge_one(rows_of(runs_of())).diverged = 0


@pytest.mark.parametrize(
    ("recall", "expected"),
    [
        ([[0.8, 0.6, 0.2]], 1.5),  # half, 0.4, is midway between generations 2 and 3
        ([[0.8, 0.4, 0.1]], 1.0),
        ([[0.8, 0.4]], 1.0),
        ([[0.8, 0.3, 0.7]], 0.8),  # the first time
        ([[0.8, 0.6, 0.5]], None),
        ([[0.0, 0.0, 0.0]], None),
        ([[0.8]], None),
        ([[1.0, 0.6, 0.2], [0.6, 0.6, 0.2]], 1.5),  # of the mean over seeds
        ([[0.8, 0.6, 0.2], [np.nan, 0.6, 0.6]], 1.5),
        ([[0.8, 0.6, 0.2], [0.8, np.nan, np.nan]], None),  # no mean over survivors
        ([[np.nan, 0.6, 0.2]], None),
    ],
)
def test_half_life(recall, expected):
    assert verdict.half_life(np.array(recall)) == (None if expected is None else pytest.approx(expected))


# ---- definitions -----------------------------------------------------------------------------------------------------

T = np.arange(1, 6)
WOBBLE = np.array([[0.0, 0.01, -0.01, 0.02, 0.0], [0.01, 0.0, 0.02, -0.01, 0.01], [-0.01, 0.01, 0.0, 0.01, -0.02]])
BOUNDS = {
    "fd": {"p5": 0.8, "p95": 1.2}, "variance": {"p5": 0.9, "p95": 1.1}, "recall": {"p5": 0.85, "p95": 0.95},
    "coverage": {"p5": 0.85, "p95": 0.95}, "modes": {"p5": 24.0, "p95": 25.0}, "classes": {"p5": 10.0, "p95": 10.0},
}  # fmt: skip


def by(definition, *, metrics=None, floors=BOUNDS, **curves):
    """The verdict on three runs whose metrics follow `curves`, arrays over generations, times 1 ± 2 %."""
    runs = {s: {name: (curve * (1 + WOBBLE[s])).tolist() for name, curve in curves.items()} for s in range(3)}
    chosen = infos(*(curves if metrics is None else metrics))
    return judge_one(rows_of(runs), floors, chosen, definition=definition)


@pytest.mark.parametrize(
    ("definition", "curves", "text"),
    [
        ("variance", {"variance": 0.8**T}, "loses variance"),
        ("variance", {"variance": 1.0 - 0.01 * T}, "no loss found"),  # falls, within what real samples show
        ("variance", {"variance": np.full(5, 0.5)}, "no loss found"),  # low, and stays there
        ("variance", {"variance": 1.2**T}, "no loss found"),
        ("variance", {"fd": 1.0 * T}, "undecided: metric variance was not measured"),
        ("tails", {"recall": 0.9 - 0.1 * T}, "loses tails"),
        ("tails", {"recall": 0.95 - 0.015 * T, "modes": 25.0 + 0 * T}, "no loss found"),
        ("tails", {"coverage": 0.9 - 0.1 * T}, "loses tails"),
        ("tails", {"recall": 0.9 + 0 * T, "coverage": 0.9 - 0.1 * T}, "no loss found"),  # recall goes first
        ("tails", {"recall": 0.9 - 0.1 * T, "modes": 26.0 - 3 * T, "classes": 10 + 0 * T}, "loses tails, loses modes"),
        ("tails", {"classes": 11.0 - T}, "loses classes, loses tails undecided: metric recall was not measured"),
        ("tails", {"fd": 1.0 * T}, "undecided: metric recall was not measured"),
        ("growing", {"fd": 3.0 + 0.1 * T}, "still growing"),
        ("growing", {"fd": np.array([1.0, 5.0, 6.0, 6.0, 5.9])}, "not found growing"),  # it has levelled off
        ("growing", {"fd": np.array([9.0, 8.0, 5.0, 6.0, 7.0])}, "still growing"),  # whatever was before
        ("growing", {"recall": 0.9 - 0.1 * T}, "undecided: metric fd was not measured"),
        ("real_only", {"fd": 1.0 + 0.1 * T}, "worse than real-only"),  # whatever the floor
        ("real_only", {"fd": np.array([1.0, 5.0, 9.0, 5.0, 0.9])}, "not found worse"),  # only the ends count
        ("real_only", {"recall": 0.9 - 0.1 * T}, "undecided: metric fd was not measured"),
    ],
)
def test_definitions(definition, curves, text):
    assert by(definition, **curves).text == text


def test_one_loop_collapses_by_one_definition_and_not_by_another():
    curves = {"fd": 1.5 + 0 * T, "precision": 0.9 + 0 * T, "recall": 0.9 - 0.1 * T, "variance": 1.0 + 0 * T}
    texts = {name: by(name, **curves).text for name in verdict.DEFINITIONS}
    assert texts == {
        "mad": "loses diversity", "growing": "not found growing", "variance": "no loss found",
        "tails": "loses tails", "real_only": "not found worse",
    }  # fmt: skip


@pytest.mark.parametrize(("generations", "text"), [(5, "worse than real-only"), (1, "too few generations")])
def test_real_only_equals_scipys_paired_test_of_logs(generations, text):
    runs = runs_of(generations=generations, seeds=6, noise=0.2, fd=lambda t: np.exp(0.2 * t))
    judged = judge_one(rows_of(runs), definition="real_only")
    assert judged.text == text
    if generations > 1:
        first, last = (np.log([run["fd"][i] for run in runs.values()]) for i in (0, -1))
        (found,) = judged.evidence
        assert found.p_value == pytest.approx(stats.ttest_rel(last, first, alternative="greater").pvalue)
        assert found.t_interval == pytest.approx(stats.ttest_rel(last, first).confidence_interval(0.95))
        assert [t.statistic for t in judged.trends] == ["slope"] * 3


def test_real_only_needs_generation_one_and_takes_the_last_that_a_run_has():
    rows = rows_of({seed: {"fd": [1.0, 2.0, 4.0 + seed]} for seed in range(4)}, diverged={(1, 3)})
    judged = judge_one([r for r in rows if (r["seed"], r["generation"]) != (0, 1)], definition="real_only")
    np.testing.assert_allclose(judged.evidence[0].values, np.log([2.0, 6.0, 7.0]))


@pytest.mark.parametrize("definition", verdict.DEFINITIONS)
def test_two_seeds_never_have_a_verdict(definition):
    curves = {"fd": 9.0**T, "precision": 0.1**T, "recall": 0.1**T, "variance": 0.1**T}
    runs = {s: {name: (curve * (1 + WOBBLE[s])).tolist() for name, curve in curves.items()} for s in range(3)}
    three = judge_one(rows_of(runs), BOUNDS, infos(*curves), definition=definition)
    assert three.findings
    del runs[1]
    two = judge_one(rows_of(runs), BOUNDS, infos(*curves), definition=definition)
    assert (two.text, two.findings) == ("too few seeds", ())
    for found in (*two.trends, *two.evidence):
        assert found.mean is not None
        assert found.p_value is found.t_interval is found.bootstrap is None


@pytest.mark.parametrize("definition", verdict.DEFINITIONS)
def test_verdicts_do_not_depend_on_the_order_of_rows_and_seeds(definition):
    rng = np.random.default_rng(2)
    runs = {s: {m: np.exp(0.3 * rng.standard_normal(5)).tolist() for m in BOUNDS} for s in range(5)}
    rows = rows_of(runs)
    expected = judge_one(rows, BOUNDS, infos(*BOUNDS), definition=definition)
    for _ in range(5):
        order = rng.permutation(5).tolist()
        found = judge_one(
            [rows[i] for i in rng.permutation(len(rows))], BOUNDS, infos(*BOUNDS), seeds=order, definition=definition
        )
        assert (found.text, found.half_life) == (expected.text, pytest.approx(expected.half_life))
        for a, b in zip((*found.trends, *found.evidence), (*expected.trends, *expected.evidence), strict=True):
            assert (a.mean, a.p_value, a.t_interval, a.bootstrap) == (b.mean, b.p_value, b.t_interval, b.bootstrap)


@pytest.mark.parametrize("scale", [1e-6, 3.7, 1e9])
@pytest.mark.parametrize("definition", ["mad", "real_only"])
def test_verdicts_do_not_depend_on_the_unit_of_distance(definition, scale):
    rows = rows_of(runs_of(seeds=5, noise=0.3, fd=lambda t: np.exp(0.15 * t)))
    before = judge_one(rows, FLOORS, definition=definition)
    floors = {"fd": {name: scale * value for name, value in FLOORS["fd"].items()}}
    after = judge_one([r | {"fd": scale * r["fd"]} for r in rows], floors, definition=definition)
    assert after.text == before.text
    for a, b in zip(after.evidence, before.evidence, strict=True):
        np.testing.assert_allclose((a.p_value, *a.t_interval, *a.bootstrap), (b.p_value, *b.t_interval, *b.bootstrap))


def test_definitions_read_a_metric_in_one_way_and_know_their_metrics():
    """So that a trend has one sign and one scale in a table, whatever definition is selected."""
    readings = {}
    for name, definition in verdict.DEFINITIONS.items():
        assert name == definition.name
        assert any(c.required for c in definition.criteria)
        for criterion in definition.criteria:
            for metric in criterion.metrics:
                readings.setdefault(metric, set()).add((criterion.worse, criterion.is_log))
    assert set(map(len, readings.values())) == {1}
    known = infos(*readings)
    for metric, ((worse, is_log),) in readings.items():
        assert worse == (1 if known[metric].direction == "lower" else -1)
        assert is_log or known[metric].kind != "distance"


# ---- intervals -------------------------------------------------------------------------------------------------------


def slopes_of(seed, n):
    return np.sort(np.random.default_rng(seed).normal(0.3, 1.0, n))


@pytest.mark.parametrize("n", [3, 5, 12])
def test_the_t_interval_equals_scipy_and_agrees_with_the_test(n):
    for seed in range(40):
        x = slopes_of(seed, n)
        interval = trends.t_interval(x)
        np.testing.assert_allclose(interval, stats.t.interval(0.95, n - 1, loc=x.mean(), scale=stats.sem(x)))
        assert (interval.low > 0) == (trends.p_value(x) < 0.025)


def test_the_bootstraps_weights_have_the_distribution_of_beta():
    weights = trends._weights(4)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    uniform = (np.random.PCG64(0).random_raw((2, trends._REPLICATES, 4)) >> np.uint64(11)) * 2.0**-53
    drawn = uniform[0] * np.cos(2 * np.pi * uniform[1]) ** 2
    assert stats.kstest(drawn.ravel(), stats.beta(0.5, 1.5).cdf).pvalue > 0.01
    np.testing.assert_allclose(weights[: trends._REPLICATES], drawn / drawn.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("n", [3, 5, 12])
def test_the_bootstrap_interval_equals_an_independent_one(n):
    """Other weights from SciPy's own Beta, and the studentized weighted mean by NumPy's weighted statistics."""
    x = slopes_of(n, n)
    statistics = []
    for weights in stats.beta(0.5, 1.5).rvs((20_000, n), random_state=5):
        mean = np.average(x, weights=weights)
        deviation = np.sqrt(np.average((x - mean) ** 2, weights=weights) * n / (n - 1))
        statistics.append((mean - x.mean()) / (deviation / np.sqrt(n)))
    low, high = np.quantile(statistics, (0.025, 0.975))
    expected = x.mean() - high * stats.sem(x), x.mean() - low * stats.sem(x)
    np.testing.assert_allclose(trends.bootstrap_interval(x), expected, atol=0.05 * (expected[1] - expected[0]))


def test_the_bootstrap_interval_moves_and_mirrors_with_the_runs():
    x = np.array([0.1, 0.2, 0.25, 0.9])
    low, high = trends.bootstrap_interval(x)
    np.testing.assert_allclose(trends.bootstrap_interval(5 + 1e3 * x), (5 + 1e3 * low, 5 + 1e3 * high))
    np.testing.assert_allclose(trends.bootstrap_interval(np.sort(-x)), (-high, -low))
    assert high - x.mean() > 1.2 * (x.mean() - low)  # one run far above: the interval leans upwards, Student's does not


@pytest.mark.parametrize("x", [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
def test_equal_runs_have_an_interval_without_width(x):
    assert trends.t_interval(np.array(x)) == trends.bootstrap_interval(np.array(x)) == (x[0], x[0])


def test_two_equal_runs_of_three_have_a_finite_interval():
    """Where resampling has none: a third of its resamples have no spread."""
    low, high = trends.bootstrap_interval(np.array([0.0, 0.0, 1.0]))
    assert -10 < low < 1 / 3 < high < 10


@pytest.mark.parametrize(("n", "at_least"), [(3, 0.92), (5, 0.92)])
def test_the_bootstrap_interval_holds_the_truth_as_often_as_it_says(n, at_least):
    """400 draws of normal slopes: the standard error of a coverage of 95 % is 1.1 %; the percentile bootstrap's is 75 %
    and 85 % (benchmarks/intervals.py)."""
    rng = np.random.default_rng(0)
    held = [low <= 0 <= high for low, high in map(trends.bootstrap_interval, np.sort(rng.standard_normal((400, n))))]
    assert at_least < np.mean(held) < 0.98


def test_the_benchmark_of_intervals_prints_its_table(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["intervals.py", "--draws=40"])
    runpy.run_path(str(pathlib.Path(__file__).parents[1] / "benchmarks" / "intervals.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3 * 6
    for line in lines[2:]:
        shares = [float(cell.strip(" %")) for cell in line.split("|")[3:-1:2]]
        assert all(40 <= share <= 100 for share in shares)
    assert "| normal | bootstrap t | 100.0% | ∞ |" in "\n".join(lines)


def test_many_seeds_cost_little_memory_and_their_two_intervals_agree():
    x = slopes_of(0, 1000)
    assert trends._weights(1000).size < 3e6
    width = np.subtract(*trends.t_interval(x)[::-1])
    np.testing.assert_allclose(trends.bootstrap_interval(x), trends.t_interval(x), atol=0.05 * width)
