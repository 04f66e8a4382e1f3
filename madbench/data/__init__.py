"""Where real samples come from. One file per source, one line each in the registry."""

import inspect
import sys
from collections.abc import Callable

from madbench.data.density import density_grid
from madbench.data.source import Source
from madbench.errors import UserError
from madbench.registry import Registry

DEFAULT_CACHE = "~/.cache/madbench"

# source name -> module with `load(**settings) -> Source`. The part after a colon ("folder:PATH") is passed as `path`.
SOURCES = Registry(
    "dataset",
    "config.data.source",
    "load",
    {
        "digits": "madbench.data.digits",
        "gaussian": "madbench.data.gaussian",
        "mixture": "madbench.data.mixture",
        "rosenbrock": "madbench.data.rosenbrock",
        "npz": "madbench.data.npz",
        "folder": "madbench.data.folder",
        "tfds": "madbench.data.tfds",
    },
)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def load(source: str, *, cache: str = DEFAULT_CACHE, say: Callable[[str], None] = _say, **settings) -> Source:
    """Opens a source by the name that configs use.

    Args:
      source: a name in `SOURCES`, or `NAME:PATH` for those that take one.
      cache: directory of prepared sets, for the sources that prepare one; may begin with "~".
      say: where they report what they prepare; standard error by default.
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
    machinery = {name: value for name, value in (("cache", cache), ("say", say)) if name in asked}
    return function(**settings, **machinery)


__all__ = ["DEFAULT_CACHE", "SOURCES", "Source", "density_grid", "load"]
