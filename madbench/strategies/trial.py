"""Tries a strategy's hooks before anything is trained: on shapes alone, and the weights on real compositions."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench.errors import UserError
from madbench.models import Family, sampled_weights
from madbench.samples import Samples
from madbench.strategies.strategy import Strategy, has


def check(
    strategy: Strategy, name: str, family: Family, model: str, state: Any, compositions: Iterable[tuple[int, int]]
) -> None:
    """Refuses a strategy whose hooks do not fit the model, return what they must not, or fail.

    Args:
      strategy: whose hooks are tried.
      name: as the config has it, for messages.
      family: the model family.
      model: its name.
      state: shapes of what `init` returns.
      compositions: (real, synthetic) samples of each training set.

    Raises:
      UserError: one line.
    """
    where = f"config.strategy={name!r}"
    needs = {"weigh": "takes_weights", "extrapolate": "sampled_with", "guide": "guidable"}
    what = {
        "weigh": "weights in the training objective, which {} does not heed",
        "extrapolate": "weights that samples are drawn with, and {} names none",
        "guide": "a sampler that can be guided, as that of diffusion, and {} has none",
    }
    for hook, attribute in needs.items():
        if has(strategy, hook) and not getattr(family, attribute, False):
            raise UserError(f"{where} changes {what[hook].format(model)}; choose another model or strategy")
    if has(strategy, "select"):
        _check_select(strategy, where, family, model, state)
    if has(strategy, "weigh"):
        for n_real, n_synthetic in dict.fromkeys(compositions):
            _check_weights(strategy, where, n_real, n_synthetic)
    if has(strategy, "extrapolate"):
        fitted = sampled_weights(family, jax.eval_shape(family.init, jax.random.key(0)))
        found = _called(where, "extrapolate", strategy.extrapolate, fitted, fitted)
        if _form(found) != _form(fitted):
            raise UserError(f"{where}: extrapolate must return arrays of the shapes and types of `fitted`")
    if has(strategy, "guide"):
        x = jax.ShapeDtypeStruct((3, *strategy.given.shape), jnp.float32)
        tuned = x if strategy.extra_fit else None
        found = _called(where, "guide", strategy.guide, x, tuned, x, jax.ShapeDtypeStruct((), jnp.float32), state)
        _expect(where, "guide", found, x)


def _check_select(strategy: Strategy, where: str, family: Family, model: str, state: Any) -> None:
    for n in (11, 20):  # pools are of any size, whole multiples of the classes or not
        x = jax.ShapeDtypeStruct((strategy.candidates, n, *strategy.given.shape), jnp.float32)
        y, member = jax.ShapeDtypeStruct((n,), jnp.int32), jax.ShapeDtypeStruct((n,), jnp.bool)
        key = jax.eval_shape(lambda: jax.random.key(0))
        found = _called(where, "select", strategy.select, key, Samples(x, y), member, state)
        samples, *weight = (found,) if isinstance(found, Samples) else found if isinstance(found, tuple) else (None,)
        if not isinstance(samples, Samples) or len(weight) > 1:
            raise UserError(f"{where}: select must return Samples(x, y), or those and weights")
        _expect(where, "select (x)", samples.x, jax.ShapeDtypeStruct(x.shape[1:], jnp.float32))
        _expect(where, "select (y)", samples.y, y)
        if weight:
            _expect(where, "select (weights)", weight[0], jax.ShapeDtypeStruct((n,), jnp.float32))
            if not getattr(family, "takes_weights", False):
                raise UserError(f"{where} weighs samples in the training objective, which {model} does not heed")


def _check_weights(strategy: Strategy, where: str, n_real: int, n_synthetic: int) -> None:
    """On the whole of a small set, or on as much of each kind of a large one as tells."""
    is_real = jnp.arange(n_real + n_synthetic) < n_real
    call = lambda: strategy.weigh(is_real, jnp.int32(n_real), jnp.int32(n_synthetic))
    _expect(where, "weigh", _called(where, "weigh", call), jax.ShapeDtypeStruct(is_real.shape, jnp.float32))
    found = np.asarray(call(), np.float64)
    made_of = f"of {n_real:,} real and {n_synthetic:,} synthetic samples"
    if not np.all(np.isfinite(found)):
        raise UserError(f"{where}: weigh returns numbers that are not finite for a training set {made_of}")
    if found.min() < 0 or found.sum() <= 0:
        raise UserError(f"{where}: weigh returns negative weights, or none above 0, for a training set {made_of}")


def check_pool(name: str, weights: Any) -> None:
    """Refuses weights of a pool that are not finite, negative, or all 0: what `select` gave for real samples.

    Args:
      name: of the strategy, as the config has it.
      weights: `[n]`; () where it gives none.

    Raises:
      UserError: one line.
    """
    if isinstance(weights, tuple):
        return
    found = np.asarray(weights, np.float64)
    if not np.all(np.isfinite(found)) or found.min() < 0:
        raise UserError(f"config.strategy={name!r}: select returns weights that are negative or not finite")
    if not found.sum():
        raise UserError(
            f"config.strategy={name!r}: everything is filtered out: select lets not even real samples pass; loosen it"
        )


def _called(where: str, hook: str, function: Callable, *arguments: Any) -> Any:
    """The shapes of what a hook returns; whatever its own code raises is said in one line."""
    try:
        return jax.eval_shape(function, *arguments)
    except UserError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserError(f"{where}: {hook} fails: {type(error).__name__}: {text[:300]}") from error


def _form(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _expect(where: str, what: str, found: Any, wanted: jax.ShapeDtypeStruct) -> None:
    shape = getattr(found, "shape", None)
    if shape != wanted.shape:
        raise UserError(f"{where}: {what} has the shape {shape}, and must have {wanted.shape}")
    if jnp.issubdtype(found.dtype, jnp.integer) != jnp.issubdtype(wanted.dtype, jnp.integer):
        raise UserError(f"{where}: {what} is of type {found.dtype}, and must be {wanted.dtype}")
