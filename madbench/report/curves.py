"""Metrics against generations: one row of panels per metric, one column per λ, one line per loop.

With a single λ the metrics stand side by side, up to four in a row.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from scipy import special

from madbench import verdict
from madbench.report import planned
from madbench.results import MetricInfo, Result

# Okabe and Ito's colours for all kinds of sight; their yellow is left out, as it fades on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))  # for more loops than colours
_MARKERS = "os^Dv<>P"
_WIDTH = 9.0  # inches; at 100 dots per inch, as wide as a page on GitHub
_INK, _SOFT = "#222222", "#8A8A8A"
_FLOOR = {"color": "#555555", "linestyle": (0, (5, 3)), "linewidth": 1.0}
_FLOOR_SHADE = {"facecolor": "#555555", "alpha": 0.16, "linewidth": 0}
_CROSS = {"marker": "x", "markersize": 8, "markeredgewidth": 1.8, "linestyle": ""}
_LEGEND = {"frameon": False, "fontsize": 8, "labelcolor": _INK, "handlelength": 2.2, "columnspacing": 1.6}
_SIDE_BY_SIDE = 4  # panels in a row where there is a single λ
_MANY_MARKERS = 40  # along a row of panels; beyond, they would hide the lines


def plot(result: Result) -> Figure:
    """The curves of one workdir: mean over seeds, with its 95 % confidence band (t distribution over seeds).

    Distances have a logarithmic axis; their mean and band are taken over logarithms, as in the verdict, so that those
    curves are geometric means. Under two seeds there is no band. A cross marks a line's last generation before one of
    its runs diverged.

    Returns:
      A figure 900 pixels wide at its own 100 dots per inch; `savefig` writes it, and nothing is registered globally.

    Raises:
      ResultError: the workdir does not say what was planned; one line.
    """
    cells, metrics, rows = planned(result), list(result.metrics.values()), verdict.group(result.rows)
    biases = list(dict.fromkeys(cell.bias for cell in cells))
    has_room = result.config["generations"] * len(biases) <= _MANY_MARKERS
    styles = {loop: _style(i, has_room) for i, loop in enumerate(dict.fromkeys(cell.loop for cell in cells))}
    figure, axes = _panels(len(metrics), len(biases), len(styles))

    any_diverged = False
    for (i, metric), (j, bias) in itertools.product(enumerate(metrics), enumerate(biases)):
        for cell in (c for c in cells if c.bias == bias):
            any_diverged |= _draw_loop(axes[i, j], result, metric, rows.get(cell, []), styles[cell.loop])
        _draw_floor(axes[i, j], metric, result.reference.get("floors", {}).get(metric.name, {}))
    for i, metric in enumerate(metrics):
        _scale(list(axes[i]), metric, result.reference.get("floors", {}).get(metric.name, {}))
    _label(axes, metrics, biases, result.config["generations"])
    only = f", λ = {biases[0]:g}" if len(biases) == 1 else ""
    logs = [metric.label for metric in metrics if metric.kind == "distance"]
    _legends(figure, f"{cells[0].task}, {cells[0].model}{only}", styles, logs, any_diverged)
    return figure


def _panels(n_metrics: int, n_biases: int, n_loops: int) -> tuple[Figure, np.ndarray]:
    """A figure with axes `[metric, λ]`. With a single λ, the metrics stand side by side, in as many rows as needed."""
    n_rows, n_columns = n_metrics, n_biases
    if n_biases == 1:
        n_rows = math.ceil(n_metrics / _SIDE_BY_SIDE)
        n_columns = math.ceil(n_metrics / n_rows)
    height = 1.15 + n_rows * (2.5 if n_biases == 1 else 1.8 + 0.7 * (n_rows == 1)) + 0.1 * n_loops
    figure = Figure(figsize=(_WIDTH, height), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05, wspace=0.03, hspace=0.03)
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharey="row" if n_biases > 1 else False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["bottom", "left"]].set_color(_SOFT)
        axis.tick_params(colors=_SOFT, labelcolor=_INK, labelsize=8, length=3)
        axis.grid(axis="y", color="#E6E6E6", linewidth=0.7)
        axis.set_axisbelow(True)
    if n_biases > 1:
        return figure, axes
    for axis in axes.flat[n_metrics:]:
        axis.remove()
    return figure, axes.reshape(-1, 1)[:n_metrics]


def _style(i: int, with_marker: bool) -> dict[str, Any]:
    """Colour, dashes and marker of the i-th loop."""
    return {
        "color": _COLOURS[i % len(_COLOURS)],
        "linestyle": _DASHES[i // len(_COLOURS) % len(_DASHES)],
        "marker": _MARKERS[i % len(_MARKERS)] if with_marker else "",
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
        "markersize": 4.5,
        "linewidth": 1.7,
    }


def _draw_loop(
    axis: Axes, result: Result, metric: MetricInfo, rows: list[dict[str, Any]], style: dict[str, Any]
) -> bool:
    """One line with its band; returns whether one of its runs diverged."""
    seeds, generations = list(result.config["seeds"]), result.config["generations"]
    values = verdict.matrix(rows, metric.name, seeds, generations)
    if metric.kind == "distance":
        mean, low, high = (np.exp(curve) for curve in band(verdict.logarithm(values)))
    else:
        mean, low, high = band(values)
    if metric.kind != "number":
        low, high = np.clip(low, 0, metric.most), np.clip(high, 0, metric.most)
    t = np.arange(1, generations + 1)
    axis.plot(t, mean, zorder=3, **style)
    axis.fill_between(t, low, high, color=style["color"], alpha=0.15, linewidth=0, zorder=2)

    first = min((r["generation"] for r in rows if r["status"] != "ok" and r["seed"] in seeds), default=None)
    if first is None:
        return False
    if first > 1:
        axis.plot(t[first - 2], mean[first - 2], color=style["color"], zorder=4, **_CROSS)
    return True


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


def _draw_floor(axis: Axes, metric: MetricInfo, floor: Mapping[str, float]) -> None:
    """A dashed line at the mean, shaded up to the bound that a verdict compares with."""
    mean, bound = floor.get("mean"), _bound(metric, floor)
    if mean is not None:
        axis.axhline(mean, zorder=1.5, **_FLOOR)
        if bound is not None:
            axis.axhspan(min(mean, bound), max(mean, bound), zorder=1, **_FLOOR_SHADE)


def _scale(axes: Sequence[Axes], metric: MetricInfo, floor: Mapping[str, float]) -> None:
    """The vertical scale of the panels of one metric: all of it for what has an end, else as far as the lines go."""
    heights = np.concatenate([np.asarray(line.get_ydata(), float) for axis in axes for line in axis.lines])
    heights = np.append(heights, np.array(_bound(metric, floor), float))
    heights = heights[np.isfinite(heights)]
    if metric.kind == "share":
        for axis in axes:
            axis.set_ylim(-0.03, 1.03)
            axis.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    elif metric.kind == "count":
        for axis in axes:
            axis.set_ylim(0, 1.05 * (metric.most or heights.max(initial=1)))
            axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    elif metric.kind == "distance":
        _scale_logs(axes, heights[heights > 0])
    else:
        _scale_numbers(axes, heights, from_zero=metric.kind == "positive")


def _scale_logs(axes: Sequence[Axes], heights: np.ndarray) -> None:
    """Follows the lines, and the bands up to a factor of 3 beyond: the band of two seeds can be wider than all else."""
    if not heights.size:
        return
    low, high = heights.min(), heights.max()
    pad = max(1.3, (high / low) ** 0.1)
    low = min(low / pad, *(max(other.dataLim.y0, low / 3) / 1.1 for other in axes))
    high = max(high * pad, *(min(other.dataLim.y1, high * 3) * 1.1 for other in axes))
    for axis in axes:
        axis.set_yscale("log")
        axis.set_ylim(low, high)
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
        axis.yaxis.set_major_formatter(FuncFormatter(_power))


def _scale_numbers(axes: Sequence[Axes], heights: np.ndarray, *, from_zero: bool) -> None:
    """Follows the lines, and the bands up to half their extent beyond."""
    if not heights.size:
        return
    low, high = 0.0 if from_zero else heights.min(), heights.max()
    extent = (high - low) or abs(high) or 1.0
    high = max(high, *(min(other.dataLim.y1, high + extent / 2) for other in axes)) + 0.05 * extent
    if not from_zero:
        low = min(low, *(max(other.dataLim.y0, low - extent / 2) for other in axes)) - 0.05 * extent
    for axis in axes:
        axis.set_ylim(low, high)
        axis.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
        axis.yaxis.set_major_formatter(FuncFormatter(_power))


def _bound(metric: MetricInfo, floor: Mapping[str, float]) -> float | None:
    """The end of the floor that a verdict compares with."""
    return floor.get("p5" if metric.direction == "higher" else "p95")


def _power(value: float, _: int) -> str:
    """0.02, 30000, 1e6: short enough for a narrow panel."""
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.5g}")


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


def _label(axes: np.ndarray, metrics: Sequence[MetricInfo], biases: Sequence[float], generations: int) -> None:
    """Words and horizontal ticks. Every row of panels names its metric once, every column its λ once."""
    text = {"fontsize": 9, "color": _INK}
    side_by_side = len(biases) == 1
    for (i, metric), (j, bias) in itertools.product(enumerate(metrics), enumerate(biases)):
        axis = axes[i, j]
        axis.set_xlim(1 - 0.04 * generations, generations + 0.04 * generations)
        axis.xaxis.set_major_locator(FixedLocator(generation_ticks(generations)))
        if side_by_side:
            axis.set_title(metric.title, weight="bold", **text)
        elif i == 0:
            axis.set_title(f"λ = {bias:g}", weight="bold", **text)
        if not side_by_side and j == 0:
            axis.set_ylabel(metric.title, weight="bold", **text)
        if side_by_side or i == len(metrics) - 1:
            axis.set_xlabel("generation", fontsize=8, color=_INK)
        else:
            axis.tick_params(labelbottom=False)
    if not side_by_side:
        axes[0, 0].figure.align_ylabels(list(axes[:, 0]))


def _legends(
    figure: Figure, title: str, styles: Mapping[str, dict[str, Any]], logs: Sequence[str], any_diverged: bool
) -> None:
    """The loops above the panels, in as many columns as their names allow; below, what the marks mean."""
    longest = max(map(len, styles))
    columns = max(1, min(len(styles), int(_WIDTH * 100 / (6.2 * longest + 45))))
    columns = math.ceil(len(styles) / math.ceil(len(styles) / columns))  # full lines
    loops = [Line2D([], [], label=loop, **style) for loop, style in styles.items()]
    above = figure.legend(handles=loops, loc="outside upper center", ncols=columns, title=title, **_LEGEND)
    above.get_title().set(weight="bold", fontsize=10, color=_INK)
    for text in (above.get_title(), *above.get_texts()):
        text.set_parse_math(False)  # names are text, never formulas

    of_logs = {0: "", 1: f" (of log {''.join(logs)})"}.get(len(logs), " (on a log scale: of logs)")
    marks: dict[str, Any] = {
        f"mean of the seeds{of_logs}, 95 % confidence": (
            Patch(facecolor=_SOFT, alpha=0.3),
            Line2D([], [], color=_INK),
        ),
        "floor: two real samples, mean to 95th percentile (↑: 5th)": (Patch(**_FLOOR_SHADE), Line2D([], [], **_FLOOR)),
    }
    if any_diverged:
        marks["before a run diverged"] = Line2D([], [], color=_INK, **_CROSS)
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=len(marks), **_LEGEND)
