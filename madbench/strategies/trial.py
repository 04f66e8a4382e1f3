"""Tries a strategy's hooks before anything is trained: on shapes alone, and the weights on real compositions."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from madbench.errors import UserError
from madbench.models import Family
from madbench.samples import Samples
from madbench.strategies import arguments
from madbench.strategies.loading import said
from madbench.strategies.strategy import Strategy, has

_NEEDS = {
    "weigh": ("takes_weights", "weights in the training objective, which {} does not heed"),
    "extrapolate": ("sampled_with", "weights that samples are drawn with, and {} names none"),
    "guide": ("guidable", "a sampler that can be guided, as that of diffusion, and {} has none"),
}


_PRODUCTS = ("dot_general", "conv_general_dilated")  # those that `cost` counts
_UNSEEN = ("pallas_call", "custom_call", "ffi_call")  # what may hold any


def check(
    strategy: Strategy,
    name: str,
    family: Family,
    model: str,
    initial: Iterable[int],
    pools: Iterable[int],
    compositions: Iterable[tuple[int, int]],
) -> None:
    """Refuses a strategy whose hooks do not fit the model, return what they must not, or fail.

    Args:
      strategy: whose hooks are tried.
      name: as the config has it, for messages.
      family: the model family.
      model: its name.
      initial: real samples of generation 1, of each loop.
      pools: samples that enter the pool in a generation, of each loop.
      compositions: (real, synthetic) samples of each training set.

    Raises:
      UserError: one line.
    """
    where = f"config.strategy={name!r}"
    for hook, (attribute, what) in _NEEDS.items():
        if has(strategy, hook) and not getattr(family, attribute, False):
            raise UserError(f"{where} changes {what.format(model)}; choose another model or strategy")
    state: Any = ()
    for n in sorted(set(initial)):
        state = _init(strategy, where, n)
    if has(strategy, "select"):
        # whole multiples of the classes or not; and a few, whatever the pools are, for a strategy is asked for its form
        for n in sorted({max(strategy.given.num_classes, 1), 11, 20, *pools} - {0}):
            _check_select(strategy, where, family, model, state, n)
    if has(strategy, "weigh"):
        _check_weights(strategy, where, list(dict.fromkeys(compositions)))
    if has(strategy, "extrapolate"):
        handed = arguments.extrapolate(family)
        found = _called(where, "extrapolate", strategy.extrapolate, *handed)
        if _form(found) != _form(handed[0]):
            raise UserError(f"{where}: extrapolate must return arrays of the shapes and types of `fitted`")
    if has(strategy, "guide"):
        handed = arguments.guide(strategy, family, 3, state)
        found = _called(where, "guide", strategy.guide, *handed)
        _expect(where, "guide", found, handed[0])


def _init(strategy: Strategy, where: str, n: int) -> Any:
    """Shapes of what `init` makes of `n` real samples."""
    state = _called(where, "init", strategy.init, *arguments.init(strategy, n))
    if any(jnp.issubdtype(leaf.dtype, jax.dtypes.extended) for leaf in jax.tree.leaves(state)):
        raise UserError(f"{where}: init returns random keys, which are no arrays of numbers; use jax.random.key_data")
    if empty := [leaf.shape for leaf in jax.tree.leaves(state) if 0 in leaf.shape]:
        raise UserError(
            f"{where}: init returns an array of the shape {empty[0]}, which holds nothing; return () instead"
        )
    return state


def _check_select(strategy: Strategy, where: str, family: Family, model: str, state: Any, n: int) -> None:
    handed = arguments.select(strategy, n, state)
    x, y = handed[1]
    found = _called(where, "select", strategy.select, *handed)
    samples, *weight = (found,) if isinstance(found, Samples) else found if isinstance(found, tuple) else (None,)
    if not isinstance(samples, Samples) or len(weight) > 1:
        raise UserError(f"{where}: select must return Samples(x, y), or those and weights")
    _expect(where, "select (x)", samples.x, arguments.shape(x.shape[1:]))
    _expect(where, "select (y)", samples.y, y)
    if weight:
        _expect(where, "select (weights)", weight[0], arguments.shape((n,)), or_bool=True)
        if not getattr(family, "takes_weights", False):
            raise UserError(f"{where} weighs samples in the training objective, which {model} does not heed")


def _check_weights(strategy: Strategy, where: str, compositions: list[tuple[int, int]]) -> None:
    """On whole training sets, padded as in the program and in its precision."""
    capacity = max(map(sum, compositions))
    found = _called(where, "weigh", strategy.weigh, *arguments.weigh(capacity))
    _expect(where, "weigh", found, arguments.shape((capacity,)), or_bool=True)
    weigh = jax.jit(strategy.weigh)
    for n_real, n_synthetic in compositions:
        whole = weigh(jnp.arange(capacity) < n_real, jnp.int32(n_real), jnp.int32(n_synthetic))
        weights = np.asarray(whole, np.float32)[: n_real + n_synthetic]
        made_of = f"for a training set of {n_real:,} real and {n_synthetic:,} synthetic samples"
        if not np.all(np.isfinite(weights)):
            raise UserError(f"{where}: weigh returns numbers that are not finite, {made_of}")
        if weights.min() < 0 or weights.max() <= 0:
            raise UserError(f"{where}: weigh returns negative weights, or none above 0, {made_of}")
        if not 1e-30 < (total := weights.sum(dtype=np.float64)) < 1e30:  # float32 divides by it
            raise UserError(f"{where}: weigh returns weights whose sum is {total:g}, {made_of}")


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


def _called(where: str, hook: str, function: Callable, *handed: Any) -> Any:
    """The shapes of what a hook returns; whatever its own code raises is said in one line."""
    try:
        program, found = jax.make_jaxpr(function, return_shape=True)(*handed)
    except UserError as error:
        raise UserError(f"{where}: {hook}: {error}") from None
    except Exception as error:
        raise UserError(f"{where}: {hook} fails: {said(error)}") from error
    within = list(_primitives(program.jaxpr))
    if called := [name for name, _ in within if name.endswith("callback")]:
        raise UserError(f"{where}: {hook} calls back to Python ({called[0]}), which no compiled program can count")
    if program.effects:
        raise UserError(f"{where}: {hook} does more than to compute what it returns ({next(iter(program.effects))})")
    if unseen := [name for name, _ in within if name in _UNSEEN or name.startswith("ragged_dot")]:
        raise UserError(f"{where}: {hook} computes with {unseen[0]}, of which no cost can be read off")
    if any(name in _PRODUCTS and endless for name, endless in within):
        raise UserError(
            f"{where}: {hook} has matrix products in a loop of unknown length (while_loop), which cannot be counted; "
            "use jax.lax.scan, or fori_loop with fixed ends"
        )
    return found


def _primitives(jaxpr: Any, endless: bool = False) -> Iterator[tuple[str, bool]]:
    """(name, whether it is in a loop of unknown length) of all that a program does."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        yield name, endless
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, (jex.ClosedJaxpr, jex.Jaxpr)):
                    yield from _primitives(getattr(inner, "jaxpr", inner), endless or name == "while")


def _form(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _expect(where: str, what: str, found: Any, wanted: jax.ShapeDtypeStruct, or_bool: bool = False) -> None:
    shape = getattr(found, "shape", None)
    if shape != wanted.shape:
        raise UserError(f"{where}: {what} has the shape {shape}, and must have {wanted.shape}")
    kind = jnp.integer if jnp.issubdtype(wanted.dtype, jnp.integer) else jnp.floating
    if not jnp.issubdtype(found.dtype, kind) and not (or_bool and found.dtype == jnp.bool):
        raise UserError(f"{where}: {what} is of type {found.dtype}, and must be {wanted.dtype}")
