"""The networks that model families train: linen modules, matrix products only.

Convolutions are left out on purpose: their gradients inside a scan or under vmap fall off XLA's fast paths, while
patches and matrix products keep a whole fleet of runs near the matmul rate of any backend.
"""

from madbench.networks.autoencoder import Decoder, Encoder
from madbench.networks.coupling import RealNVP
from madbench.networks.mlp import ResidualMLP
from madbench.networks.style import Discriminator, Mapping, Synthesis
from madbench.networks.transformer import DiffusionTransformer

__all__ = [
    "Decoder",
    "DiffusionTransformer",
    "Discriminator",
    "Encoder",
    "Mapping",
    "RealNVP",
    "ResidualMLP",
    "Synthesis",
]
