"""Nearest neighbours of every sample, in float64: what the metrics of manifolds, copies and entropy read.

Here traceable, for sets that a fleet compares inside its program; `screened` is for sets of any size. Both look at all
pairs. They differ where two distances are equal to within rounding: here ‖a‖² + ‖b‖² - 2a·b is compared, there the
difference itself, and so there alone the ball of a real sample ends exactly at a copy of its k-th neighbour.
Squared distances throughout. Never more than a block of pairs is held.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

SKETCH = 64  # points whose median is the centre
BLOCK = 2**22  # pairs held at once: 32 MiB of float64


class Cross(NamedTuple):
    """Two sets of points against each other's balls, `queries [n, d]` and `points [m, d]`.

    Attributes:
      closed: int32 `[n]`, the points' balls that each query lies in, boundaries included.
      open: int32 `[n]`, the same without boundaries.
      covered: bool `[m]`, whether any query lies in the open ball of each point.
      reached: bool `[m]`, whether each point lies in the closed ball of any query.
    """

    closed: jax.Array
    open: jax.Array
    covered: jax.Array
    reached: jax.Array


def squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """‖aᵢ - bⱼ‖² `[n, m]` in float64, for float32 features `a [n, d]`, `b [m, d]`.

    ‖a‖² + ‖b‖² - 2a·b is one matrix product, but leaves rounding where the truth is 0. What is below float32
    resolution relative to the points' norms, from their centre, is therefore set to 0, so that equal points, and
    collapsed sets, are at distance 0.

    The centre is a median, which samples that have diverged do not move, to eight bits: whole numbers stay whole, and
    their distances, and ties, are exact.
    """
    a, b = a.astype(jnp.float64), b.astype(jnp.float64)
    centre = jnp.median(b[:: -(-b.shape[0] // SKETCH)], axis=0).astype(jnp.bfloat16).astype(jnp.float64)
    a, b = a - centre, b - centre
    norms = jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None, :]
    squared = norms - 2 * (a @ b.T)
    return jnp.where(squared <= norms * 2.0**-46, 0.0, squared)


def within(points: jax.Array, k: int, size: jax.Array | int | None = None) -> jax.Array:
    """Squared distance from each of `points [n, d]` to its k-th neighbour among the others, float64 `[n]`.

    Args:
      points: float32 `[n, d]`, n > k.
      k: the point itself is not counted.
      size: only the first so many are points, the others padding, whose own distances mean nothing.
    """
    return _by_blocks(lambda rows: (_smallest(_padded(rows, points, size), k + 1),), points, points.shape[0])[0]


def nearest(queries: jax.Array, points: jax.Array, size: jax.Array | int | None = None) -> tuple[jax.Array, jax.Array]:
    """Each query's nearest point: (int32 index `[n]`, squared distance float64 `[n]`). Of equal ones the first."""

    def of(rows):
        squared = _padded(rows, points, size)
        return jnp.argmin(squared, axis=1).astype(jnp.int32), squared.min(axis=1)

    return _by_blocks(of, queries, points.shape[0])


def cross(queries: jax.Array, points: jax.Array, query_radii: jax.Array, point_radii: jax.Array) -> Cross:
    """See `Cross`; radii are squared, float64 `[n]` and `[m]`."""

    n, m = queries.shape[0], points.shape[0]
    # Padding lies nowhere: it is masked, and its own radius is negative.
    real = _blocks(jnp.ones(n, bool), m)
    radii = jnp.where(real, _blocks(query_radii, m), -1.0)

    def step(found, block):
        rows, radius, is_real = block
        squared = squared_distances(rows, points)
        strictly = (squared < point_radii) & is_real[:, None]
        inside = (jnp.any(strictly, axis=0), jnp.any(squared <= radius[:, None], axis=0))
        counts = [jnp.sum(hit, axis=1, dtype=jnp.int32) for hit in (squared <= point_radii, strictly)]
        return jax.tree.map(jnp.logical_or, found, inside), counts

    none = jnp.zeros(m, bool)
    (covered, reached), counts = jax.lax.scan(step, (none, none), (_blocks(queries, m), radii, real))
    return Cross(*(c.reshape(-1)[:n] for c in counts), covered, reached)


def _padded(rows: jax.Array, points: jax.Array, size) -> jax.Array:
    squared = squared_distances(rows, points)
    return squared if size is None else jnp.where(jnp.arange(points.shape[0]) < size, squared, jnp.inf)


def _blocks(rows: jax.Array, m: int) -> jax.Array:
    """`[n, ...]` padded with zeros to `[blocks, block, ...]`, where a block has at most BLOCK pairs with m points."""
    n = rows.shape[0]
    count = -(-n // max(1, BLOCK // m))
    block = -(-n // count)
    padding = [(0, count * block - n)] + [(0, 0)] * (rows.ndim - 1)
    return jnp.pad(rows, padding).reshape(count, block, *rows.shape[1:])


def _by_blocks(function, rows: jax.Array, m: int) -> tuple:
    """`function` of all rows `[n, d] -> ([n], ...)`, a block at a time."""
    n = rows.shape[0]
    if n * m <= BLOCK:
        return function(rows)
    return jax.tree.map(lambda a: a.reshape(-1)[:n], jax.lax.map(function, _blocks(rows, m)))


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
