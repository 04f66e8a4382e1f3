"""What a generation costs a run.

FLOPs are those of matrix products, as `cost` counts them, of the fit, the pool, and whatever a strategy adds: samples
that it draws and does not keep, a second fit, network evaluations of its sampler, its own hooks. What the metrics need
(samples beyond the pool, features) is no cost of a method. Nothing here is declared by a strategy: all is read off the
programs that run.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from madbench import cost
from madbench.loops import Loop
from madbench.models import sampled_weights
from madbench.samples import Samples
from madbench.strategies import HOOKS, arguments
from madbench.training_set import GatheredSet
from madbench.treatment import Treatment

_SAMPLES = 64  # whose cost is divided by their number


@dataclasses.dataclass(frozen=True)
class Account:
    """Of one loop. All FLOPs are of one generation of one run.

    Attributes:
      step: of one optimizer step; of an exact fit, of the whole.
      steps: of one fit; 1 where it is exact.
      extra_steps: of the second fit; 0 where there is none.
      sample: of the samples of the pool, with all that are drawn for it.
      own_sample: of those that the second fit is made on.
      hooks: of what a strategy's hooks compute themselves, but for `init` and what guides each sample.
      init: of what a strategy makes in generation 1, once.
      parameters: numbers that a strategy holds beside the model: its state, a second model that guides, and the arrays
        that its hooks close over.
    """

    step: float
    steps: int
    extra_steps: int
    sample: float
    own_sample: float
    hooks: int
    init: int
    parameters: int

    def flops(self, t: int) -> int:
        """Of generation `t`, from 1."""
        return round(self.step * (self.steps + self.extra_steps) + self.fixed + (self.init if t == 1 else 0))

    @property
    def fixed(self) -> float:
        """What does not depend on the steps, in each generation."""
        return self.sample + self.own_sample + self.hooks


def accounts(
    treatment: Treatment | None, family: Any, source: Any, loops: Iterable[Loop], generations: int, step: float
) -> dict[str, Account]:
    """The account of each loop, by name, with all optimizer steps.

    Args:
      treatment: of the strategy; None for none.
      family: the model family.
      source: of real samples.
      loops: whose sizes count.
      generations: T.
      step: FLOPs of one optimizer step; not looked at where the fit is exact.
    """
    loops = list(loops)
    plain = _sampling(family)
    state = () if treatment is None else treatment.state(source)
    guided = plain if treatment is None or not treatment.has("guide") else _sampling(family, treatment, state)
    tuner = None if treatment is None else treatment.tuner
    found = {}
    for loop in loops:
        account = Account(
            step=step if family.steps else _exact_fit(family, source, loop, generations),
            steps=family.steps or 1,
            extra_steps=0 if tuner is None else tuner.steps or 1,
            sample=guided.of(loop.n_synthetic, 1 if treatment is None else treatment.strategy.candidates),
            own_sample=0.0 if tuner is None else plain.of(loop.n_initial),
            hooks=0,
            init=0,
            parameters=0,
        )
        if treatment is not None:
            flops = {hook: _cost(treatment, hook, source, loop, state).flops for hook in HOOKS}
            account = dataclasses.replace(
                account,
                hooks=flops["weigh"] + flops["select"] + flops["extrapolate"],
                init=flops["init"],
                parameters=_held(treatment, source, loop, state),
            )
        found[loop.name] = account
    return found


def _held(treatment: Treatment, source: Any, loop: Loop, state: Any) -> int:
    """Numbers of the strategy's state, of a second model that guides, and in arrays that the hooks bring along."""
    family = treatment.family
    count = _numbers(dataclasses.replace(treatment, n_initial=loop.n_initial).state(source))
    if treatment.has("guide") and treatment.tuner is not None:
        count += _numbers(sampled_weights(family, jax.eval_shape(family.init, jax.random.key(0))))
    calls = [_called(treatment, hook, source, loop, state) for hook in HOOKS if treatment.has(hook)]
    return count + sum(cost.constants(function, *handed) for function, handed in calls)


def _numbers(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


class _Sampling(NamedTuple):
    """FLOPs of drawing samples: of one, and of one draw of any number."""

    each: float
    once: float

    def of(self, n: int, draws: int = 1) -> float:
        """Of `draws` draws of `n` samples."""
        return draws * (self.each * n + self.once) if n else 0.0


def _sampling(family: Any, treatment: Treatment | None = None, own: Any = ()) -> _Sampling:
    """With a treatment of samples that it guides, `own` being the shapes of its state."""
    state = jax.eval_shape(family.init, jax.random.key(0))
    tuned = sampled_weights(family, state) if treatment is not None and treatment.tuner is not None else ()

    def flops(n):
        def draw(key, state, bias, tuned, own):
            how = {} if treatment is None else {"guide": treatment.guide(tuned, own)}
            return family.sample(key, state, n, bias, **how)

        return cost.estimate(draw, jax.random.key(0), state, jax.ShapeDtypeStruct((), jnp.float32), tuned, own).flops

    one, two = flops(_SAMPLES), flops(2 * _SAMPLES)
    return _Sampling((two - one) / _SAMPLES, 2 * one - two)


def _exact_fit(family: Any, source: Any, loop: Loop, generations: int) -> float:
    """FLOPs of a fit to the loop's largest training set."""
    n = max(loop.size(t) for t in range(1, generations + 1))
    samples = Samples(jax.ShapeDtypeStruct((n, *source.shape), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32))
    fit = lambda key, state, samples, size: family.fit(key, GatheredSet(samples, size, key), state)
    key, size = jax.random.key(0), jax.ShapeDtypeStruct((), jnp.int32)
    return cost.estimate(fit, key, jax.eval_shape(family.init, key), samples, size).flops * family.segments


def _called(treatment: Treatment, hook: str, source: Any, loop: Loop, state: Any) -> tuple[Any, tuple[Any, ...]]:
    """A hook, and shapes of the arguments that it has in a loop."""
    own, family = treatment.strategy, treatment.family
    return getattr(own, hook), {
        "init": lambda: arguments.init(own, loop.n_initial),
        "weigh": lambda: arguments.weigh(sum(loop.union(2))),
        "select": lambda: arguments.select(own, max(loop.n_synthetic, 1), state),
        "extrapolate": lambda: arguments.extrapolate(family),
        "guide": lambda: arguments.guide(own, family, _SAMPLES, state),
    }[hook]()


def _cost(treatment: Treatment, hook: str, source: Any, loop: Loop, state: Any) -> cost.Cost:
    """Of one call; nothing where there is no such hook, or no pool to select for."""
    if not treatment.has(hook) or (hook == "select" and not loop.n_synthetic):
        return cost.Cost(0, 0)
    function, handed = _called(treatment, hook, source, loop, state)
    return cost.estimate(function, *handed)
