"""A strategy at work in one generation of one run: what its hooks are handed, and what becomes of what they return."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from madbench.models import Family, Guide, sampled_weights, with_sampled_weights
from madbench.randomness import Role, key_for
from madbench.samples import Samples, without_padding
from madbench.strategies import Strategy, arguments, has
from madbench.training_set import GatheredSet, levels


class Pool(NamedTuple):
    """What a strategy lets into the pool of one generation.

    Attributes:
      samples: x float32 `[rows, *shape]`, y int32 `[rows]`.
      weight: float32 `[rows]` in later training objectives; () where all count alike.
      passed: int32 scalar, how many of the run's have a weight above 0.
    """

    samples: Samples
    weight: Any
    passed: jax.Array


@dataclasses.dataclass(frozen=True)
class Treatment:
    """Pure functions that `generation.Generation` calls, each for a hook that the strategy has.

    Attributes:
      strategy: what is done.
      family: the model family.
      tuner: the same, of the strategy's second fit; None where there is none.
      n_initial: most real samples of generation 1, of any loop: places of `real`, and of the second fit's set.
    """

    strategy: Strategy
    family: Family
    tuner: Family | None
    n_initial: int

    def has(self, hook: str) -> bool:
        """Whether the strategy overrides it."""
        return has(self.strategy, hook)

    @property
    def changes_pool(self) -> bool:
        """Whether other samples may enter the pool than the fitted model alone would draw."""
        return any(map(self.has, ("select", "extrapolate", "guide")))

    def weighs_pool(self, source: Any) -> bool:
        """Whether `select` gives weights beside samples."""
        if not self.has("select"):
            return False
        n = self.strategy.given.num_classes or 1
        return len(jax.eval_shape(self._select, *arguments.select(self.strategy, n, self.state(source)))) == 2

    # ---- once for a run --------------------------------------------------------------------------------------------

    def init(self, source: Any, order: Any, seed: jax.Array, n_initial: jax.Array) -> Any:
        """The strategy's state; see `Strategy.init`. `n_initial`: of this run."""
        real = member = None
        if self.strategy.reads_real:
            positions = jnp.arange(self.n_initial, dtype=jnp.int32)
            member = positions < n_initial
            real = without_padding(source.at(order, positions), member)
            if not self.strategy.given.num_classes:  # the model knows no labels, so that they would mislead
                real = real._replace(y=jnp.zeros_like(real.y))
        return self.strategy.init(key_for(seed, 0, Role.STRATEGY), real, member)

    def state(self, source: Any) -> Any:
        """Its shapes."""
        seed = jax.ShapeDtypeStruct((), jnp.uint32)
        order = jax.eval_shape(lambda seed: source.order(key_for(seed, 0, Role.DATA)), seed)
        return jax.eval_shape(self.init, source, order, seed, jax.ShapeDtypeStruct((), jnp.int32))

    # ---- the training objective ------------------------------------------------------------------------------------

    def weights(self, address: jax.Array, size: jax.Array, pooled: Any) -> Any:
        """Of the training set at `address [capacity]`, with the sum `size`; () where all members count alike.

        Args:
          address, size: as `loops.compose` makes them.
          pooled: weights of the synthetic memory, `[slots, rows]`, or ().
        """
        if not self.has("weigh") and isinstance(pooled, tuple):
            return ()
        member, is_real = jnp.arange(address.shape[0]) < size, address >= 0
        weight = jnp.ones(address.shape[0])
        if not isinstance(pooled, tuple):
            weight = jnp.where(is_real, 1.0, pooled.reshape(-1)[jnp.maximum(-1 - address, 0)])
        if self.has("weigh"):
            count = lambda which: jnp.sum(member & which).astype(jnp.int32)
            weight = weight * self.strategy.weigh(is_real, count(is_real), count(~is_real)).astype(jnp.float32)
        level = levels(jnp.where(member, weight, 0.0))
        return level * (size / level.astype(jnp.uint32).sum())

    # ---- the fitted model ------------------------------------------------------------------------------------------

    def refine(
        self, seed: jax.Array, t: jax.Array, size: jax.Array, steps: Any, state: Any, draw: Callable
    ) -> tuple[Any, Any]:
        """The strategy's second fit, and what follows from it.

        Args:
          seed: of the run.
          t: int32 scalar, the generation.
          size: int32 scalar, how many samples the second fit sees, at most `n_initial`.
          steps: int32 scalar, its optimizer steps; None for all of the tuner's.
          state: of the fitted model.
          draw: `(key, n) -> Samples`, from that model, as they would be kept.

        Returns:
          (state of the model that samples are drawn with, weights that `guide` needs beside it or ()).
        """
        draws, batches, begins, noise = jax.random.split(key_for(seed, t, Role.EXTRA_FIT), 4)
        own = GatheredSet(draw(draws, self.n_initial), size, batches, steps=steps)
        begin = self.tuner.init(begins)._replace(params=_averaged(self.family, state))
        step = lambda state, _: (self.tuner.fit(noise, own, state)[0], None)
        end, _ = jax.lax.scan(step, begin, length=self.tuner.segments)
        tuned = sampled_weights(self.tuner, end)
        if self.has("extrapolate"):
            fitted = sampled_weights(self.family, state)
            state = with_sampled_weights(self.family, state, self.strategy.extrapolate(fitted, tuned))
        return state, tuned if self.has("guide") else ()

    def guide(self, tuned: Any, state: Any) -> Guide | None:
        """What the sampler is handed; `tuned` as `refine` gives it, `state` the strategy's."""
        if not self.has("guide"):
            return None
        change = lambda fitted, other, x, level: self.strategy.guide(fitted, other, x, level, state)
        return Guide(change, tuned or None)

    # ---- the pool --------------------------------------------------------------------------------------------------

    def select(
        self, seed: jax.Array, t: jax.Array, first: Samples, n: jax.Array, state: Any, draw: Callable
    ) -> tuple[Pool, jax.Array]:
        """The pool of a generation, and whether all candidates were finite, and weights are weights.

        Args:
          seed: of the run.
          t: int32 scalar, the generation.
          first: the candidates that would enter without a strategy, x float32 `[rows, *shape]`.
          n: int32 scalar, how many of the places are this run's.
          state: of the strategy.
          draw: `(key, rows) -> Samples`, more of them from the same model.
        """
        rows, member = first.y.shape[0], jnp.arange(first.y.shape[0]) < n
        x = first.x[None]
        if self.strategy.candidates > 1:
            key = key_for(seed, t, Role.CANDIDATES)
            more = lambda i: draw(jax.random.fold_in(key, i), rows).x
            x = jnp.concatenate([x, jax.lax.map(more, jnp.arange(self.strategy.candidates - 1))])
        seen = member.reshape(1, -1, *(1,) * (x.ndim - 2))
        good = jnp.all(jnp.isfinite(x) | ~seen)
        x = jnp.where(seen, x, 0)  # nobody has paid for what is drawn for other loops
        y = first.y if self.strategy.given.num_classes else jnp.zeros_like(first.y)
        samples, *weight = self._select(key_for(seed, t, Role.SELECT), Samples(x, y), member, state)
        passed = n
        if weight:
            passed = jnp.sum(member & ~(weight[0] <= 0))  # what is no number is no filter: the run ends for it
            good &= jnp.all(jnp.isfinite(weight[0]) & (weight[0] >= 0) | ~member)
        return Pool(samples, weight[0] if weight else (), passed.astype(jnp.int32)), good

    def _select(self, key: jax.Array, candidates: Samples, member: jax.Array, state: Any) -> tuple[Any, ...]:
        """(samples,) or (samples, weights), as the hook gives them."""
        found = self.strategy.select(key, candidates, member, state)
        samples, *weight = (found,) if isinstance(found, Samples) else found
        samples = Samples(samples.x.astype(jnp.float32), samples.y.astype(jnp.int32))
        return samples, *(w.astype(jnp.float32) for w in weight)


def _averaged(family: Family, state: Any) -> Any:
    """The weights to go on from: those that samples are drawn with, as far as `params` holds them."""
    params = state.params
    drawn = sampled_weights(family, state)[0]
    if jax.tree.structure(drawn) == jax.tree.structure(params):
        return drawn
    if isinstance(params, dict) and isinstance(drawn, dict) and drawn.keys() <= params.keys():
        return {**params, **drawn}
    return params
