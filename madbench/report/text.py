"""The tables that people read, as markdown and LaTeX: the same cells of text in both."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from madbench.report import accounts
from madbench.report.aggregate import MISSING, Line, Spread, Table
from madbench.results import MetricInfo, bias_text
from madbench.verdict import CONFIDENCE, Trend
from madbench.verdict.trend import CHANGE

_SIDE_BY_SIDE = 4  # metrics that fit beside a verdict; more have tables of their own, as many in each


class Grid(NamedTuple):
    """One table of text, not escaped; `align` is "l" or "r" per column."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    align: str


def grids(table: Table) -> Iterator[Grid]:
    """What a reader sees, in order: cells with their verdicts, metrics, costs, what the verdicts rest on, floors."""
    last = _last(table)
    measured = {f"{info.title}, {_span(table)}": ("l", _metric_column(table, info)) for info in table.metrics.values()}
    fits = len(measured) <= _SIDE_BY_SIDE
    half_lives = [_or_missing(line.verdict.half_life, "{:.1f}") for line in table.lines]
    yield _grid(
        "",
        {
            **_labels(table, table.lines, always_model=True),
            "T": ("r", [str(line.generations) for line in table.lines] if last == "T" else []),
            "seeds": ("r", [f"{line.verdict.finished}/{line.verdict.seeds}" for line in table.lines]),
            "real + synthetic": ("r", [_sizes(line) for line in table.lines]),
            **(measured if fits else {}),
            f"verdict ({table.definition.name})": ("l", [line.verdict.text for line in table.lines]),
            "half-life": ("r", half_lives if "recall" in table.metrics else []),
        },
    )
    titles = list(measured)
    for start in range(0, 0 if fits else len(titles), _SIDE_BY_SIDE):
        some = {title: measured[title] for title in titles[start : start + _SIDE_BY_SIDE]}
        yield _grid("" if start else "Metrics:", {**_labels(table, table.lines), **some})
    yield from costs(table)
    yield from foundations(table)


def costs(table: Table) -> Iterator[Grid]:
    """Quality has a price: what each line cost, beside the line without a strategy; nothing where there is none."""
    if not accounts.has_strategy(line.cell for line in table.lines):
        return
    found = [line.expense for line in table.lines]
    ratios = [_or_missing(each.flops_ratio, "{:.3f}") for each in found]
    yield _grid(
        "What strategies cost, per generation of a run.",
        {
            **_labels(table, table.lines),
            "FLOPs": ("r", [_or_missing(each.flops, "{:.3g}") for each in found]),
            "× none": ("r", ratios if set(ratios) != {MISSING} else []),
            "real samples seen": ("r", [_or_missing(each.n_real_seen, "{:.0f}") for each in found]),
            "extra parameters": ("r", [_or_missing(each.extra_parameters, "{}") for each in found]),
            "pool memorization": ("r", [_or_missing(each.pool_memorization, "{:.3f}") for each in found]),
        },
    )


def foundations(table: Table) -> Iterator[Grid]:
    """Those of `grids` behind the verdicts: trends with their intervals, and floors."""
    yield from _evidence(table)
    yield _floors(table)


def _last(table: Table) -> str:
    """The last generation of all lines; "T" where they differ."""
    lasts = {line.generations for line in table.lines}
    return str(lasts.pop()) if len(lasts) == 1 else "T"


def _span(table: Table) -> str:
    return "t = 1" if _last(table) == "1" else f"t = 1 → {_last(table)}"


def _grid(caption: str, columns: dict[str, tuple[str, list[str]]]) -> Grid:
    """From name -> (alignment, texts); a column without texts is left out."""
    columns = {name: column for name, column in columns.items() if column[1]}
    rows = [list(row) for row in zip(*(texts for _, texts in columns.values()), strict=True)]
    return Grid(caption, list(columns), rows, "".join(align for align, _ in columns.values()))


