"""The map of effective sample sizes: a heat map, and the thresholds in n_s as a table.

A row of `phase.csv`:
  n_real, n_synthetic, bias          n_r, n_s, λ
  distance, distance_se              mean over seeds after convergence, and its standard error
  n_effective, ratio                 n_e, and n_e / n_r; empty where no real-only fit of the curve is at that distance
  n_effective_low, n_effective_high  95 % interval of n_e: t distribution over seeds, and the error of the curve
  admissible                         whether n_e >= n_r: yes or no where all of the interval says so, else unsure
  drift, converged                   relative change from the first to the second half of what was averaged; yes or no
"""

import itertools
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from madbench import results
from madbench.report import pictures

_INK, _SOFT, _NOTHING = "#222222", "#8A8A8A", "#E2E2E2"
# Okabe and Ito's vermillion and blue, as in the curves: synthetic data hurts, or helps.
_COLOURS = ("#7A2E00", "#D55E00", "#F6C6A4", "#F7F7F5", "#9CC9E6", "#0072B2", "#003E66")
_LOWEST, _HIGHEST = 0.2, 3.0  # of the colours: ratios beyond look the same
_WIDTH = 9.0  # inches, as the curves
_TEXT = {"fontsize": 9, "color": _INK}

Rows = Sequence[dict[str, Any]]


def write(path: pathlib.Path, rows: Rows, title: str) -> str:
    """Writes `phase.md`, `phase.png` and `phase.svg`; returns the text of the former."""
    text = markdown(rows, title)
    results.write_text(path / "phase.md", text)
    pictures.save(plot(rows, title), path, "phase")
    return text


# ------------------------------------------------------------------------------------------------------- thresholds


def threshold(rows: Rows) -> float | str | None:
    """The largest admissible n_s of one λ and n_r, interpolated in log n_s and log ratio.

    Returns:
      A size; "all" or "none" of those that were measured; or None where no cell has synthetic data or a ratio.
      Where the ratio crosses 1 more than once, the crossing after the last admissible cell.
    """
    cells = sorted((r for r in rows if r["n_synthetic"] and r["distance"] is not None), key=lambda r: r["n_synthetic"])
    helps = [r["admissible"] == "yes" if r["ratio"] is None else r["ratio"] >= 1 for r in cells]
    if not cells:
        return None
    if not any(helps):
        return "none"
    last = max(i for i, good in enumerate(helps) if good)
    if last == len(cells) - 1:
        return "all"
    inside, outside = cells[last], cells[last + 1]
    if inside["ratio"] is None or outside["ratio"] is None:  # off the curve: somewhere between the two
        return float(inside["n_synthetic"])
    y0, y1 = math.log(inside["ratio"]), math.log(outside["ratio"])
    x0, x1 = math.log(inside["n_synthetic"]), math.log(outside["n_synthetic"])
    return math.exp(x0 + (x1 - x0) * y0 / (y0 - y1))


def markdown(rows: Rows, title: str) -> str:
    """Thresholds per λ and n_r, and what has to be said about the cells."""
    biases, sizes = _values(rows, "bias"), sorted(_values(rows, "n_real"))
    lines = [
        f"**{title}**: the largest n_s at which synthetic data still helps (n_e >= n_r)",
        "",
        "| λ \\ n_r | " + " | ".join(f"{n:,}" for n in sizes) + " |",
        "|--:|" + "--:|" * len(sizes),
    ]
    for bias in biases:
        found = [_threshold_text([r for r in rows if (r["bias"], r["n_real"]) == (bias, n)]) for n in sizes]
        lines.append(f"| {results.bias_text(bias)} | " + " | ".join(found) + " |")
    best = max((r for r in rows if r["ratio"] is not None), key=lambda r: r["ratio"], default=None)
    lines += ["", "all, none: of the n_s measured; the largest of them, at that n_r, stands beside all."]
    if best:
        lines.append(
            f"Largest n_e / n_r: {best['ratio']:.3g} at n_r = {best['n_real']:,}, n_s = {best['n_synthetic']:,}, "
            f"λ = {results.bias_text(best['bias'])}."
        )
    lines += _notes(rows)
    return "\n".join(lines) + "\n"


