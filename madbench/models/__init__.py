"""Model families. One file per family, one line each in the registry."""

import importlib
from types import ModuleType
from typing import Any

from madbench.models.family import Family, Group, State

# config.model.family -> module with `build(shape, num_classes, group, **settings) -> Family`.
FAMILIES = {
    "gaussian": "madbench.models.gaussian",
    "diffusion": "madbench.models.diffusion",
}


def build(
    family: str,
    *,
    shape: tuple[int, ...],
    num_classes: int,
    bounds: tuple[float, float] | None = None,
    group: Group | None = None,
    **settings: Any,
) -> Family:
    """Makes a family by the name that configs use.

    Args:
      family: `gaussian` or `diffusion`.
      shape: of one sample.
      num_classes: 0 for an unconditional model.
      bounds: least and greatest value that the data can have; None where there are none.
      group: the devices that share one run; None where a run has a device to itself.
      **settings: the rest of `config.model`.

    Raises:
      ValueError: unknown family, or settings that do not fit it; one line.
    """
    build = module(family).build
    try:
        return build(shape=shape, num_classes=num_classes, bounds=bounds, group=group or Group(), **settings)
    except TypeError as error:
        raise ValueError(f"config.model does not fit the family {family!r}: {error}") from error


def module(family: str) -> ModuleType:
    """The file behind a family's name.

    Raises:
      ValueError: unknown family; one line.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown model family {family!r}; config.model.family is one of {', '.join(FAMILIES)}")
    return importlib.import_module(FAMILIES[family])


__all__ = ["FAMILIES", "Family", "Group", "State", "build"]
