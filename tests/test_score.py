"""`score`: known answers by hand, what is missing counts 0, and what nobody may gain by."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from madbench import results
from madbench.errors import UserError
from madbench.leaderboard import score, tasks
from madbench.leaderboard.tasks import Band, Task

SEEDS, GENERATIONS = [0, 1, 2], 4
FD, PRECISION, RECALL = 2.0, 0.9, 0.8  # the band's centre
CELLS = [("fully_synthetic", 1.0), ("synthetic_augmentation", 0.5)]


def made_task(name="toy"):
    bands = {
        "fd": Band(math.log(FD), 0.1, 24, True),
        "precision": Band(PRECISION, 0.01, 24, False),
        "recall": Band(RECALL, 0.01, 24, False),
    }
    cells = [{"loop": loop, "bias": bias, "settings": {}, "composition": []} for loop, bias in CELLS]
    config = {"seeds": SEEDS, "generations": GENERATIONS}
    return Task(name, 1, "", "", config, "", cells, {}, dict.fromkeys(CELLS, bands), "")


TASK = made_task()


def rows_of(value, task=TASK):
    """Rows of the whole grid; `value(loop, bias, seed, t)` gives (FD, precision, recall), or None where diverged."""
    found = []
    for loop, bias, seed in task.runs:
        for t in range(1, GENERATIONS + 1):
            values = value(loop, bias, seed, t)
            row = results.row(
                task="toy", model="gaussian", loop=loop, bias=bias, seed=seed, generation=t, n_real=10, n_synthetic=0,
                n_samples=50, status="ok" if values else "diverged",
                metrics=dict(zip(score.METRICS, values or [None] * 3, strict=True)),
                metric_versions=dict.fromkeys(score.METRICS, 1), features="raw-1",
            )  # fmt: skip
            found.append(row)
    return found


def steady(*_):
    return FD, PRECISION, RECALL


def timing_of(seconds=1.0, runs=(6,)):
    """One row per (wave, generation); 10 seconds of compilation in the first."""
    return [
        {"wave": wave, "generation": t, "runs": n, "compile_seconds": 10.0 * (t == 1 and wave == 0)}
        | {f"{phase}_seconds": seconds for phase in ("fit", "sample", "evaluate")}
        for wave, n in enumerate(runs)
        for t in range(1, GENERATIONS + 1)
    ]


def scored(value):
    return score.summary(TASK, rows_of(value), timing_of())


@pytest.mark.parametrize("values", [(FD, PRECISION, RECALL), (FD / 10, 1.0, 0.99), (0.0, PRECISION, 1.0)])
def test_the_bands_centre_or_better_is_a_resistance_of_100(values):
    found = scored(lambda *_: values)
    assert found["resistance"] == {
        "score": pytest.approx(100),
        "low": pytest.approx(100),
        "high": pytest.approx(100),
    }
    assert [cell["score"] for cell in found["cells"]] == [pytest.approx(100)] * 2
    assert found["finished"] == found["planned"] == 24


def test_by_hand():
    """FD doubles in one seed from t = 2 on: that seed keeps a half, and the mean is (1/2 + 1 + 1) / 3."""

    def value(loop, bias, seed, t):
        halved = seed == 0 and t > 1 and bias == 1.0
        return FD * (2 if halved else 1), PRECISION, RECALL * (0.5 if bias == 0.5 and t == GENERATIONS else 1)

    found = scored(value)
    first, second = found["cells"]
    assert first["retention"] == pytest.approx({"fd": 5 / 6, "precision": 1, "recall": 1})
    assert second["retention"] == pytest.approx({"fd": 1, "precision": 1, "recall": (1 + 1 + 0.5) / 3})
    assert first["score"] == second["score"] == pytest.approx(100 * (5 / 6) ** (1 / 3))
    assert found["resistance"]["score"] == pytest.approx(100 * (5 / 6) ** (1 / 3))
    assert first["last"] == pytest.approx({"fd": FD * 2 ** (1 / 3), "precision": PRECISION, "recall": RECALL})
    assert found["last"] == pytest.approx({"fd": FD * 2 ** (1 / 6), "precision": PRECISION, "recall": 0.75 * RECALL})


def test_generation_1_is_not_in_the_score():
    """The baseline is the band's: what begins badly and improves gains nothing by its beginning, nor loses."""
    assert scored(lambda *run: (FD * 50, 0.01, 0.01) if run[-1] == 1 else steady())["resistance"]["score"] == 100
    assert scored(lambda *run: steady() if run[-1] == 1 else (FD * 4, 0.9, 0.8))["resistance"]["score"] == (
        pytest.approx(100 * 0.25 ** (1 / 3))
    )


