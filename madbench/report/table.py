"""The standard table as markdown, CSV, JSON and LaTeX: `aggregate` has the numbers, here they are written down."""

import dataclasses
import json
import math
import re
from typing import Any

from madbench import __version__
from madbench.errors import UserError
from madbench.report import COUNTS, HIGHER_IS_BETTER, label
from madbench.report.aggregate import MISSING, Line, Spread, Table, aggregate
from madbench.results import SCHEMA, Result, bias_text, to_csv, write_text

FILES = {"md": "table.md", "csv": "table.csv", "json": "table.json", "latex": "table.tex"}


def render(results: list[Result], format: str) -> str:
    """The standard table of one or several workdirs, ending in a newline.

    Args:
      results: at least one.
      format: "md", "csv", "json" or "latex".

    Raises:
      UserError: another format, or no results; one line.
      ResultError: a workdir that does not say what was planned; one line.
    """
    if format not in _FORMATS:
        raise UserError(f"unknown format {format!r}; choose from {', '.join(_FORMATS)}")
    return _FORMATS[format](aggregate(results))


def write(result: Result) -> list[str]:
    """Writes the table of one workdir into it, in every format; returns the names of the files."""
    for format, name in FILES.items():
        write_text(result.path / name, render([result], format))
    return list(FILES.values())


def _text_table(table: Table) -> tuple[list[str], list[list[str]], str]:
    """Header, lines and alignment ("l" or "r" per column), not escaped."""
    lasts = {line.generations for line in table.lines}
    last = str(lasts.pop()) if len(lasts) == 1 else "T"
    span = "t = 1" if last == "1" else f"t = 1 → {last}"
    cells = [line.cell for line in table.lines]
    columns = {
        "workdir": ("l", [line.source for line in table.lines] if len(set(cells)) < len(cells) else []),
        "task": ("l", [cell.task for cell in cells] if len({cell.task for cell in cells}) > 1 else []),
        "model": ("l", [cell.model for cell in cells]),
        "loop": ("l", [cell.loop for cell in cells]),
        "λ": ("r", [bias_text(cell.bias) for cell in cells]),
        "T": ("r", [str(line.generations) for line in table.lines] if last == "T" else []),
        "seeds": ("r", [f"{line.verdict.finished}/{line.verdict.seeds}" for line in table.lines]),
        "real + synthetic": ("r", [_sizes(line) for line in table.lines]),
        **{f"{label(name)}, {span}": ("l", _metric_column(table, name)) for name in table.metrics},
        "verdict": ("l", [line.verdict.text for line in table.lines]),
        "half-life": ("r", [_or_missing(line.verdict.half_life, "{:.1f}") for line in table.lines]),
    }
    columns = {name: column for name, column in columns.items() if column[1]}
    rows = [list(row) for row in zip(*(texts for _, texts in columns.values()), strict=True)]
    return list(columns), rows, "".join(align for align, _ in columns.values())


def _floor_table(table: Table) -> tuple[list[str], list[list[str]], str]:
    header, align = ["metric", "mean", "5th percentile", "95th percentile", "samples", "features"], "lrrrrl"
    rows = []
    for floor in table.floors:
        bounds = [_or_missing(value, _style(floor.metric, value)) for value in (floor.mean, floor.p5, floor.p95)]
        rows.append([label(floor.metric), *bounds, _or_missing(floor.n_samples, "{}"), floor.features or MISSING])
    if len({floor.task for floor in table.floors}) > 1:
        header, align = ["task", *header], "l" + align
        rows = [[floor.task, *row] for floor, row in zip(table.floors, rows, strict=True)]
    return header, rows, align


def _sizes(line: Line) -> str:
    return MISSING if line.n_real is None else f"{line.n_real} + {line.n_synthetic}"


def _or_missing(value: float | None, style: str) -> str:
    return MISSING if value is None else style.format(value)


def _metric_column(table: Table, metric: str) -> list[str]:
    """ "mean ± sd → mean ± sd" per line, padded so that arrows stand above one another."""
    firsts, lasts = (
        [_spread_text(metric, line.metrics[metric][end], line.verdict.seeds) for line in table.lines] for end in (0, 1)
    )
    width = max(map(len, firsts))
    texts = []
    for line, first, last in zip(table.lines, firsts, lasts, strict=True):
        is_missing = first == last == MISSING
        texts.append(first if is_missing or line.generations == 1 else f"{first:<{width}} → {last}")
    return texts


def _spread_text(metric: str, spread: Spread | None, seeds: int) -> str:
    if spread is None:
        return MISSING
    if spread.mean is None:
        return f"{MISSING} ({spread.seeds}/{seeds})"
    style = _style(metric, spread.mean)
    text = style.format(spread.mean) + (f" ± {style.format(spread.sd)}" if spread.sd is not None else "")
    return text


def _style(metric: str, value: float | None) -> str:
    """One decimal for counts, three for shares; else three significant digits of the value, its spread likewise."""
    if metric in COUNTS:
        return "{:.1f}"
    if metric in HIGHER_IS_BETTER or not value:
        return "{:.3f}"
    magnitude = math.floor(math.log10(abs(value)))
    return "{:.2e}" if not -4 <= magnitude <= 5 else f"{{:.{max(0, 2 - magnitude)}f}}"


