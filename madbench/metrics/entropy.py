"""Differential entropy by nearest neighbours (Kozachenko and Leonenko 1987)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import digamma, gammaln

from madbench.metrics.comparison import Comparison, K
from madbench.metrics.metric import Metric

RESOLUTION = 2.0**-24  # of float32


class LogVolumes(NamedTuple):
    """Σ (ψ(n) + d log ε) over the samples, n of their chunk; their number; and the dimension d; float64."""

    total: jax.Array
    count: jax.Array
    dimension: jax.Array


class Entropy(Metric):
    """Entropy of the generated distribution, in nats: ψ(n) - ψ(k) + log V_d + (d/n) Σ log ε_i, k = 5.

    ε_i is the distance of sample i to its k-th other, V_d the volume of the unit ball. A collapsed set's entropy is
    -∞, and float32 cannot say so: distances count as at least its resolution at the reference's size (ours). Merged,
    the mean over chunks of generated samples, each an estimate of its own.
    """

    name = "entropy"
    label = "entropy"
    direction = "higher"
    kind = "number"
    min_samples = K + 1
    cite = "Kozachenko and Leonenko 1987; Kraskov et al. 2004, arXiv cond-mat/0305641, equation 20"
    note = "Entropy: of the generated features, in nats, by their 5th neighbours; real samples' is the floor."

    def state(self, comparison: Comparison) -> LogVolumes:
        reference = comparison.reference_moments
        size = jnp.trace(reference.scatter) / reference.count + jnp.sum(reference.mean**2)
        least = jnp.maximum(RESOLUTION**2 * size, jnp.finfo(jnp.float32).tiny)
        radii = comparison.generated_radii
        count, dimension = comparison.generated.shape
        total = count * digamma(count) + 0.5 * dimension * jnp.sum(jnp.log(jnp.maximum(radii, least)))
        return LogVolumes(total, jnp.asarray(count, jnp.float64), jnp.asarray(dimension, jnp.float64))

    def merge(self, a, b):
        return LogVolumes(a.total + b.total, a.count + b.count, a.dimension)

    def compute(self, state) -> float:
        total, n, d = (float(np.asarray(leaf)) for leaf in state)
        log_volume = 0.5 * d * np.log(np.pi) - gammaln(0.5 * d + 1)
        return float(total / n - digamma(K) + log_volume)
