"""Curves as what a page draws: SVG paths in coordinates of their own, and the same numbers as a table to be read.

Colours are classes of style.css, for light and dark. `templates/charts.html` writes them down.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from madbench import verdict
from madbench.report import planned, series, words
from madbench.report.aggregate import MISSING
from madbench.report.text import style
from madbench.results import MetricInfo, Result, bias_text, sampled_generations

WIDTH, HEIGHT = 360, 236
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 34
_COLOURS, _DASHES = 7, 3  # of style.css
_MARKERS = 6
_MANY_MARKERS = 20  # along a line; beyond, they would hide it
_MOST_POINTS = 300  # along a line: more than a panel has pixels


@dataclasses.dataclass(frozen=True)
class Key:
    """How a loop is drawn and called, everywhere: classes of colour and dashes, and the number of its marker."""

    loop: str
    short: str
    colour: int
    dashes: int
    marker: int

    @property
    def symbol(self) -> str:
        """The marker as a path around (12, 7), for a legend."""
        return _marker(self.marker, 12, 7)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One line: paths for SVG, "" where there is nothing. `cross` is where a run diverged next."""

    key: Key
    line: str
    band: str
    markers: str
    cross: str


@dataclasses.dataclass(frozen=True)
class Reading:
    """One generation in the table: where it stands in the panel, and each loop's text, as in `Panel.lines`."""

    generation: int
    x: float
    texts: list[str]


@dataclasses.dataclass(frozen=True)
class Panel:
    """One metric at one λ.

    Attributes:
      name: of the metric; title, description: the same with λ, and in words, for screen readers.
      lines: in the order of the loops.
      floor: (y of the mean, top, height of what is shaded); None where unknown.
      x_ticks, y_ticks: (coordinate, text).
      readings: as a table.
    """

    name: str
    title: str
    description: str
    lines: list[Drawn]
    floor: tuple[float, float, float] | None
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    readings: list[Reading]


@dataclasses.dataclass(frozen=True)
class Group:
    """The panels of one λ, metric by metric."""

    title: str
    panels: list[Panel]


@dataclasses.dataclass(frozen=True)
class Charts:
    """Everything that the section of curves shows. `marks` says which signs occur, `logs` what is a geometric mean."""

    keys: list[Key]
    groups: list[Group]
    generations: list[int]
    marks: dict[str, bool]
    logs: str


