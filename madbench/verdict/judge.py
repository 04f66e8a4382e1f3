"""The verdict on each cell of the standard table, by a definition of collapse that can be chosen.

A criterion holds where a one-sided t-test over the runs' numbers is significant at 5 %, and, where the definition asks
for it, the last generation lies beyond the floor. Several may hold at once. Seeds share the reference, the split of a
finite set and the feature network: what is judged is the loop on these data.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from madbench.results import MetricInfo
from madbench.verdict.definitions import DEFAULT, DEFINITIONS, Criterion, reading
from madbench.verdict.trend import SLOPE, TOO_FEW_GENERATIONS, TOO_FEW_SEEDS, Trend, measure
from madbench.verdict.values import Cell, group, half_life, matrix

NO_RESULTS = "no results"
NO_FLOOR = "no floor"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of one cell, over its seeds.

    Attributes:
      definition: name of the definition of collapse.
      findings: those of its criteria that hold: "MAD", "loses quality", "loses diversity".
      undecided: which could not be tested and why: "too few seeds" of all, "MAD undecided: no floor" of one.
      evidence: what the verdict rests on, one for each criterion whose metric was measured.
      trends: of every metric that was measured, whatever the definition.
      seeds: runs planned; each is one of the following three.
      finished: runs with every generation "ok".
      diverged: runs with a generation "diverged". They count as failed, and such a cell is never called stable.
      unfinished: the others, begun or not.
      half_life: generations after the first until recall is half of generation 1's; None where it is not reached.
    """

    definition: str
    findings: tuple[str, ...]
    undecided: tuple[str, ...]
    evidence: tuple[Trend, ...]
    trends: tuple[Trend, ...]
    seeds: int
    finished: int
    diverged: int
    unfinished: int
    half_life: float | None

    @property
    def text(self) -> str:
        """For people: "MAD, loses diversity", "stable", "too few seeds, diverged 2/3"."""
        if NO_RESULTS in self.undecided:
            return NO_RESULTS
        parts = [*self.findings, *self.undecided]
        if not parts and not self.diverged and not self.unfinished:
            parts.append(DEFINITIONS[self.definition].otherwise)
        parts += [f"diverged {self.diverged}/{self.seeds}"] if self.diverged else []
        parts += [f"unfinished {self.unfinished}/{self.seeds}"] if self.unfinished else []
        return ", ".join(parts)


def judge(
    rows: Iterable[dict[str, Any]],
    floors: Mapping[str, Mapping[str, float]],
    metrics: Mapping[str, MetricInfo],
    *,
    seeds: Sequence[int] | None = None,
    generations: int | None = None,
    definition: str = DEFAULT,
) -> dict[Cell, Verdict]:
    """The verdict on every cell that has rows, in the order of first appearance.

    Args:
      rows: as in `metrics.jsonl`, in any order.
      floors: metric -> {"mean", "p5", "p95"}, as in `reference.json`.
      metrics: those that were asked for, by name; others in the rows are not looked at.
      seeds, generations: what was planned, so that what is missing counts as unfinished. None: what the rows hold.
      definition: of collapse, among `DEFINITIONS`.
    """
    plan = {"seeds": seeds, "generations": generations, "definition": definition}
    return {cell: judge_cell(of_cell, floors, metrics, **plan) for cell, of_cell in group(rows).items()}


def judge_cell(
    rows: Sequence[dict[str, Any]],
    floors: Mapping[str, Mapping[str, float]],
    metrics: Mapping[str, MetricInfo],
    *,
    seeds: Sequence[int] | None = None,
    generations: int | None = None,
    definition: str = DEFAULT,
) -> Verdict:
    """The verdict on one cell; `rows` may be empty. Arguments as in `judge`."""
    seeds = sorted({row["seed"] for row in rows}) if seeds is None else list(seeds)
    generations = max((row["generation"] for row in rows), default=0) if generations is None else generations
    diverged = {row["seed"] for row in rows if row["status"] != "ok"} & set(seeds)
    present = {(row["seed"], row["generation"]) for row in rows}
    finished = [s for s in seeds if s not in diverged and all((s, t + 1) in present for t in range(generations))]

    values = {name: matrix(rows, name, seeds, generations) for name in metrics}
    trends = {name: _trend(info, values[name]) for name, info in metrics.items()}
    findings, evidence, reasons, missing = [], [], {}, []
    for criterion in DEFINITIONS[definition].criteria:
        metric = next((name for name in criterion.metrics if name in metrics), None)
        if metric is None:
            if criterion.required:
                missing.append(criterion)
            continue
        evidence.append(trends[metric] if criterion.statistic == SLOPE else _tested(criterion, metric, values[metric]))
        holds = _holds(criterion, evidence[-1], values[metric], floors.get(metric, {}))
        if isinstance(holds, str):
            reasons[criterion.finding] = holds
        elif holds:
            findings.append(criterion.finding)
    return Verdict(
        definition=definition,
        findings=tuple(findings),
        undecided=_undecided(reasons, len(evidence), missing) if rows else (NO_RESULTS,),
        evidence=tuple(evidence),
        trends=tuple(trends.values()),
        seeds=len(seeds),
        finished=len(finished),
        diverged=len(diverged),
        unfinished=len(seeds) - len(finished) - len(diverged),
        half_life=half_life(values["recall"]) if "recall" in values else None,
    )


def _trend(info: MetricInfo, values: np.ndarray) -> Trend:
    worse, is_log = reading(info.name, info.direction, info.kind)
    return measure(info.name, values, worse=worse, is_log=is_log)


def _tested(criterion: Criterion, metric: str, values: np.ndarray) -> Trend:
    return measure(metric, values, worse=criterion.worse, is_log=criterion.is_log, statistic=criterion.statistic)


def _holds(criterion: Criterion, trend: Trend, values: np.ndarray, floor: Mapping[str, float]) -> bool | str:
    """Whether a criterion holds, or why that cannot be said."""
    if trend.undecided:
        return trend.undecided
    if not trend.worsens or not criterion.beyond_floor:
        return trend.worsens
    bound = floor.get("p95" if criterion.worse > 0 else "p5")
    if bound is None:
        return NO_FLOOR
    # The last one of a run that diverged is the last that it had: leaving the run out would flatter the cell.
    last = np.mean(np.sort([run[~np.isnan(run)][-1] for run in values if not np.isnan(run).all()]))
    return bool(last > bound if criterion.worse > 0 else last < bound)


def _undecided(reasons: Mapping[str, str], tested: int, missing: Sequence[Criterion]) -> tuple[str, ...]:
    """Each finding with the reason why it is undecided; the reason alone where it is that of all."""
    missed = {criterion.finding: f"metric {criterion.metrics[0]} was not measured" for criterion in missing}
    every = {**reasons, **missed}
    if len(set(every.values())) == 1 and len(every) == tested + len(missed):
        (reason,) = set(every.values())
        return (reason if reason in (TOO_FEW_SEEDS, TOO_FEW_GENERATIONS) else f"undecided: {reason}",)
    return tuple(f"{finding} undecided: {reason}" for finding, reason in every.items())
