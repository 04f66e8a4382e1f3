"""Samples of a page, one picture per cell and generation, of which a slider shows one generation at a time.

Images are PNG within the page; points on a line or in a plane are SVG paths over the true density. What all of them
weigh is bounded: of many generations some are shown, and the page says which.
"""

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence

import contourpy
import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image

from madbench.report import drift, words
from madbench.results import bias_text, sampled_generations

Cells = Mapping[tuple[str, float], Mapping[int, np.ndarray]]  # (loop, λ) -> generation -> samples

BUDGET = 3_000_000  # bytes of all pictures of a page
_FEW = 4  # generations: rather fewer images in each than fewer of these
_ACROSS = 5  # images in a row
_GAP, _LEAST = 2, 32  # pixels between images, and of an image's side, at least
_ABSENT = 217  # the grey of a pixel that is not finite
_WIDTH = 300  # of a chart, in its own units
_POINTS = 400  # in a chart
_TRUTH = (0.99, 0.9, 0.5)  # the smallest regions that hold such shares of the truth


@dataclasses.dataclass(frozen=True)
class Frame:
    """One cell at one generation: a data URI of an image, or a path; and what the eye cannot see, in words."""

    generation: int
    picture: str
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class Strip:
    """The frames of one cell; what a chart has in common with the others is in `Frames`."""

    loop: str
    bias: str
    frames: list[Frame]

    @property
    def label(self) -> tuple[str, str]:
        """The loop's name, and its settings; they may be ""."""
        return words.loop_parts(self.loop)


@dataclasses.dataclass(frozen=True)
class Frames:
    """A section of a page.

    Attributes:
      kind: "images", "plane" or "line".
      strips: one a cell.
      generations: that the slider goes through.
      width, height: of every picture: pixels of images, units of charts.
      note: what is not shown; may be "".
      real: a data URI of real images, to compare with; "" for none.
      truth: of charts, the paths of the true density, from the widest region to the densest.
      x_ticks, y_ticks: of charts, (coordinate, text).
    """

    kind: str
    strips: list[Strip]
    generations: list[int]
    width: int
    height: int
    note: str
    real: str = ""
    truth: list[str] = dataclasses.field(default_factory=list)
    x_ticks: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    y_ticks: list[tuple[float, str]] = dataclasses.field(default_factory=list)

    @property
    def groups(self) -> dict[str, list[Strip]]:
        """The strips by λ."""
        biases = dict.fromkeys(strip.bias for strip in self.strips)
        return {bias: [strip for strip in self.strips if strip.bias == bias] for bias in biases}


def is_images(samples: Cells) -> bool:
    """Whether there are samples, and they are images; those of a workdir are all of one kind."""
    return any(array.ndim == 4 for arrays in samples.values() for array in arrays.values())


def is_points(samples: Cells) -> bool:
    """The same of points."""
    return any(array.ndim == 2 for arrays in samples.values() for array in arrays.values())


# ---- images ----------------------------------------------------------------------------------------------------------


