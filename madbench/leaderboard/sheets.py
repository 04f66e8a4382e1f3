"""What the pages of the site show, as sheets and facts; the templates say where."""

import json
import re
from collections.abc import Iterable
from typing import Any

from madbench import __version__
from madbench.leaderboard import costs, markdown, score, tasks
from madbench.leaderboard.board import INVALIDATED, RE_RUN, RE_RUN_OTHER, SELF_REPORTED, Board, Entry, Line, Team
from madbench.leaderboard.files import one_line
from madbench.leaderboard.tasks import Task
from madbench.report import charts, words
from madbench.report.html import Cell, Column, Sheet, number_cell, text_cell
from madbench.results import bias_text

MARKS = {SELF_REPORTED: "plain", RE_RUN_OTHER: "plain", RE_RUN: "good", INVALIDATED: "bad"}
_EXACT = "FLOPs of a generation without a method (fits are exact, so that a method's may cost more)"
TITLES = dict(zip(score.METRICS, ("FD", "precision", "recall"), strict=True))


def index(board: Board) -> dict[str, Any]:
    """Of index.html."""
    columns = [Column("Rank"), Column("Name"), Column("Method"), Column("Overall", True, True)]
    columns += [Column(task.name, True, True) for task in board.tasks] + [Column("Status")]
    overall = [_team(board, line) for line in board.overall]
    return {
        "resistance": Sheet("Resistance over all tasks", columns, overall),
        "speed": _speed(board, board.tasks, ""),
        "tasks": [(task, len(board.resistance(task))) for task in board.tasks],
        "invalidated": _invalidated(board.invalidated, ""),
        "near": any(line.is_near for line in board.overall),
        "confidence": percent(score.CONFIDENCE),
        "about": markdown.ABOUT,
        "copied": _copied(line.of for line in board.overall),
        "example": board.tasks[0].name if board.tasks else tasks.names()[0],
        "version": __version__,
    }


def task(board: Board, task: Task) -> dict[str, Any]:
    """Of the page of a task."""
    lines = board.resistance(task)
    columns = [Column("Rank"), Column("Name"), Column("Method"), Column("Resistance", True, True)]
    columns += [Column("Cost", True, detail="without a method: 1"), Column("Status")]
    last = task.config["generations"]
    columns += [Column(name, True, name != "FD", f"t = {last}") for name in TITLES.values()]
    rows, by_cell = [], []
    for line in lines:
        summary = line.of.summary
        cells = [number_cell(cell["score"], "{:.1f}", detail=_range(cell)) for cell in summary["cells"]]
        lasts = _lasts(summary)
        row = [_rank(line), _name(line.of, "../"), _method(line.of), _resistance(line.of.resistance)]
        rows.append([*row, number_cell(line.of.cost.ratio, "{:.2f}"), _status(line.of), *lasts])
        by_cell.append([_rank(line), _name(line.of, "../"), *cells])
    gone = [entry for entry in board.invalidated if entry.task and entry.task.id == task.id]
    return {
        "task": task,
        "resistance": Sheet(f"Resistance on {task.id}", columns, rows),
        "by_cell": Sheet(
            f"Resistance on {task.id} by loop and λ",
            [Column("Rank"), Column("Name"), *map(_cell_column, task.cells)],
            by_cell,
        ),
        "near": any(line.is_near for line in lines),
        "copied": _copied(line.of for line in lines),
        "speed": _speed(board, [task], "../"),
        "invalidated": _invalidated(gone, "../"),
        "facts": [
            ("Version", str(task.version)),
            ("Generations", str(last)),
            ("Seeds", ", ".join(map(str, task.config["seeds"]))),
            ("Model", task.config["model"]["family"]),
            ("Features", task.evaluator["features"]),
            ("Samples behind each metric", f"{task.evaluator['n_samples']:,}"),
            *_budget(task),
            ("sha256 of the config", task.sha256),
        ],
        "cells": _definition(task),
        "floors": _floors(task),
        "config": json.dumps(task.config, indent=1, ensure_ascii=False),
        "confidence": percent(tasks.CONFIDENCE),
        "interval": percent(score.CONFIDENCE),
    }


