"""Model families. One file per family, one line each in the registry."""

from typing import Any

from madbench.models.family import Family, Given, Group, Guide, State, sampled_weights, with_sampled_weights
from madbench.registry import Registry

# config.model.family -> module with `build(given, **settings) -> Family`.
FAMILIES = Registry(
    "model family",
    "config.model.family",
    "build",
    {
        "gaussian": "madbench.models.gaussian",
        "diffusion": "madbench.models.diffusion",
        "gan": "madbench.models.gan",
        "mixture": "madbench.models.mixture",
        "kde": "madbench.models.kde",
        "flow": "madbench.models.flow",
        "vae": "madbench.models.vae",
    },
)


def build(family: str, given: Given, **settings: Any) -> Family:
    """Makes a family by the name that configs use.

    Args:
      family: a name in `FAMILIES`.
      given: what the data and the plan say.
      **settings: the rest of `config.model`.

    Raises:
      UserError: unknown family, or settings that do not fit it; one line.
    """
    FAMILIES.check(family, settings)
    return FAMILIES.find(family)(given, **settings)


__all__ = [
    "FAMILIES",
    "Family",
    "Given",
    "Group",
    "Guide",
    "State",
    "build",
    "sampled_weights",
    "with_sampled_weights",
]
