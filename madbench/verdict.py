"""Does a loop go MAD? Trends of the metrics over generations, with confidence. Imports no JAX.

The definition (ours; the paper, arXiv 2307.01850, says E[dist(G^t, P_r)] increases with t). Per (task, model, loop, λ):
  MAD               the slope of log FD against t is positive, and the last FD exceeds the floor's 95th percentile
  loses quality     the slope of precision is negative
  loses diversity   the slope of recall is negative
  stable            none of these, every test could be made, and every run was finished
A slope is one run's least-squares slope; its sign is judged by a one-sided t-test over the runs' slopes at 95 %: a seed
is the independent unit, generations are not. Several may hold at once; each test stands at 95 % by itself, without a
correction for their number. Seeds share the reference, the split of a finite set and the feature network: what is
judged is the loop on these data.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

SIGNIFICANCE = 0.05
MIN_SEEDS = 3

NO_RESULTS = "no results"
NO_FLOOR = "no floor"
NOT_JUDGED = "not judged"  # none of the metrics that the definition reads was measured
TOO_FEW_SEEDS = "too few seeds"
TOO_FEW_GENERATIONS = "too few generations"

# metric -> (what its trend means, the sign of a trend for the worse).
_TESTS = {"fd": ("MAD", 1), "precision": ("loses quality", -1), "recall": ("loses diversity", -1)}


class Cell(NamedTuple):
    """One line of the standard table: everything that its seeds have in common."""

    task: str
    model: str
    loop: str
    bias: float


@dataclasses.dataclass(frozen=True)
class Trend:
    """One metric's trend over generations.

    Attributes:
      metric: its name; for `fd`, the trend is of log FD.
      slopes: per usable run, in the order of the seeds. A run is usable with values at two generations or more.
      p_value: of the one-sided test that the mean slope is for the worse; None where it could not be made.
      undecided: why not, or "".
    """

    metric: str
    slopes: tuple[float, ...]
    p_value: float | None
    undecided: str = ""

    @property
    def slope(self) -> float | None:
        """Mean over usable runs, per generation; None without any."""
        return float(np.mean(self.slopes)) if self.slopes else None

    @property
    def worsens(self) -> bool:
        return self.p_value is not None and self.p_value < SIGNIFICANCE


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of one cell, over its seeds.

    Attributes:
      findings: any of "MAD", "loses quality", "loses diversity".
      undecided: which tests could not be made and why: "too few seeds" of all, "MAD undecided: no floor" of one.
      trends: of those metrics among fd, precision and recall that were measured.
      seeds: runs planned; each is one of the following three.
      finished: runs with every generation "ok".
      diverged: runs with a generation "diverged". They count as failed, and such a cell is never called stable.
      unfinished: the others, begun or not.
      half_life: generations after the first until recall is half of generation 1's; None where it is not reached.
    """

    findings: tuple[str, ...]
    undecided: tuple[str, ...]
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
            parts.append("stable")
        parts += [f"diverged {self.diverged}/{self.seeds}"] if self.diverged else []
        parts += [f"unfinished {self.unfinished}/{self.seeds}"] if self.unfinished else []
        return ", ".join(parts)


def judge(
    rows: Iterable[dict[str, Any]],
    floors: Mapping[str, Mapping[str, float]],
    metrics: Sequence[str],
    *,
    seeds: Sequence[int] | None = None,
    generations: int | None = None,
) -> dict[Cell, Verdict]:
    """The verdict on every cell that has rows, in the order of first appearance.

    Args:
      rows: as in `metrics.jsonl`, in any order.
      floors: metric -> {"mean", "p5", "p95"}, as in `reference.json`.
      metrics: names of the metrics that were asked for; others in the rows are not looked at.
      seeds, generations: what was planned, so that what is missing counts as unfinished. None: what the rows hold.
    """
    return {
        cell: judge_cell(of_cell, floors, metrics, seeds=seeds, generations=generations)
        for cell, of_cell in group(rows).items()
    }


