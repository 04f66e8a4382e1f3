"""The standard table: `aggregate` computes it from rows, always anew; the formats only write it down."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from madbench import __version__, verdict
from madbench.report import HIGHER_IS_BETTER, label, planned
from madbench.results import SCHEMA, Result, to_csv
from madbench.verdict import Cell, Verdict

MISSING = "—"


@dataclasses.dataclass(frozen=True)
class Spread:
    """A metric at one generation: mean and standard deviation (ddof = 1; None under two) over `seeds` runs."""

    mean: float
    sd: float | None
    seeds: int


@dataclasses.dataclass(frozen=True)
class Floor:
    """A metric between disjoint real samples of the same size; None where unknown."""

    task: str
    metric: str
    mean: float | None
    p5: float | None
    p95: float | None
    n_samples: int | None
    features: str | None


@dataclasses.dataclass(frozen=True)
class Line:
    """One cell of one workdir.

    Attributes:
      source: name of the workdir.
      cell: task, model, loop, λ.
      generations: T, as configured.
      n_real, n_synthetic: composition of the training set at generation T; None where no run got there.
      metrics: name -> values at generations 1 and T; None where there are none, or the metric was not asked for.
      floors: name -> floor, of the metrics that were asked for.
      verdict: over the configured seeds.
    """

    source: str
    cell: Cell
    generations: int
    n_real: int | None
    n_synthetic: int | None
    metrics: dict[str, tuple[Spread | None, Spread | None]]
    floors: dict[str, Floor]
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Table:
    """Everything that every format shows. `notes` are plain sentences."""

    lines: list[Line]
    metrics: list[str]
    floors: list[Floor]
    notes: list[str]


def render(results: list[Result], format: str) -> str:
    """The standard table of one or several workdirs, ending in a newline.

    Args:
      results: at least one.
      format: "md", "csv", "json" or "latex".

    Raises:
      ValueError: another format, or no results; one line.
      ResultError: a workdir that does not say what was planned; one line.
    """
    if format not in _FORMATS:
        raise ValueError(f"unknown format {format!r}; choose from {', '.join(_FORMATS)}")
    return _FORMATS[format](aggregate(results))


def aggregate(results: list[Result]) -> Table:
    """The table, computed from the rows: one line per planned cell, whether it has rows or not.

    Cells that several workdirs share are lines of their own: only their authors know whether the runs compare.
    """
    if not results:
        raise ValueError("no results to show")
    names = [r.path.name for r in results]
    sources = names if len(set(names)) == len(names) else [str(r.path) for r in results]
    metrics = list(dict.fromkeys(name for r in results for name in r.metrics))
    lines, notes = [], []
    for result, source in zip(results, sources, strict=True):
        cells = planned(result)
        seeds, generations = list(result.config["seeds"]), result.config["generations"]
        rows = verdict.group(r for r in result.rows if r["seed"] in seeds and 1 <= r["generation"] <= generations)
        lines += [_line(result, source, cell, rows.get(cell, []), metrics) for cell in cells]
        outside = len(result.rows) - sum(len(rows.get(cell, [])) for cell in cells)
        if outside:
            notes.append(f"{source}: {outside} rows lie outside the configured grid and are not counted.")
    floors = list(dict.fromkeys(floor for line in lines for floor in line.floors.values()))
    return Table(lines, metrics, floors, notes + _notes(results, sources, metrics))


def _line(result: Result, source: str, cell: Cell, rows: list[dict[str, Any]], metrics: Sequence[str]) -> Line:
    seeds, generations = list(result.config["seeds"]), result.config["generations"]
    plan = {"seeds": seeds, "generations": generations}
    last = next((r for r in rows if r["generation"] == generations), {})
    spreads = {}
    for name in metrics:
        values = verdict.matrix(rows, name, **plan)
        spreads[name] = (_spread(values[:, 0]), _spread(values[:, -1])) if name in result.metrics else (None, None)
    judged = verdict.judge_cell(rows, result.reference.get("floors", {}), result.metrics, **plan)
    floors = {name: _floor(result, name) for name in result.metrics}
    return Line(source, cell, generations, last.get("n_real"), last.get("n_synthetic"), spreads, floors, judged)


def _spread(values: np.ndarray) -> Spread | None:
    """Of `values [seed]`, NaN where missing."""
    values = values[~np.isnan(values)]
    if not values.size:
        return None
    sd = float(values.std(ddof=1)) if values.size > 1 else None
    return Spread(float(values.mean()), sd, values.size)


def _floor(result: Result, metric: str) -> Floor:
    known = result.reference.get("floors", {}).get(metric, {})
    n_samples, features = result.reference.get("n_samples"), result.reference.get("features")
    bounds = (known.get("mean"), known.get("p5"), known.get("p95"))
    return Floor(result.config["task"], metric, *bounds, n_samples, features)


# What λ means where the paper does not say (PROTOCOL, section 3).
_BIAS_NOTES = {
    "mixture": "mixture: λ multiplies each component's covariance (ours).",
    "kde": "kde: λ multiplies each component's covariance (ours).",
    "vae": "vae: λ is the variance of the latent, drawn from N(0, λI) (ours).",
}


def _notes(results: list[Result], sources: list[str], metrics: list[str]) -> list[str]:
    """What a reader needs to compare the table with another."""
    pairs = list(zip(results, sources, strict=True))
    facts = {
        "samples behind each metric": lambda row: row["n_samples"],
        "feature network": lambda row: row["features"],
        **{f"{name} version": lambda row, name=name: row["metric_versions"].get(name) for name in metrics},
        "madbench": lambda row: row["benchmark"],
    }
    notes = _provenance(facts, pairs)
    families = dict.fromkeys(r.config["model"]["family"] for r in results)
    notes += [
        f"Mean ± standard deviation over the seeds; seeds: finished / configured; {MISSING}: missing. "
        "†: fewer seeds than configured; the others diverged or are unfinished.",
        "Real + synthetic: training set of the last generation, T.",
        f"Verdict (ours): MAD: over the seeds, the slope of log FD against t is positive with "
        f"{1 - verdict.SIGNIFICANCE:.0%} confidence (one-sided t-test, at least {verdict.MIN_SEEDS} seeds) and the "
        "last FD exceeds its floor's 95th percentile; loses quality, loses diversity: the same test on falling "
        "precision, recall; else stable.",
        "Half-life: generations after the first until recall, in the mean over seeds, is half of generation 1's.",
        "Budget (ours): every generation of every loop trains for the same number of optimizer steps.",
        "Labels (ours): a conditional model synthesizes equal numbers per class.",
    ]
    notes += [_BIAS_NOTES[family] for family in families if family in _BIAS_NOTES]
    reused = [source for r, source in pairs if r.config["data"].get("reuse_fresh") is True]
    if reused:
        where = f" ({', '.join(reused)})" if len(results) > 1 else ""
        notes.append(f"Fresh real samples are reused once the training pool is used up{where}.")
    return notes


def _provenance(facts: dict[str, Callable], pairs: list[tuple[Result, str]]) -> list[str]:
    """How the rows were measured, in one sentence, after a warning for each fact in which they differ."""
    agreed, warnings = [], []
    for name, read in facts.items():
        found: dict[Any, list[str]] = {}
        for result, source in pairs:
            for value in dict.fromkeys(read(row) for row in result.rows):
                found.setdefault(value, []).append(source)
        found.pop(None, None)  # rows of a workdir that was not asked for this metric
        if len(found) == 1:
            agreed.append(f"{name} {next(iter(found))}")
        elif found:
            values = "; ".join(f"{value} in {', '.join(where)}" for value, where in found.items())
            warnings.append(f"These lines do not compare: {name} differs: {values}.")
    return [*warnings, f"Measured with: {', '.join(agreed)}."]


# ---- markdown and LaTeX: the same cells of text ----------------------------------------------------------------------


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
        "λ": ("r", [f"{cell.bias:g}" for cell in cells]),
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
    style = _style(metric, spread.mean)
    text = style.format(spread.mean) + (f" ± {style.format(spread.sd)}" if spread.sd is not None else "")
    return text + ("†" if spread.seeds < seeds else "")


def _style(metric: str, value: float | None) -> str:
    """Three decimals for shares; else three significant digits of the value, its spread at the same decimals."""
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
    **{"*": "{*}", "[": "{[}", "—": "---", "†": r"\textsuperscript{\textdagger}", '"': r"\textquotedbl{}"},
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
            "trends": {t.metric: {"slope": t.slope, "p_value": t.p_value} for t in line.verdict.trends},
            "metrics": {name: _spreads(line, name) for name in table.metrics},
        }
        for line in table.lines
    ]
    floors = [dataclasses.asdict(floor) for floor in table.floors]
    value = {"schema": SCHEMA, "benchmark": __version__, "lines": lines, "floors": floors, "notes": table.notes}
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


_FORMATS = {"md": _markdown, "csv": _csv, "json": _json, "latex": _latex}
