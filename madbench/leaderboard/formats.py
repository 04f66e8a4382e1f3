"""The leaderboard as JSON and CSV, with every number of the site's boards, and as markdown for a README."""

import json
import math
import os
import pathlib
import re
from typing import Any

from madbench import __version__, results, verdict
from madbench.errors import UserError
from madbench.leaderboard import score
from madbench.leaderboard.board import INVALIDATED, Board, Entry, Line
from madbench.leaderboard.tasks import Task
from madbench.report import planned, series

SCHEMA = 1
BEGIN, END = "<!-- madbench:leaderboard begin -->", "<!-- madbench:leaderboard end -->"
MISSING = "—"
_CURVE = ("mean", "low", "high")


def plain(board: Board) -> dict[str, Any]:
    """All of the board as plain JSON: tasks with bands, the overall board, and every submission with its places."""
    places = {line.of.slug: line for task in board.tasks for line in board.resistance(task)}
    speeds = {line.of.slug: line for task in board.tasks for line in board.speed(task)}
    return {
        "schema": SCHEMA,
        "benchmark": __version__,
        "tasks": [_task(task) for task in board.tasks],
        "tasks_without_band": board.coming,
        "overall": [
            {
                "rank": line.rank,
                "name": line.of.name,
                "method": line.of.method,
                **line.of.resistance,
                "overlaps_first": line.is_near,
                "status": line.of.status,
                "submissions": {t.name: e.folder if (e := line.of.entries.get(t.name)) else None for t in board.tasks},
            }
            for line in board.overall
        ],
        "submissions": [_entry(e, places.get(e.slug), speeds.get(e.slug)) for e in board.entries],
    }


def to_json(board: Board) -> str:
    """`plain` as text, ending in a newline."""
    return json.dumps(plain(board), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(board: Board) -> str:
    """One line for each place on the overall board, each submission, and each of its cells, with the same columns.

    A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    found = plain(board)
    lines = [
        {"board": "overall", **_pick(row, "rank", "name", "method", "status", "score", "low", "high", "overlaps_first")}
        for row in found["overall"]
    ]
    for each in found["submissions"]:
        who = _pick(each, "submission", "name", "method", "status", "task")
        summary = each["summary"] or {}
        speed = dict(summary.get("speed", {}))
        lines.append(
            {
                "board": "task",
                **who,
                **_pick(each, "rank", "overlaps_first", "reason"),
                **summary.get("resistance", {}),
                **{f"last_{name}": value for name, value in summary.get("last", {}).items()},
                **_pick(summary, "finished", "planned"),
                **speed,
                **_pick(each, "speed_rank", "speed_refusal", "hardware", "device", "devices", "url", "sha256"),
            }
        )
        for cell in summary.get("cells", []):
            parts = {f"{part}_{name}": v for part in ("retention", "last") for name, v in cell[part].items()}
            keep = _pick(cell, "loop", "bias", "score", "low", "high", "finished", "planned")
            lines.append({"board": "cell", **who, **keep, **parts})
    for task in found["tasks"]:
        for cell in task["cells"]:
            for metric, band in cell["band"].items():
                where = {"board": "band", "task": task["id"], "loop": cell["loop"], "bias": cell["bias"]}
                lines.append({**where, "metric": metric, **{f"band_{name}": value for name, value in band.items()}})
    return _csv(lines)


def curves(board: Board) -> list[dict[str, Any]]:
    """What the curves of the site show: the mean over the seeds and its 95 % interval, by generation, as flat rows."""
    found = []
    for entry in board.entries:
        if entry.submission is None:
            continue
        result = entry.submission.result
        rows = verdict.group(result.rows)
        for cell in planned(result):
            for metric in result.metrics.values():
                line = series.series(result, metric, rows.get(cell, []))
                where = {"submission": entry.folder, "task": entry.task.id, "loop": cell.loop, "bias": cell.bias}
                for t, values in enumerate(zip(line.mean, line.low, line.high, strict=True), start=1):
                    numbers = [float(value) if math.isfinite(value) else None for value in values]
                    found.append(
                        where | {"metric": metric.name, "generation": t} | dict(zip(_CURVE, numbers, strict=True))
                    )
    return found


def curves_json(board: Board) -> str:
    """`curves` as a JSON list with an object a line."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in curves(board))
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def curves_csv(board: Board) -> str:
    """`curves` as CSV."""
    return _csv(curves(board))


def markdown(board: Board) -> str:
    """Both boards as tables; between markers, see `replaced`."""
    tasks = [task.name for task in board.tasks]
    confidence = f"{100 * score.CONFIDENCE:g} %"
    parts = [f"Resistance, in [0, 100]; {confidence} intervals over the seeds. A task not submitted counts 0."]
    rows = []
    for line in board.overall:
        team = line.of
        each = [interval_text(team.entries[name].resistance) if name in team.entries else MISSING for name in tasks]
        mark = "≈ " if line.is_near else ""
        rows.append(
            [
                f"{mark}{line.rank}",
                escaped(team.name),
                escaped(team.method),
                interval_text(team.resistance),
                *each,
                team.status,
            ]
        )
    parts.append(
        _table(["", "name", "method", "overall", *tasks, "status"], "rllrr" + "r" * (len(tasks) - 1) + "l", rows)
    )
    if any(line.is_near for line in board.overall):
        parts.append("≈: the interval overlaps that of the first place.")
    rows = [
        [
            task.name,
            str(line.rank),
            escaped(line.of.name),
            escaped(line.of.method),
            f"{line.of.per_hour:,.0f}",
            escaped(line.of.hardware),
        ]
        for task in board.tasks
        for line in board.speed(task)
    ]
    parts.append(
        "Speed, in loop-generations (run x generation) per hour, compilation included; ranks within each task."
    )
    parts.append(_table(["task", "", "name", "method", "per hour", "hardware"], "lrllrl", rows))
    if board.invalidated:
        parts.append(f"Invalidated, and on no board: {', '.join(escaped(entry.name) for entry in board.invalidated)}.")
    return "\n\n".join(parts) + "\n"


def replaced(path: str | os.PathLike, text: str) -> str:
    """The content of a file with `text` between the markers, which stay; nothing is written.

    Raises:
      UserError: it cannot be read, or does not hold each marker once, in order; one line.
    """
    try:
        content = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"--readme={path} cannot be read: {error}") from None
    begin, end = content.find(BEGIN), content.find(END)
    if content.count(BEGIN) != 1 or content.count(END) != 1 or begin > end:
        raise UserError(f"--readme={path} needs a line {BEGIN} and, below it, a line {END}, each once")
    return f"{content[: begin + len(BEGIN)]}\n{text}{content[end:]}"


