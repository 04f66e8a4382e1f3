"""What strategies do, against none: paired differences over seeds, with intervals, tests and ranks; no pictures.

An outcome is a metric and a statistic of each run: its value at the last generation, or its mean over generations 2 to
T. Of distances it is that of the natural logarithm, so that differences are logarithms of ratios. An effect is the mean
over pairs of runs of one seed of (strategy less none), with Student's t interval and the two-sided paired t-test.

Overall, over the blocks (loop, λ) of a task and model, and over all: blocks of one seed share its data, and their runs
are no independent trials, so that each seed's differences are averaged over the blocks first, and the t-test is over
seeds as ever. It says nothing of blocks that are not there.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from madbench import verdict
from madbench.errors import UserError
from madbench.report import pairing
from madbench.report.accounts import Expense
from madbench.report.pairing import Pairs
from madbench.results import NO_STRATEGY, MetricInfo, Result
from madbench.verdict import Cell, Interval
from madbench.verdict.trend import TOO_FEW_SEEDS, t_interval

MEAN, LAST = "mean", "last"
STATISTICS = (MEAN, LAST)
ALL = "all"  # the name of what unites several tasks or models


class Outcome(NamedTuple):
    metric: str
    statistic: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effect:
    """Strategy less none, of one outcome.

    Attributes:
      is_log: of logarithms: exp of it is a ratio.
      better: 1 where more is better, -1 where less is.
      seeds: pairs planned.
      mean: over all pairs; None where one is missing: a mean over those that are left would be of other runs.
      interval: two-sided, 95 %, by Student's t; None as above, or with fewer than three pairs.
      p_value: of the two-sided paired t-test; None likewise.
      p_holm: the same after Holm's correction over `family` tests.
      family: how many tests stand in the table that it belongs to; those without a p-value count as p = 1.
      undecided: why there is no test, or "".
    """

    is_log: bool
    better: int
    seeds: int = 0
    mean: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    undecided: str = ""
    p_holm: float | None = None
    family: int = 0

    @property
    def finding(self) -> str:
        """ "better" or "worse" where the corrected test says so, else ""."""
        if self.mean is None or self.p_holm is None or self.p_holm >= verdict.SIGNIFICANCE:
            return ""
        return "better" if self.mean * self.better > 0 else "worse"


class Rank(NamedTuple):
    """Mean over blocks and seeds of the place among none and all strategies of one budget, 1 the best; the interval is
    over seeds, None where the blocks have other seeds, or fewer than three."""

    mean: float
    interval: Interval | None


@dataclasses.dataclass(frozen=True)
class Trial:
    """A strategy against none in one block; `plain` is none's own mean over the seeds, of logarithms as the effects."""

    cell: Cell
    source: str
    generations: int
    expense: Expense
    effects: dict[Outcome, Effect]
    plain: dict[Outcome, float | None]


