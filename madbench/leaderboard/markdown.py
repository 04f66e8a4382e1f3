"""The boards as markdown, between the markers of a README; and texts by others within markdown."""

import os
import pathlib
import re

from madbench.errors import UserError
from madbench.leaderboard import costs, score
from madbench.leaderboard.board import Board, Entry, Team

BEGIN, END = "<!-- madbench:leaderboard begin -->", "<!-- madbench:leaderboard end -->"
MISSING = "—"
ABOUT = (
    "A method is a strategy against collapse, or none: what the loops by themselves keep of quality and diversity. All "
    "are compared at equal cost: a generation of a method costs no more matrix products than one without, so that what "
    "it draws, trains or evaluates besides, it pays for in optimizer steps. (Exact fits have none to give up: there "
    "its page shows what it cost.)"
)
COPYING = "copies?"  # beside a method


def render(board: Board) -> str:
    """Both boards as tables; between markers, see `replaced`."""
    tasks = [task.name for task in board.tasks]
    confidence = f"{100 * score.CONFIDENCE:g} %"
    parts = [ABOUT, f"Resistance, in [0, 100]; {confidence} intervals over the seeds. A task not submitted counts 0."]
    rows = []
    for line in board.overall:
        team = line.of
        each = [interval_text(team.entries[name].resistance) if name in team.entries else MISSING for name in tasks]
        mark = "≈ " if line.is_near else ""
        rows.append(
            [
                f"{mark}{line.rank}",
                escaped(team.name),
                method_text(team),
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
    if any(line.of.is_copying for line in board.overall):
        parts.append(f"{COPYING} {costs.COPIED}")
    rows = [
        [
            task.name,
            str(line.rank),
            escaped(line.of.name),
            method_text(line.of),
            f"{line.of.per_hour:,.0f}",
            escaped(line.of.hardware),
            line.of.status,
        ]
        for task in board.tasks
        for line in board.speed(task)
    ]
    parts.append(
        "Speed, in loop-generations (run x generation) per hour, compilation included, as the submitter measured it; "
        "ranks within each task, of those whose first model is the task's. The status is that of the metrics."
    )
    parts.append(_table(["task", "", "name", "method", "per hour", "hardware", "status"], "lrllrll", rows))
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
        raise UserError(f"--readme={path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    begin, end = content.find(BEGIN), content.find(END)
    if content.count(BEGIN) != 1 or content.count(END) != 1 or begin > end:
        raise UserError(f"--readme={path} needs a line {BEGIN} and, below it, a line {END}, each once")
    return f"{content[: begin + len(BEGIN)]}\n{text}{content[end:]}"


def method_text(who: Entry | Team) -> str:
    """Its method, with a mark where its pool looks like copies of real samples."""
    return escaped(who.method) + f" ({COPYING})" * who.is_copying


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
