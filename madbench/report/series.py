"""Metrics against generations as numbers: lines, their bands, the scales to draw them on; for pictures and pages."""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy import special

from madbench import verdict
from madbench.results import MetricInfo, Result


@dataclasses.dataclass(frozen=True)
class Series:
    """One metric of one cell.

    Attributes:
      mean, low, high: `[generation]`, of the seeds' mean and its 95 % confidence interval; NaN where missing.
      diverged: the first generation of which a run diverged; None where none did.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    diverged: int | None


def series(result: Result, metric: MetricInfo, rows: Sequence[dict[str, Any]]) -> Series:
    """Of the rows of one cell. Of distances, mean and band are taken over logarithms, as in the verdict."""
    seeds, generations = list(result.config["seeds"]), result.config["generations"]
    values = verdict.matrix(rows, metric.name, seeds, generations)
    if metric.kind == "distance":
        mean, low, high = (np.exp(curve) for curve in band(verdict.logarithm(values)))
    else:
        mean, low, high = band(values)
    if metric.kind != "number":
        low, high = np.clip(low, 0, metric.most), np.clip(high, 0, metric.most)
    first = min((r["generation"] for r in rows if r["status"] != "ok" and r["seed"] in seeds), default=None)
    return Series(mean, low, high, first)


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds and its 95 % confidence interval, from the t distribution with seeds - 1 degrees of freedom.

    Args:
      values: `[seed, generation]`, NaN where missing.

    Returns:
      (mean, low, high), each `[generation]`; NaN where a seed is missing, for a mean over those that are left would be
      of another set of runs; `low` and `high` are NaN also with a single seed.
    """
    n = len(values)
    mean = values.mean(axis=0)
    if n < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = special.stdtrit(n - 1, 0.5 + verdict.CONFIDENCE / 2) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def bound(metric: MetricInfo, floor: Mapping[str, float]) -> float | None:
    """The end of the floor that a verdict compares with."""
    return floor.get("p5" if metric.direction == "higher" else "p95")


def limits(metric: MetricInfo, lines: Sequence[Series], floor: Mapping[str, float]) -> tuple[float, float] | None:
    """The ends of the vertical scale for all lines of one metric; None where there is nothing to show.

    All of it for what has an end. Else as far as the lines go, and their bands not much beyond: the band of two seeds
    can be wider than all else.
    """
    heights = _finite(*(line.mean for line in lines), [floor.get("mean"), bound(metric, floor)])
    reach = _finite(heights, *(line.low for line in lines), *(line.high for line in lines))
    if metric.kind == "share":
        return -0.03, 1.03
    if metric.kind == "count":
        return 0.0, 1.05 * (metric.most or heights.max(initial=1))
    if metric.kind == "distance":
        heights = heights[heights > 0]
    if not heights.size:
        return None
    low, high = heights.min(), heights.max()
    if metric.kind == "distance":  # bands up to a factor of 3
        low, high = (float(np.clip(end, 1e-300, 1e300)) for end in (low, high))  # whose multiples are numbers still
        pad = max(1.3, math.exp(0.1 * (math.log(high) - math.log(low))))
        ends = min(low / pad, max(reach.min(), low / 3) / 1.1), max(high * pad, min(reach.max(), high * 3) * 1.1)
        return max(ends[0], 1e-300), min(ends[1], 1e300)
    from_zero = metric.kind == "positive"
    low = 0.0 if from_zero else low
    extent = (high - low) or abs(high) or 1.0  # bands up to half of it
    top = max(high, min(reach.max(), high + extent / 2)) + 0.05 * extent
    return 0.0 if from_zero else min(low, max(reach.min(), low - extent / 2)) - 0.05 * extent, top


def _finite(*values: Sequence[float | None]) -> np.ndarray:
    found = np.concatenate([np.asarray(each, float) for each in values])
    return found[np.isfinite(found)]


def ticks(metric: MetricInfo, low: float, high: float) -> list[float]:
    """Where the vertical scale has numbers, within `[low, high]`."""
    if metric.kind == "share":
        return [0, 0.25, 0.5, 0.75, 1]
    if metric.kind == "distance":
        return log_ticks(low, high)
    locator = MaxNLocator(5, integer=True) if metric.kind == "count" else MaxNLocator(5, steps=(1, 2, 5, 10))
    return [float(t) for t in locator.tick_values(low, high) if low <= t <= high]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers in `[low, high]`, 0 < low < high: at least three where one decade or more is spanned, about six
    at most."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [10.0**k for k in range(first, last + 1)]
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [d * decade for decade in decades for d in digits if low <= d * decade <= high]
        if len(ticks) >= 3:
            return ticks[:: math.ceil(len(ticks) / 6)]
    return [t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]


def generation_ticks(generations: int) -> list[int]:
    """Generation 1 and round multiples, about six in all."""
    step = next(d * 10**k for k in itertools.count() for d in (1, 2, 5) if generations <= 6 * d * 10**k)
    return [1, *(t for t in range(step, generations + 1, step) if t > 1)]


def tick_text(value: float) -> str:
    """0.02, 30000, 1e6: short enough for a narrow panel."""
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.5g}")
