"""`verdict`: known answers from SciPy and NumPy, and every way in which a cell can be incomplete."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from madbench import results, verdict

METRICS = ("fd", "precision", "recall")
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
        np.testing.assert_allclose(trend(judged, metric).slopes, slopes, rtol=1e-9, atol=1e-12)
        assert trend(judged, metric).slope == pytest.approx(np.mean(slopes))
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
    assert judge_one(rows_of({0: up, 1: down, 2: up, 3: down}), metrics=["fd"]).text == "stable"


def test_equal_slopes_have_no_variance_and_a_sign():
    for values, text in (([2, 4, 8], "MAD"), ([8, 4, 2], "stable"), ([0.1] * 3, "stable"), ([3.3] * 3, "stable")):
        judged = judge_one(rows_of({seed: {"fd": values} for seed in range(3)}), metrics=["fd"])
        assert judged.text == text
    assert trend(judged, "fd").slopes == (0, 0, 0)


def test_zero_distance_is_taken_for_the_smallest_positive_one():
    runs = {seed: {"fd": [0.0, 0.5, 2.0 + seed]} for seed in range(3)}
    expected = [np.polyfit([1, 2, 3], np.log([0.5, 0.5, 2.0 + seed]), 1)[0] for seed in range(3)]
    np.testing.assert_allclose(trend(judge_one(rows_of(runs)), "fd").slopes, expected)
    nothing = rows_of({seed: {"fd": [0.0, -1e-15, 0.0]} for seed in range(3)})
    assert judge_one(nothing, metrics=["fd"]).text == "stable"


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
    assert trend(judged, "fd").slopes[1] == pytest.approx(expected)


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
    assert judge_one(rows, metrics=["precision", "coverage"]).text == "loses quality"
    assert judge_one(rows, metrics=["recall"]).text == "stable"
    judged = judge_one(rows, metrics=["coverage"])
    assert (judged.text, judged.half_life) == ("not judged", None)


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
