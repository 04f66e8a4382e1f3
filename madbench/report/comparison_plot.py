"""The comparison of strategies as a picture: paired effects with their intervals, both budgets beside each other."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from madbench.calls import read_call
from madbench.report import comparison_text as text
from madbench.report import series
from madbench.report.comparison import ALL, STATISTICS, Comparison, Outcome, Standing, Trial
from madbench.results import NO_STRATEGY, MetricInfo

# Okabe and Ito's blue and vermillion, as in the curves: what is paid for in steps, and what costs more.
_COLOURS = {True: "#0072B2", False: "#D55E00"}
_MARKERS = {True: "o", False: "s"}
_INK, _SOFT, _BAND = "#222222", "#8A8A8A", "#F2F2F2"
_WIDTH = 9.0  # inches; at 100 dots per inch, as wide as a page on GitHub
_ROW = 0.26  # inches for each strategy
_LONGEST = 30  # letters of a name
_APART = 0.19  # of the two budgets, from the middle of a row
_DOT: dict[str, Any] = {"marker": ".", "markersize": 5, "markeredgewidth": 0, "linestyle": ""}
_MARK: dict[str, Any] = {"markersize": 5.5, "markeredgewidth": 1.3, "linestyle": "", "zorder": 4}


class _Row(NamedTuple):
    """A strategy within a group, or the group's heading where it has no standings."""

    label: str
    standings: list[Standing]
    trials: list[Trial]


def plot(found: Comparison) -> Figure:
    """A column for each metric; above, means over generations 2 to T, below, the last generation.

    Large marks are overall, with their 95 % interval, and filled where the difference stands after Holm's correction;
    pale dots are single blocks. In each group the strategies stand by their mean rank in the first outcome.

    Returns:
      A figure 900 pixels wide at its own 100 dots per inch; `savefig` writes it, and nothing is registered globally.
    """
    rows, metrics = _rows(found), list(found.metrics.values())
    height = 1.25 + len(STATISTICS) * (0.9 + _ROW * len(rows))
    figure = Figure(figsize=(_WIDTH, height), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.03)
    axes = figure.subplots(len(STATISTICS), len(metrics), squeeze=False, sharex="col", sharey=True)
    shown = text.budgets(found)
    for i, statistic in enumerate(STATISTICS):
        for j, info in enumerate(metrics):
            axis, outcome = axes[i, j], Outcome(info.name, statistic)
            _frame(axis, rows)
            for y, row in enumerate(rows):
                for equal_cost in shown:
                    place = y + (0 if len(shown) == 1 else -_APART if equal_cost else _APART)
                    _draw(axis, place, row, outcome, equal_cost)
            axis.set_title(f"{info.title}\n{_when(found, statistic)}", fontsize=9, color=_INK, weight="bold")
    for j, info in enumerate(metrics):
        _scale(axes[:, j], found, info)
    for axis in axes[:, 0]:
        _name(axis, rows)
    _legend(figure, found, shown)
    return figure


def _rows(found: Comparison) -> list[_Row]:
    """Groups under their headings where there are several; within each, the best mean rank first."""
    groups = list(dict.fromkeys(standing.group for standing in found.standings))
    names = dict.fromkeys(s.strategy for s in found.standings if s.strategy != NO_STRATEGY)
    shorts, first, rows = _short_names(list(names)), found.outcomes[0], []
    for group in groups:
        mine = [s for s in found.standings if s.group == group and s.strategy != NO_STRATEGY]
        if len(groups) > 1:
            rows.append(_Row(text.group_name(group), [], []))
        best = {s.strategy: 0.0 for s in mine}
        best = {name: min(s.ranks[first].mean for s in mine if s.strategy == name) for name in best}
        for name in sorted(best, key=best.__getitem__):
            trials = [t for t in found.trials if t.cell.strategy == name and _within(t, group)]
            rows.append(_Row(_cut(shorts[name], _LONGEST), [s for s in mine if s.strategy == name], trials))
    return rows


def _within(trial: Trial, group: tuple[str, str]) -> bool:
    return group == (ALL, "") or group == (trial.cell.task, trial.cell.model)


def _when(found: Comparison, statistic: str) -> str:
    """As short as a narrow panel needs it."""
    return text.when(found, statistic).replace("over generations", "of t =").replace("generation", "t =")


def _short_names(strategies: Sequence[str]) -> dict[str, str]:
    """Strategies with those of their settings that tell them from others of their name; of many, the values alone."""
    called = {strategy: _called(strategy) for strategy in strategies}
    shorts = {}
    for strategy, (name, settings) in called.items():
        others = [other for each, (same, other) in called.items() if same == name and each != strategy]
        told = {k: v for k, v in settings.items() if any(k not in other or other[k] != v for other in others)}
        parts = [f"{setting}={value!r}" for setting, value in told.items()]
        short = f"{name}({', '.join(parts)})" if parts else name
        shorts[strategy] = short if len(short) <= _LONGEST else f"{name}({', '.join(map(repr, told.values()))})"
    return shorts if len(set(shorts.values())) == len(shorts) else {strategy: strategy for strategy in strategies}