def _labels(table: Table, lines: list[Line], always_model: bool = False) -> dict[str, tuple[str, list[str]]]:
    """The columns that tell `lines` apart: what all lines of the table share is left out."""
    cells = [line.cell for line in table.lines]
    several = {name: len({getattr(cell, name) for cell in cells}) > 1 for name in ("task", "model")}
    treated = accounts.has_strategy(cells)
    return {
        "workdir": ("l", [line.source for line in lines] if len(set(cells)) < len(cells) else []),
        "task": ("l", [line.cell.task for line in lines] if several["task"] else []),
        "model": ("l", [line.cell.model for line in lines] if several["model"] or always_model else []),
        "strategy": ("l", [line.cell.strategy for line in lines] if treated else []),
        "budget": ("l", [line.cell.budget for line in lines] if treated else []),
        "loop": ("l", [line.cell.loop for line in lines]),
        "λ": ("r", [bias_text(line.cell.bias) for line in lines]),
    }


def _evidence(table: Table) -> Iterator[Grid]:
    """What the verdicts rest on; nothing where no metric of theirs was measured."""
    found = [(line, trend) for line in table.lines for trend in line.verdict.evidence]
    names = list(dict.fromkeys(trend.metric for _, trend in found))
    found.sort(key=lambda pair: names.index(pair[1].metric))  # stable: the order of the lines stays
    if not found:
        return
    lines, trends = [line for line, _ in found], [trend for _, trend in found]
    numbers = [_trend_texts(trend) for trend in trends]
    level = f"{CONFIDENCE:.0%}"
    yield _grid(
        "What the verdict rests on: slopes per generation, or changes; mean over seeds, intervals, p for the worse.",
        {
            "of": ("l", [_trend_name(trend, table.metrics[trend.metric], _span(table)) for trend in trends]),
            **_labels(table, lines),
            "mean": ("r", [texts[0] for texts in numbers]),
            f"{level}, t": ("r", [texts[1] for texts in numbers]),
            f"{level}, bootstrap": ("r", [texts[2] for texts in numbers]),
            "p": ("r", [probability(trend.p_value) for trend in trends]),
        },
    )


def _trend_name(trend: Trend, info: MetricInfo, span: str) -> str:
    """ "slope of log FD", "late slope of log FD", "change of log FD, t = 1 → 5"."""
    logarithm = "log " if trend.is_log else ""
    statistic = trend.statistic.replace("_", " ")
    return f"{statistic} of {logarithm}{info.label}" + (f", {span}" if trend.statistic == CHANGE else "")


def _trend_texts(trend: Trend) -> tuple[str, str, str]:
    """Mean and intervals, with the digits that the interval warrants: two of its width."""
    if trend.mean is None:
        return MISSING, MISSING, MISSING
    if trend.t_interval is None:
        return f"{trend.mean:+.2g}", MISSING, MISSING
    width = trend.t_interval.high - trend.t_interval.low
    digits = 1 - math.floor(math.log10(width)) if width > 0 else 9
    style = f"{{:+.{max(digits, 0)}f}}" if -4 < digits < 6 else "{:+.2g}"
    mean, *bounds = (style.format(value) for value in (trend.mean, *trend.t_interval, *trend.bootstrap))
    return mean, f"{bounds[0]} to {bounds[1]}", f"{bounds[2]} to {bounds[3]}"


def probability(p: float | None) -> str:
    if p is None:
        return MISSING
    return f"{p:.3f}" if p >= 0.0005 or p == 0 else f"{p:.0e}"


def _floors(table: Table) -> Grid:
    rows = []
    for floor in table.floors:
        info = table.metrics[floor.metric]
        bounds = [_or_missing(value, style(info, value)) for value in (floor.mean, floor.p5, floor.p95)]
        rows.append([info.title, *bounds, _or_missing(floor.n_samples, "{}"), floor.features or MISSING])
    header, align = ["metric", "mean", "5th percentile", "95th percentile", "samples", "features"], "lrrrrl"
    if len({floor.task for floor in table.floors}) > 1:
        header, align = ["task", *header], "l" + align
        rows = [[floor.task, *row] for floor, row in zip(table.floors, rows, strict=True)]
    return Grid("Floors: each metric between disjoint real samples.", header, rows, align)


def _sizes(line: Line) -> str:
    return MISSING if line.n_real is None else f"{line.n_real} + {line.n_synthetic}"


def _or_missing(value: float | None, style: str) -> str:
    return MISSING if value is None else style.format(value)


def _metric_column(table: Table, info: MetricInfo) -> list[str]:
    """ "mean ± sd → mean ± sd" per line, padded so that arrows stand above one another."""
    firsts, lasts = (
        [_spread_text(info, line.metrics[info.name][end], line.verdict.seeds) for line in table.lines] for end in (0, 1)
    )
    width = max(map(len, firsts))
    texts = []
    for line, first, last in zip(table.lines, firsts, lasts, strict=True):
        is_missing = first == last == MISSING
        texts.append(first if is_missing or line.generations == 1 else f"{first:<{width}} → {last}")
    return texts


