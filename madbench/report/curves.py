"""Metrics against generations: one row of panels per metric, one column per λ, one line per loop.

With a single λ the metrics stand side by side, up to four in a row.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from madbench import verdict
from madbench.report import named, planned, series
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
    for i, metric in enumerate(metrics):
        lines = {cell: series.series(result, metric, rows.get(cell, [])) for cell in cells}
        floor = result.reference.get("floors", {}).get(metric.name, {})
        any_diverged |= any(line.diverged for line in lines.values())
        for cell, line in lines.items():
            _draw_loop(axes[i, biases.index(cell.bias)], line, styles[cell.loop])
        for axis in axes[i]:
            _draw_floor(axis, metric, floor)
        _scale(list(axes[i]), metric, list(lines.values()), floor)
    _label(axes, metrics, biases, result.config["generations"])
    only = f", λ = {biases[0]:g}" if len(biases) == 1 else ""
    logs = [metric.label for metric in metrics if metric.kind == "distance"]
    _legends(figure, f"{named(cells[0])}{only}", styles, logs, any_diverged)
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


def _draw_loop(axis: Axes, line: series.Series, style: dict[str, Any]) -> None:
    """One line with its band, and a cross where one of its runs diverged next."""
    t = np.arange(1, len(line.mean) + 1)
    axis.plot(t, line.mean, zorder=3, **style)
    axis.fill_between(t, line.low, line.high, color=style["color"], alpha=0.15, linewidth=0, zorder=2)
    if (line.diverged or 0) > 1:
        before = line.diverged - 2
        axis.plot(t[before], line.mean[before], color=style["color"], zorder=4, **_CROSS)


def _draw_floor(axis: Axes, metric: MetricInfo, floor: Mapping[str, float]) -> None:
    """A dashed line at the mean, shaded up to the bound that a verdict compares with."""
    mean, bound = floor.get("mean"), series.bound(metric, floor)
    if mean is not None:
        axis.axhline(mean, zorder=1.5, **_FLOOR)
        if bound is not None:
            axis.axhspan(min(mean, bound), max(mean, bound), zorder=1, **_FLOOR_SHADE)


def _scale(
    axes: Sequence[Axes], metric: MetricInfo, lines: Sequence[series.Series], floor: Mapping[str, float]
) -> None:
    """The vertical scale of the panels of one metric."""
    found = series.limits(metric, lines, floor)
    if found is None:
        return
    for axis in axes:
        if metric.kind == "distance":
            axis.set_yscale("log")
            axis.yaxis.set_minor_locator(NullLocator())
        axis.set_ylim(*found)
        axis.yaxis.set_major_locator(FixedLocator(series.ticks(metric, *found)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: series.tick_text(value)))


def _label(axes: np.ndarray, metrics: Sequence[MetricInfo], biases: Sequence[float], generations: int) -> None:
    """Words and horizontal ticks. Every row of panels names its metric once, every column its λ once."""
    text = {"fontsize": 9, "color": _INK}
    side_by_side = len(biases) == 1
    for (i, metric), (j, bias) in itertools.product(enumerate(metrics), enumerate(biases)):
        axis = axes[i, j]
        axis.set_xlim(1 - 0.04 * generations, generations + 0.04 * generations)
        axis.xaxis.set_major_locator(FixedLocator(series.generation_ticks(generations)))
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
