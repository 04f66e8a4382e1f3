"""The test for a submission that is better than its re-run everywhere: false alarms as stated, power as documented."""

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from madbench.leaderboard import leaning

METRICS = {"fd": {"direction": "lower"}, "precision": {"direction": "higher"}, "recall": {"direction": "higher"}}


def lines(z, tolerance=0.3):
    """As `agreement.judge` makes them, where values are better by z `[run, generation, metric]`, from generation 2."""
    return [
        {
            "what": "re-run", "loop": "a", "bias": 1.0, "seed": run, "generation": t, "metric": metric,
            "found": 1.0, "difference": float(-value if metric == "fd" else value) * tolerance / 4,
            "tolerance": tolerance,
        }
        for run, of_run in enumerate(z)
        for t, values in enumerate(of_run, start=2)
        for metric, value in zip(METRICS, values, strict=True)
    ]  # fmt: skip


def failed(z):
    return [found["metric"] for found in leaning.judge(lines(z), METRICS) if not found["ok"]]


def test_means_by_hand():
    z = np.array([[[1.0, 2.0, 3.0], [3.0, 0.0, 1.0]], [[0.0, 0.0, 4.0], [2.0, 1.0, 0.0]]])
    found = {each["metric"]: each for each in leaning.judge(lines(z), METRICS)}
    assert {name: each["mean"] for name, each in found.items()} == pytest.approx(
        {"fd": 1.5, "precision": 0.75, "recall": 2.0, "all metrics": 17 / 12}
    )
    assert {each["runs"] for each in found.values()} == {2}
    quantile = stdtrit(23, 1 - 0.005 / 4)
    assert found["fd"]["limit"] == pytest.approx(quantile / math.sqrt(2))
    assert found["all metrics"]["limit"] == pytest.approx(quantile / math.sqrt(8))
    assert [each["ok"] for each in found.values()] == [True, True, True, False]
    assert "all metrics, after generation 1 and over 2 runs: better than the re-run by 35%" in leaning.sentence(
        found["all metrics"]
    )


def test_worse_than_its_re_run_is_no_lean():
    assert failed(np.full((6, 5, 3), -3.9)) == []
    assert failed(np.zeros((6, 5, 3))) == []


def test_what_does_not_count():
    good = lines(np.full((2, 2, 3), 3.9))
    assert not all(each["ok"] for each in leaning.judge(good, METRICS))
    for change in ({"what": "samples"}, {"generation": 1}, {"difference": None}, {"found": None}, {"tolerance": 0.0}):
        assert leaning.judge([line | change for line in good], METRICS) == []
    only = leaning.judge([line | {"difference": None} if line["metric"] != "fd" else line for line in good], METRICS)
    assert [each["metric"] for each in only] == ["fd", "all metrics"]


@pytest.mark.parametrize("runs", [1, 2, 6])
def test_honest_re_runs_are_rarely_taken_for_invented(runs):
    """Where generations of a run are all alike, and metrics as alike as `TOGETHER` says: the worst that it is for."""
    n, rng = 200_000, np.random.default_rng(runs)
    alike = (3 * leaning.TOGETHER**2 - 1) / 2  # correlation of metrics that gives the mean of three this variance
    u = rng.multivariate_normal(np.zeros(3), np.full((3, 3), alike) + (1 - alike) * np.eye(3), (n, runs)).mean(axis=1)
    assert (u.mean(axis=1) * math.sqrt(runs)).std() == pytest.approx(leaning.TOGETHER, rel=0.01)
    alarm = (u > leaning.limit(runs, 3, together=False)).any(axis=1)
    alarm |= u.mean(axis=1) > leaning.limit(runs, 3, together=True)
    assert 0 < alarm.mean() < leaning.FALSE_ALARMS


@pytest.mark.parametrize(("runs", "share"), [(1, 0.64), (2, 0.45), (6, 0.26), (30, 0.12)])
def test_what_is_caught_is_as_documented(runs, share):
    """A lean of all metrics by this share of their tolerances is found in 95 % of verifications."""
    n, rng = 50_000, np.random.default_rng(runs)
    mean = leaning.DEVIATIONS * share + leaning.TOGETHER * rng.normal(size=(n, runs)).mean(axis=1)
    assert 0.95 <= np.mean(mean > leaning.limit(runs, 3, together=True)) < 0.98  # shares are rounded up