def _threshold_text(rows: Rows) -> str:
    found = threshold(rows)
    if found == "all":
        return f"all ({max(r['n_synthetic'] for r in rows if r['distance'] is not None):,})"
    if isinstance(found, float):
        return f"{float(f'{found:.3g}'):,.0f}" if found >= 100 else f"{found:.3g}"
    return found or "—"


def _notes(rows: Rows) -> list[str]:
    notes = []
    missing = sum(r["distance"] is None for r in rows)
    if missing:
        notes.append(f"{missing} of {len(rows)} cells have no distance: a run diverged, or lacks the metric.")
    outside = sum(r["distance"] is not None and r["n_effective"] is None for r in rows)
    if outside:
        notes.append(
            f"{outside} of {len(rows)} cells have no n_e: their distance lies outside the curve of real-only fits "
            "(config.real_only)."
        )
    drifting = [r for r in rows if r["distance"] is not None and r["converged"] == "no"]
    if drifting:
        notes.append(f"{len(drifting)} of {len(rows)} cells still drift: lower config.forget, for a longer burn-in.")
    unsure = sum(r["distance"] is not None and r["admissible"] == "unsure" for r in rows)
    if unsure:
        notes.append(f"{unsure} of {len(rows)} cells are unsure: the 95 % interval of n_e holds n_r.")
    return notes


def _values(rows: Rows, name: str) -> list:
    return list(dict.fromkeys(r[name] for r in rows))


# --------------------------------------------------------------------------------------------------------- heat map


def plot(rows: Rows, title: str) -> Figure:
    """One panel per λ: n_r across, n_s up, both logarithmic; colour is n_e / n_r, a line where it is 1.

    Where the map was made of multiples of n_r, n_s / n_r is up. Grey: not measured, or without n_e.

    Returns:
      A figure 900 pixels wide; `savefig` writes it.
    """
    biases = _values(rows, "bias")
    columns = min(len(biases), 3)
    lines = math.ceil(len(biases) / columns)
    figure = Figure(figsize=(_WIDTH, 1.35 + 2.75 * lines), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.02, hspace=0.03)
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    multiples = len({_up(r, True) for r in rows}) < len({_up(r, False) for r in rows})
    x, y = _Scale(r["n_real"] for r in rows), _Scale(_up(r, multiples) for r in rows)
    norm = TwoSlopeNorm(0.0, math.log(_LOWEST), math.log(_HIGHEST))
    colours = LinearSegmentedColormap.from_list("ratio", list(zip(_places(), _COLOURS, strict=True)))
    for axis, bias in itertools.zip_longest(axes.flat, biases):
        if bias is None:
            axis.set_visible(False)
            continue
        ratio = np.full((len(y.values), len(x.values)), np.nan)
        for r in (r for r in rows if r["bias"] == bias and r["ratio"] is not None):
            ratio[y.values.index(_up(r, multiples)), x.values.index(r["n_real"])] = math.log(r["ratio"])
        image = _panel(axis, x, y, ratio, colours, norm)
        axis.set_title(f"λ = {results.bias_text(bias)}", weight="bold", **_TEXT)
    for axis in axes[-1]:
        axis.set_xlabel("real samples per generation, $n_r$", **_TEXT)
    for axis in axes[:, 0]:
        axis.set_ylabel("synthetic per real, $n_s\\,/\\,n_r$" if multiples else "synthetic samples, $n_s$", **_TEXT)
    for above, below in itertools.pairwise(axes):  # a panel with nothing under it keeps its numbers
        for top, bottom in zip(above, below, strict=True):
            top.tick_params(labelbottom=not bottom.get_visible())
            if not bottom.get_visible():
                top.set_xlabel("real samples per generation, $n_r$", **_TEXT)
    _bar(figure, axes, image, [r["ratio"] for r in rows if r["ratio"] is not None])
    figure.suptitle(title, fontsize=10, weight="bold", color=_INK).set_parse_math(False)
    marks = {
        "$n_e = n_r$: above this line, synthetic data hurts": Line2D([], [], color=_INK, linewidth=1.8),
        "not measured": Patch(facecolor=_NOTHING),
    }
    style = {"frameon": False, "fontsize": 8, "labelcolor": _INK}
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=2, **style)
    return figure


