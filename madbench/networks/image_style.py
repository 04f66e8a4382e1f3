"""The networks of a style-based GAN for images, with the usual up- and downsampling (Karras et al. 2020, section 4).

Convolutions, not patches: the plan therefore gives each run a device of its own (`fleet.make_plan`). As in `style`,
modulation and demodulation commute with the linear map, so that no weights are made per sample and a batch is one
ordinary convolution.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from madbench.networks.style import judged, leaky

_SMALLEST = 4  # pixels of the coarsest level


def levels(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Heights and widths from coarse to fine: halved while both are even and stay at 4 pixels or more."""
    sides = [(shape[0], shape[1])]
    while sides[0][0] % 2 == sides[0][1] % 2 == 0 and min(sides[0]) >= 2 * _SMALLEST:
        sides.insert(0, (sides[0][0] // 2, sides[0][1] // 2))
    return sides


def channels(width: int, widest: int, count: int) -> list[int]:
    """Channels of `count` levels from coarse to fine: `width` at the finest, twice as many at each coarser one."""
    return [min(width * 2 ** (count - 1 - i), widest) for i in range(count)]


def resize(x: jax.Array, side: tuple[int, int]) -> jax.Array:
    """`[n, h, w, c] -> [n, *side, c]`, bilinear; down with the low-pass filter that goes with it."""
    return jax.image.resize(x, (x.shape[0], *side, x.shape[3]), "linear")


class ModulatedConvolution(nn.Module):
    """`x [n, h, w, in], style input w [n, width] -> [n, h, w, features]` (StyleGAN2, section 2.2).

    Attributes:
      features: outputs.
      size: of the kernel.
      demodulate: False for toRGB.
      dtype: of the convolution; weights are float32.
    """

    features: int
    size: int = 3
    demodulate: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        inputs = x.shape[-1]
        style = nn.Dense(inputs, bias_init=nn.initializers.ones)(w)
        shape = (self.size, self.size, inputs, self.features)
        kernel = self.param("kernel", nn.initializers.normal(1 / math.sqrt(self.size**2 * inputs)), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        scaled = (x * style[:, None, None]).astype(self.dtype)
        layout = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(
            scaled, kernel.astype(self.dtype), (1, 1), "SAME", dimension_numbers=layout
        ).astype(jnp.float32)
        if self.demodulate:
            norm = jax.lax.rsqrt(style**2 @ jnp.sum(kernel**2, axis=(0, 1)) + 1e-8)
            out = out * norm[:, None, None]
        return out + bias


class _SynthesisLevel(nn.Module):
    """`h [n, *side, in], noise [n, layers, *side], w -> [n, *side, features]`."""

    features: int
    layers: int
    dtype: str

    @nn.compact
    def __call__(self, h: jax.Array, noise: jax.Array, w: jax.Array) -> jax.Array:
        for i in range(self.layers):
            strength = self.param(f"noise_{i}", nn.initializers.zeros, ())
            h = ModulatedConvolution(self.features, dtype=self.dtype)(h, w) + strength * noise[:, i, :, :, None]
            h = leaky(h)
        return h


class ImageSynthesis(nn.Module):
    """`w [n, width], noise [n, noise_size] -> [n, height, width, channels]`: from a learned constant, level by level.

    Each level doubles height and width, and adds its own image to the enlarged one of the level before (the skip
    generator of StyleGAN2, figure 7b).

    Attributes:
      shape: of one image.
      width, widest: channels of the finest level, doubled at each coarser one, and at most `widest`.
      depth: layers of a level; the first has one.
      dtype: of the convolutions; weights and images are float32.
      remat: recompute a level's activations in the backward pass, to save memory.
    """

    shape: tuple[int, ...]
    width: int = 32
    widest: int = 256
    depth: int = 2
    dtype: str = "float32"
    remat: bool = False

    @property
    def _layers(self) -> list[int]:
        return [1] + [self.depth] * (len(levels(self.shape)) - 1)

    @property
    def noise_size(self) -> int:
        """One number per pixel and layer."""
        return sum(h * w * n for (h, w), n in zip(levels(self.shape), self._layers, strict=True))

    @nn.compact
    def __call__(self, w: jax.Array, noise: jax.Array) -> jax.Array:
        n, sides = w.shape[0], levels(self.shape)
        features = channels(self.width, self.widest, len(sides))
        level = nn.remat(_SynthesisLevel) if self.remat else _SynthesisLevel
        constant = self.param("constant", nn.initializers.normal(1.0), (*sides[0], features[0]))
        h, image = jnp.broadcast_to(constant, (n, *constant.shape)), 0.0
        for i, (side, layers) in enumerate(zip(sides, self._layers, strict=True)):
            own, noise = jnp.split(noise, [math.prod(side) * layers], axis=1)
            h = level(features[i], layers, self.dtype, name=f"level_{i}")(
                h if i == 0 else resize(h, side), own.reshape(n, layers, *side), w
            )
            part = ModulatedConvolution(self.shape[-1], 1, False, self.dtype, name=f"image_{i}")(h, w)
            image = part if i == 0 else resize(image, side) + part
        return image


class _DiscriminatorLevel(nn.Module):
    """Residual blocks at one resolution, `[n, *side, c] -> [n, *side, c]`."""

    blocks: int
    dtype: str

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        features = h.shape[-1]
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        for _ in range(self.blocks):
            u = leaky(nn.Conv(features, (3, 3), dtype=self.dtype)(leaky(h)))
            h = h + nn.Conv(features, (3, 3), kernel_init=small, dtype=self.dtype)(u)
        return h


class ImageDiscriminator(nn.Module):
    """`x [n, height, width, channels], label [n] -> [n]`: residual levels from fine to coarse, then as for vectors.

    Without normalization layers, as the gradient penalties ask; the label by projection (Miyato and Koyama 2018).

    Attributes:
      num_classes: 0 for an unconditional model.
      width, widest, dtype, remat: as of `ImageSynthesis`.
      depth: residual blocks of a level.
    """

    num_classes: int
    width: int = 32
    widest: int = 256
    depth: int = 1
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        sides = levels(x.shape[1:])[::-1]
        features = channels(self.width, self.widest, len(sides))[::-1]
        level = nn.remat(_DiscriminatorLevel) if self.remat else _DiscriminatorLevel
        h = x
        for i, side in enumerate(sides):
            h = h if i == 0 else resize(h, side)
            h = nn.Conv(features[i], (1, 1), dtype=self.dtype)(h).astype(jnp.float32)
            h = level(self.depth, self.dtype, name=f"level_{i}")(h)
        h = leaky(nn.Dense(self.widest)(leaky(h.astype(jnp.float32)).reshape(x.shape[0], -1)))
        return judged(h, label, self.num_classes)