def _called(strategy: str) -> tuple[str, dict[str, Any]]:
    try:
        return read_call(strategy)
    except ValueError:  # rows of others may hold any text
        return strategy, {}


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _frame(axis: Axes, rows: Sequence[_Row]) -> None:
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(_SOFT)
    axis.tick_params(colors=_SOFT, labelcolor=_INK, labelsize=8, length=3)
    axis.tick_params(axis="y", length=0)
    axis.axvline(0, color=_INK, linewidth=1.0, zorder=1.5)
    axis.grid(axis="x", color="#E6E6E6", linewidth=0.7)
    axis.set_axisbelow(True)
    for y, row in enumerate(rows):
        if row.standings and y % 2:
            axis.axhspan(y - 0.5, y + 0.5, color=_BAND, linewidth=0, zorder=0)


def _draw(axis: Axes, y: float, row: _Row, outcome: Outcome, equal_cost: bool) -> None:
    """One strategy at one budget: its blocks, and what they come to."""
    colour = _COLOURS[equal_cost]
    trials = [t.effects[outcome].mean for t in row.trials if t.cell.equal_cost == equal_cost]
    dots = [mean for mean in trials if mean is not None]
    axis.plot(dots, [y] * len(dots), color=colour, alpha=0.35, zorder=2, **_DOT)
    for standing in row.standings:
        effect = standing.effects[outcome]
        if standing.equal_cost != equal_cost or effect.mean is None:
            continue
        if effect.interval:
            axis.plot(effect.interval, [y, y], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=3)
        fill = colour if effect.finding else "white"
        axis.plot([effect.mean], [y], marker=_MARKERS[equal_cost], color=colour, markerfacecolor=fill, **_MARK)


def _scale(axes: Sequence[Axes], found: Comparison, info: MetricInfo) -> None:
    """As far as the means go, and intervals half of that beyond: those of few seeds may be wider than all else."""
    outcomes = [outcome for outcome in found.outcomes if outcome.metric == info.name]
    effects = [e for each in (*found.trials, *found.standings) for o in outcomes if (e := each.effects.get(o))]
    means = np.array([0.0, *(e.mean for e in effects if e.mean is not None)])
    ends = np.array([0.0, *(end for s in found.standings for o in outcomes for end in _interval(s, o))])
    low, high = means.min(), means.max()
    extent = max(high - low, 0.02)
    low, high = max(ends.min(), low - extent / 2), min(ends.max(), high + extent / 2)
    low, high = min(low, means.min()), max(high, means.max())
    pad = 0.06 * max(high - low, 0.02)
    low, high = low - pad, high + pad
    is_ratio = info.kind == "distance"
    if is_ratio:
        ticks = [math.log(t) for t in series.log_ticks(text.ratio(low), text.ratio(high))]
    else:
        ticks = [t for t in MaxNLocator(4, steps=(1, 2, 5, 10)).tick_values(low, high) if low <= t <= high]
    told = (lambda x: series.tick_text(float(f"{text.ratio(x):.3g}"))) if is_ratio else (lambda x: f"{x:+.2g}")
    for axis in axes:
        axis.set_xlim(low, high)
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: told(x) if abs(x) > 1e-12 or is_ratio else "0"))
        axis.tick_params(labelbottom=True)
    better = "← better" if info.direction == "lower" else "better →"
    what = "ratio to none" if is_ratio else "difference from none"
    axes[-1].set_xlabel(f"{what}   {better}", fontsize=8, color=_INK)


def _interval(standing: Standing, outcome: Outcome) -> Sequence[float]:
    effect = standing.effects.get(outcome)
    return effect.interval if effect and effect.interval else ()


def _name(axis: Axes, rows: Sequence[_Row]) -> None:
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_parse_math(False)  # names are text, never formulas
        if not row.standings:
            label.set_weight("bold")


def _legend(figure: Figure, found: Comparison, shown: Sequence[bool]) -> None:
    seeds = sorted({effect.seeds for s in found.standings for effect in s.effects.values() if effect.seeds})
    n = f"{seeds[0]} seeds" if len(seeds) == 1 else "the seeds"
    groups = list(dict.fromkeys((t.cell.task, t.cell.model) for t in found.trials))
    title = text.group_name(groups[0]) if len(groups) == 1 else ", ".join(dict.fromkeys(task for task, _ in groups))
    heading = figure.suptitle(
        f"{_cut(title, 60)}: strategies against none, in pairs over {n}", fontsize=10, weight="bold"
    )
    heading.set_color(_INK)
    heading.set_parse_math(False)
    costs = {True: "equal cost", False: "all steps, whatever they cost"}
    marks: dict[str, Any] = {
        costs[b]: Line2D([], [], color=_COLOURS[b], marker=_MARKERS[b], markerfacecolor="white", linewidth=1.6)
        for b in shown
    }
    marks["overall, 95 % confidence; filled: p < 0.05 after Holm"] = Line2D(
        [], [], color=_SOFT, marker="o", markerfacecolor=_SOFT, linewidth=1.6
    )
    marks["single loops and λ"] = Line2D([], [], color=_SOFT, **_DOT)
    style = {"frameon": False, "fontsize": 8, "labelcolor": _INK, "columnspacing": 1.6}
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=len(marks), **style)
