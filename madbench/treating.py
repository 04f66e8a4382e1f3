"""From a strategy and a model family to a treatment: what fits, what it may spend, and what is refused at once."""

import dataclasses
from typing import Any

import jax

from madbench import accounting, strategies
from madbench.errors import UserError
from madbench.loops import Loop
from madbench.models import Family
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


def check(treatment: Treatment, config: dict[str, Any], loops: list[Loop], source: Any) -> None:
    """Tries the hooks on shapes, and weights on the training sets of all loops.

    Raises:
      UserError: one line.
    """
    name, model = config["strategy"], config["model"]["family"]
    try:
        state = treatment.state(source)
    except UserError:
        raise
    except Exception as error:  # whatever its own code raises
        text = " ".join(str(error).split())[:300]
        raise UserError(f"config.strategy={name!r}: init fails: {type(error).__name__}: {text}") from error
    times = range(1, config["generations"] + 1)
    compositions = [loop.union(t) for loop in loops for t in times]
    trial.check(treatment.strategy, name, treatment.family, model, state, compositions)


def try_pool(treatment: Treatment, name: str, source: Any) -> None:
    """Lets the strategy select among real samples, the best that it will ever see, before anything is trained.

    Raises:
      UserError: none of them passes, or what comes back is not finite; one line.
    """
    if not treatment.has("select"):
        return
    n = min(256, source.reference.x.shape[0])

    @jax.jit
    def select(source, order):
        seed, whole = jax.numpy.uint32(0), jax.numpy.int32(treatment.n_initial)
        state = treatment.init(source, order, seed, whole)
        draw = lambda key, rows: jax.tree.map(lambda a: jax.random.permutation(key, a), source.reference)
        first = jax.tree.map(lambda a: a[:n], source.reference)
        drawn = lambda key, rows: jax.tree.map(lambda a: a[:rows], draw(key, rows))
        pool, _ = treatment.select(seed, jax.numpy.int32(1), first, jax.numpy.int32(n), state, drawn)
        return pool.weight, jax.numpy.all(jax.numpy.isfinite(pool.samples.x))

    order = source.order(jax.random.key(0))
    weight, finite = select(source, order)
    trial.check_pool(name, weight)
    if not finite:
        raise UserError(f"config.strategy={name!r}: select returns samples that are not finite")


def affordable(
    treatment: Treatment, config: dict[str, Any], loops: list[Loop], source: Any, plain: dict[str, accounting.Account]
) -> tuple[int, list[str]]:
    """(optimizer steps, notes) with which a generation costs no more than without the strategy.

    Raises:
      UserError: nothing is left, or steps are not fixed; one line.
    """
    family, name = treatment.family, config["strategy"]
    step = next(iter(plain.values())).step
    treated = [accounting.account(treatment, family, source, loop, step) for loop in loops]
    if not family.steps:
        exact = "fits of this model are exact: there are no optimizer steps that it could give up, and it costs more"
        costs_more = any(a.flops(1) > plain[loop.name].flops(1) for a, loop in zip(treated, loops, strict=True))
        return 0, [f"{name}: {exact}"] if costs_more or treatment.strategy.candidates > 1 else []
    before = [plain[loop.name] for loop in loops]
    share = 0 if treatment.tuner is None else treatment.tuner.steps / family.steps
    steps = accounting.affordable(before, treated, share, config["generations"], f"config.strategy={name!r}")
    if steps == family.steps:
        return steps, []
    if config["model"].get("epochs"):
        raise UserError(
            f"config.strategy={name!r} pays for what it costs in optimizer steps, and config.model.epochs sets those; "
            "set it to 0, or config.equal_cost=False"
        )
    return steps, [
        f"{name}: {steps} of {family.steps} optimizer steps, so that a generation costs what it does without "
        "(config.equal_cost=False for all)"
    ]


def resident(treatment: Treatment | None) -> str:
    """What of a strategy needs all data on the device, for messages; "" where nothing does."""
    if treatment is None or not any(treatment.has(hook) for hook in ("init", "select", "extrapolate", "guide")):
        return ""
    return f"the strategy {type(treatment.strategy).__name__}"
