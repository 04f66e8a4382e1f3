"""Where real samples come from. One file per source, one line each in the registry."""

from madbench.data.density import density_grid
from madbench.data.source import Source
from madbench.errors import UserError
from madbench.registry import Registry

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
        "warped_digits": "madbench.data.warped_digits",
        "npz": "madbench.data.npz",
    },
)


def load(source: str, **settings) -> Source:
    """Opens a source by the name that configs use.

    Args:
      source: a name in `SOURCES`, or `NAME:PATH` for those that take one.
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
    return SOURCES.find(source)(**settings)


__all__ = ["SOURCES", "Source", "density_grid", "load"]