def _spread_text(info: MetricInfo, spread: Spread | None, seeds: int) -> str:
    if spread is None:
        return MISSING
    if spread.mean is None:
        return f"{MISSING} ({spread.seeds}/{seeds})"
    # Around zero, the spread says which digits count.
    size = max(abs(spread.mean), spread.sd or 0) if info.kind == "number" else spread.mean
    numbers = style(info, size)
    return numbers.format(spread.mean) + (f" ± {numbers.format(spread.sd)}" if spread.sd is not None else "")


def style(info: MetricInfo, value: float | None) -> str:
    """One decimal for counts, three for shares; else three significant digits of the value, its spread likewise."""
    if info.kind == "count":
        return "{:.1f}"
    if info.kind == "share" or not value or not math.isfinite(value):
        return "{:.3f}"
    magnitude = math.floor(math.log10(abs(value)))
    return "{:.2e}" if not -4 <= magnitude <= 5 else f"{{:.{max(0, 2 - magnitude)}f}}"


# ---- markdown --------------------------------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """Aligned, so that it is also what a terminal shows."""
    tasks = dict.fromkeys(line.cell.task for line in table.lines)
    parts = [f"**{escape_markdown(task)}**" for task in tasks] if len(tasks) == 1 else []
    for grid in grids(table):
        parts += [escape_markdown(grid.caption)] if grid.caption else []
        parts.append(markdown_table(grid))
    return "\n\n".join([*parts, "\n".join(f"- {escape_markdown(note)}" for note in table.notes)]) + "\n"


def markdown_table(grid: Grid) -> str:
    texts = [[escape_markdown(text) for text in row] for row in [grid.header, *grid.rows]]
    widths = [max(3, *(len(row[i]) for row in texts)) for i in range(len(grid.header))]
    padded = [
        [f"{text:{'>' if a == 'r' else '<'}{w}}" for text, a, w in zip(row, grid.align, widths, strict=True)]
        for row in texts
    ]
    rule = ["-" * (w - 1) + ":" if a == "r" else "-" * w for a, w in zip(grid.align, widths, strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [padded[0], rule, *padded[1:]])


def escape_markdown(text: str) -> str:
    """Nothing in `text` becomes markup. An underscore inside a word is none, and stays readable."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text.replace("&", "&amp;").replace("<", "&lt;"))
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


# ---- LaTeX -----------------------------------------------------------------------------------------------------------

_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"},
    **{"|": "$|$", "±": r"$\pm$", "→": r"$\to$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "λ": r"$\lambda$"},
    "×": r"$\times$",
    # After the end of a row, a bare star or bracket would be its argument.
    **{"*": "{*}", "[": "{[}", "—": "---", '"': r"\textquotedbl{}"},
}


def _escape_latex(text: str) -> str:
    """Nothing in `text` becomes a command; what LaTeX's standard fonts lack becomes "?"."""
    text = " ".join(text.split())
    return "".join(_LATEX.get(c, c if " " <= c <= "~" or "\xa1" <= c <= "\u017f" else "?") for c in text)


def latex(table: Table) -> str:
    """Tables and notes, to be put into a document."""
    parts = ["% \\usepackage[T1]{fontenc} and \\usepackage{booktabs}"]
    for grid in grids(table):
        parts += [rf"\smallskip {_escape_latex(grid.caption)}"] if grid.caption else []
        parts.append(_latex_table(grid))
    notes = "\n".join(rf"  \item {_escape_latex(note)}" for note in table.notes)
    return "\n\n".join([*parts, f"{{\\footnotesize\n\\begin{{itemize}}\n{notes}\n\\end{{itemize}}}}\n"])


def _latex_table(grid: Grid) -> str:
    head, *body = ["  " + " & ".join(_escape_latex(text) for text in row) + r" \\" for row in [grid.header, *grid.rows]]
    lines = [rf"\begin{{tabular}}{{{grid.align}}}", r"  \toprule", head, r"  \midrule", *body, r"  \bottomrule"]
    return "\n".join([*lines, r"\end{tabular}"])
