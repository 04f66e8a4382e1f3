"""RealNVP (Dinh et al. 2017, arXiv 1605.08803): an invertible network of affine couplings, on matrix products alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# A coupling scales by e^-2 to e^2 at most, so that no batch blows up the likelihood; several in turn go further.
LOG_SCALE_LIMIT = 2.0


class RealNVP(nn.Module):
    """`x [n, dimension], label [n] -> (z [n, dimension], log |det dz/dx| [n])`, the identity when new.

    Before each coupling, a learned scale and shift per dimension (Glow's actnorm, Kingma and Dhariwal 2018, arXiv
    1807.03039, section 3.1; here it starts at the identity instead of the first batch's moments).

    Attributes:
      dimension: of a sample, at least 2.
      num_classes: 0 for an unconditional flow; otherwise the label enters each conditioner as one-hot.
      couplings: affine couplings.
      width: of the conditioners' hidden layers.
      depth: hidden layers of each conditioner.
    """

    dimension: int
    num_classes: int = 0
    couplings: int = 8
    width: int = 64
    depth: int = 2

    def setup(self):
        zeros = nn.initializers.zeros
        each = range(self.couplings)
        self.log_scale = [self.param(f"log_scale_{i}", zeros, (self.dimension,)) for i in each]
        self.shift = [self.param(f"shift_{i}", zeros, (self.dimension,)) for i in each]
        self.conditioners = [Conditioner(2 * self.dimension, self.width, self.depth) for _ in each]

    def __call__(self, x: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = jnp.zeros(x.shape[0])
        for i in range(self.couplings):
            x = x * jnp.exp(self.log_scale[i]) + self.shift[i]
            log_scale, shift = self._couple(i, x, label)
            x = x * jnp.exp(log_scale) + shift
            total = total + self.log_scale[i].sum() + log_scale.sum(axis=1)
        return x, total

    def inverse(self, z: jax.Array, label: jax.Array) -> jax.Array:
        """`z [n, dimension], label [n] -> x [n, dimension]`."""
        for i in reversed(range(self.couplings)):
            log_scale, shift = self._couple(i, z, label)  # depends on what the coupling keeps
            z = (z - shift) * jnp.exp(-log_scale)
            z = (z - self.shift[i]) * jnp.exp(-self.log_scale[i])
        return z

    def _couple(self, i: int, x: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Log-scale and shift `[n, dimension]` of coupling `i`; 0 for the dimensions that it keeps (equation 9)."""
        kept = kept_by(i, self.dimension)
        inputs = kept * x
        if self.num_classes:
            inputs = jnp.concatenate([inputs, jax.nn.one_hot(label, self.num_classes)], axis=1)
        raw, shift = jnp.split(self.conditioners[i](inputs), 2, axis=1)
        return (1 - kept) * LOG_SCALE_LIMIT * jnp.tanh(raw / LOG_SCALE_LIMIT), (1 - kept) * shift


class Conditioner(nn.Module):
    """`[n, in] -> [n, features]`: a plain MLP whose last layer starts at 0."""

    features: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.depth):
            x = nn.silu(nn.Dense(self.width)(x))
        return nn.Dense(self.features, kernel_init=nn.initializers.zeros)(x)


def kept_by(coupling: int, dimension: int) -> np.ndarray:
    """1.0 for the half of the dimensions that a coupling leaves alone, else 0.0; float32 `[dimension]`.

    Couplings 2k and 2k+1 keep the two halves of one permutation, so that each pair moves every dimension. In more than
    two dimensions each pair has a permutation of its own, which is fixed by k.
    """
    order = np.arange(dimension) if dimension == 2 else np.random.default_rng(coupling // 2).permutation(dimension)
    kept = np.zeros(dimension, np.float32)
    kept[order[: dimension // 2]] = 1
    return 1 - kept if coupling % 2 else kept
