"""Means and scatters in float64, and pairwise sums of kernels: a block of samples at a time, mergeable."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

BLOCK = 2**22  # numbers of a block held in float64 at once: 32 MiB


class Moments(NamedTuple):
    """Count `[]`, mean `[d]` and scatter Σ(x-μ)(x-μ)ᵀ `[d, d]`, in float64."""

    count: jax.Array
    mean: jax.Array
    scatter: jax.Array


@jax.jit
def moments(features: jax.Array) -> Moments:
    """Moments of `features [n, d]`, in float64: a collapsed set's zero eigenvalues must not drown in rounding.

    The mean is measured from the first sample, so that equal samples scatter by exactly 0.
    """
    n, d = features.shape
    blocks, weight = _blocks(features, max(1, BLOCK // d))
    first = features[0].astype(jnp.float64)
    shifted = lambda x, w: ((x.astype(jnp.float64) - first) * w[:, None]).sum(axis=0)
    mean = first + jax.lax.map(lambda block: shifted(*block), (blocks, weight)).sum(axis=0) / n

    def step(scatter, block):
        x, w = block
        centred = (x.astype(jnp.float64) - mean) * w[:, None]
        return scatter + gram(centred), None

    scatter = jax.lax.scan(step, jnp.zeros((d, d), jnp.float64), (blocks, weight))[0]
    return Moments(jnp.asarray(n, jnp.float64), mean, scatter)


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Moments of the union (Chan, Golub and LeVeque 1983); of the scatters' diagonals `[d]`, that of the union's."""
    count = a.count + b.count
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.count / count)
    between = delta[:, None] * delta[None, :] if a.scatter.ndim == 2 else delta * delta
    scatter = a.scatter + b.scatter + between * (a.count * b.count / count)
    return Moments(count, mean, scatter)


def gram(x: jax.Array) -> jax.Array:
    """xᵀx `[d, d]` of `x [n, d]`; where that is large, the products below the diagonal are not taken twice."""
    d = x.shape[1]
    if d < 512:
        return x.T @ x
    cuts = [d * i // 4 for i in range(5)]
    parts = [x[:, low:high] for low, high in itertools.pairwise(cuts)]
    upper = {(i, j): parts[i].T @ parts[j] for i in range(4) for j in range(i, 4)}
    return jnp.block([[upper[i, j] if i <= j else upper[j, i].T for j in range(4)] for i in range(4)])


class PairSums(NamedTuple):
    """Sums of kernels over all pairs of two sets, in float64 `[]`.

    Attributes:
      cubic: of (a·b/d + 1)³.
      gaussian: of exp(-‖a - b‖²/width).
    """

    cubic: jax.Array
    gaussian: jax.Array


@functools.partial(jax.jit, static_argnames="same")
def pair_sums(a: jax.Array, b: jax.Array, width: jax.Array, same: bool = False) -> PairSums:
    """Sums over all pairs of `a [n, d]` and `b [m, d]`, or, of the `same` set, over its pairs of different samples.

    Args:
      a, b: float32.
      width: of the Gaussian kernel, a squared distance, float64 `[]`.
      same: `b` is `a`, and a sample is no pair with itself.
    """
    d = a.shape[1]
    blocks, weight = _blocks(a, max(1, BLOCK // max(d, b.shape[0])))
    b = b.astype(jnp.float64)
    # Products are taken from a centre, or distances between samples far from the origin would drown in rounding.
    centre = b.mean(axis=0)
    level = jnp.sum(centre * centre)
    b = b - centre
    squares, lifts = jnp.sum(b * b, axis=1), b @ centre + level
    column = jnp.arange(b.shape[0])

    def step(sums, block):
        x, w, row = block
        x = x.astype(jnp.float64) - centre
        product = x @ b.T
        squared = jnp.maximum(jnp.sum(x * x, axis=1)[:, None] + squares - 2 * product, 0.0)
        product = product + (x @ centre)[:, None] + lifts  # of the samples themselves
        counts = w[:, None] * (row[:, None] != column) if same else w[:, None]
        cubic, gaussian = (product / d + 1) ** 3, jnp.exp(-squared / width)
        return PairSums(sums.cubic + jnp.sum(cubic * counts), sums.gaussian + jnp.sum(gaussian * counts)), None

    zero = jnp.zeros((), jnp.float64)
    rows = jnp.arange(weight.size).reshape(weight.shape)
    return jax.lax.scan(step, PairSums(zero, zero), (blocks, weight, rows))[0]


def _blocks(rows: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """`[n, d]` as `[blocks, block, d]` of at most so many rows, and float64 weights, 0 for the padding of the last."""
    n = rows.shape[0]
    count = -(-n // most)
    block = -(-n // count)
    padded = jnp.pad(rows, ((0, count * block - n), (0, 0)))
    weight = (jnp.arange(count * block) < n).astype(jnp.float64)
    return padded.reshape(count, block, -1), weight.reshape(count, block)


@jax.jit
def second_moment(features: jax.Array) -> jax.Array:
    """Σ x̂x̂ᵀ, float64 `[d, d]`, of `features [n, d]` scaled to length 1; zero vectors stay."""
    d = features.shape[1]
    blocks, weight = _blocks(features, max(1, BLOCK // d))

    def step(total, block):
        x, w = block
        x = x.astype(jnp.float64)
        length = jnp.sqrt(jnp.sum(x * x, axis=1))
        return total + gram(x * (w / jnp.where(length > 0, length, 1.0))[:, None]), None

    return jax.lax.scan(step, jnp.zeros((d, d), jnp.float64), (blocks, weight))[0]