def _up(row: dict[str, Any], multiples: bool) -> float:
    return float(f"{row['n_synthetic'] / row['n_real']:.3g}") if multiples else row["n_synthetic"]


def _places() -> list[float]:
    """Where the colours stand, in [0, 1]; the pale middle is the ratio 1."""
    return [0, 0.25, 0.44, 0.5, 0.58, 0.8, 1]


class _Scale:
    """Places of sizes along an axis, in log10, and the edges between them; 0 stands one step below the smallest."""

    def __init__(self, values):
        self.values = sorted(set(values))
        positive = [math.log10(v) for v in self.values if v > 0] or [0.0]
        steps = np.diff(positive)
        first, last = (steps[0], steps[-1]) if len(steps) else (0.3, 0.3)
        places = [positive[0] - first] * (0 in self.values) + (positive if any(self.values) else [])
        self.places = np.asarray(places)
        middle = (self.places[1:] + self.places[:-1]) / 2
        self.edges = np.concatenate([[self.places[0] - first / 2], middle, [self.places[-1] + last / 2]])

    def ticks(self, axis) -> None:
        """Decades that lie on the axis, or every size where there are few; and 0."""
        shown = dict(zip(self.values, self.places, strict=True))
        decades = {10.0**k: float(k) for k in range(-9, 10) if self.edges[0] <= k <= self.edges[-1]}
        if len(self.values) > 6 and len(decades) > 1:
            shown = {**{v: p for v, p in shown.items() if v == 0}, **decades}
        names = {p: _short(v) for v, p in shown.items()}
        axis.set_major_locator(FixedLocator(list(names)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda p, _: names.get(p, "")))


def _short(value: float) -> str:
    """ "0.5", "300", "10k"."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _panel(axis: Axes, x: _Scale, y: _Scale, ratio: np.ndarray, colours, norm):
    axis.set_facecolor(_NOTHING)
    image = axis.pcolormesh(x.edges, y.edges, np.ma.masked_invalid(ratio), cmap=colours, norm=norm)
    image.set_edgecolor("face")  # no hairlines between cells
    synthetic = np.asarray(y.values) > 0  # without synthetic data the ratio is 1, up to chance
    if synthetic.sum() > 1 and len(x.values) > 1:
        values = np.ma.masked_invalid(ratio[synthetic])
        if values.count() and values.min() < 0 < values.max():
            across = np.array([x.edges[0], *x.places, x.edges[-1]])  # the line runs to the borders of the panel
            values = values[:, [0, *range(len(x.places)), -1]]
            line = axis.contour(across, y.places[synthetic], values, levels=[0], colors=_INK, linewidths=1.8)
            line.set(path_effects=[patheffects.withStroke(linewidth=3.4, foreground="white", alpha=0.7)])
    x.ticks(axis.xaxis)
    y.ticks(axis.yaxis)
    axis.tick_params(colors=_SOFT, labelcolor=_INK, labelsize=8, length=3)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return image


def _bar(figure: Figure, axes: np.ndarray, image, ratios: list[float]) -> None:
    below, above = min(ratios, default=1) < _LOWEST, max(ratios, default=1) > _HIGHEST
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
    bar = figure.colorbar(image, ax=axes, aspect=32, pad=0.015, extend=extend, shrink=0.94)
    ticks = [0.2, 0.3, 0.5, 0.7, 1, 1.2, 1.5, 2, 3]
    bar.ax.yaxis.set_major_locator(FixedLocator([math.log(t) for t in ticks]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{math.exp(v):.2g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(colors=_SOFT, labelcolor=_INK, labelsize=8, length=3)
    bar.set_label("effective over real samples, $n_e\\,/\\,n_r$", fontsize=9, color=_INK)
    bar.outline.set_visible(False)
