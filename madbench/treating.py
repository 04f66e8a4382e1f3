"""From a strategy and a model family to a treatment: whether they fit, with what is refused at once."""

import dataclasses
from typing import Any

from madbench import strategies
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


def resident(treatment: Treatment | None) -> str:
    """What of a strategy needs all data on the device, for messages; "" where nothing does."""
    if treatment is None or not any(treatment.has(hook) for hook in ("init", "select", "extrapolate", "guide")):
        return ""
    return f"the strategy {type(treatment.strategy).__name__}"