def submission(board: Board, entry: Entry) -> dict[str, Any]:
    """Of the page of a submission."""
    silent = [finding.name for finding in entry.findings if finding.ok and not finding.message]
    checked = [
        [
            text_cell(finding.name),
            Cell("passed" if finding.ok else "failed", mark="good" if finding.ok else "bad"),
            text_cell(finding.message),
        ]
        for finding in entry.findings
        if finding.name not in silent
    ]
    linked = entry.task and any(entry.task.id == task.id for task in board.tasks)
    counts = entry.summary is not None
    return {
        "entry": entry,
        "task_page": f"../tasks/{entry.task.name}.html" if linked else "",
        "mark": MARKS[entry.status],
        "is_invalidated": entry.status == INVALIDATED,
        "url": entry.url if re.match(r"https?://[^/\s]", entry.url) else "",
        "rank": next((line for line in board.resistance(entry.task) if line.of is entry), None) if counts else None,
        "resistance": markdown.interval_text(entry.resistance) if counts else "",
        "scores": _scores(entry) if counts else None,
        "method": _method_facts(entry) if counts and entry.submission.has_strategy else [],
        "copied": _copied([entry]),
        "speed": _speed_facts(entry) if counts else [],
        "charts": charts.charts(entry.submission.result) if counts else None,
        "geometry": charts,
        "environment": _environment(entry) if counts else [],
        "silent": silent,
        "checks": Sheet("Checks", [Column("Check"), Column("Result"), Column("What it found")], checked),
    }


def _team(board: Board, line: Line[Team]) -> list[Cell]:
    team = line.of
    each = []
    for task in board.tasks:
        entry = team.entries.get(task.name)
        if entry is None:
            each.append(Cell("not submitted", 0, mark="missing"))
        else:
            page = f"submissions/{entry.slug}.html"
            score_text, detail = f"{entry.resistance['score']:.1f}", _range(entry.resistance)
            each.append(Cell(score_text, entry.resistance["score"], page, detail=detail))
    status = _status(team)
    return [_rank(line), text_cell(team.name), _method(team), _resistance(team.resistance), *each, status]


def _speed(board: Board, those: list[Task], root: str) -> Sheet:
    columns = [Column("Task"), Column("Rank"), Column("Name"), Column("Method")]
    columns += [Column("Per hour", True, True), Column("Without compilation", True, True), Column("Hardware")]
    columns += [Column("Status")]
    rows = []
    for each in those:
        for line in board.speed(each):
            speed, device = line.of.summary["speed"], line.of.submission.result.environment["device"]
            found = f"madbench saw {device['count']} x {device['kind']}"
            rows.append(
                [
                    Cell(each.name, each.name, f"{root}tasks/{each.name}.html"),
                    Cell(str(line.rank), line.rank),
                    _name(line.of, root),
                    _method(line.of),
                    number_cell(speed["per_hour"], "{:,.0f}"),
                    number_cell(speed["per_hour_compiled"], "{:,.0f}"),
                    Cell(line.of.hardware, line.of.hardware.casefold(), detail=found),
                    _status(line.of),
                ]
            )
    if root:  # the page of one task
        columns, rows = columns[1:], [row[1:] for row in rows]
    return Sheet("Loop-generations per hour", columns, rows)


def _invalidated(entries: list[Entry], root: str) -> Sheet:
    columns = [Column("Name"), Column("Task"), Column("Why")]
    rows = [
        [_name(entry, root), text_cell(entry.task.id if entry.task else "—"), text_cell(entry.reason)]
        for entry in entries
    ]
    return Sheet("Invalidated submissions", columns, rows)


def _definition(task: Task) -> Sheet:
    """Loops, λ, training sets, and the band of generation 1."""
    n = len(task.config["seeds"])
    columns = [Column("Loop"), Column("λ", True), Column("Real + synthetic, t = 1 → T")]
    columns += [Column(f"{name} of generation 1", True) for name in TITLES.values()]
    rows = []
    for cell in task.cells:
        bands = task.bands[cell["loop"], cell["bias"]]
        first, last = cell["composition"][0], cell["composition"][-1]
        sizes = f"{first[0]:,} + {first[1]:,} → {last[0]:,} + {last[1]:,}"
        ends = {name: bands[name].interval(n) for name in TITLES}
        found = [
            number_cell(bands[name].centre, "{:.3g}", detail=f"{ends[name][0]:.3g} to {ends[name][1]:.3g}")
            for name in TITLES
        ]
        loop = Cell(_loop(cell["loop"]), cell["loop"])
        rows.append([loop, number_cell(cell["bias"], "{:g}"), text_cell(sizes), *found])
    return Sheet("Cells, training sets and the reference band", columns, rows)


def _floors(task: Task) -> list[tuple[str, str]]:
    found = task.evaluator["floors"]
    return [
        (title, f"{found[name]['mean']:.3g} (5 % to 95 %: {found[name]['p5']:.3g} to {found[name]['p95']:.3g})")
        for name, title in TITLES.items()
    ]


