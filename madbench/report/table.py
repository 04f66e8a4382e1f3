"""The standard table as markdown, CSV, JSON and LaTeX: `aggregate` has the numbers, `text` the tables for people."""

import dataclasses
import json
from typing import Any

from madbench import __version__
from madbench.errors import UserError
from madbench.report.aggregate import Line, Table, aggregate
from madbench.report.text import latex, markdown
from madbench.results import SCHEMA, Result, write_text
from madbench.tabular import to_csv
from madbench.verdict import DEFAULT, Interval, Trend

FILES = {"md": "table.md", "csv": "table.csv", "json": "table.json", "latex": "table.tex"}


def render(results: list[Result], format: str, definition: str = DEFAULT) -> str:
    """The standard table of one or several workdirs, ending in a newline.

    Args:
      results: at least one.
      format: "md", "csv", "json" or "latex".
      definition: of collapse, by which the verdicts are, among `verdict.DEFINITIONS`.

    Raises:
      UserError: another format or definition, or no results; one line.
      ResultError: a workdir that does not say what was planned; one line.
    """
    if format not in _FORMATS:
        raise UserError(f"unknown format {format!r}; choose from {', '.join(_FORMATS)}")
    return _FORMATS[format](aggregate(results, definition))


def write(result: Result) -> list[str]:
    """Writes the table of one workdir into it, in every format, with the default verdict; returns the files' names."""
    table = aggregate([result])
    for format, name in FILES.items():
        write_text(result.path / name, _FORMATS[format](table))
    return list(FILES.values())


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
        "definition": judged.definition,
        "verdict": judged.text,
        "undecided": "; ".join(judged.undecided),
        "half_life": judged.half_life,
        **dataclasses.asdict(line.expense),
    }


def _spreads(line: Line, metric: str) -> dict[str, dict[str, Any] | None]:
    return {end: s and dataclasses.asdict(s) for end, s in zip(("first", "last"), line.metrics[metric], strict=True)}


def _trend(trend: Trend) -> dict[str, Any]:
    bounds = {"t_interval": trend.t_interval, "bootstrap": trend.bootstrap}
    return {
        trend.statistic: trend.mean,
        **{name: interval and list(interval) for name, interval in bounds.items()},
        "p_value": trend.p_value,
        "seeds": len(trend.values),
        "scale": "log" if trend.is_log else "linear",
    }


def _csv(table: Table) -> str:
    """One line per cell; empty where missing. The floors are columns, so that each line can be read alone."""
    rows = []
    for line in table.lines:
        row = _record(line)
        for name in table.metrics:
            for end, spread in _spreads(line, name).items():
                row |= {f"{name}_{end}_{key}": (spread or {}).get(key) for key in ("mean", "sd", "seeds")}
            row |= {f"{name}_floor_{key}": getattr(line.floors.get(name), key, None) for key in ("mean", "p5", "p95")}
        # Evidence that is a trend has the columns of that trend; other evidence has columns of its own.
        for trend in (*line.verdict.trends, *line.verdict.evidence):
            column = f"{trend.metric}_{trend.statistic}"
            row |= {column: trend.mean, **_bounds(column, trend.t_interval)}
            row |= {**_bounds(f"{column}_bootstrap", trend.bootstrap), f"{column}_p": trend.p_value}
        rows.append(row)
    return to_csv(rows)


def _bounds(column: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{column}_low": low, f"{column}_high": high}


def _json(table: Table) -> str:
    lines = [
        {
            **_record(line),
            "findings": list(line.verdict.findings),
            "evidence": [{"metric": t.metric, **_trend(t)} for t in line.verdict.evidence],
            "trends": {t.metric: _trend(t) for t in line.verdict.trends},
            "metrics": {name: _spreads(line, name) for name in table.metrics},
        }
        for line in table.lines
    ]
    chosen = table.definition
    value = {
        "schema": SCHEMA,
        "benchmark": __version__,
        "definition": {key: getattr(chosen, key) for key in ("name", "title", "sentence", "source")},
        "lines": lines,
        "metrics": {name: dataclasses.asdict(info) for name, info in table.metrics.items()},
        "floors": [dataclasses.asdict(floor) for floor in table.floors],
        "strategies": table.strategies,
        "notes": table.notes,
    }
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


_FORMATS = {"md": markdown, "csv": _csv, "json": _json, "latex": latex}
