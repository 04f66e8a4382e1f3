"""Model families. One file per family, one line each in the registry."""

from typing import Any

from madbench.models.family import Family, Group, State
from madbench.registry import Registry

# config.model.family -> module with `build(shape, num_classes, bounds, group, **settings) -> Family`.
FAMILIES = Registry(
    "model family",
    "config.model.family",
    "build",
    {
        "gaussian": "madbench.models.gaussian",
        "diffusion": "madbench.models.diffusion",
    },
)


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
      UserError: unknown family, or settings that do not fit it; one line.
    """
    FAMILIES.check(family, settings)
    make = FAMILIES.find(family)
    return make(shape=shape, num_classes=num_classes, bounds=bounds, group=group or Group(), **settings)


__all__ = ["FAMILIES", "Family", "Group", "State", "build"]