@dataclasses.dataclass(frozen=True)
class Standing:
    """A strategy, or none, over the blocks of a group.

    Attributes:
      group: task and model, or (ALL, "") for all blocks of a comparison of several.
      strategy, equal_cost: as in `Cell`. None has a standing beside each budget.
      blocks, of: in how many of the group's blocks it was tried.
      flops_ratio: FLOPs over those of none, the mean over its blocks; None where unknown.
      effects: by outcome; empty for none.
      ranks: by outcome.
    """

    group: tuple[str, str]
    strategy: str
    equal_cost: bool
    blocks: int
    of: int
    flops_ratio: float | None
    effects: dict[Outcome, Effect]
    ranks: dict[Outcome, Rank]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything that every format shows; metrics are those that all blocks share."""

    trials: list[Trial]
    standings: list[Standing]
    metrics: dict[str, MetricInfo]
    outcomes: list[Outcome]
    results: list[Result]
    notes: list[str]


def compare(results: Sequence[Result]) -> Comparison:
    """Every strategy against none, in every block and overall.

    Args:
      results: of workdirs, shares united; one strategy each, and none among them.

    Raises:
      UserError: there is nothing to compare, or runs do not compare; one line.
    """
    found, notes = pairing.pair(results)
    lines = [line for pairs in found for line in (pairs.plain, pairs.treated)]
    shared = [name for name in pairing.METRICS if all(name in line.result.metrics for line in lines)]
    if not shared:
        raise UserError(f"nothing to compare: not all workdirs have one of {', '.join(pairing.METRICS)}")
    metrics = {name: lines[0].result.metrics[name] for name in shared}
    outcomes = [Outcome(name, statistic) for name in shared for statistic in STATISTICS]
    trials = [
        Trial(
            pairs.treated.cell,
            pairs.treated.source,
            pairs.treated.generations,
            pairs.treated.expense,
            {outcome: measure(differences(pairs, outcome, metrics), metrics[outcome.metric]) for outcome in outcomes},
            {outcome: _level(pairs, outcome, metrics) for outcome in outcomes},
        )
        for pairs in found
    ]
    groups = dict.fromkeys((pairs.block.task, pairs.block.model) for pairs in found)
    standings = [s for group in groups for s in _standings(group, _of(group, found), outcomes, metrics)]
    if len(groups) > 1:
        standings += _standings((ALL, ""), found, outcomes, metrics)
    return Comparison(_corrected(trials), _corrected(standings), metrics, outcomes, list(results), notes)


def _of(group: tuple[str, str], found: Sequence[Pairs]) -> list[Pairs]:
    return [pairs for pairs in found if (pairs.block.task, pairs.block.model) == group]


# ------------------------------------------------------------------------------------------------------------- effects


def differences(pairs: Pairs, outcome: Outcome, metrics: dict[str, MetricInfo]) -> np.ndarray:
    """Strategy less none by seed, `[seed]`, NaN where missing."""
    both = np.stack([pairs.treated.values(outcome.metric), pairs.plain.values(outcome.metric)])
    treated, plain = _statistic(both, outcome, metrics)
    return treated - plain


def _level(pairs: Pairs, outcome: Outcome, metrics: dict[str, MetricInfo]) -> float | None:
    """Of none, the mean over the seeds."""
    level = float(np.sort(_statistic(pairs.plain.values(outcome.metric), outcome, metrics)).mean())
    return None if math.isnan(level) else level


def _statistic(values: np.ndarray, outcome: Outcome, metrics: dict[str, MetricInfo]) -> np.ndarray:
    """Of `values [..., generation]`; logarithms of distances, where those of all lines are taken together."""
    if metrics[outcome.metric].kind == "distance":
        values = verdict.logarithm(values)
    return values[..., -1] if outcome.statistic == LAST else values[..., 1:].mean(axis=-1)


def measure(found: np.ndarray, info: MetricInfo) -> Effect:
    """The effect on a metric behind differences `found [seed]`; see `effect`."""
    return effect(found, **_direction(info))


def _direction(info: MetricInfo) -> dict[str, Any]:
    """What an effect on a metric is, before it is known."""
    return {"is_log": info.kind == "distance", "better": 1 if info.direction == "higher" else -1}


def effect(found: np.ndarray, *, is_log: bool, better: int) -> Effect:
    """The effect behind differences `found [seed]`, NaN where missing; before any correction."""
    told = {"is_log": is_log, "better": better, "seeds": found.size}
    missing = int(np.isnan(found).sum())
    if missing:
        return Effect(**told, undecided=f"{missing} of {found.size} pairs missing")
    x = np.sort(found)  # so that the seeds' order shows nowhere, not even in rounding
    if x.size < verdict.MIN_SEEDS:
        return Effect(**told, mean=float(x.mean()), undecided=TOO_FEW_SEEDS)
    return Effect(**told, mean=float(x.mean()), interval=t_interval(x), p_value=p_value(x))


def p_value(x: np.ndarray) -> float:
    """Two-sided one-sample t-test of mean 0. Of values that are all equal, which shares of few samples can be, the sign
    test's: without a spread, t would be infinite, and three seeds certain."""
    if np.ptp(x) == 0:
        return 1.0 if x[0] == 0 else 2.0 ** (1 - x.size)
    t = abs(x.mean()) / (x.std(ddof=1) / math.sqrt(x.size))
    return float(2 * special.stdtr(x.size - 1, -t))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979): the i-th smallest of m times m - i + 1, never less than one before it.

    None stands for a test that could not be made: it counts among the m as 1, and stays None.
    """
    m, corrected, least = len(p_values), {}, 0.0
    order = sorted((i for i, p in enumerate(p_values) if p is not None), key=lambda i: p_values[i])
    for place, i in enumerate(order):
        least = corrected[i] = max(least, min(1.0, (m - place) * p_values[i]))
    return [corrected.get(i) for i in range(m)]


def _corrected(found: Sequence[Trial | Standing]) -> list:
    """The same with `p_holm`: each outcome has a table of its own, at both budgets, and that is one family."""
    effects = [dict(each.effects) for each in found]
    for outcome in dict.fromkeys(outcome for each in effects for outcome in each):
        mine = [each for each in effects if outcome in each]
        for each, p in zip(mine, holm([each[outcome].p_value for each in mine]), strict=True):
            each[outcome] = dataclasses.replace(each[outcome], p_holm=p, family=len(mine))
    return [dataclasses.replace(each, effects=new) for each, new in zip(found, effects, strict=True)]


# ------------------------------------------------------------------------------------------------------------- overall


def _standings(
    group: tuple[str, str], found: Sequence[Pairs], outcomes: Sequence[Outcome], metrics: dict[str, MetricInfo]
) -> list[Standing]:
    """None and every strategy over the blocks of one group, by budget."""
    plain = {pairs.block: pairs.plain for pairs in found}
    standings = []
    for equal_cost in sorted({pairs.treated.cell.equal_cost for pairs in found}, reverse=True):
        budget = [pairs for pairs in found if pairs.treated.cell.equal_cost == equal_cost]
        names = list(dict.fromkeys(pairs.treated.cell.strategy for pairs in budget))
        tried = {name: {p.block: p for p in budget if p.treated.cell.strategy == name} for name in names}
        contenders = [plain] + [{block: pairs.treated for block, pairs in tried[name].items()} for name in names]
        ranks = {outcome: _ranks(list(plain), contenders, outcome, metrics) for outcome in outcomes}
        for i, name in enumerate([NO_STRATEGY, *names]):
            mine = list(tried[name].values()) if name in tried else []
            ratios = [pairs.treated.expense.flops_ratio for pairs in mine]
            ratio = 1.0 if name == NO_STRATEGY else None if None in ratios else float(np.mean(ratios))
            effects = {o: _overall(mine, len(plain), o, metrics) for o in outcomes} if mine else {}
            places = {outcome: ranks[outcome][i] for outcome in outcomes}
            standings.append(Standing(group, name, equal_cost, len(mine or plain), len(plain), ratio, effects, places))
    return standings


def _overall(mine: Sequence[Pairs], blocks: int, outcome: Outcome, metrics: dict[str, MetricInfo]) -> Effect:
    """Over all blocks of a group: by seed the mean over blocks, and then over seeds."""
    info = metrics[outcome.metric]
    if len(mine) < blocks:
        return Effect(**_direction(info), undecided=f"in {len(mine)} of {blocks} blocks")
    if not _share_seeds(pairs.plain.seeds for pairs in mine):
        return Effect(**_direction(info), undecided="blocks have other seeds")
    return measure(np.mean([differences(pairs, outcome, metrics) for pairs in mine], axis=0), info)


def _share_seeds(seeds: Iterable[Sequence[int]]) -> bool:
    return len({tuple(each) for each in seeds}) == 1


def _ranks(
    blocks: Sequence[Cell], contenders: Sequence[dict], outcome: Outcome, metrics: dict[str, MetricInfo]
) -> list[Rank]:
    """The rank of each contender, block -> line; where one has no value, or was not tried, it is the last."""
    sign = -1 if metrics[outcome.metric].direction == "lower" else 1
    by_block = []
    for block in blocks:
        shape = contenders[0][block].values(outcome.metric).shape
        values = [c[block].values(outcome.metric) if block in c else np.full(shape, np.nan) for c in contenders]
        by_block.append(rank(sign * _statistic(np.stack(values), outcome, metrics)))
    if _share_seeds(contenders[0][block].seeds for block in blocks):
        per_seed = np.mean(by_block, axis=0)  # [contender, seed]
        many = per_seed.shape[1] >= verdict.MIN_SEEDS
        return [Rank(float(x.mean()), t_interval(np.sort(x)) if many else None) for x in per_seed]
    means = np.mean([ranks.mean(axis=1) for ranks in by_block], axis=0)
    return [Rank(float(mean), None) for mean in means]


def rank(scores: np.ndarray) -> np.ndarray:
    """Places along the first axis of `scores [contender, seed]`, 1 for the highest; equal ones share their mean.

    NaN is below all.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    above = (scores[None] > scores[:, None]).sum(axis=1)
    equal = (scores[None] == scores[:, None]).sum(axis=1)
    return 1 + above + (equal - 1) / 2
