"""`report.html`: a workdir as one page that opens from disk and needs nothing else."""

import base64
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np

from madbench import results
from madbench.leaderboard import tasks
from madbench.report import charts, frames, html, words
from madbench.report.aggregate import MISSING, Line, Spread, Table, aggregate
from madbench.report.text import Grid, costs, foundations, style
from madbench.results import MetricInfo, Result, bias_text

# Metrics beside the verdicts; where there are more, those that the verdict reads, and all in a second table.
_BESIDE = 4


def render(
    result: Result,
    samples: frames.Cells,
    truth: tuple[np.ndarray, np.ndarray] | None,
    real: np.ndarray | None = None,
) -> str:
    """The page; the same text for the same results.

    Args:
      result: a workdir.
      samples: (loop, λ) -> generation -> images `[n, height, width, channels]` or points `[n, d]`; may be empty.
      truth: (axes, density) of points, where known.
      real: images of the data, of the form of the samples, where known.

    Raises:
      ResultError: the workdir does not say what was planned; one line.
    """
    table = aggregate([result])
    shown = None
    if frames.is_images(samples):
        shown = frames.of_images(samples, real=real)
    elif frames.is_points(samples) and truth is not None:
        shown = frames.of_points(samples, *truth)
    task = _task(result)
    return html.render(
        "report.html",
        result=result,
        table=table,
        found=words.found(table),
        ran=words.ran(result, table),
        sheets=list(_sheets(table)),
        charts=charts.charts(result),
        geometry=charts,
        frames=shown,
        seed=result.config["seeds"][0],
        evidence=list(map(_from_grid, foundations(table))),
        task=task,
        facts=list(_facts(result)),
        reproduce=_command(result, task),
        config=_json(result.config),
        config_uri=f"data:application/json;base64,{base64.b64encode(_json(result.config).encode()).decode()}",
    )


# ---- tables ----------------------------------------------------------------------------------------------------------


def _sheets(table: Table) -> Iterator[html.Sheet]:
    """The standard table; where there are many metrics, a second one with all of them; what a strategy cost."""
    infos = list(table.metrics.values())
    beside = infos
    if len(infos) > _BESIDE:
        read = {name for criterion in table.definition.criteria for name in criterion.metrics}
        beside = [info for info in infos if info.name in read] or infos[:_BESIDE]
    half_life = "recall" in table.metrics
    yield html.Sheet(
        "The standard table: a line for each loop and λ",
        [
            *_names(),
            html.Column("verdict", detail=f"({table.definition.name})"),
            *(column for info in beside for column in _metric_columns(info, table)),
            *[html.Column("half-life", True, detail="generations")] * half_life,
            html.Column("seeds", True),
            html.Column("data", True, detail="real + synthetic"),
        ],
        [
            [
                *_labels(line),
                _verdict(line, table),
                *(cell for info in beside for cell in _metric_cells(info, line)),
                *[html.number_cell(line.verdict.half_life, "{:.1f}")] * half_life,
                html.Cell(f"{line.verdict.finished}/{line.verdict.seeds}", line.verdict.finished),
                _sizes(line),
            ]
            for line in table.lines
        ],
    )
    if beside != infos:
        yield html.Sheet(
            "Every metric that was measured",
            [*_names(), *(column for info in infos for column in _metric_columns(info, table))],
            [[*_labels(x), *(cell for info in infos for cell in _metric_cells(info, x))] for x in table.lines],
        )
    yield from map(_from_grid, costs(table))


def _names() -> list[html.Column]:
    return [html.Column("loop"), html.Column("λ", True)]


def _labels(line: Line) -> list[html.Cell]:
    return [_loop(line.cell.loop), html.number_cell(line.cell.bias, bias_text(line.cell.bias))]


def _loop(text: str) -> html.Cell:
    """A loop, its settings below it."""
    name, settings = words.loop_parts(text)
    return html.Cell(name, text, detail=settings)


def _sizes(line: Line) -> html.Cell:
    if line.n_real is None:
        return html.Cell(MISSING, mark="missing")
    return html.Cell(f"{line.n_real:,} + {line.n_synthetic:,}", line.n_real / max(line.n_real + line.n_synthetic, 1))


