"""Drift charts: the samples of some generations over the true density, on a line or in a plane.

The picture of Shumailov et al., "AI models collapse when trained on recursively generated data", Nature 2024.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy import ndimage

from madbench import results

Cells = Mapping[tuple[str, float], Mapping[int, np.ndarray]]  # (loop, λ) -> generation -> samples [n, d]

_SHOWN = 5  # generations, from the first to the last
_DPI = 100
_WIDTH = 900  # pixels, as wide as a page on GitHub; larger where a loop's name needs it
_LEFT, _RIGHT, _GAP = 46, 12, 9  # pixels beside and between panels
_TOP, _BOTTOM = 46, 18  # for the title and the legend, and for the numbers below the last panels
_SPACE = 10  # below the panels of a cell
_CELL_LINE, _PANEL_LINE = 24, 17  # above the panels of a cell, and above each panel
_CHARACTER = 8.0  # pixels, about, of one character of a bold name
_LARGEST = 240  # pixels, of a panel of a plane
_NOTE = 14  # pixels from one remark in a panel to the next
_LINE_HEIGHT = (150, 260)  # pixels, of a panel of a line: least, and where there is one row of them

_INK, _SOFT = "#222222", "#8A8A8A"
_TRUTH = {0.99: "#E6E6E6", 0.9: "#CFCFCF", 0.5: "#B0B0B0"}  # the smallest regions that hold such shares of the truth
_OUTLINE = {"colors": "#5A5A5A", "linewidths": 0.5}
_POINT = "#0072B2"  # Okabe and Ito's blue
_AREA = {"facecolor": "#DADADA", "edgecolor": "#9A9A9A", "linewidth": 0.8}
_EARLY_TO_LATE = (0.0, 0.8)  # of plasma: even steps of lightness for all kinds of sight; beyond, it fades on white
_MAX_POINTS = 1000  # in a panel: more would hide how dense they are
_AS_LIKELY = 5.0  # difference of log likelihoods that says nothing
_NARROW = 0.01  # of the axes: samples as close as this get a ring, so that they are found
_OUTLIERS = 0.01  # a share of samples beyond the axes that is worth a word
_TALLEST = 2.5  # times the truth's peak: a collapsed generation's own peak leaves the panel


def plot(cells: Cells, axes: np.ndarray, density: np.ndarray, *, title: str) -> Figure:
    """A row of panels per cell in the plane, one panel per generation; on a line, a panel per cell and a line per
    generation.

    About five generations are shown, those whose samples are at hand nearest to a geometric progression. All panels
    have the axes of the true density. What lies beyond them or is not finite is written into the panel as a share.

    Args:
      cells: in the order of the panels; samples are `[n, d]`, d = 1 or 2, in any number and of any value.
      axes: `[d, points]`, increasing: where the true density is known.
      density: `[points]` or `[points, points]`, at (axes[0, i], axes[1, j]).
      title: of the figure; never parsed as a formula.

    Returns:
      A figure to be saved at its own 100 dots per inch.

    Raises:
      ValueError: no samples; one line.
    """
    shown = choose(sorted({t for generations in cells.values() for t in generations}))
    if len(axes) == 1:
        return _plot_lines(cells, shown, axes[0], density, title)
    return _plot_planes(cells, shown, axes, density, title)


def choose(numbers: Sequence[int]) -> list[int]:
    """About five of the generations `numbers`: the first, the last, and the nearest to those between.

    Raises:
      ValueError: `numbers` is empty.
    """
    if not numbers:
        raise ValueError("a drift chart needs the samples of a generation")
    wanted = results.sampled_generations(numbers[-1], _SHOWN)
    return sorted({min(numbers, key=lambda t, w=w: abs(np.log(t / w))) for w in wanted})


# ---- the plane -------------------------------------------------------------------------------------------------------


def _plot_planes(cells: Cells, shown: list[int], axes: np.ndarray, density: np.ndarray, title: str) -> Figure:
    across = (_WIDTH - _LEFT - _RIGHT + _GAP) / len(shown) - _GAP
    width = int(min(across, _LARGEST))
    spans = axes[:, -1] - axes[:, 0]
    height = round(width * float(np.clip(spans[1] / spans[0], 0.6, 1.2)))
    row = _CELL_LINE + _PANEL_LINE + height + _SPACE
    names = [f"{loop},  λ = {results.bias_text(bias)}" for loop, bias in cells]
    page = _Page(max(map(len, names)), _TOP + len(cells) * row + _BOTTOM)
    page.write(_LEFT, 20, title, weight="bold", size=10)
    for i, (name, generations) in enumerate(zip(names, cells.values(), strict=True)):
        top = _TOP + i * row
        page.write(_LEFT, top + 17, name, weight="bold", size=9)
        for j, t in enumerate(shown):
            if t not in generations:
                continue
            left = _LEFT + j * (width + _GAP)
            page.write(left, top + _CELL_LINE + 12, f"t = {t}", size=8)
            panel = page.panel(left, top + _CELL_LINE + _PANEL_LINE, width, height)
            panel.tick_params(labelleft=j == 0, labelbottom=i == len(cells) - 1)
            panel.set(xlim=axes[0, [0, -1]], ylim=axes[1, [0, -1]])
            _shade(panel, axes, density)
            _scatter(panel, np.asarray(generations[t], np.float64), axes)
    handles = [Patch(facecolor=colour) for colour in reversed(_TRUTH.values())]
    labels = [f"true density: {share:.0%}" if i == 0 else f"{share:.0%}" for i, share in enumerate(reversed(_TRUTH))]
    labels[-1] += " of its mass"
    handles.append(Line2D([], [], marker="o", linestyle="", color=_POINT, markersize=4))
    page.legend(handles, [*labels, f"samples of generation t, {_MAX_POINTS:,} at most"])
    return page.figure


def mass_levels(density: np.ndarray, shares: Sequence[float]) -> list[float]:
    """For each share, the density on the border of the smallest region that holds it, on an even grid."""
    falling = np.sort(density, axis=None)[::-1]
    held = np.cumsum(falling)
    return [float(falling[np.searchsorted(held, share * held[-1])]) for share in shares]


def _shade(panel: Axes, axes: np.ndarray, density: np.ndarray) -> None:
    # a density too narrow for the grid may have all of its mass at one point, and then one level, or none above zero
    pairs = zip(mass_levels(density, list(_TRUTH)), _TRUTH.values(), strict=True)
    regions = {level: colour for level, colour in pairs if level > 0}
    if regions:
        filled = panel.contourf(*axes, density.T, levels=[*regions, np.inf], colors=list(regions.values()), zorder=1)
        outline = panel.contour(*axes, density.T, levels=[min(regions)], zorder=3, **_OUTLINE)
        for drawn in (filled, outline):
            drawn.set_rasterized(True)  # in each panel the same paths; as shapes of an SVG they would weigh megabytes


def _scatter(panel: Axes, x: np.ndarray, axes: np.ndarray) -> None:
    """The samples `[n, 2]` that lie within the axes; the rest in words."""
    inside = x[within(x, axes)][:_MAX_POINTS]
    style = {"linestyle": "", "marker": "o", "markersize": 1.8, "markeredgewidth": 0, "color": _POINT, "alpha": 0.45}
    panel.plot(*inside.T, **style, rasterized=True)
    if len(inside) and np.all(np.ptp(inside, axis=0) < _NARROW * np.ptp(axes, axis=1)):
        ring = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.3}
        panel.plot(*inside.mean(axis=0), linestyle="", color=_POINT, zorder=4, **ring)
    _note(panel, remarks(x, axes))


# ---- the line --------------------------------------------------------------------------------------------------------


def _plot_lines(cells: Cells, shown: list[int], axis: np.ndarray, density: np.ndarray, title: str) -> Figure:
    loops, biases = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    longest = max(map(len, loops))
    places = {cell: (loops.index(cell[0]), biases.index(cell[1])) for cell in cells}
    if len(biases) == 1:  # side by side where the names of the loops allow it
        title += f", λ = {results.bias_text(biases[0])}"
        pair = len(loops) > 1 and 2 * longest * _CHARACTER < _WIDTH - _LEFT - _RIGHT - _LEFT
        places = {cell: divmod(i, 1 + pair) for i, cell in enumerate(cells)}
    n_rows, n_columns = (1 + max(indices) for indices in zip(*places.values(), strict=True))
    width = (_WIDTH - _LEFT - _RIGHT + _GAP) // n_columns - _GAP
    height = _LINE_HEIGHT[n_rows == 1]
    head = _CELL_LINE + _PANEL_LINE * (len(biases) > 1)
    page = _Page(longest, _TOP + n_rows * (head + height + _SPACE) + _BOTTOM)
    page.write(_LEFT, 20, title, weight="bold", size=10)

    colours = dict(zip(shown, colormaps["plasma"](np.linspace(*_EARLY_TO_LATE, len(shown))), strict=True))
    curves = {cell: {t: smooth(x, axis) for t, x in each.items() if t in colours} for cell, each in cells.items()}
    words = {
        cell: [f"t = {t}: {', '.join(said)}" for t in shown if t in each and (said := remarks(each[t], axis[None]))]
        for cell, each in cells.items()
    }
    highest = max([1.1 * density.max(), *(1.05 * c.max() for each in curves.values() for c in each.values())])
    free = 1 - (_NOTE * max(map(len, words.values())) + 4) / height  # the remarks stand above the curves
    highest = min(highest / free, _TALLEST * density.max())
    named = set()
    for cell, (i, j) in places.items():
        left, top = _LEFT + j * (width + _GAP), _TOP + i * (head + height + _SPACE)
        if len(biases) == 1 or i not in named:
            page.write(_LEFT if len(biases) > 1 else left, top + 17, cell[0], weight="bold", size=9)
            named.add(i)
        if len(biases) > 1:
            page.write(left, top + _CELL_LINE + 12, f"λ = {results.bias_text(cell[1])}", size=8)
        panel = page.panel(left, top + head, width, height)
        panel.tick_params(labelleft=j == 0, labelbottom=(i + 1, j) not in places.values())
        panel.set(xlim=axis[[0, -1]], ylim=(0, highest))
        panel.fill_between(axis, density, zorder=1, **_AREA)
        for t, curve in curves[cell].items():
            if curve.any():
                panel.plot(axis, curve, color=colours[t], linewidth=1.5, zorder=2)
        _note(panel, words[cell])
    handles = [Patch(**_AREA), *(Line2D([], [], color=colour, linewidth=2) for colour in colours.values())]
    page.legend(handles, ["true density", *(f"t = {t}" for t in shown)])
    return page.figure


def smooth(x: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The density of samples `[n, 1]` on an even axis `[points]`, by Gaussian kernels over a fine histogram.

    The kernel's width goes by the leave-one-out likelihood, from that of a Gaussian (1.06 σ n^-1/5, Silverman 1986,
    equation 3.28) downwards: the widest of those that are about as likely as the best. So a smooth curve stays smooth,
    several modes keep their own width, and equal samples become a peak one step wide.

    Returns:
      float64 `[points]`; its integral is the share of all samples that lies on the axis, less what a kernel at its
      end spreads beyond.
    """
    x = np.asarray(x, np.float64)
    inside = x[within(x, axis[None])]
    n, step = len(inside), axis[1] - axis[0]
    if n == 0:
        return np.zeros_like(axis)
    counts = np.histogram(inside, len(axis), (axis[0] - step / 2, axis[-1] + step / 2))[0].astype(np.float64)
    widest = 1.06 * inside.std() * n**-0.2 / step
    kernels = sorted({max(1.0, widest / 2**halvings) for halvings in np.arange(0, 8, 0.5)})  # in steps

    def likelihood(kernel: float) -> float:
        others = ndimage.gaussian_filter1d(counts, kernel, mode="constant") - 1 / (np.sqrt(2 * np.pi) * kernel)
        return float(counts @ np.log(np.maximum(others, 1e-12)))

    likelihoods = [likelihood(kernel) for kernel in kernels]
    best = max(k for k, value in zip(kernels, likelihoods, strict=True) if value > max(likelihoods) - _AS_LIKELY)
    return ndimage.gaussian_filter1d(counts, best, mode="constant") / (len(x) * step)


