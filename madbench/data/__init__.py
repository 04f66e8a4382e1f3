"""Where real samples come from. One file per source, one line each in the registry."""

import importlib
from types import ModuleType

from madbench.data.source import Source

# source name -> module with `load(**settings) -> Source`. The part after a colon ("folder:PATH") is passed as `path`.
SOURCES = {
    "digits": "madbench.data.digits",
    "gaussian": "madbench.data.gaussian",
}


def load(source: str, **settings) -> Source:
    """Opens a source by the name that configs use.

    Args:
      source: `digits`, `gaussian`, or `NAME:PATH` for sources that take one.
      **settings: the rest of `config.data`.

    Raises:
      ValueError: unknown source, or settings that do not fit it; one line.
    """
    path = str(source).partition(":")[2]
    if path:
        settings["path"] = path
    load = module(source).load
    try:
        return load(**settings)
    except TypeError as error:
        raise ValueError(f"config.data does not fit the source {source!r}: {error}") from error


def module(source: str) -> ModuleType:
    """The file behind a source's name.

    Raises:
      ValueError: unknown source; one line.
    """
    name = str(source).partition(":")[0]
    if name not in SOURCES:
        raise ValueError(f"unknown dataset {source!r}; config.data.source is one of {', '.join(SOURCES)}")
    return importlib.import_module(SOURCES[name])


__all__ = ["SOURCES", "Source", "load"]
