"""How noise level and class label enter a network."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def fourier(noise: jax.Array, n_frequencies: int, max_frequency: float = 8.0) -> jax.Array:
    """Sines and cosines of a scalar (positional embedding of Vaswani et al. 2017, as in score-based models).

    Args:
      noise: float32 `[n]`, of order 1 (EDM's c_noise = ln(σ)/4).
      n_frequencies: pairs of sine and cosine, at geometrically spaced frequencies from 1/2 to `max_frequency`.

    Returns:
      float32 `[n, 2 * n_frequencies]`.
    """
    frequencies = jnp.geomspace(0.5, max_frequency, n_frequencies)
    angle = 2 * jnp.pi * noise[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class Condition(nn.Module):
    """One vector per sample from noise level and label, `[n] , [n] -> [n, features]`."""

    features: int
    num_labels: int
    n_frequencies: int = 16

    @nn.compact
    def __call__(self, noise: jax.Array, label: jax.Array) -> jax.Array:
        one_hot = jax.nn.one_hot(label, self.num_labels)
        # sqrt(num_labels) gives the label the same variance as the Fourier features, as in EDM's class embedding.
        inputs = jnp.concatenate([fourier(noise, self.n_frequencies), one_hot * self.num_labels**0.5], axis=-1)
        return nn.silu(nn.Dense(self.features)(inputs))
