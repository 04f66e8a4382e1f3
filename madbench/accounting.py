"""What a generation costs a run, and how many optimizer steps a strategy leaves of a budget.

FLOPs are those of matrix products, as `cost` counts them, of the fit, the pool, and whatever a strategy adds: samples
that it draws and does not keep, a second fit, network evaluations of its sampler, its own hooks. What the metrics need
(samples beyond the pool, features) is no cost of a method. Nothing here is declared by a strategy: all is read off the
programs that run.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from madbench import cost
from madbench.errors import UserError
from madbench.loops import Loop
from madbench.models import sampled_weights
from madbench.samples import Samples
from madbench.strategies import HOOKS
from madbench.treatment import Treatment

_SAMPLES = 64  # whose cost is divided by their number


@dataclasses.dataclass(frozen=True)
class Account:
    """Of one loop. All FLOPs are of one generation of one run.

    Attributes:
      step: of one optimizer step; of an exact fit, of the whole.
      steps: of one fit; 1 where it is exact.
      extra_steps: of the second fit; 0 where there is none.
      sample: of one sample of the pool.
      drawn: samples that are drawn for it.
      own_sample: of one sample that the second fit is made on.
      own: how many there are.
      select: of the choice among candidates.
      init: of what a strategy makes in generation 1, once.
      parameters: numbers that a strategy holds beside the model: its state, a second model that guides, and the arrays
        that its hooks close over.
    """

    step: float
    steps: int
    extra_steps: int
    sample: float
    drawn: int
    own_sample: float
    own: int
    select: int
    init: int
    parameters: int

    def flops(self, t: int) -> int:
        """Of generation `t`, from 1."""
        fits = self.step * (self.steps + self.extra_steps)
        samples = self.sample * self.drawn + self.own_sample * self.own
        return round(fits + samples + self.select + (self.init if t == 1 else 0))


def accounts(
    treatment: Treatment | None, family: Any, source: Any, loops: Iterable[Loop], step: float
) -> dict[str, Account]:
    """The account of each loop, by name.

    Args:
      treatment: of the strategy; None for none.
      family: the model family.
      source: of real samples.
      loops: whose sizes count.
      step: FLOPs of one optimizer step, or of the whole fit where it is exact.
    """
    plain = _sample(family)
    nothing = Account(step, family.steps or 1, 0, plain, 0, 0.0, 0, 0, 0, 0)
    if treatment is None:
        return {loop.name: dataclasses.replace(nothing, drawn=loop.n_synthetic) for loop in loops}
    tuner, state = treatment.tuner, treatment.state(source)
    loops = list(loops)
    parameters = _numbers(state) + _closed_over(treatment, source, loops[0], state)
    if treatment.has("guide") and tuner is not None:
        parameters += _numbers(sampled_weights(family, jax.eval_shape(family.init, jax.random.key(0))))
    common = dataclasses.replace(
        nothing,
        extra_steps=0 if tuner is None else tuner.steps or 1,
        sample=_sample(family, treatment, state) if treatment.has("guide") else plain,
        own_sample=plain,
        parameters=parameters,
    )
    return {
        loop.name: dataclasses.replace(
            common,
            drawn=loop.n_synthetic * treatment.strategy.candidates,
            own=0 if tuner is None else loop.n_initial,
            select=_cost(treatment, "select", source, loop, state).flops,
            init=_cost(treatment, "init", source, loop, state).flops,
        )
        for loop in loops
    }


def _numbers(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def affordable(
    plain: dict[str, Account], treated: dict[str, Account], share: float, generations: int, where: str
) -> int:
    """The optimizer steps with which no loop's generation costs more than without the strategy, on average over T.

    Args:
      plain: accounts without the strategy, by loop.
      treated: with it, at the same steps.
      share: steps of the second fit for each of the first.
      generations: T, over which what is made once is spread.
      where: what to call the strategy in messages.

    Raises:
      UserError: the strategy takes it all; one line.
    """
    fewest, most = math.inf, next(iter(plain.values())).steps
    for loop, after in treated.items():
        before = plain[loop]
        budget = before.step * before.steps + before.sample * before.drawn
        fixed = after.sample * after.drawn + after.own_sample * after.own + after.select + after.init / generations
        fewest = min(fewest, (budget - fixed) / (after.step * (1 + share)))
    steps = min(int(fewest + 1e-6), most)
    steps = steps // 10 * 10 if 10 <= steps < most else steps  # ten segments of a fit are shown
    if steps < 1:
        raise UserError(
            f"{where} costs as much as all {most} optimizer steps of a generation; raise config.model.steps, "
            "let it draw or train less, or set config.equal_cost=False"
        )
    return steps


def _sample(family: Any, treatment: Treatment | None = None, own: Any = ()) -> float:
    """FLOPs of one sample; with a treatment of one that it guides, `own` being the shapes of its state."""
    state = jax.eval_shape(family.init, jax.random.key(0))
    tuned = sampled_weights(family, state) if treatment is not None and treatment.tuner is not None else ()

    def draw(key, state, bias, tuned, own):
        how = {} if treatment is None else {"guide": treatment.guide(tuned, own)}
        return family.sample(key, state, _SAMPLES, bias, **how)

    bias = jax.ShapeDtypeStruct((), jnp.float32)
    return cost.estimate(draw, jax.random.key(0), state, bias, tuned, own).flops / _SAMPLES


def _called(treatment: Treatment, hook: str, source: Any, loop: Loop, state: Any) -> tuple[Any, tuple[Any, ...]]:
    """A hook, and shapes of the arguments that it has in a loop."""
    own, family = treatment.strategy, treatment.family
    number = lambda dtype: jax.ShapeDtypeStruct((), dtype)
    if hook == "init":
        order = jax.eval_shape(lambda key: source.order(key), jax.random.key(0))
        mine = dataclasses.replace(treatment, n_initial=loop.n_initial)
        return mine.init, (source, order, number(jnp.uint32), number(jnp.int32))
    if hook == "weigh":
        is_real = jax.ShapeDtypeStruct((sum(loop.union(2)),), jnp.bool)
        return own.weigh, (is_real, number(jnp.int32), number(jnp.int32))
    if hook == "select":
        n = max(loop.n_synthetic, 1)
        x, y = (
            jax.ShapeDtypeStruct((own.candidates, n, *source.shape), jnp.float32),
            jax.ShapeDtypeStruct((n,), jnp.int32),
        )
        return own.select, (jax.random.key(0), Samples(x, y), jax.ShapeDtypeStruct((n,), jnp.bool), state)
    if hook == "extrapolate":
        fitted = sampled_weights(family, jax.eval_shape(family.init, jax.random.key(0)))
        return own.extrapolate, (fitted, fitted)
    x = jax.ShapeDtypeStruct((_SAMPLES, *source.shape), jnp.float32)
    return own.guide, (x, x if treatment.tuner is not None else None, x, number(jnp.float32), state)


def _cost(treatment: Treatment, hook: str, source: Any, loop: Loop, state: Any) -> cost.Cost:
    """Of one call; nothing where there is no such hook, or no pool to select for."""
    if not treatment.has(hook) or (hook == "select" and not loop.n_synthetic):
        return cost.Cost(0, 0)
    function, arguments = _called(treatment, hook, source, loop, state)
    return cost.estimate(function, *arguments)


def _closed_over(treatment: Treatment, source: Any, loop: Loop, state: Any) -> int:
    """Numbers in the arrays that the hooks bring along as constants."""
    hooks = [hook for hook in HOOKS if treatment.has(hook)]
    calls = [_called(treatment, hook, source, loop, state) for hook in hooks]
    return sum(cost.constants(function, *arguments) for function, arguments in calls)
