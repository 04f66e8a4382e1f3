"""Where real samples come from. One file per source, one line each in the registry."""

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from madbench.data.density import density_grid
from madbench.data.source import Source
from madbench.errors import UserError
from madbench.registry import Registry

DEFAULT_CACHE = "~/.cache/madbench"


class _Sources(Registry):
    """The registry, which knows a path that stands where the name of a source should."""

    def find(self, name: Any) -> Callable[..., Any]:
        text = str(name or "")
        if text.partition(":")[0] not in self and (os.path.exists(os.path.expanduser(text)) or "/" in text):
            kind = "npz" if text.endswith(".npz") else "folder"
            raise UserError(
                f"{self.field}={text} is a path, and does not say of what; write --{self.field}={kind}:{text}"
            )
        return super().find(name)


# source name -> module with `load(**settings) -> Source`. The part after a colon ("folder:PATH") is passed as `path`.
SOURCES = _Sources(
    "dataset",
    "config.data.source",
    "load",
    {
        "digits": "madbench.data.digits",
        "gaussian": "madbench.data.gaussian",
        "mixture": "madbench.data.mixture",
        "rosenbrock": "madbench.data.rosenbrock",
        "warped_digits": "madbench.data.warped_digits",
        "npz": "madbench.data.npz",
        "folder": "madbench.data.folder",
        "tfds": "madbench.data.tfds",
    },
)


def carried(old: dict, new: dict) -> dict:
    """The settings of `new` that `old` has chosen where one source of image files replaces another: form and split."""
    kinds = [str(data["source"]).partition(":")[0] for data in (old, new)]
    if kinds[0] != kinds[1] and not set(kinds) <= {"folder", "tfds", "npz"}:
        return {}
    own = {"source", "path"} if kinds[0] == kinds[1] else {"source", "path", "count"}
    return {name: value for name, value in old.items() if name in new and name not in own}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def load(
    source: str, *, cache: str = DEFAULT_CACHE, say: Callable[[str], None] = _say, blank: bool = False, **settings
) -> Source:
    """Opens a source by the name that configs use.

    Args:
      source: a name in `SOURCES`, or `NAME:PATH` for those that take one.
      cache: directory of prepared sets, for the sources that prepare one; may begin with "~".
      say: where they report what they prepare; standard error by default.
      blank: of a set that is not prepared, make a source of its size and shape, to plan with, instead of preparing it.
      **settings: the rest of `config.data`.

    Raises:
      UserError: unknown source, or settings that do not fit it; one line.
    """
    path = str(source).partition(":")[2]
    if path:
        if settings.get("path") not in (None, "", path):
            raise UserError(f"config.data.source={source!r} and config.data.path={settings['path']!r} name two files")
        settings["path"] = path
    SOURCES.check(source, settings)
    function = SOURCES.find(source)
    asked = inspect.signature(function).parameters
    machinery = {"cache": cache, "say": say, "blank": blank}  # for those that take it
    machinery = {name: value for name, value in machinery.items() if name in asked}
    return function(**settings, **machinery)


def prepares(source: str) -> bool:
    """Whether the first `load` of this source makes a file in the cache, which may take long."""
    return "blank" in inspect.signature(SOURCES.find(source)).parameters


__all__ = ["DEFAULT_CACHE", "SOURCES", "Source", "carried", "density_grid", "load", "prepares"]