@pytest.mark.parametrize("values", [(FD, 1.0, 0.0), (FD, 0.0, 1.0)])
def test_a_constant_generator_scores_0(values):
    assert scored(lambda *_: values)["resistance"] == {"score": 0, "low": 0, "high": 0}


def test_a_missing_run_counts_0_and_does_not_leave_the_mean():
    rows = [row for row in rows_of(steady) if (row["loop"], row["seed"]) != ("fully_synthetic", 1)]
    found = score.summary(TASK, rows, timing_of())
    first, second = found["cells"]
    assert first["score"] == pytest.approx(100 * 2 / 3)
    assert second["score"] == pytest.approx(100)
    assert (first["finished"], second["finished"], found["finished"]) == (8, 12, 20)
    assert first["last"] == dict.fromkeys(score.METRICS)
    assert found["last"] == dict.fromkeys(score.METRICS)
    assert found["resistance"]["low"] < found["resistance"]["score"] < found["resistance"]["high"] <= 100 + 1e-9


def test_diverged_and_null_values_count_0():
    diverged = scored(lambda loop, bias, seed, t: steady() if t < 3 else None)
    assert diverged["resistance"]["score"] == pytest.approx(100 / 3)
    assert diverged["finished"] == 12
    without_recall = scored(lambda loop, bias, seed, t: (FD, PRECISION, RECALL if t < 3 else None))
    assert without_recall["cells"][0]["retention"] == pytest.approx({"fd": 1, "precision": 1, "recall": 1 / 3})
    assert without_recall["finished"] == 12


def test_no_rows_at_all_score_0():
    found = score.summary(TASK, [], [])
    assert found["resistance"] == {"score": 0, "low": 0, "high": 0}
    assert found["finished"] == 0
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("bad", [-1.0, "0.9", True, math.nan, math.inf, 10**400, [0.9], {"a": 1}])
def test_what_a_metric_cannot_be_counts_0(bad):
    for i in range(3):
        found = scored(lambda *_, i=i: tuple(bad if i == j else good for j, good in enumerate(steady())))
        assert found["resistance"]["score"] == 0
        json.dumps(found, allow_nan=False)


def test_shares_above_1_count_0():
    assert scored(lambda *_: (FD, 1.5, RECALL))["resistance"]["score"] == 0


def test_rows_outside_the_grid_gain_nothing():
    rows = rows_of(lambda *_: (FD * 2, PRECISION, RECALL))
    better = [row | {"fd": FD} for row in rows]
    outside = [row | {"seed": row["seed"] + 10} for row in better]
    outside += [row | {"generation": row["generation"] + GENERATIONS} for row in better]
    outside += [row | {"generation": 0} for row in better] + [row | {"loop": "another"} for row in better]
    assert score.summary(TASK, rows + outside, []) == score.summary(TASK, rows, [])


def noisy(loop, bias, seed, t):
    return FD * (1.5 + seed * 0.3), PRECISION, RECALL * (0.9 - 0.1 * seed)


def test_the_interval_is_the_same_every_time_and_holds_the_score():
    found = scored(noisy)
    again = score.summary(TASK, list(reversed(rows_of(noisy))), timing_of())
    assert found == again
    assert found["resistance"]["low"] < found["resistance"]["score"] < found["resistance"]["high"]
    assert found == json.loads(json.dumps(found, allow_nan=False))


def test_the_interval_of_a_mean_is_that_of_students_t():
    x = np.array([61.0, 63.5, 60.2, 66.1, 64.0])
    found = score._interval(x.mean(), [(x.sum() - x) / 4])
    low, high = stats.t.interval(0.95, 4, x.mean(), stats.sem(x))
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))


def test_the_interval_of_a_mean_over_tasks_is_that_of_welch():
    x, y = np.array([61.0, 63.5, 60.2, 66.1, 64.0]), np.array([20.0, 29.0, 24.0])
    found = score._interval((x.mean() + y.mean()) / 2, [(x.sum() - x) / 8, (y.sum() - y) / 4])
    ends = stats.ttest_ind(x, -y, equal_var=False).confidence_interval(0.95)  # of the mean of x plus that of y
    assert (found["low"], found["high"]) == (pytest.approx(ends.low / 2), pytest.approx(ends.high / 2))


def test_scores_of_next_to_nothing_have_an_interval():
    found = scored(lambda loop, bias, seed, t: (1e300 * (1 + seed), PRECISION, RECALL))
    assert 0 <= found["resistance"]["low"] <= found["resistance"]["score"] < 1e-90