# ---- both ------------------------------------------------------------------------------------------------------------


def within(x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Which of the samples `[n, d]` lie within the axes; NaN does not."""
    return np.all((x >= axes[:, 0]) & (x <= axes[:, -1]), axis=1)


def remarks(x: np.ndarray, axes: np.ndarray) -> list[str]:
    """What the eye cannot see of samples `[n, d]`, in words; none where it sees them as they are."""
    finite = np.isfinite(x).all(axis=1)
    if not finite.any():
        return ["no finite sample"]
    words = [] if finite.all() else [f"{_percent(1 - finite.mean())} not finite"]
    outside = finite & ~within(x, axes)
    if outside.sum() == finite.sum():
        words.append("all outside" if finite.all() else "the rest outside")
    elif outside.mean() >= _OUTLIERS:
        words.append(f"{_percent(outside.mean())} outside")
    elif len(x) > 1 and np.all(x[finite] == x[finite][0]):
        words.append("a single point")
    return words


def _percent(share: float) -> str:
    """Neither none nor all, where some are meant."""
    return f"{min(max(round(100 * share), 1), 99)} %"


def _note(panel: Axes, lines: Sequence[str]) -> None:
    """Words in the upper left corner of a panel, one line below the other."""
    for i, text in enumerate(lines):
        place = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset pixels"}
        back = {"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
        style = {"va": "top", "fontsize": 7.5, "color": _INK, "bbox": back, "zorder": 5}
        panel.annotate(text, xytext=(5, -4 - _NOTE * i), **place, **style)


class _Page:
    """A figure in whole pixels from its top left corner."""

    def __init__(self, longest_name: int, height: int):
        self.width = max(_WIDTH, round(_LEFT + _CHARACTER * longest_name + _RIGHT))
        self.height = height
        self.figure = Figure(figsize=(self.width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def panel(self, left: int, top: int, width: int, height: int) -> Axes:
        bottom = self.height - top - height
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        axis = self.figure.add_axes(box)
        axis.spines[:].set_color(_SOFT)
        axis.tick_params(colors=_SOFT, labelcolor=_INK, labelsize=7.5, length=2.5, pad=2)
        for each in (axis.xaxis, axis.yaxis):
            each.set_major_locator(MaxNLocator(4, prune="both"))
        return axis

    def write(self, x: float, y: float, text: str, **style) -> None:
        """Text whose baseline is at `y`; a name is text, never a formula."""
        self.figure.text(x / self.width, 1 - y / self.height, text, color=_INK, parse_math=False, **style)

    def legend(self, handles: Sequence, labels: Sequence[str]) -> None:
        place = {"loc": "upper left", "bbox_to_anchor": (_LEFT / self.width, 1 - 28 / self.height), "borderaxespad": 0}
        look = {"frameon": False, "fontsize": 8, "labelcolor": _INK, "handlelength": 1.6, "columnspacing": 1.4}
        self.figure.legend(handles, labels, ncols=len(handles), borderpad=0, **place, **look)