def _scores(entry: Entry) -> Sheet:
    last = entry.task.config["generations"]
    columns = [Column("Loop"), Column("λ", True), Column("Score", True, True)]
    columns += [Column(f"{name} kept", True, True) for name in TITLES.values()]
    columns += [Column(name, True, name != "FD", f"t = {last}") for name in TITLES.values()]
    columns += [Column("Rows", True, True)]
    rows = []
    for cell in entry.summary["cells"]:
        kept = [number_cell(100 * cell["retention"][name], "{:.1f} %") for name in TITLES]
        lasts = _lasts(cell)
        done = Cell(f"{cell['finished']} / {cell['planned']}", cell["finished"])
        where = [Cell(_loop(cell["loop"]), cell["loop"]), number_cell(cell["bias"], "{:g}")]
        rows.append([*where, number_cell(cell["score"], "{:.1f}", detail=_range(cell)), *kept, *lasts, done])
    return Sheet("Scores by loop and sampling bias", columns, rows)


def _lasts(found: dict[str, Any]) -> list[Cell]:
    fd = found["last"]["fd"]
    text = "" if fd is None else f"{fd:#.3g}".rstrip(".")  # three digits, "425" and not "425."
    shares = [number_cell(found["last"][name], "{:.3f}") for name in TITLES if name != "fd"]
    return [number_cell(fd, text), *shares]


def _speed_facts(entry: Entry) -> list[tuple[str, str]]:
    speed = entry.summary["speed"]
    return [
        ("Loop-generations per hour", f"{speed['per_hour']:,.0f}"),
        ("Without compilation", f"{speed['per_hour_compiled']:,.0f}"),
        ("Seconds in all", f"{speed['seconds']:,.1f}, {speed['compile_seconds']:,.1f} of them compilation"),
    ]


def _method_facts(entry: Entry) -> list[tuple[str, str]]:
    told = entry.submission.result.reference["strategy"]
    return [(name[:1].upper() + name[1:], text) for name, text in costs.facts(entry.cost, told) if text != costs.COPIED]


def _budget(task: Task) -> list[tuple[str, str]]:
    """What a generation costs without a method, where it has been measured."""
    if not task.budget:
        return []
    steps, flops = task.budget["steps"], task.budget["flops"]
    each = "; ".join(f"{_loop(loop)}: {count:.4g}" for loop, count in flops.items())
    return [
        ("FLOPs of a generation without a method, which none may exceed" if steps else _EXACT, each),
        *([("Optimizer steps of a fit, at most", f"{steps:,}")] if steps else []),
    ]


def _environment(entry: Entry) -> list[tuple[str, str]]:
    found = entry.submission.result.environment
    device = found["device"]
    facts = [
        ("Devices", f"{device['count']} x {device['kind']} ({device['platform']})"),
        ("Processor", str(found["processor"])),
        ("Platform", str(found["platform"])),
        ("Source code", str(found["source_sha256"])[:16]),
    ]
    return facts + [(str(name), str(version)) for name, version in found["versions"].items()]


def percent(share: float) -> str:
    """ "99.9 %", on one line."""
    return f"{100 * share:g}\N{NO-BREAK SPACE}%"


def _rank(line: Line) -> Cell:
    return Cell(str(line.rank), line.rank, detail="≈ first" if line.is_near else "")


def _name(entry: Entry, root: str) -> Cell:
    return Cell(entry.name, entry.name.casefold(), f"{root}submissions/{entry.slug}.html")


def _method(who: Entry | Team) -> Cell:
    """With its settings, of one submission; marked where its pool looks like copies of real samples."""
    settings = one_line(who.strategy.removeprefix(who.method), 60) if isinstance(who, Entry) else ""
    badges = [(markdown.COPYING, "warn")] * who.is_copying
    return Cell(who.method, who.method.casefold(), detail=settings, badges=badges)


def _copied(those: Iterable[Entry | Team]) -> str:
    """What the mark says, where any has it."""
    return costs.COPIED if any(each.is_copying for each in those) else ""


def _status(who: Entry | Team) -> Cell:
    return Cell(who.status, who.status, mark=MARKS[who.status], detail=who.evidence)


def _resistance(found: dict[str, float]) -> Cell:
    return number_cell(found["score"], "{:.1f}", detail=_range(found))


def _range(found: dict[str, float]) -> str:
    return f"{found['low']:.1f} to {found['high']:.1f}"


def _cell_column(cell: dict[str, Any]) -> Column:
    """ "fresh data" without the loop's settings, and λ below it."""
    return Column(cell["loop"].partition("(")[0].replace("_", " "), True, True, f"λ = {bias_text(cell['bias'])}")


def _loop(name: str) -> str:
    """ "fresh data (n_fresh = 80, n_synthetic = 320)"."""
    title, settings = words.loop_parts(name)
    title = title.replace("_", " ")
    return f"{title} {settings.replace('=', ' = ')}" if settings else title
