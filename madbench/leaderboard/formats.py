"""The leaderboard as JSON and CSV, with every number of the site's boards."""

import json
import math
from typing import Any

from madbench import __version__, tabular, verdict
from madbench.leaderboard.board import Board, Entry, Line
from madbench.leaderboard.tasks import Task
from madbench.report import planned, series

SCHEMA = 2
_CURVE = ("mean", "low", "high")
_OVERALL = ("rank", "name", "method", "is_copying", "status", "score", "low", "high", "overlaps_first")


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
                "is_copying": line.of.is_copying,
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
    lines = [{"board": "overall", **_pick(row, *_OVERALL)} for row in found["overall"]]
    for each in found["submissions"]:
        who = _pick(each, "submission", "name", "method", "strategy", "status", "task")
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
                **{f"cost_{name}": value for name, value in (each["cost"] or {}).items()},
                **speed,
                **_pick(each, "speed_rank", "hardware", "device", "devices", "url", "sha256"),
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
        "budget": task.budget,
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
        "strategy": entry.strategy,
        "task": entry.task.id if entry.task else None,
        "status": entry.status,
        "reason": entry.reason,
        "rank": place.rank if place else None,
        "overlaps_first": place.is_near if place else None,
        "speed_rank": speed.rank if speed else None,
        "hardware": entry.hardware,
        "device": device["kind"],
        "devices": device["count"],
        "url": entry.url,
        "contact": entry.contact,
        "note": entry.note,
        "sha256": entry.sha256,
        "summary": entry.summary,
        "cost": entry.cost and {**entry.cost._asdict(), "is_copying": entry.is_copying},
        "is_in_band": entry.is_in_band,
        "checks": [{"name": f.name, "ok": f.ok, "message": f.message} for f in entry.findings],
        "verification": entry.verification,
    }


def _pick(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names if name in row}


def _csv(lines: list[dict[str, Any]]) -> str:
    return tabular.to_csv([{name: _harmless(value) for name, value in line.items()} for line in lines])


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
