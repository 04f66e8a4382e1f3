"""Diversity of the generated features, read off eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np

from madbench.metrics.comparison import Comparison
from madbench.metrics.metric import Metric
from madbench.metrics.moments import merge_moments, second_moment


def _perplexity(weights: np.ndarray) -> float:
    """exp of the entropy of non-negative weights, normalized; 0 where all are 0."""
    weights = np.maximum(weights, 0)
    if not weights.sum() > 0:
        return 0.0
    p = weights / weights.sum()
    p = p[p > 0]
    return float(np.exp(-np.sum(p * np.log(p))))


class EffectiveRank(Metric):
    """exp of the entropy of the singular values of the centred generated features: how many directions they fill.

    Chunks are of generated samples.
    """

    name = "effective_rank"
    label = "effective rank"
    direction = "higher"
    kind = "positive"
    min_samples = 2
    cite = "Roy and Vetterli 2007, equation 2"
    note = "Effective rank: of the centred generated features; real samples' is the floor."

    def state(self, comparison: Comparison):
        return comparison.generated_moments

    def merge(self, a, b):
        return merge_moments(a, b)

    def compute(self, state) -> float:
        scatter = np.asarray(state.scatter, np.float64)
        value = np.linalg.eigvalsh(scatter)
        rounding = value.size * np.finfo(np.float64).eps * max(value[-1], 0)
        return _perplexity(np.sqrt(np.where(value > rounding, value, 0)))


class VendiScore(Metric):
    """exp of the entropy of the eigenvalues of K/n, K the cosines between generated samples.

    The effective number of different samples. K/n has the eigenvalues of the second moments of the normalized
    features, which is d x d whatever n. Chunks are of generated samples.
    """

    name = "vendi"
    label = "Vendi score"
    direction = "higher"
    kind = "positive"
    cite = "Friedman and Dieng 2023, arXiv 2210.02410, definition 3.1, with cosine similarity"
    note = "Vendi score: effective number of different generated samples, by cosine; real samples' is the floor."

    def state(self, comparison: Comparison) -> jax.Array:
        return second_moment(comparison.generated)

    def merge(self, a, b):
        return a + b

    def compute(self, state) -> float:
        return _perplexity(np.linalg.eigvalsh(np.asarray(state, np.float64)))


class Variance(Metric):
    """Total variance of the generated features over that of the reference's. Chunks are of generated samples."""

    name = "variance"
    label = "variance"
    direction = "higher"
    kind = "positive"
    min_samples = 2
    cite = "trace of the covariance, whose decay to 0 Shumailov et al. 2024 (Nature 631, 755) call model collapse"
    note = "Variance: total variance of the generated features, over that of the reference's."

    def state(self, comparison: Comparison):
        generated, reference = comparison.generated_moments, comparison.reference_moments
        total = lambda m: m._replace(scatter=jnp.diagonal(m.scatter))
        return total(generated), total(reference)

    def merge(self, a, b):
        return merge_moments(a[0], b[0]), a[1]

    def compute(self, state) -> float | None:
        generated, reference = (float(np.sum(m.scatter) / (m.count - 1)) for m in state)
        return generated / reference if reference > 0 else None
