"""What every page has in common, of a report and of the leaderboard's site: templates, escaping, tables that sort.

A page is one file: style and script are within it, and its Content-Security-Policy names their hashes and nothing else,
so that it can neither load anything nor run what a name in some result tries to smuggle in. Hence templates have no
`style="…"` and no `onclick="…"`.
"""

import base64
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2
import markupsafe

from madbench import REPOSITORY, __version__

FOLDER = pathlib.Path(__file__).parent / "templates"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a sheet.

    Attributes:
      text: what is shown; escaped by the template.
      key: what the cell is sorted by; None where there is no value, which is last in either direction.
      href: where the text leads; "" for nowhere. Only ever made by the program: `https:`, or a relative path.
      mark: "", or how it is marked: "good", "bad", "warn" or "plain" (a badge), or "missing" (pale).
      detail: a second, smaller line; may be "".
      badges: (text, mark) of several badges after the text.
    """

    text: str
    key: float | str | None = None
    href: str = ""
    mark: str = ""
    detail: str = ""
    badges: Sequence[tuple[str, str]] = ()


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: numbers stand on the right, sorting begins with the largest where `falling`, `detail` is a second line
    of its header."""

    title: str
    is_number: bool = False
    falling: bool = False
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table for the macro `sheet` of macros.html; `caption` is what a screen reader calls it, never empty."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def text_cell(text: str, *, mark: str = "") -> Cell:
    """A cell that is sorted as text, without regard to case."""
    return Cell(text, text.casefold(), mark=mark)


def number_cell(value: float | None, style: str, *, missing: str = "—", mark: str = "", detail: str = "") -> Cell:
    """A number as `style.format(value)`; `missing` where there is none."""
    if value is None:
        return Cell(missing, mark="missing")
    return Cell(style.format(value), value, mark=mark, detail=detail)


def render(template: str, folders: Sequence[pathlib.Path] = (), **context: Any) -> str:
    """A page from a template that extends base.html; ends in a newline.

    Args:
      template: its file name.
      folders: where templates are looked for before the shared ones.
      **context: what it shows; texts are escaped, whatever they hold.
    """
    return _environment(tuple(folders)).get_template(template).render(**context).rstrip() + "\n"


@functools.cache
def _environment(folders: tuple[pathlib.Path, ...]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, FOLDER]),
        autoescape=True,  # of every template, whatever its name ends in
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    policy = ("default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'")
    hashes = f"style-src {_source(style)}", f"script-src {_source(script)}"
    environment.globals |= {
        # Markup: ours, and inside <style> and <script> nothing is escaped
        "style": markupsafe.Markup(style),
        "script": markupsafe.Markup(script),
        "policy": "; ".join((*policy, *hashes)),
        "benchmark": __version__,
        "repository": REPOSITORY,
    }
    return environment


def _source(text: str) -> str:
    """A hash as Content-Security-Policy writes it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