def _task(task: Task) -> dict[str, Any]:
    seeds = task.config["seeds"]
    return {
        "id": task.id,
        "name": task.name,
        "version": task.version,
        "title": task.title,
        "sha256": task.sha256,
        "config": task.config,
        "generations": task.config["generations"],
        "seeds": len(seeds),
        "evaluator": task.evaluator,
        "cells": [
            {
                "loop": loop,
                "bias": bias,
                "band": {
                    name: {"centre": band.centre, "low": low, "high": high, "sd": band.sd, "runs": band.count}
                    for name, band in bands.items()
                    for low, high in [band.interval(len(seeds))]
                },
            }
            for (loop, bias), bands in task.bands.items()
        ],
    }


def _entry(entry: Entry, place: Line[Entry] | None, speed: Line[Entry] | None) -> dict[str, Any]:
    device = entry.submission.result.environment["device"] if entry.submission else {"kind": None, "count": None}
    return {
        "submission": entry.folder,
        "page": f"submissions/{entry.slug}.html",
        "name": entry.name,
        "method": entry.method,
        "task": entry.task.id if entry.task else None,
        "status": entry.status,
        "reason": entry.reason,
        "rank": place.rank if place else None,
        "overlaps_first": place.is_near if place else None,
        "speed_rank": speed.rank if speed else None,
        "speed_refusal": entry.speed_refusal or ("invalidated" if entry.status == INVALIDATED else ""),
        "hardware": entry.hardware,
        "device": device["kind"],
        "devices": device["count"],
        "url": entry.url,
        "contact": entry.contact,
        "note": entry.note,
        "sha256": entry.sha256,
        "summary": entry.summary,
        "checks": [{"name": f.name, "ok": f.ok, "message": f.message} for f in entry.findings],
        "verification": entry.verification,
    }


def _pick(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names if name in row}


def _csv(lines: list[dict[str, Any]]) -> str:
    return results.to_csv([{name: _harmless(value) for name, value in line.items()} for line in lines])


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def interval_text(found: dict[str, float]) -> str:
    """ "62.9 (62.2 to 63.6)"."""
    return f"{found['score']:.1f} ({found['low']:.1f} to {found['high']:.1f})"


def escaped(text: str) -> str:
    """A text by an author within a line of markdown, or a cell: nothing in it is markup, a link, a mention, or HTML."""
    text = "".join(f"&#{ord(letter)};" if letter in "&<>|`*_[]\\~@:$" else letter for letter in text)
    return re.sub(r"\s+", " ", re.sub(r"(?i)\b(www)\.", r"\1&#46;", text))  # GitHub makes links of bare addresses


def _table(header: list[str], align: str, rows: list[list[str]]) -> str:
    rule = ["---:" if side == "r" else ":---" for side in align]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])
