"""The shapes of what each hook is handed: hooks are tried on them, and what they cost is read off with them."""

from typing import Any

import jax
import jax.numpy as jnp

from madbench.models import Family, sampled_weights
from madbench.samples import Samples
from madbench.strategies.strategy import Strategy


def init(strategy: Strategy, n: int) -> tuple[Any, ...]:
    """Of `init`, where there are `n` real samples in generation 1."""
    if not strategy.reads_real:
        return _key(), None, None
    return _key(), Samples(shape((n, *strategy.given.shape)), shape((n,), jnp.int32)), shape((n,), jnp.bool)


def weigh(n: int) -> tuple[Any, ...]:
    """Of `weigh`, on a training set with room for `n`."""
    return shape((n,), jnp.bool), shape((), jnp.int32), shape((), jnp.int32)


def select(strategy: Strategy, n: int, state: Any) -> tuple[Any, ...]:
    """Of `select`, for a pool of `n`; `state` as `init` returns it."""
    candidates = Samples(shape((strategy.candidates, n, *strategy.given.shape)), shape((n,), jnp.int32))
    return _key(), candidates, shape((n,), jnp.bool), state


def extrapolate(family: Family) -> tuple[Any, ...]:
    """Of `extrapolate`."""
    fitted = sampled_weights(family, jax.eval_shape(family.init, jax.random.key(0)))
    return fitted, fitted


def guide(strategy: Strategy, family: Family, n: int, state: Any) -> tuple[Any, ...]:
    """Of `guide`, on `n` samples; `state` as `init` returns it."""
    x = shape((n, *strategy.given.shape))
    return x, x if strategy.extra_fit else None, x, shape((), family.level_dtype), state


def shape(dims: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(dims, dtype)


def _key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.key(0))