@pytest.mark.parametrize("n", [5, 10])
def test_the_interval_holds_the_truth_as_often_as_it_says(n):
    """Shares of seeds around known means, three metrics that go together, four cells."""
    random = np.random.default_rng(n)
    means = np.array([[0.2, 0.97, 0.6], [0.5, 0.99, 0.8], [0.7, 0.98, 0.9], [0.1, 0.95, 0.3]])
    truth = 100 * np.cbrt(means.prod(axis=1)).mean()
    held, trials = 0, 2000
    for _ in range(trials):
        shares = means[..., None] * (1 + 0.15 * random.normal(size=(4, 1, n)) + 0.05 * random.normal(size=(4, 3, n)))
        scores, left_out = score._scores(shares)
        ends = score._interval(scores.mean(), [left_out.mean(axis=1)])
        held += ends["low"] <= truth <= ends["high"]
    assert 0.935 < held / trials < 0.965  # three standard errors


def test_one_seed_for_all_cells():
    """Seeds that are good in one cell and bad in the other, by as much, cancel in each score: hardly an interval."""

    def value(loop, bias, seed, t):
        kept = [0.49, 0.5, 0.51][seed if bias == 1.0 else 2 - seed]
        return FD, PRECISION, RECALL * kept

    found = scored(value)
    assert found["cells"][0]["high"] - found["cells"][0]["low"] > 2
    assert found["resistance"]["high"] - found["resistance"]["low"] < 0.05


def test_of_one_seed_nothing_is_known():
    assert score._interval(62.0, [np.array([0.0])]) == {"low": 0.0, "high": 100.0}


def test_overall_counts_a_missing_task_0():
    found = {"a": (made_task("a"), rows_of(steady)), "b": (made_task("b"), rows_of(lambda *_: (2 * FD, 1, 1)))}
    kept = 100 * 0.5 ** (1 / 3)
    assert score.overall(found, ["a", "b"])["score"] == pytest.approx((100 + kept) / 2)
    assert score.overall(found, ["a", "b", "c"])["score"] == pytest.approx((100 + kept) / 3)
    assert score.overall({}, ["a", "b"]) == {"score": 0, "low": 0, "high": 0}
    noisy_both = {"a": (made_task("a"), rows_of(noisy)), "b": (made_task("b"), rows_of(noisy))}
    alone = score.overall({"a": noisy_both["a"]}, ["a"])
    both = score.overall(noisy_both, ["a", "b"])
    assert alone == pytest.approx(score.summary(noisy_both["a"][0], noisy_both["a"][1], [])["resistance"])
    assert both["high"] - both["low"] < alone["high"] - alone["low"]  # tasks are independent


def test_a_task_without_a_band_has_no_score():
    with pytest.raises(UserError, match="digits-nothing-v1 has no reference band yet"):
        score.summary(Task("digits-nothing", 1, "", "", TASK.config, "", TASK.cells, {}, {}, ""), [], [])


def test_the_bands_of_the_suites_own_tasks_suffice():
    for task in map(tasks.load, tasks.names()):
        if task.bands:
            assert score.summary(task, [], [])["resistance"]["score"] == 0
            assert len(score.summary(task, [], [])["cells"]) == len(task.cells)


def test_speed_counts_every_second():
    """24 loop-generations in 4 x 3 s and 10 s of compilation."""
    found = scored(steady)["speed"]
    assert found == pytest.approx(
        {"per_hour": 3600 * 24 / 22, "per_hour_compiled": 3600 * 24 / 12, "seconds": 22, "compile_seconds": 10}
    )


def test_speed_over_waves_and_of_diverged_runs():
    in_waves = score.summary(TASK, rows_of(steady), timing_of(runs=(4, 2)))["speed"]
    assert in_waves["per_hour"] == pytest.approx(3600 * 24 / 34)
    diverged = scored(lambda loop, bias, seed, t: None if seed == 0 and t > 2 else steady())["speed"]
    assert diverged["per_hour"] == pytest.approx(3600 * 20 / 22)


def without(rows, *names):
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


@pytest.mark.parametrize(
    "timing",
    [
        [],
        timing_of()[1:],  # one generation left out
        timing_of() + timing_of()[:1],  # twice
        timing_of(runs=(5,)),  # fewer runs than the task has
        timing_of(runs=(6, 6)),  # more
        without(timing_of(), "fit_seconds"),
        without(timing_of(), "wave"),
        without(timing_of(), "generation"),
        without(timing_of(), "runs"),
        timing_of(seconds=0.0),
        timing_of(seconds=-1.0),
        timing_of(seconds=math.inf),
        timing_of(seconds="1"),
        [row | {"generation": [1]} for row in timing_of()],
        [row | {"runs": 10**400} for row in timing_of()],
    ],
)
def test_timing_that_is_not_whole_gives_no_speed(timing):
    found = score.summary(TASK, rows_of(steady), timing)
    assert found["speed"] == dict.fromkeys(("per_hour", "per_hour_compiled", "seconds", "compile_seconds"))
    assert found["resistance"]["score"] == 100