def group(rows: Iterable[dict[str, Any]]) -> dict[Cell, list[dict[str, Any]]]:
    """Rows by cell, in the order of first appearance."""
    cells: dict[Cell, list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault(Cell(row["task"], row["model"], row["loop"], row["bias"]), []).append(row)
    return cells


def judge_cell(
    rows: Sequence[dict[str, Any]],
    floors: Mapping[str, Mapping[str, float]],
    metrics: Sequence[str],
    *,
    seeds: Sequence[int] | None = None,
    generations: int | None = None,
) -> Verdict:
    """The verdict on one cell; `rows` may be empty. Arguments as in `judge`."""
    seeds = sorted({row["seed"] for row in rows}) if seeds is None else list(seeds)
    generations = max((row["generation"] for row in rows), default=0) if generations is None else generations
    diverged = {row["seed"] for row in rows if row["status"] != "ok"} & set(seeds)
    present = {(row["seed"], row["generation"]) for row in rows}
    finished = [s for s in seeds if s not in diverged and all((s, t + 1) in present for t in range(generations))]

    values = {name: matrix(rows, name, seeds, generations) for name in _TESTS if name in metrics}
    trends = tuple(_trend(name, values[name]) for name in values)
    reasons = {trend.metric: trend.undecided for trend in trends if trend.undecided}
    findings = []
    for trend in trends:
        if trend.worsens:
            above = _above_floor(values["fd"], floors.get("fd", {}).get("p95")) if trend.metric == "fd" else True
            if above is None:
                reasons[trend.metric] = NO_FLOOR
            elif above:
                findings.append(_TESTS[trend.metric][0])
    return Verdict(
        findings=tuple(findings),
        undecided=_undecided(rows, trends, reasons),
        trends=trends,
        seeds=len(seeds),
        finished=len(finished),
        diverged=len(diverged),
        unfinished=len(seeds) - len(finished) - len(diverged),
        half_life=half_life(values["recall"]) if "recall" in values else None,
    )


def _undecided(rows: Sequence, trends: Sequence[Trend], reasons: Mapping[str, str]) -> tuple[str, ...]:
    if not rows:
        return (NO_RESULTS,)
    if not trends:
        return (NOT_JUDGED,)
    if len(reasons) == len(trends) and len(set(reasons.values())) == 1:
        return tuple(set(reasons.values()))
    return tuple(f"{_TESTS[metric][0]} undecided: {reason}" for metric, reason in reasons.items())


def matrix(rows: Iterable[dict[str, Any]], metric: str, seeds: Sequence[int], generations: int) -> np.ndarray:
    """One metric of one cell as float64 `[seed, generation]`; column 0 is generation 1.

    NaN stands where a row is absent, diverged, or without a finite number. Seeds and generations that were not asked
    for are left out.
    """
    values = np.full((len(seeds), generations), np.nan)
    index = {seed: i for i, seed in enumerate(seeds)}
    for row in rows:
        value = row.get(metric)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if row["status"] == "ok" and row["seed"] in index and 1 <= row["generation"] <= generations and is_number:
            values[index[row["seed"]], row["generation"] - 1] = value if math.isfinite(value) else np.nan
    return values


def log_distance(values: np.ndarray) -> np.ndarray:
    """log of a distance, of any shape; NaN stays NaN.

    A distance of 0, or below it by rounding, has no logarithm. It is taken for the smallest positive one in `values`:
    that needs no constant, and can only understate a rise from zero. Where none is positive, all logs are 0: no trend.
    """
    positive = values[values > 0]
    smallest = positive.min() if positive.size else 1.0
    return np.log(np.where(values > 0, values, np.where(np.isnan(values), np.nan, smallest)))


def half_life(recall: np.ndarray) -> float | None:
    """Generations after the first until the mean recall over seeds is half of generation 1's.

    Linear between generations. The mean is over the seeds that generation 1 has, and ends where one of them is
    missing: a mean over survivors would be of another set of runs.

    Args:
      recall: `[seed, generation]`, NaN where missing.

    Returns:
      None where half is not reached, or generation 1 has no recall or none above 0.
    """
    if not recall.size:
        return None
    runs = recall[~np.isnan(recall[:, 0])]
    if not runs.size:
        return None
    means = runs.mean(axis=0)
    half = means[0] / 2
    if not half > 0:
        return None
    for t in range(1, means.size):
        if np.isnan(means[t]):
            return None
        if means[t] <= half:
            return float(t - 1 + (means[t - 1] - half) / (means[t - 1] - means[t]))
    return None


def _trend(metric: str, values: np.ndarray) -> Trend:
    if metric == "fd":
        values = log_distance(values)
    slopes = tuple(slope for run in values if (slope := _slope(run)) is not None)
    if len(slopes) >= MIN_SEEDS:
        return Trend(metric, slopes, _p_value(_TESTS[metric][1] * np.array(slopes)))
    only_one_generation = not slopes and not np.isnan(values).all()
    return Trend(metric, slopes, None, TOO_FEW_GENERATIONS if only_one_generation else TOO_FEW_SEEDS)


def _slope(run: np.ndarray) -> float | None:
    """Least-squares slope of one run `[generation]` over its finite generations; None with fewer than two."""
    (t,) = np.nonzero(~np.isnan(run))
    if t.size < 2:
        return None
    from_mean = t - t.mean()
    # Measured from the first value, a constant run has a slope of exactly 0.
    return float(from_mean @ (run[t] - run[t[0]]) / (from_mean @ from_mean))


def _p_value(slopes: np.ndarray) -> float:
    """One-sided one-sample t-test of a positive mean. Slopes that are all equal leave no doubt about their sign."""
    if np.ptp(slopes) == 0:
        return 0.0 if slopes[0] > 0 else 1.0
    t = slopes.mean() / (slopes.std(ddof=1) / math.sqrt(slopes.size))
    return float(special.stdtr(slopes.size - 1, -t))


def _above_floor(distance: np.ndarray, p95: float | None) -> bool | None:
    """Whether the last FD exceeds the floor's 95th percentile, in the mean over runs; None without a floor.

    The last one of a run that diverged is the last that it had: leaving the run out would flatter the cell.
    """
    if p95 is None:
        return None
    last = [run[~np.isnan(run)][-1] for run in distance if not np.isnan(run).all()]
    return bool(np.mean(last) > p95)