def of_images(samples: Cells, budget: int = BUDGET, real: np.ndarray | None = None) -> Frames:
    """The fixed-noise samples as images, as many generations as the budget holds.

    Args:
      samples: uint8 `[n, height, width, channels]`, 1 or 3 channels, alike in all cells.
      budget: in bytes of the page.
      real: images of the data, likewise, of which as many are shown; None for none.
    """
    numbers = sorted({t for each in samples.values() for t in each})
    n = max(len(x) for each in samples.values() for x in each.values())
    # the last generation is as heavy as any, or nearly so
    weights = {k: sum(len(_sheet(each[max(each)], k)[0]) for each in samples.values()) for k in _fewer(n)}
    shown = next((k for k, weight in weights.items() if weight * min(len(numbers), _FEW) <= budget), 1)
    beside = "" if real is None else _sheet(real, shown)[0]
    budget -= len(beside)
    kept = _thin(numbers, max(2, budget // max(weights[shown], 1)))
    while True:
        sheets = {cell: {t: _sheet(each[t], shown) for t in kept if t in each} for cell, each in samples.items()}
        if len(kept) <= 2 or sum(len(uri) for each in sheets.values() for uri, _ in each.values()) <= budget:
            break
        kept = _thin(numbers, max(2, len(kept) * 3 // 4))
    strips = [_strip(cell, [Frame(t, uri) for t, (uri, _) in each.items()]) for cell, each in sheets.items()]
    width, height = next(size for each in sheets.values() for _, size in each.values())
    return Frames("images", strips, kept, width, height, _note(numbers, kept, n, shown), beside)


def _fewer(n: int) -> list[int]:
    """How many images there may be in a sheet: all, and less."""
    return sorted({k for k in (n, 10, 5, 2, 1) if k <= n}, reverse=True)


def _sheet(images: np.ndarray, n: int) -> tuple[str, tuple[int, int]]:
    """The first `n` images as one PNG with clear gaps, a data URI; and its (width, height).

    Every pixel becomes a square of whole pixels.
    """
    images = np.asarray(images)[:n]
    if images.dtype != np.uint8:
        unit = np.clip((images.astype(np.float64) + 1) * 127.5, 0, 255)
        images = np.where(np.isfinite(unit), unit, _ABSENT).round().astype(np.uint8)
    scale = -(-_LEAST // max(images.shape[1:3]))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, channels = images.shape
    columns = min(_ACROSS, count)
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, channels + 1), np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + _GAP), (i % columns) * (width + _GAP)
        sheet[top : top + height, left : left + width, :-1] = image
        sheet[top : top + height, left : left + width, -1] = 255
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "png", optimize=True)
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return uri, (sheet.shape[1], sheet.shape[0])


# ---- points ----------------------------------------------------------------------------------------------------------


def of_points(samples: Cells, axes: np.ndarray, density: np.ndarray, budget: int = BUDGET) -> Frames:
    """The samples over the true density, as `drift.plot` has them, one generation at a time.

    Args:
      samples: `[n, d]`, d = 1 or 2, of any value.
      axes: `[d, points]`, increasing: where the true density is known.
      density: `[points]` or `[points, points]`, at (axes[0, i], axes[1, j]).
      budget: in bytes of the page.
    """
    numbers = sorted({t for each in samples.values() for t in each})
    heaviest = 11 * (_POINTS if len(axes) == 2 else axes.shape[1])
    kept = _thin(numbers, max(2, budget // (heaviest * len(samples))))
    found = {cell: {t: np.asarray(each[t], np.float64) for t in kept if t in each} for cell, each in samples.items()}
    draw = _planes if len(axes) == 2 else _curves
    height, truth, paths, y_ticks = draw(found, axes, density)
    strips = [
        _strip(cell, [Frame(t, path, ", ".join(drift.remarks(found[cell][t], axes))) for t, path in each.items()])
        for cell, each in paths.items()
    ]
    note = _note(numbers, kept, 0, 0)
    return Frames(
        "plane" if len(axes) == 2 else "line",
        strips,
        kept,
        _WIDTH,
        height,
        note,
        truth=truth,
        x_ticks=_ticks(axes[0]),
        y_ticks=y_ticks,
    )


def _planes(cells: Cells, axes: np.ndarray, density: np.ndarray):
    spans = axes[:, -1] - axes[:, 0]
    height = round(_WIDTH * float(np.clip(spans[1] / spans[0], 0.6, 1.2)))
    place = lambda xy: np.stack([_scaled(xy[:, 0], axes[0], _WIDTH), height - _scaled(xy[:, 1], axes[1], height)], 1)
    contours = contourpy.contour_generator(*axes, density.T, fill_type=contourpy.FillType.OuterOffset)
    truth = []
    for level in drift.mass_levels(density, _TRUTH):
        # a density too narrow for the grid may have all of its mass at one point: no region of it has an extent
        points, offsets = contours.filled(level, 2 * density.max() + 1) if level > 0 else ([], [])
        rings = (ring for xy, ends in zip(points, offsets, strict=True) for ring in np.split(place(xy), ends[1:-1]))
        truth.append("".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in ring) + "Z" for ring in rings))
    paths = {}
    for cell, each in cells.items():
        paths[cell] = {}
        for t, x in each.items():
            inside = place(x[drift.within(x, axes)][:_POINTS])
            path = "".join(f"M{a:.0f} {b:.0f}h0" for a, b in inside)
            if len(inside) and np.all(np.ptp(inside, axis=0) < 3):  # a ring, so that they are found
                a, b = inside.mean(axis=0)
                path += f"M{a - 7:.0f} {b:.0f}a7 7 0 1 0 14 0a7 7 0 1 0-14 0"
            paths[cell][t] = path
    y_ticks = [(round(height - y, 1), text) for y, text in _ticks(axes[1], height)]
    return height, truth, paths, y_ticks


def _curves(cells: Cells, axes: np.ndarray, density: np.ndarray):
    height, axis = round(0.6 * _WIDTH), axes[0]
    curves = {cell: {t: drift.smooth(x, axis) for t, x in each.items()} for cell, each in cells.items()}
    peaks = [curve.max() for each in curves.values() for curve in each.values()]
    highest = min(max([1.1 * density.max(), *(1.05 * peak for peak in peaks)]), 2.5 * density.max())
    x = _scaled(axis, axis, _WIDTH)

    def path(curve: np.ndarray) -> str:
        y = height * (1 - np.minimum(curve, 1.1 * highest) / highest)  # a collapsed generation's peak leaves the chart
        return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))

    paths = {
        cell: {t: path(curve) if curve.any() else "" for t, curve in each.items()} for cell, each in curves.items()
    }
    return height, [f"{path(density)}L{_WIDTH} {height}L0 {height}Z"], paths, []


def _scaled(values: np.ndarray, axis: np.ndarray, length: float) -> np.ndarray:
    return (values - axis[0]) / (axis[-1] - axis[0]) * length


def _ticks(axis: np.ndarray, length: float = _WIDTH) -> list[tuple[float, str]]:
    values = MaxNLocator(4, prune="both").tick_values(axis[0], axis[-1])
    values = [v for v in values if axis[0] < v < axis[-1]]
    return [(round(float(_scaled(v, axis, length)), 1), f"{v:g}".replace("-", "−")) for v in values]


# ---- both ------------------------------------------------------------------------------------------------------------


def _strip(cell: tuple[str, float], frames: list[Frame]) -> Strip:
    return Strip(cell[0], bias_text(cell[1]), frames)


def _thin(numbers: Sequence[int], at_most: int) -> list[int]:
    """At most so many of the generations, 2 or more, in geometric progression from the first to the last."""
    if len(numbers) <= at_most:
        return list(numbers)
    return [numbers[i - 1] for i in sampled_generations(len(numbers), at_most)]


def _note(numbers: Sequence[int], kept: Sequence[int], n: int, shown: int) -> str:
    """What was left out for the sake of the page's size."""
    parts = [f"{len(kept)} of {len(numbers)} generations"] if len(kept) < len(numbers) else []
    parts += [f"{shown} of {n} images"] if shown < n else []
    return f"Shown here: {' and '.join(parts)}; the workdir holds the rest." if parts else ""
