"""`report.comparison` and `report.pairing`: against SciPy, by hand, with a known effect and with none at all."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
import trials
from scipy import stats
from tables import infos

from madbench import results, verdict
from madbench.errors import UserError
from madbench.report import comparison, pairing
from madbench.report.comparison import LAST, MEAN, Outcome

FD, FD_LAST, RECALL = Outcome("fd", MEAN), Outcome("fd", LAST), Outcome("recall", MEAN)


def pair(effect=-0.3, **fields):
    """None and a strategy, both budgets; keywords are of all three workdirs."""
    return [
        trials.make("plain", **fields),
        trials.make("equal", "neon", effect=effect, flops=900, **fields),
        trials.make("more", "neon", False, effect=2 * effect, flops=1900, **fields),
    ]


def of_run(result, metric, loop, bias, seed):
    rows = sorted(result.rows, key=lambda r: r["generation"])
    return [r[metric] for r in rows if (r["loop"], r["bias"], r["seed"]) == (loop, bias, seed)]


def statistic(result, outcome, loop, bias):
    """By seed, computed in the plainest way."""
    change = np.log if outcome.metric == "fd" else np.asarray
    runs = [change(of_run(result, outcome.metric, loop, bias, seed)) for seed in sorted(result.config["seeds"])]
    return [run[-1] if outcome.statistic == LAST else np.mean(run[1:]) for run in runs]


# ---------------------------------------------------------------------------------------------------------- statistics


def test_effects_are_those_of_scipy():
    plain, equal, more = pair()
    found = comparison.compare([plain, equal, more])
    assert [trial.source for trial in found.trials] == ["equal"] * 4 + ["more"] * 4
    for trial, made in zip(found.trials, [equal] * 4 + [more] * 4, strict=True):
        at = trial.cell.loop, trial.cell.bias
        for outcome, effect in trial.effects.items():
            a, b = (statistic(result, outcome, *at) for result in (made, plain))
            expected = stats.ttest_rel(a, b)
            assert effect.mean == pytest.approx(np.mean(a) - np.mean(b))
            assert effect.p_value == pytest.approx(expected.pvalue)
            assert effect.interval == pytest.approx(expected.confidence_interval(0.95))
            assert effect.is_log == (outcome.metric == "fd")
            assert trial.plain[outcome] == pytest.approx(np.mean(b))


def test_overall_each_seed_counts_once():
    """The t-test is over five means of seeds, not over twenty runs."""
    plain, equal, more = pair()
    standings = comparison.compare([plain, equal, more]).standings
    assert [(s.strategy, s.equal_cost, s.blocks, s.of) for s in standings] == [
        ("none", True, 4, 4), ("neon", True, 4, 4), ("none", False, 4, 4), ("neon", False, 4, 4),
    ]  # fmt: skip
    for outcome, effect in standings[1].effects.items():
        blocks = list(itertools.product(trials.LOOPS, (1.0, 0.5)))
        a, b = (np.mean([statistic(r, outcome, *block) for block in blocks], axis=0) for r in (equal, plain))
        expected = stats.ttest_rel(a, b)
        assert effect.p_value == pytest.approx(expected.pvalue)
        assert effect.interval == pytest.approx(expected.confidence_interval(0.95))
    assert standings[0].effects == {}
    assert standings[1].flops_ratio == pytest.approx(902.5 / 1002.5)
    assert standings[3].flops_ratio == pytest.approx(1902.5 / 1002.5)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        # by hand: .01 * 4, .02 * 3, then .03 * 2 = .06 as before it, .04 * 1 raised to that
        ((0.04, 0.01, 0.03, 0.02), (0.06, 0.04, 0.06, 0.06)),
        ((0.01, 0.01, 0.02), (0.03, 0.03, 0.03)),
        ((0.5, 0.6, 0.001), (1.0, 1.0, 0.003)),
        ((0.04,), (0.04,)),
        ((0.01, None, 0.03), (0.03, None, 0.06)),  # what could not be tested counts
        ((None, None), (None, None)),
        ((), ()),
    ],
)
def test_holm_by_hand(p_values, expected):
    for order in itertools.permutations(range(len(p_values))):
        found = comparison.holm([p_values[i] for i in order])
        assert found == [None if expected[i] is None else pytest.approx(expected[i]) for i in order]


def test_the_family_is_the_table_of_an_outcome_at_both_budgets():
    found = comparison.compare(pair(effect=-0.1))
    for level, m in ((found.trials, 8), (found.standings, 2)):
        for outcome in found.outcomes:
            effects = [each.effects[outcome] for each in level if each.effects]
            assert {effect.family for effect in effects} == {m}
            assert [e.p_holm for e in effects] == pytest.approx(comparison.holm([e.p_value for e in effects]))


def test_a_known_effect_is_found():
    found = comparison.compare(pair(effect=-0.3, noise=0.05))
    for trial in found.trials:
        expected = -0.3 if trial.cell.equal_cost else -0.6
        assert trial.effects[FD].mean == pytest.approx(expected, abs=0.1)
        assert trial.effects[RECALL].mean == pytest.approx(-expected / 10, abs=0.01)
    assert {s.effects[FD].finding for s in found.standings if s.effects} == {"better"}
    worse = comparison.compare(pair(effect=0.3, noise=0.05))
    assert {s.effects[o].finding for s in worse.standings if s.effects for o in found.outcomes} == {"worse"}


def test_pairs_see_what_unpaired_runs_would_not():
    """Seeds differ by far more than the strategy does: without pairs the t-test finds nothing."""
    plain, equal, _ = pair(effect=-0.3, noise=0.05, shared=2.0, loops=trials.LOOPS[:1], biases=(1.0,))
    (trial,) = comparison.compare([plain, equal]).trials
    a, b = (statistic(result, FD, trials.LOOPS[0], 1.0) for result in (equal, plain))
    assert stats.ttest_ind(a, b).pvalue > 0.3
    assert trial.effects[FD].finding == "better"


def test_false_alarms_are_as_rare_as_promised():
    """Four strategies that do nothing, at two budgets, in three blocks that share seeds: any finding is false.

    600 comparisons; at 5 % a share above 7.5 % has a probability below 0.5 %.
    """
    rng, info, trials_, alarms = np.random.default_rng(0), infos("fd")["fd"], 600, {"block": 0, "overall": 0}
    for _ in range(trials_):
        noise = rng.normal(size=(8, 3, 5)) + rng.normal(size=(1, 3, 5)) + rng.normal(size=(8, 1, 5))
        for level, table in (("block", noise.reshape(24, 5)), ("overall", noise.mean(axis=1))):
            effects = [comparison.measure(found, info) for found in table]
            alarms[level] += any(p < verdict.SIGNIFICANCE for p in comparison.holm([e.p_value for e in effects]))
    assert all(count / trials_ < 0.075 for count in alarms.values()), alarms
    assert alarms["overall"] > 0  # it is a test all the same


def test_a_strategy_that_changes_nothing_is_no_finding():
    plain = trials.make("plain")
    same = trials.make("same", "golden_ratio")
    for mine, other in zip(same.rows, plain.rows, strict=True):
        mine.update({name: other[name] for name in trials.METRICS})
    for trial in comparison.compare([plain, same]).trials:
        assert {(e.mean, e.p_value, e.finding) for e in trial.effects.values()} == {(0.0, 1.0, "")}


def test_differences_without_spread_are_judged_by_their_signs():
    assert comparison.p_value(np.full(3, -0.5)) == 0.25  # of the sign test
    assert comparison.p_value(np.zeros(3)) == 1.0


# --------------------------------------------------------------------------------------------------------------- ranks


def test_ranks_by_hand():
    scores = np.array([[3.0, 1.0], [3.0, np.nan], [5.0, np.nan], [0.0, 2.0]])
    np.testing.assert_array_equal(comparison.rank(scores), [[2.5, 2], [2.5, 3.5], [1, 3.5], [4, 1]])
    random = np.random.default_rng(0).integers(0, 4, (6, 9)).astype(float)
    np.testing.assert_array_equal(comparison.rank(random), stats.rankdata(-random, axis=0))


def test_better_is_first_for_every_metric_and_none_is_ranked_at_each_budget():
    found = comparison.compare(pair(effect=-0.5, noise=0.02))
    for outcome in found.outcomes:
        assert [standing.ranks[outcome].mean for standing in found.standings] == [2, 1, 2, 1]


def test_the_rank_s_interval_is_over_seeds():
    plain, equal, _ = pair(effect=-0.02)
    rank = comparison.compare([plain, equal]).standings[1].ranks[FD]
    blocks = list(itertools.product(trials.LOOPS, (1.0, 0.5)))
    wins = np.mean([np.less(statistic(equal, FD, *b), statistic(plain, FD, *b)) for b in blocks], axis=0)
    assert rank.mean == pytest.approx(2 - wins.mean())
    expected = stats.t.interval(0.95, 4, loc=2 - wins.mean(), scale=stats.sem(wins))
    assert rank.interval == pytest.approx(expected)


# ------------------------------------------------------------------------------------------------------ what is missing


def test_a_run_that_diverged_takes_no_part_in_a_mean_and_ranks_last():
    plain, _, _ = pair()
    broken = trials.make("broken", "neon", effect=-5.0, diverged=2)
    found = comparison.compare([plain, broken])
    for effect in (found.trials[0].effects[FD], found.standings[1].effects[FD]):
        assert (effect.mean, effect.interval, effect.p_value, effect.p_holm) == (None,) * 4
        assert effect.undecided == "1 of 5 pairs missing"
        assert effect.family in (1, 4)
    assert found.standings[1].ranks[FD].mean == pytest.approx(1 + 1 / 5)


def test_a_strategy_that_was_not_run_in_a_block_is_last_there_and_has_no_effect_overall():
    plain = trials.make("plain")
    half = trials.make("half", "sims", effect=-1.0, loops=trials.LOOPS[:1])
    whole = trials.make("whole", "neon", effect=1.0)
    standings = {s.strategy: s for s in comparison.compare([plain, half, whole]).standings}
    assert standings["sims"].effects[FD].undecided == "in 2 of 4 blocks"
    assert standings["sims"].ranks[FD].mean == pytest.approx((1 + 3) / 2)
    assert standings["neon"].effects[FD].mean == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("n", [1, 2])
def test_under_three_seeds_nothing_is_tested(n):
    found = comparison.compare(pair(seeds=range(n)))
    effect = found.trials[0].effects[FD]
    assert effect.mean < 0
    assert (effect.interval, effect.p_value, effect.finding, effect.undecided) == (None, None, "", "too few seeds")
    assert found.standings[1].ranks[FD].interval is None


def test_blocks_with_other_seeds_are_not_averaged():
    made = pair() + pair(family="gan", seeds=(5, 6, 7))
    made = [dataclasses.replace(r, path=r.path.with_name(f"{r.path}{i}")) for i, r in enumerate(made)]
    found = comparison.compare(made)
    groups = {s.group: s for s in found.standings if s.strategy == "neon" and s.equal_cost}
    assert list(groups) == [("toy", "diffusion"), ("toy", "gan"), (comparison.ALL, "")]
    assert [s.effects[FD].undecided for s in groups.values()] == ["", "", "blocks have other seeds"]
    both = [groups["toy", family].ranks[FD].mean for family in ("diffusion", "gan")]
    assert groups[comparison.ALL, ""].ranks[FD].mean == pytest.approx(np.mean(both))


def test_the_order_of_rows_and_seeds_changes_nothing():
    made = pair()
    turned = [
        dataclasses.replace(r, rows=r.rows[::-1], config=r.config | {"seeds": r.config["seeds"][::-1]}) for r in made
    ]
    a, b = comparison.compare(made), comparison.compare(turned)
    assert (a.trials, a.standings, a.notes) == (b.trials, b.standings, b.notes)


# ---------------------------------------------------------------------------------------------------------- refusals


def edited(place, name, value):
    """A workdir of a strategy with one thing that differs."""
    made = trials.make("b", "neon")
    getattr(made, place)[name] = value
    return made


REFUSED = {
    "no none": ([trials.make("b", "neon"), trials.make("c", "sims")], "no workdir of strategy none among b, c: run"),
    "all none": ([trials.make("a"), trials.make("b")], "no strategy but none in a, b"),
    "other blocks": (
        [trials.make("a"), trials.make("b", "neon", loops=("replace",))], "share no task, model, loop and λ",
    ),
    "twice": (
        [trials.make("a"), trials.make("b", "neon"), trials.make("c", "neon")],
        "b and c both hold neon, equal cost (toy, diffusion, fully_synthetic, λ = 1): leave one out",
    ),
    "none twice": ([trials.make("a"), trials.make("b"), trials.make("c", "neon")], "a and b both hold none (toy"),
    "seeds": (
        [trials.make("a"), trials.make("b", "neon", seeds=(0, 1, 2))],
        "b and a do not compare: seeds differ: 0, 1, 2 and 0, 1, 2, 3, 4",
    ),
    "generations": ([trials.make("a"), trials.make("b", "neon", generations=3)], "generations differ: 3 and 4"),
    "one generation": (pair(generations=1), "equal has one generation"),
    "features": ([trials.make("a"), trials.make("b", "neon", features="x-2")], "features differ: x-2 and raw-1"),
    "versions": ([trials.make("a"), trials.make("b", "neon", version=2)], "version of fd differs: 2 and 1"),
    "samples": ([trials.make("a"), edited("reference", "n_samples", 60)], "samples behind each metric differs: 60 and"),
    "data": ([trials.make("a"), edited("environment", "dataset", {"sha256": "1"})], "data differs: {'sha256': '1'}"),
    "config": ([trials.make("a"), edited("config", "n_initial", 80)], "config.n_initial differs: 80 and 40"),
    "steps": (
        [trials.make("a"), edited("config", "model", {"family": "diffusion", "steps": 600})],
        "config.model.steps differ: 600 and 300",
    ),
    "metrics": (
        [trials.make("a", metrics=("fd",)), trials.make("b", "neon", metrics=("recall",))], "share none of fd, prec",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_compare_is_refused_in_one_line(name):
    made, message = REFUSED[name]
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        comparison.compare(made)
    assert "\n" not in str(caught.value)


def test_rows_that_were_measured_otherwise_are_refused():
    made = trials.make("b", "neon")
    made.rows[3]["features"] = "lenet-2"
    with pytest.raises(UserError, match="features of rows differ: lenet-2, raw-1 and raw-1"):
        comparison.compare([trials.make("a"), made])
    made = trials.make("b", "neon")
    made.rows[3]["metric_versions"] = {"fd": 9}
    with pytest.raises(UserError, match="version of fd in rows differ"):
        comparison.compare([trials.make("a"), made])


def test_how_a_job_ran_and_how_large_its_grid_was_do_not_matter():
    plain = trials.make("a", fleet={"waves": 1}, new_field=1, loops=(*trials.LOOPS, "replace"))
    found = comparison.compare([plain, trials.make("b", "neon", fleet={"waves": 2}, biases=(0.5,))])
    assert len(found.trials) == 2


def test_metrics_that_not_all_measured_are_left_out():
    found = comparison.compare([trials.make("a"), trials.make("b", "neon", metrics=("recall", "fd"))])
    assert found.outcomes == [FD, FD_LAST, RECALL, Outcome("recall", LAST)]


def test_what_stands_alone_is_said():
    lonely = trials.make("c", "sims", family="gan")
    found = comparison.compare([trials.make("a"), trials.make("b", "neon"), lonely])
    assert found.notes[0].startswith(
        "Left out, for no line of none is in their block: sims, equal cost (toy, gan, fully_"
    )
    assert "and 2 more" in found.notes[0]
    other = trials.make("b", "neon")
    for row in other.rows:
        row["benchmark"] = "0.0.1"
    notes = pairing.pair([trials.make("a"), other])[1]
    both = ", ".join(sorted(["0.0.1", results.__version__]))
    assert notes == [f"Releases of madbench differ, and rows may for that alone: {both}."]