def _markdown(table: Table) -> str:
    parts = [_markdown_table(*_text_table(table)), "Floors: each metric between disjoint real samples."]
    parts += [_markdown_table(*_floor_table(table)), "\n".join(f"- {_escape_markdown(n)}" for n in table.notes)]
    tasks = dict.fromkeys(line.cell.task for line in table.lines)
    title = [f"**{_escape_markdown(task)}**" for task in tasks] if len(tasks) == 1 else []
    return "\n\n".join(title + parts) + "\n"


def _markdown_table(header: list[str], rows: list[list[str]], align: str) -> str:
    texts = [[_escape_markdown(text) for text in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[i]) for row in texts)) for i in range(len(header))]
    padded = [
        [f"{text:{'>' if a == 'r' else '<'}{w}}" for text, a, w in zip(row, align, widths, strict=True)]
        for row in texts
    ]
    rule = ["-" * (w - 1) + ":" if a == "r" else "-" * w for a, w in zip(align, widths, strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [padded[0], rule, *padded[1:]])


def _escape_markdown(text: str) -> str:
    """Nothing in `text` becomes markup. An underscore inside a word is none, and stays readable."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text.replace("&", "&amp;").replace("<", "&lt;"))
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"},
    **{"|": "$|$", "±": r"$\pm$", "→": r"$\to$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "λ": r"$\lambda$"},
    # After the end of a row, a bare star or bracket would be its argument.
    **{"*": "{*}", "[": "{[}", "—": "---", '"': r"\textquotedbl{}"},
}


def _escape_latex(text: str) -> str:
    """Nothing in `text` becomes a command; what LaTeX's standard fonts lack becomes "?"."""
    text = " ".join(text.split())
    return "".join(_LATEX.get(c, c if " " <= c <= "~" or "\xa1" <= c <= "\u017f" else "?") for c in text)


def _latex(table: Table) -> str:
    notes = "\n".join(rf"  \item {_escape_latex(note)}" for note in table.notes)
    return "\n\n".join(
        [
            "% \\usepackage[T1]{fontenc} and \\usepackage{booktabs}",
            _latex_table(*_text_table(table)),
            r"\smallskip Floors: each metric between disjoint real samples.",
            _latex_table(*_floor_table(table)),
            f"{{\\footnotesize\n\\begin{{itemize}}\n{notes}\n\\end{{itemize}}}}\n",
        ]
    )


def _latex_table(header: list[str], rows: list[list[str]], align: str) -> str:
    head, *body = ["  " + " & ".join(_escape_latex(text) for text in row) + r" \\" for row in [header, *rows]]
    lines = [rf"\begin{{tabular}}{{{align}}}", r"  \toprule", head, r"  \midrule", *body, r"  \bottomrule"]
    return "\n".join([*lines, r"\end{tabular}"])


# ---- CSV and JSON: numbers -------------------------------------------------------------------------------------------


def _record(line: Line) -> dict[str, Any]:
    """What CSV and JSON begin with."""
    judged = line.verdict
    return {
        "workdir": line.source,
        **line.cell._asdict(),
        "generations": line.generations,
        "seeds": judged.seeds,
        "seeds_finished": judged.finished,
        "seeds_diverged": judged.diverged,
        "seeds_unfinished": judged.unfinished,
        "n_real": line.n_real,
        "n_synthetic": line.n_synthetic,
        "verdict": judged.text,
        "undecided": "; ".join(judged.undecided),
        "half_life": judged.half_life,
    }


def _spreads(line: Line, metric: str) -> dict[str, dict[str, Any] | None]:
    return {end: s and dataclasses.asdict(s) for end, s in zip(("first", "last"), line.metrics[metric], strict=True)}


def _csv(table: Table) -> str:
    """One line per cell; empty where missing. The floors are columns, so that each line can be read alone."""
    rows = []
    for line in table.lines:
        row = _record(line)
        for name in table.metrics:
            for end, spread in _spreads(line, name).items():
                row |= {f"{name}_{end}_{key}": (spread or {}).get(key) for key in ("mean", "sd", "seeds")}
            row |= {f"{name}_floor_{key}": getattr(line.floors.get(name), key, None) for key in ("mean", "p5", "p95")}
        rows.append(row)
    return to_csv(rows)


def _json(table: Table) -> str:
    lines = [
        {
            **_record(line),
            "findings": list(line.verdict.findings),
            "trends": {
                t.metric: {"slope": t.slope, "p_value": t.p_value, "seeds": len(t.slopes)} for t in line.verdict.trends
            },
            "metrics": {name: _spreads(line, name) for name in table.metrics},
        }
        for line in table.lines
    ]
    floors = [dataclasses.asdict(floor) for floor in table.floors]
    value = {"schema": SCHEMA, "benchmark": __version__, "lines": lines, "floors": floors, "notes": table.notes}
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


_FORMATS = {"md": _markdown, "csv": _csv, "json": _json, "latex": _latex}
