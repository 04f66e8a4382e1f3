"""From a strategy and a model family to a treatment: what fits, what it may spend, and what is refused at once."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench import accounting, strategies
from madbench.errors import UserError
from madbench.loops import Loop
from madbench.models import Family, sampled_weights
from madbench.samples import Samples, decode
from madbench.strategies import Strategy, trial
from madbench.treatment import Treatment


def build(strategy: Strategy, family: Family, *, n_initial: int) -> Treatment | None:
    """What `strategy` does to models of this family; None where it does nothing.

    Args:
      strategy: with its settings.
      family: the model family, in the plan's groups of devices.
      n_initial: most real samples of generation 1, of any loop.

    Raises:
      UserError: it fits a second time, and such a family cannot for a share of the steps; one line.
    """
    if not any(strategies.has(strategy, hook) for hook in strategies.HOOKS):
        return None
    return Treatment(strategy, family, _tuner(strategy, family), n_initial)


def _tuner(strategy: Strategy, family: Family) -> Family | None:
    """The family of the second fit, all of which is one program's."""
    if not strategy.extra_fit:
        return None
    if not family.steps:
        return family
    fields = {field.name for field in dataclasses.fields(family)} if dataclasses.is_dataclass(family) else set()
    if not {"steps", "learning_rate", "given"} <= fields:
        raise UserError(
            f"the strategy {type(strategy).__name__} fits a second time, for a share of the steps, and "
            f"{type(family).__name__} has none to set"
        )
    changes = {
        "steps": max(1, round(strategy.extra_fit * family.steps)),
        "learning_rate": strategy.extra_rate * family.learning_rate,
        "given": dataclasses.replace(family.given, steps_per_call=0),
    }
    return dataclasses.replace(family, **changes | ({"epochs": 0.0} if "epochs" in fields else {}))


def check(treatment: Treatment, config: dict[str, Any], loops: list[Loop]) -> None:
    """Tries the hooks on shapes, and weights on the training sets of all loops.

    Raises:
      UserError: one line.
    """
    times = range(1, config["generations"] + 1)
    trial.check(
        treatment.strategy,
        config["strategy"],
        treatment.family,
        config["model"]["family"],
        initial=[loop.n_initial for loop in loops],
        pools=[loop.n_synthetic for loop in loops],
        compositions=[loop.union(t) for loop in loops for t in times],
    )


def try_out(treatment: Treatment, name: str, source: Any) -> None:
    """Runs the hooks once before anything is trained: `init` on real samples, `select` on others, the best that it will
    ever see, `extrapolate` on a new model's weights, and `guide` on noise.

    Raises:
      UserError: no sample passes, or what comes back is not finite; one line.
    """
    own, has, where = treatment.strategy, treatment.has, f"config.strategy={name!r}"
    finite = lambda tree: all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))
    state = jax.jit(treatment.init)(source, source.order(jax.random.key(0)), jnp.uint32(0), treatment.n_initial)
    if any(bool(jnp.isnan(leaf).any()) for leaf in jax.tree.leaves(state)):  # infinity may stand for padding
        raise UserError(f"{where}: init returns numbers that are not finite")
    if has("select"):
        candidates, member = _real_candidates(own, source)
        found = jax.jit(own.select)(jax.random.key(0), candidates, member, state)
        samples, weights = (found, ()) if isinstance(found, Samples) else found
        trial.check_pool(name, weights)
        if not finite(samples.x):
            raise UserError(f"{where}: select returns samples that are not finite")
        if samples.y.min() < 0 or samples.y.max() >= max(source.num_classes, 1):
            raise UserError(f"{where}: select returns labels that the data have not")
    if has("extrapolate"):

        def extrapolated(key):
            fitted = sampled_weights(treatment.family, treatment.family.init(key))
            return own.extrapolate(fitted, jax.tree.map(lambda a: 1.01 * a + 0.01, fitted))

        if not finite(jax.jit(extrapolated)(jax.random.key(0))):
            raise UserError(f"{where}: extrapolate returns numbers that are not finite")
    if has("guide"):
        fitted, tuned, x = jax.random.normal(jax.random.key(0), (3, 16, *source.shape))
        level = jnp.asarray(1, treatment.family.level_dtype)
        if not finite(jax.jit(own.guide)(fitted, tuned if own.extra_fit else None, x, level, state)):
            raise UserError(f"{where}: guide returns numbers that are not finite")


def _real_candidates(strategy: Strategy, source: Any) -> tuple[Samples, jax.Array]:
    """Candidates as `select` gets them, of the reference: each in a place of its class, as generated ones are."""
    x, y = (np.asarray(leaf) for leaf in source.reference)
    classes, count = max(source.num_classes, 1), strategy.candidates
    of_class = [own if len(own := np.flatnonzero(y == label)) else np.arange(len(y)) for label in range(classes)]
    each = max(1, min(256 // classes, min(map(len, of_class)) // count))  # different ones, where there are as many
    place = np.stack([np.resize(own, (count, each)) for own in of_class], axis=2).reshape(count, -1)
    labels = np.arange(place.shape[1], dtype=np.int32) % classes
    return Samples(jnp.asarray(decode(x[place])), jnp.asarray(labels)), jnp.ones(place.shape[1], jnp.bool)


def affordable(
    treatment: Treatment,
    config: dict[str, Any],
    plain: dict[str, accounting.Account],
    treated: dict[str, accounting.Account],
    generations: int,
) -> tuple[dict[str, int], list[str]]:
    """(optimizer steps by loop, notes) with which no loop's generation costs more than without the strategy.

    Args:
      treatment: of the strategy.
      config: resolved.
      plain, treated: accounts without and with it, by loop, with all steps.
      generations: over which what is made once is spread.

    Raises:
      UserError: nothing is left, or steps are not fixed; one line.
    """
    family, name = treatment.family, config["strategy"]
    whole = family.steps
    if not whole:
        exact = "fits of this model are exact: there are no optimizer steps that it could give up, and it costs more"
        costs_more = any(treated[loop].flops(1) > plain[loop].flops(1) for loop in plain)
        return {}, [f"{name}: {exact}"] if costs_more else []
    share = treatment.strategy.extra_fit
    steps = {loop: accounting.affordable(plain[loop], treated[loop], share, generations) for loop in plain}
    if min(steps.values()) < 1:
        loop = min(steps, key=steps.get)
        raise UserError(
            f"config.strategy={name!r} costs as much as all {whole} optimizer steps of a generation (loop {loop}); "
            "raise config.model.steps, let it draw or train less, or set config.equal_cost=False"
        )
    if min(steps.values()) == whole:
        return {}, []
    if not getattr(family, "takes_steps", False):
        raise UserError(
            f"config.strategy={name!r} pays for what it costs in optimizer steps, and {config['model']['family']} "
            "cannot have others in each loop; set config.equal_cost=False"
        )
    if config["model"].get("epochs"):
        raise UserError(
            f"config.strategy={name!r} pays for what it costs in optimizer steps, and config.model.epochs sets those; "
            "set it to 0, or config.equal_cost=False"
        )
    low, high = min(steps.values()), max(steps.values())
    return steps, [
        f"{name}: {low if low == high else f'{low} to {high}, by loop,'} of {whole} optimizer steps, so that a "
        "generation costs what it does without (config.equal_cost=False for all)"
    ]


def resident(treatment: Treatment | None) -> str:
    """What of a strategy needs all data on the device, for messages; "" where nothing does."""
    if treatment is None or not any(treatment.has(hook) for hook in ("init", "select", "extrapolate", "guide")):
        return ""
    return f"the strategy {type(treatment.strategy).__name__}"
