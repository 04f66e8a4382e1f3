"""Equal cost: how many optimizer steps a strategy leaves, so that a generation costs what it does without."""

import dataclasses
from typing import Any

from madbench.accounting import Account
from madbench.errors import UserError
from madbench.treatment import Treatment


def pay(
    treatment: Treatment,
    config: dict[str, Any],
    plain: dict[str, Account],
    treated: dict[str, Account],
    generations: int,
) -> tuple[dict[str, Account], list[str]]:
    """(accounts by loop, notes) with the optimizer steps with which no loop's generation costs more than without.

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
        return treated, [f"{name}: {exact}"] if costs_more else []
    share = treatment.strategy.extra_fit
    steps = {loop: _affordable(plain[loop], treated[loop], share, generations) for loop in plain}
    low, high = min(steps.values()), max(steps.values())
    if low < 1:
        loop = min(steps, key=steps.get)
        raise UserError(
            f"config.strategy={name!r} costs as much as all {whole} optimizer steps of a generation (loop {loop}); "
            "raise config.model.steps, let it draw or train less, or set config.equal_cost=False"
        )
    if low == whole:
        return treated, []
    pays = f"config.strategy={name!r} pays for what it costs in optimizer steps, and"
    if not getattr(family, "takes_steps", False):
        raise UserError(
            f"{pays} {config['model']['family']} cannot have others in each loop; set config.equal_cost=False"
        )
    if config["model"].get("epochs"):
        raise UserError(f"{pays} config.model.epochs sets those; set it to 0, or config.equal_cost=False")
    return {loop: _paid(treated[loop], n, share) for loop, n in steps.items()}, [
        f"{name}: {low if low == high else f'{low} to {high}, by loop,'} of {whole} optimizer steps, so that a "
        "generation costs what it does without (config.equal_cost=False for all)"
    ]


def _affordable(plain: Account, treated: Account, share: float, generations: int) -> int:
    """The most optimizer steps with which a generation costs no more than without the strategy, on average over T.

    Args:
      plain: of the loop, without the strategy.
      treated: with it, at the same steps.
      share: steps of the second fit for each of the first.
      generations: T, over which what is made once is spread.

    Returns:
      At most the steps of `plain`; 0 or less where nothing is left.
    """
    left = plain.step * plain.steps + plain.fixed - treated.fixed - treated.init / generations
    steps = min(plain.steps, int(left / (treated.step * (1 + share))) + 1)
    cost_of = lambda steps: treated.step * (steps + _paid(treated, steps, share).extra_steps)
    while steps > 0 and cost_of(steps) > left * (1 + 1e-9):
        steps -= 1
    return steps


def _paid(account: Account, steps: int, share: float) -> Account:
    """The account of a fit of so many steps, `share` of which the second fit has."""
    return dataclasses.replace(account, steps=steps, extra_steps=max(1, round(share * steps)) if share else 0)
