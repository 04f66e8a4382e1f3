"""Encoder and decoder of a variational autoencoder on flattened samples: residual MLPs, the label beside the input."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Encoder(nn.Module):
    """`x [n, d], label [n] -> (mean [n, latent], log-variance [n, latent])` of q(z | x), the prior N(0, I) when new.

    Attributes:
      num_classes: 0 for an unconditional model.
      latent: length of z.
      width, depth: of the trunk.
    """

    num_classes: int
    latent: int
    width: int = 256
    depth: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = Trunk(self.width, self.depth)(_beside(x, label, self.num_classes))
        out = nn.Dense(2 * self.latent, kernel_init=nn.initializers.zeros)(h)
        mean, log_variance = jnp.split(out, 2, axis=1)
        return mean, log_variance


class Decoder(nn.Module):
    """`z [n, latent], label [n] -> [n, features]`: the mean of p(x | z).

    Attributes:
      num_classes: 0 for an unconditional model.
      features: numbers in a sample.
      width, depth: of the trunk.
    """

    num_classes: int
    features: int
    width: int = 256
    depth: int = 2

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array) -> jax.Array:
        return nn.Dense(self.features)(Trunk(self.width, self.depth)(_beside(z, label, self.num_classes)))


class Trunk(nn.Module):
    """`[n, in] -> [n, width]`: pre-activation residual blocks (He et al. 2016) of two matrix products.

    With a depth of 0 it is linear.
    """

    width: int
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.Dense(self.width)(x)
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        for _ in range(self.depth):
            u = nn.silu(nn.Dense(self.width)(nn.silu(h)))
            h = h + nn.Dense(self.width, kernel_init=small)(u)
        return h


def _beside(x: jax.Array, label: jax.Array, num_classes: int) -> jax.Array:
    return jnp.concatenate([x, jax.nn.one_hot(label, num_classes)], axis=1) if num_classes else x
