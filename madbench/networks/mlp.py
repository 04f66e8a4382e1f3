"""A residual MLP denoiser for tiny images and for plain vectors."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from madbench.networks.embedding import Condition


class ResidualMLP(nn.Module):
    """`x [n, *shape], noise [n], label [n] -> [n, *shape]`.

    Pre-activation residual blocks (He et al. 2016) of two matrix products; noise level and label scale and shift the
    hidden layer of each (FiLM, Perez et al. 2018). A gain per pixel and noise level joins input and output directly: it
    is the exact denoiser of independent Gaussian pixels, and what it solves the hidden layers need not.

    Attributes:
      num_labels: classes and one more for "no label".
      width: of the residual stream and of the hidden layers.
      depth: residual blocks.
    """

    num_labels: int
    width: int = 256
    depth: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, noise: jax.Array, label: jax.Array) -> jax.Array:
        shape = x.shape[1:]
        condition = Condition(64, self.num_labels)(noise, label)
        h = nn.Dense(self.width)(x.reshape(x.shape[0], -1))
        for _ in range(self.depth):
            scale, shift = jnp.split(nn.Dense(2 * self.width)(condition), 2, axis=-1)
            u = nn.Dense(self.width)(nn.silu(h))
            u = nn.silu(u * (1 + scale) + shift)
            h = h + nn.Dense(self.width, kernel_init=nn.initializers.variance_scaling(0.1, "fan_in", "normal"))(u)
        d = math.prod(shape)
        out = nn.Dense(d, kernel_init=nn.initializers.zeros)(nn.silu(h))
        gain = nn.Dense(d, kernel_init=nn.initializers.zeros)(condition)
        return (out + gain * x.reshape(x.shape[0], d)).reshape(x.shape)
