"""The sliced Wasserstein distance: optimal transport along many lines, where it is a matter of sorting."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from madbench.metrics.comparison import Comparison
from madbench.metrics.metric import Metric

DIRECTIONS = 128


class Projections(NamedTuple):
    """Positions along each direction, float32 `[direction, n]` and `[direction, m]`."""

    generated: jax.Array
    reference: jax.Array


def directions(d: int) -> np.ndarray:
    """Unit vectors, float32 `[d, 128]`, always the same: another draw would be another metric."""
    drawn = np.random.default_rng(0).normal(size=(d, DIRECTIONS))
    return (drawn / np.linalg.norm(drawn, axis=0)).astype(np.float32)


class SlicedWasserstein(Metric):
    """Mean over 128 fixed directions of the squared 2-Wasserstein distance between the projections.

    Chunks are of both sets, in any sizes.
    """

    name = "swd"
    label = "sliced W₂²"
    direction = "lower"
    kind = "distance"
    cite = "Rabin et al. 2012, section 2.3; Bonneel et al. 2015, definition 7"
    note = "Sliced W₂²: mean squared 2-Wasserstein distance along 128 fixed directions."

    def state(self, comparison: Comparison) -> Projections:
        lines = directions(comparison.generated.shape[1])
        project = lambda x: jnp.matmul(lines.T, jnp.asarray(x).T, precision="highest")
        return Projections(project(comparison.generated), project(comparison.reference))

    def merge(self, a, b):
        return Projections(*(np.concatenate(pair, axis=1) for pair in zip(a, b, strict=True)))

    def compute(self, state) -> float:
        a, b = (np.sort(np.asarray(x, np.float64), axis=1) for x in state)
        return float(np.mean(_transport(a, b)))


def _transport(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared W₂ of sorted `a [line, n]` and `b [line, m]`: ∫ (F⁻¹ - G⁻¹)², both steps, exact for any n and m."""
    n, m = a.shape[1], b.shape[1]
    if n == m:
        return np.mean((a - b) ** 2, axis=1)
    ends = np.unique(np.concatenate([np.arange(1, n + 1) * m, np.arange(1, m + 1) * n]))  # in units of 1/(nm)
    lengths = np.diff(ends, prepend=0) / (n * m)
    return np.sum((a[:, (ends - 1) // m] - b[:, (ends - 1) // n]) ** 2 * lengths, axis=1)
