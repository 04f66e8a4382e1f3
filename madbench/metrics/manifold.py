"""Precision and recall by k-nearest-neighbour manifolds (Kynkäänniemi et al. 2019, arXiv 1904.06991).

k = 5 neighbours, not counting the point itself; a point on the boundary of a ball counts as inside (`<=`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

K = 5


def squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """‖aᵢ - bⱼ‖² `[n, m]` in float64, for float32 features `a [n, d]`, `b [m, d]`.

    ‖a‖² + ‖b‖² - 2a·b is one matrix product, but leaves rounding where the truth is 0. What is below float32
    resolution relative to the points' norms is therefore set to 0, so that equal points, and collapsed sets, are at
    distance 0.
    """
    a, b = a.astype(jnp.float64), b.astype(jnp.float64)
    norms = jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None, :]
    squared = norms - 2 * (a @ b.T)
    return jnp.where(squared <= norms * 2.0**-46, 0.0, squared)


def squared_radii(points: jax.Array, k: int = K) -> jax.Array:
    """Squared distance from each of `points [n, d]` to its k-th neighbour among the others, `[n]`; needs n > k."""
    return _smallest(squared_distances(points, points), k + 1)


def _smallest(values: jax.Array, rank: int) -> jax.Array:
    """The `rank`-th smallest of each row, from 1, ties counted one by one: `[n, m] -> [n]`.

    By passing to the next larger value until enough lie at or below it. XLA's `top_k` sorts float64 rows on CPU, and
    is five times slower.
    """
    level = values.min(axis=1, keepdims=True)
    for _ in range(rank - 1):
        enough = jnp.sum(values <= level, axis=1, keepdims=True) >= rank
        above = jnp.where(values > level, values, jnp.inf).min(axis=1, keepdims=True)
        level = jnp.where(enough, level, above)
    return level[:, 0]


def inside(queries: jax.Array, points: jax.Array, k: int = K) -> jax.Array:
    """Whether each of `queries [n, d]` lies in a ball of the manifold of `points [m, d]`; bool `[n]`."""
    return jnp.any(squared_distances(queries, points) <= squared_radii(points, k)[None, :], axis=1)


class Share(NamedTuple):
    """How many of `total` queries lie inside; NaN hits where a feature is not finite, float64."""

    hits: jax.Array
    total: jax.Array


class _Coverage:
    """A share of queries inside a manifold. May be chunked over the queries."""

    version = 1
    direction = "higher"
    most = 1.0
    min_samples = K + 1

    def merge(self, a: Share, b: Share) -> Share:
        return Share(a.hits + b.hits, a.total + b.total)

    def compute(self, state: Share) -> float:
        return float(state.hits) / float(state.total)

    def _share(self, queries, points) -> Share:
        hits = jnp.sum(inside(queries, points)).astype(jnp.float64)
        finite = jnp.all(jnp.isfinite(queries)) & jnp.all(jnp.isfinite(points))
        return Share(jnp.where(finite, hits, jnp.nan), jnp.asarray(queries.shape[0], jnp.float64))


class Precision(_Coverage):
    """Share of generated points inside the reference manifold: quality. Chunks are of generated samples."""

    name = "precision"
    cite = "Kynkäänniemi et al. 2019, equation 2, first part, k = 5"

    def state(self, generated, reference):
        return self._share(generated, reference)


class Recall(_Coverage):
    """Share of reference points inside the generated manifold: diversity. Chunks are of reference samples."""

    name = "recall"
    cite = "Kynkäänniemi et al. 2019, equation 2, second part, k = 5"

    def state(self, generated, reference):
        return self._share(reference, generated)