def charts(result: Result) -> Charts:
    """The curves of a workdir; scales are shared by all λ of a metric.

    Raises:
      ResultError: the workdir does not say what was planned; one line.
    """
    cells, rows = planned(result), verdict.group(result.rows)
    loops, biases = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("loop", "bias"))
    colours = [(i % _COLOURS, i // _COLOURS % _DASHES, i % _MARKERS) for i in range(len(loops))]
    shorts = words.short_names(loops)
    keys = {loop: Key(loop, shorts[loop], *colour) for loop, colour in zip(loops, colours, strict=True)}
    panels: dict[float, list[Panel]] = {bias: [] for bias in biases}
    has_floor = has_cross = False
    for metric in result.metrics.values():
        found = {cell: series.series(result, metric, rows.get(cell, [])) for cell in cells}
        floor = result.reference.get("floors", {}).get(metric.name, {})
        scale = _Scale(metric, series.limits(metric, list(found.values()), floor), result.config["generations"])
        for bias in biases:
            lines = {keys[cell.loop]: line for cell, line in found.items() if cell.bias == bias}
            title = metric.title if len(biases) == 1 else f"{metric.title}, λ = {bias_text(bias)}"
            panel = _panel(title, scale, lines, floor)
            panels[bias].append(panel)
            has_floor |= panel.floor is not None
            has_cross |= any(drawn.cross for drawn in panel.lines)
    groups = [Group(f"λ = {bias_text(bias)}", each) for bias, each in panels.items()]
    marks = {"floor": has_floor, "cross": has_cross, "band": len(result.config["seeds"]) > 1}
    logs = ", ".join(f"log {metric.label}" for metric in result.metrics.values() if metric.kind == "distance")
    return Charts(list(keys.values()), groups, _told(result.config["generations"]), marks, logs)


class _Scale:
    """From generations and values to coordinates."""

    def __init__(self, metric: MetricInfo, ends: tuple[float, float] | None, generations: int):
        self.metric, self.generations, self.is_empty = metric, generations, ends is None
        self.ends = ends or (0.0, 1.0)
        self.is_log = metric.kind == "distance" and not self.is_empty

    def x(self, t: np.ndarray | float) -> np.ndarray:
        span = max(self.generations - 1, 1)
        shift = 0.5 if self.generations == 1 else 0
        return LEFT + 8 + (WIDTH - LEFT - RIGHT - 16) * ((np.asarray(t, float) - 1) / span + shift)

    def y(self, values: np.ndarray | float) -> np.ndarray:
        low, high = self.ends
        values = np.clip(np.asarray(values, float), low, high)  # NaN stays
        if self.is_log:
            low, high, values = math.log(low), math.log(high), np.log(values)
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - values) / (high - low)

    def y_ticks(self) -> list[tuple[float, str]]:
        if self.is_empty:
            return []
        return [(_round(self.y(t)), series.tick_text(t)) for t in series.ticks(self.metric, *self.ends)]

    def x_ticks(self) -> list[tuple[float, str]]:
        return [(_round(self.x(t)), str(t)) for t in series.generation_ticks(self.generations)]


def _panel(title: str, scale: _Scale, lines: dict[Key, series.Series], floor: dict[str, float]) -> Panel:
    told = _told(scale.generations)
    texts = {key: [_text(scale.metric, line, t) for t in told] for key, line in lines.items()}
    readings = [Reading(t, _round(scale.x(t)), [each[i] for each in texts.values()]) for i, t in enumerate(told)]
    drawn = [_draw(key, scale, line) for key, line in lines.items()]
    ends = "; ".join(f"{key.loop}: {each[0]} to {each[-1]}" for key, each in texts.items())
    about = f"{scale.metric.label} against the generation, 1 to {scale.generations}. First and last: {ends}."
    return Panel(
        scale.metric.title, title, about, drawn, _floor(scale, floor), scale.x_ticks(), scale.y_ticks(), readings
    )


def _draw(key: Key, scale: _Scale, line: series.Series) -> Drawn:
    n = len(line.mean)
    kept = np.unique(np.linspace(0, n - 1, min(n, _MOST_POINTS)).round().astype(int))
    x, mean = scale.x(kept + 1), scale.y(line.mean[kept])
    low, high = scale.y(line.low[kept]), scale.y(line.high[kept])
    inside = ~np.isnan(mean)
    markers = ""
    if n <= _MANY_MARKERS:
        markers = "".join(_marker(key.marker, a, b) for a, b in zip(x[inside], mean[inside], strict=True))
    elif inside.sum() == 1:  # no line to be seen
        markers = _marker(key.marker, x[inside][0], mean[inside][0])
    cross, before = "", (line.diverged or 0) - 2
    if before >= 0 and not np.isnan(line.mean[before]):
        a, b = scale.x(before + 1), scale.y(line.mean[before])
        cross = f"M{a - 4:.1f} {b - 4:.1f}l8 8m0-8l-8 8"
    return Drawn(key, _lines(x, mean), _areas(x, low, high), markers, cross)


def _runs(present: np.ndarray) -> list[np.ndarray]:
    """The stretches of indices where `present [n]` holds."""
    indices = np.flatnonzero(present)
    return [run for run in np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1) if run.size]


def _lines(x: np.ndarray, y: np.ndarray) -> str:
    return "".join("M" + _points(x[run], y[run]) for run in _runs(~np.isnan(y)) if run.size > 1)


def _areas(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    runs = (run for run in _runs(~np.isnan(low + high)) if run.size > 1)
    return "".join(f"M{_points(x[run], high[run])}L{_points(x[run][::-1], low[run][::-1])}Z" for run in runs)


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _marker(i: int, x: float, y: float) -> str:
    """Disc, square, triangle, diamond, triangle on its head, bar: each told from the others without its colour."""
    shapes = (
        "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z", "m-2.8-2.8h5.6v5.6h-5.6z", "m0-3.8l3.6 6.4h-7.2z",
        "m0-4l3.6 4l-3.6 4l-3.6-4z", "m0 3.8l3.6-6.4h-7.2z", "m-1.5-4h3v8h-3z",
    )  # fmt: skip
    return f"M{x:.1f} {y:.1f}{shapes[i]}"


def _floor(scale: _Scale, floor: dict[str, float]) -> tuple[float, float, float] | None:
    mean = floor.get("mean")
    if mean is None or scale.is_empty or (scale.is_log and mean <= 0):
        return None
    end = series.bound(scale.metric, floor)
    top, bottom = sorted(_round(scale.y(v)) for v in (mean, mean if end is None else end))
    return _round(scale.y(mean)), top, round(bottom - top, 1)


def _text(metric: MetricInfo, line: series.Series, t: int) -> str:
    """ "17.2 (11.0 to 26.9)"."""
    mean, low, high = line.mean[t - 1], line.low[t - 1], line.high[t - 1]
    if np.isnan(mean):
        return MISSING
    number = style(metric, mean)
    return number.format(mean) + ("" if np.isnan(low + high) else f" ({number.format(low)} to {number.format(high)})")


def _told(generations: int) -> list[int]:
    """The generations whose numbers stand in the tables."""
    return sampled_generations(generations)


def _round(value: Sequence[float] | float) -> float:
    return round(float(value), 1)
