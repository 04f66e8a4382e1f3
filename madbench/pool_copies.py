"""How much of what enters a pool are copies of real samples: a column of every row of a strategy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from madbench.randomness import Role, key_for
from madbench.strategies.distances import squared_distances

MEASURED = 1024  # samples of the pool, and real ones, that are looked at; against all real ones
QUANTILE = 0.05  # of the distances between real samples: as near as so many of them are to another, is a copy
_AT_ONCE = 1024  # real samples that are read at a time


def memorization(
    seed: jax.Array,
    t: jax.Array,
    pool: jax.Array,
    weight: Any,
    real: Callable,
    n: jax.Array,
    n_initial: jax.Array,
    most_initial: int,
) -> jax.Array:
    """The share of a pool that lies as near to a real sample of generation 1 as the closest 5 % of these do to
    another: of new real samples 5 % do, of copies all (ours; as the metric "memorization", but of the pool, of
    the real samples, and on samples instead of features).

    Args:
      seed: of the run.
      t: int32 scalar, the generation.
      pool: float32 `[rows, *shape]`; of more than `MEASURED`, as many are drawn and looked at.
      weight: float32 `[rows]` of the samples in training, by which the share is taken; () where all count alike.
      real: `positions -> x`, float32 `[n, *shape]`.
      n: int32 scalar, how many of the pool are the run's.
      n_initial: int32 scalar, real samples of the run's generation 1.
      most_initial: the most of any run, which shapes go by.
    """
    few = min(MEASURED, most_initial)
    count, flat = min(MEASURED, pool.shape[0]), lambda x: x.reshape(x.shape[0], -1)
    drawn = jax.random.randint(key_for(seed, t, Role.LOOK), (count,), 0, jnp.maximum(n, 1))
    looked = jnp.where(n <= count, jnp.arange(count), drawn)
    member = (n > count) | (looked < n)
    own = real(jnp.arange(few, dtype=jnp.int32))
    query = jnp.concatenate([flat(own), flat(pool[looked])])
    itself = jnp.concatenate([jnp.arange(few), jnp.full(count, -1)])

    def nearest(best, start):
        position = start + jnp.arange(min(_AT_ONCE, most_initial), dtype=jnp.int32)
        other = (position < n_initial) & (position != itself[:, None])
        return jnp.minimum(best, jnp.where(other, squared_distances(query, real(position)), jnp.inf).min(axis=1)), None

    starts = jnp.arange(0, most_initial, _AT_ONCE, dtype=jnp.int32)
    best, _ = jax.lax.scan(nearest, jnp.full(query.shape[0], jnp.inf), starts)
    ours = jnp.minimum(n_initial, few)
    among = jnp.sort(jnp.where(jnp.arange(few) < ours, best[:few], jnp.inf))
    radius = among[jnp.maximum(jnp.floor(QUANTILE * ours).astype(jnp.int32), 1) - 1]
    weight = jnp.where(member, 1.0 if isinstance(weight, tuple) else weight[looked], 0.0)
    return jnp.sum(weight * (best[few:] <= radius)) / jnp.maximum(jnp.sum(weight), 1e-30)
