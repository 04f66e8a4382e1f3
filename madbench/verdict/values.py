"""Rows of `metrics.jsonl` as arrays by seed and generation."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from madbench.results import NO_STRATEGY


class Cell(NamedTuple):
    """One line of the standard table: everything that its seeds have in common.

    `strategy` is what is done against collapse, with its settings; `equal_cost`, whether a generation costs at most
    what it does without. Without a strategy the latter means nothing, and is True.
    """

    task: str
    model: str
    loop: str
    bias: float
    strategy: str = NO_STRATEGY
    equal_cost: bool = True

    @property
    def budget(self) -> str:
        """ "equal cost", "all steps", or "" without a strategy."""
        if self.strategy == NO_STRATEGY:
            return ""
        return budget_name(self.equal_cost)


def budget_name(equal_cost: bool) -> str:
    """What a strategy may spend, in two words."""
    return "equal cost" if equal_cost else "all steps"


def strategy_of(said: Mapping[str, Any]) -> tuple[str, bool]:
    """Strategy and budget of a `Cell`, as a row or a config says them; those of before there were any say nothing."""
    strategy = str(said.get("strategy", NO_STRATEGY))
    return strategy, strategy == NO_STRATEGY or bool(said.get("equal_cost", True))


def group(rows: Iterable[dict[str, Any]]) -> dict[Cell, list[dict[str, Any]]]:
    """Rows by cell, in the order of first appearance."""
    cells: dict[Cell, list[dict[str, Any]]] = {}
    for row in rows:
        cell = Cell(row["task"], row["model"], row["loop"], row["bias"], *strategy_of(row))
        cells.setdefault(cell, []).append(row)
    return cells


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
            finite = abs(value) <= sys.float_info.max  # an integer may be too large even for math.isfinite
            values[index[row["seed"]], row["generation"] - 1] = value if finite else np.nan
    return values


def logarithm(values: np.ndarray) -> np.ndarray:
    """log of a distance or a variance, of any shape; NaN stays NaN.

    A value of 0, or below it by rounding, has no logarithm. It is taken for the smallest positive one in `values`:
    that needs no constant, and can only understate a rise from zero or a fall to it. Where none is positive, all logs
    are 0: no trend.
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
