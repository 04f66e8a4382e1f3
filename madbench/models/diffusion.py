"""Class-conditional diffusion with guidance as the sampling bias λ: EDM, or the DDPM of the paper."""

import dataclasses

from madbench.errors import UserError
from madbench.models.ddpm import Ddpm
from madbench.models.edm import Edm
from madbench.models.family import Given, check_precision, check_whole
from madbench.networks import DiffusionTransformer, ResidualMLP

PARAMETERIZATIONS = {"edm": Edm, "ddpm": Ddpm}


def build(
    given: Given,
    *,
    parameterization: str = "edm",
    network: str = "mlp",
    width: int = 256,
    depth: int = 2,
    heads: int = 4,
    patch: int = 2,
    dtype: str = "float32",
    remat: bool = False,
    **settings,
) -> Edm | Ddpm:
    """Settings of `config.model`.

    Args:
      given: what the data and the plan say.
      parameterization: `edm` or `ddpm`.
      network: `mlp` or `transformer`.
      width, depth: of either network.
      heads, patch, dtype, remat: of the transformer; matrix products are in `dtype`, weights and state in float32.
      **settings: fields of `Edm` and of `Ddpm`; each has its own, and leaves the other's alone.
    """
    if parameterization not in PARAMETERIZATIONS:
        known = ", ".join(PARAMETERIZATIONS)
        raise UserError(f"config.model.parameterization must be one of {known}, not {parameterization!r}")
    kind = PARAMETERIZATIONS[parameterization]
    own = {field.name for field in dataclasses.fields(kind)}
    net = _network(given, network, width, depth, heads, patch, dtype, remat)
    return kind(given=given, net=net, **{name: value for name, value in settings.items() if name in own})


def _network(given, network, width, depth, heads, patch, dtype, remat):
    check_whole(1, width=width, depth=depth, heads=heads, patch=patch)
    check_precision(dtype, remat)
    shape, num_classes = given.shape, given.num_classes
    if network == "mlp":
        return ResidualMLP(num_classes + 1, width, depth)
    if network != "transformer":
        raise UserError(f"unknown network {network!r}; config.model.network is mlp or transformer")
    if len(shape) != 3:
        raise UserError(f"config.model.network='transformer' needs images, not samples of shape {shape}")
    if shape[0] % patch or shape[1] % patch:
        raise UserError(f"config.model.patch={patch} must divide the image's {shape[0]}x{shape[1]}")
    if width % heads:
        raise UserError(f"config.model.heads={heads} must divide config.model.width={width}")
    return DiffusionTransformer(num_classes + 1, width, depth, heads, patch, dtype, remat)
