"""The networks that model families train: linen modules.

Matrix products wherever quality allows (patches and reshapes): they keep a whole fleet of runs near the matmul rate of
any backend. Convolutions, which the image GAN needs, do not: the plan gives each of their runs a device of its own.
"""

from madbench.networks.autoencoder import Decoder, Encoder
from madbench.networks.coupling import RealNVP
from madbench.networks.image_style import ImageDiscriminator, ImageSynthesis
from madbench.networks.mlp import ResidualMLP
from madbench.networks.style import Discriminator, Mapping, Synthesis
from madbench.networks.transformer import DiffusionTransformer

__all__ = [
    "Decoder",
    "DiffusionTransformer",
    "Discriminator",
    "Encoder",
    "ImageDiscriminator",
    "ImageSynthesis",
    "Mapping",
    "RealNVP",
    "ResidualMLP",
    "Synthesis",
]