def _metric_columns(info: MetricInfo, table: Table) -> list[html.Column]:
    last = max(line.generations for line in table.lines)
    ends = ["t = 1"] if last == 1 else ["t = 1", f"t = {last}"]
    return [html.Column(info.title, True, info.direction == "lower", end) for end in ends]  # the worst comes first


def _metric_cells(info: MetricInfo, line: Line) -> list[html.Cell]:
    spreads = line.metrics[info.name][: 1 if line.generations == 1 else 2]
    return [_spread(info, spread, line.verdict.seeds) for spread in spreads]


def _spread(info: MetricInfo, spread: Spread | None, seeds: int) -> html.Cell:
    if spread is None:
        return html.Cell(MISSING, mark="missing")
    if spread.mean is None:
        return html.Cell(MISSING, mark="missing", detail=f"{spread.seeds} of {seeds} seeds")
    size = max(abs(spread.mean), spread.sd or 0) if info.kind == "number" else spread.mean
    number = style(info, size)
    return html.number_cell(
        spread.mean, number, detail=f"± {number.format(spread.sd)}" if spread.sd is not None else ""
    )


def _verdict(line: Line, table: Table) -> html.Cell:
    judged, worst = line.verdict, table.definition.criteria[0].finding
    badges = [(finding, "bad" if finding == worst else "warn") for finding in judged.findings]
    texts = judged.text.split(", ") if judged.text else []
    for text in texts:
        if text not in judged.findings:
            mark = "good" if text == table.definition.otherwise else "bad" if text.startswith("diverged") else "plain"
            badges.append((text, mark))
    return html.Cell("", judged.text, badges=badges)


def _from_grid(grid: Grid) -> html.Sheet:
    """A table of texts, sorted by the number that each begins with."""
    columns = [html.Column(name, align == "r") for name, align in zip(grid.header, grid.align, strict=True)]
    rows = []
    for row in grid.rows:
        cells = []
        for name, text, align in zip(grid.header, row, grid.align, strict=True):
            number = re.match(r"[-+]?[\d.]+(e[-+]?\d+)?", text) if align == "r" else None
            key = number[0] if number else None if text == MISSING else text
            if name == "loop":
                cells.append(_loop(text))
                continue
            cells.append(html.Cell(text, key, mark="missing" if text == MISSING else ""))
        rows.append(cells)
    return html.Sheet(grid.caption.rstrip("."), columns, rows)


# ---- the environment, and how to do it again -------------------------------------------------------------------------


def _facts(result: Result) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What `environment.json` says, whatever it holds, in groups of (name, text)."""
    told = dict(result.environment)
    versions = told.pop("versions", {})
    data = told.pop("dataset", {})
    hashes = {"config": results.config_hash(result.config), "source of madbench": told.pop("source_sha256", None)}
    hashes["features"] = result.reference.get("features")
    plan = told.pop("plan", {})
    told.pop("schema", None)
    seconds = _seconds(result)
    for title, value in (
        ("Machine", told | ({"time of all runs": seconds} if seconds else {})),
        ("Plan", plan),
        ("Data", data),
        ("Hashes", hashes),
        ("Versions", versions),
    ):
        pairs = list(_flat(value))
        if pairs:
            yield title, pairs


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(each, f"{name} {key}".strip().replace("_", " "))
    elif value is not None:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield name, {"True": "yes", "False": "no"}.get(text, text)


def _seconds(result: Result) -> str:
    """Of all that `timing.jsonl` counts, compilation included."""
    rows = results.read_rows(result.path / "timing.jsonl")
    values = [v for row in rows for k, v in row.items() if k.endswith("_seconds") and isinstance(v, (int, float))]
    total = round(sum(values))
    if not values:
        return ""
    hours, minutes, seconds = total // 3600, total // 60 % 60, total % 60
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def _task(result: Result) -> tasks.Task | None:
    """The task of the leaderboard whose config this is."""
    name = result.config.get("task")
    if name not in tasks.names():
        return None
    task = tasks.load(name)
    return task if task.sha256 == results.config_hash(result.config) else None


def _command(result: Result, task: tasks.Task | None) -> str:
    again = shlex.quote(f"{result.path.resolve().name}-again")
    share = f" --shard={result.shares[0]}/{result.split}" if len(result.shares) == 1 else ""
    what = f"--task={task.name}" if task else "--config=config.json"
    return f"madbench run {what} --workdir={again}{share}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
