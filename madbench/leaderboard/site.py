"""The leaderboard as a static site: an index, a page for each task, a page for each submission, CSV and JSON.

Pages link to each other by relative paths, so that the site opens from disk and below any address. What submissions say
of themselves is text wherever it stands: templates escape it, and pages load and run nothing but what they hold.
"""

import os
import pathlib
import tempfile
from typing import Any

from madbench import results
from madbench.errors import UserError
from madbench.leaderboard import formats, markdown, sheets
from madbench.leaderboard.board import Board
from madbench.report import html

TEMPLATES = pathlib.Path(__file__).parent / "templates"
MADE = ".madbench-site"  # names the files that this command wrote, and may replace


def pages(board: Board) -> dict[str, str]:
    """The site: path -> text."""
    found = {
        "leaderboard.json": formats.to_json(board),
        "leaderboard.csv": formats.to_csv(board),
        "curves.json": formats.curves_json(board),
        "curves.csv": formats.curves_csv(board),
        "index.html": _render("index.html", "", board, **sheets.index(board)),
    }
    for task in board.tasks:
        found[f"tasks/{task.name}.html"] = _render("task.html", "../", board, **sheets.task(board, task))
    for entry in board.entries:
        page = _render("submission.html", "../", board, **sheets.submission(board, entry))
        found[f"submissions/{entry.slug}.html"] = page
    return found


def _render(template: str, root: str, board: Board, **context: Any) -> str:
    return html.render(template, [TEMPLATES], root=root, board=board, **context)


def write(found: dict[str, str], out: str | os.PathLike) -> None:
    """Writes the site whole, or not at all: it is made beside `out` and takes its place.

    Raises:
      UserError: `out` holds anything that this command did not write; one line.
    """
    out = pathlib.Path(out)
    check(out)
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as beside:
        new, old = pathlib.Path(beside) / "new", pathlib.Path(beside) / "old"
        for name, text in {**found, MADE: "".join(f"{name}\n" for name in sorted(found))}.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if out.exists():
            os.replace(out, old)
        try:
            os.replace(new, out)
        except OSError:
            if old.exists():
                os.replace(old, out)
            raise


def check(out: str | os.PathLike) -> None:
    """Refuses a place that holds what is not of this command; writes nothing.

    Raises:
      UserError: one line.
    """
    out = pathlib.Path(out)
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"--out={out} is there, and is no folder; name another")
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        made = {*(out / MADE).read_text(encoding="utf-8").splitlines(), MADE}
    except (OSError, ValueError):
        raise UserError(f"--out={out} holds other files; name an empty or a new folder") from None
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_symlink() or not path.is_dir()}
    if there - made:
        raise UserError(f"--out={out} holds {min(there - made)!r}, which no site has; move it, or name another folder")


def build(folder: str, out: str, readme: str = "", say=lambda text: None) -> Board:
    """`madbench leaderboard`: from a folder of submissions, the site and the table of a README; all, or an error.

    Args:
      folder: of submissions.
      out: where the site goes.
      readme: a file with the markers of `markdown`; "" for none.
      say: gets a line about each submission.

    Raises:
      UserError: one line; nothing is written then.
    """
    from madbench.leaderboard import board as boards

    check(out)
    if readme:
        markdown.replaced(readme, "")
    board = boards.load(folder, say)
    text = markdown.replaced(readme, markdown.render(board)) if readme else ""
    write(pages(board), out)
    if readme:
        results.write_text(pathlib.Path(readme), text)
    return board
