"""The networks of a style-based GAN (Karras et al. 2019, 2020) on matrix products alone, for tiny images."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

_GAIN = 2**0.5  # keeps the variance through a leaky ReLU, as in StyleGAN


def leaky(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, 0.2) * _GAIN


class Mapping(nn.Module):
    """`z [n, latent], label [n] -> w [n, width]`: StyleGAN's mapping network, the label beside the normalized z.

    Attributes:
      num_classes: 0 for an unconditional model.
      width: of w and of the hidden layers.
      depth: layers.
    """

    num_classes: int
    width: int = 128
    depth: int = 2

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array) -> jax.Array:
        h = _normalized(z)
        if self.num_classes:
            embedding = nn.Dense(z.shape[1], use_bias=False)(jax.nn.one_hot(label, self.num_classes))
            h = jnp.concatenate([h, _normalized(embedding)], axis=-1)
        for _ in range(self.depth):
            h = leaky(nn.Dense(self.width)(h))
        return h


class ModulatedDense(nn.Module):
    """`x [n, in], w [n, width] -> [n, features]`: modulation and demodulation (StyleGAN2, section 2.2).

    The weights are scaled by the style on the side of the inputs and brought back to unit length for each output. Both
    commute with the product, so no weights are made per sample.

    Attributes:
      features: outputs.
      demodulate: False for the last layer, as in StyleGAN2's toRGB.
    """

    features: int
    demodulate: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        style = nn.Dense(x.shape[-1], bias_init=nn.initializers.ones)(w)
        kernel = self.param("kernel", nn.initializers.normal(1 / math.sqrt(x.shape[-1])), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        out = (x * style) @ kernel
        if self.demodulate:
            out = out * jax.lax.rsqrt(style**2 @ kernel**2 + 1e-8)
        return out + bias


class Synthesis(nn.Module):
    """`w [n, width], noise [n, noise_size] -> [n, *shape]`: a learned constant through modulated layers with noise.

    Attributes:
      shape: of one sample.
      hidden: width of the layers.
      depth: layers before the output.
    """

    shape: tuple[int, ...]
    hidden: int = 256
    depth: int = 3

    @property
    def noise_size(self) -> int:
        """One number per hidden unit and layer."""
        return self.depth * self.hidden

    @nn.compact
    def __call__(self, w: jax.Array, noise: jax.Array) -> jax.Array:
        noise = noise.reshape(-1, self.depth, self.hidden)
        constant = self.param("constant", nn.initializers.normal(1.0), (self.hidden,))
        h = jnp.broadcast_to(constant, (w.shape[0], self.hidden))
        for i in range(self.depth):
            strength = self.param(f"noise_{i}", nn.initializers.zeros, (self.hidden,))
            h = leaky(ModulatedDense(self.hidden)(h, w) + strength * noise[:, i])
        return ModulatedDense(math.prod(self.shape), demodulate=False)(h, w).reshape(-1, *self.shape)


class Discriminator(nn.Module):
    """`x [n, *shape], label [n] -> [n]`: a residual MLP.

    Without normalization layers, as the gradient penalties ask.

    Attributes:
      num_classes: 0 for an unconditional model.
      hidden: width.
      depth: residual blocks.
    """

    num_classes: int
    hidden: int = 256
    depth: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        h = nn.Dense(self.hidden)(x.reshape(x.shape[0], -1))
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        for _ in range(self.depth):
            u = leaky(nn.Dense(self.hidden)(leaky(h)))
            h = h + nn.Dense(self.hidden, kernel_init=small)(u)
        return judged(leaky(h), label, self.num_classes)


def judged(h: jax.Array, label: jax.Array, num_classes: int) -> jax.Array:
    """A discriminator's last layer, to be called within it: `h [n, features], label [n] -> [n]`.

    The label by projection (Miyato and Koyama 2018, equation 3).
    """
    out = nn.Dense(1)(h)[:, 0]
    if num_classes:
        direction = nn.Dense(h.shape[-1], use_bias=False)(jax.nn.one_hot(label, num_classes))
        out = out + jnp.sum(direction * h, axis=-1) / math.sqrt(h.shape[-1])
    return out


def _normalized(x: jax.Array) -> jax.Array:
    """To a mean square of 1 over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-8)
