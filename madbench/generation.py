"""One generation of one run: begin, fit, refine where a strategy fits twice, finish, evaluate.

Pure functions that the fleet maps over a whole grid.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from madbench import loops, pool_copies
from madbench.metrics import Comparison, Evaluator, Training
from madbench.models import Family, Guide
from madbench.randomness import Role, key_for
from madbench.samples import Samples, decode, encode
from madbench.training_set import TrainingSet
from madbench.treatment import Treatment

# Training sets up to this many bytes are copied together before a segment of the fit: that costs one pass over the set
# and saves a third of each batch's reading (12 % of a step of the quickstart). Larger ones are read in place.
GATHER_BELOW = 2**26
# Synthetic samples that come from one key: at most so many, and so many numbers.
BLOCK, BLOCK_NUMBERS = 2**14, 2**26


class Pace(NamedTuple):
    """Optimizer steps of a run that pays for its strategy: int32 scalars, of the fit and of the second one."""

    fit: Any
    extra: Any


class Cell(NamedTuple):
    """One point of the grid as the program takes it.

    Attributes:
      loop: `loops.LoopInputs`.
      bias: float32 scalar, λ.
      seed: uint32 scalar.
      pace: `Pace`, where the runs of some loops have fewer steps than the family; else ().
    """

    loop: Any
    bias: Any
    seed: Any
    pace: Any = ()


class Shared(NamedTuple):
    """What all runs share.

    Attributes:
      source: of real samples.
      extractor: of features.
      reference: float32 features `[n_samples, feature]` of the reference part.
    """

    source: Any
    extractor: Any
    reference: Any


class Seen(NamedTuple):
    """What the metrics see of one generation.

    Attributes:
      generated: float32 features `[n_samples, feature]`, or the samples themselves where the host makes them features.
      training: of the generation's training set, likewise; None where no metric reads it.
    """

    generated: Any
    training: Training | None


class Kept(NamedTuple):
    """What a run carries from one generation to the next; with the seed, all that resuming needs.

    Attributes:
      memory: synthetic samples, `x [slots, rows, *shape]`, `y [slots, rows]`.
      params: weights for fine-tuning; empty where every loop starts from scratch.
      alive: bool scalar, False from the first generation that was not finite.
      weight: of the samples in the memory, float32 `[slots, rows]`; () where no strategy weighs them.
      strategy: what a strategy made once for the run.
    """

    memory: Samples
    params: Any
    alive: Any
    weight: Any = ()
    strategy: Any = ()


class Work(NamedTuple):
    """What lives within a generation: the model, and its training set's addresses, size and real stream.

    Of a strategy also the weights of the training set, what it made for the run, and what its second fit ended in; all
    () where it has none.
    """

    state: Any
    address: Any
    size: Any
    order: Any
    weight: Any = ()
    strategy: Any = ()
    tuned: Any = ()


@dataclasses.dataclass(frozen=True)
class Generation:
    """The functions, with everything static that they need.

    Attributes:
      family: the model family.
      shapes: static shapes that serve every loop of the grid.
      finetunes: whether any loop continues from the previous weights.
      evaluator: the metrics.
      n_samples: generated samples behind each metric.
      n_grid: samples of the fixed-noise grid; 0 for none.
      keeps_samples: whether the samples that the metrics see are handed over too.
      stepwise: a call of `fit` is one optimizer step.
      features_on_host: `finish` hands over samples, and the host makes them features before `evaluate`.
      treatment: a strategy against collapse; None for none.
    """

    family: Family
    shapes: loops.Dims
    finetunes: bool
    evaluator: Evaluator
    n_samples: int
    n_grid: int
    keeps_samples: bool = False
    stepwise: bool = False
    features_on_host: bool = False
    treatment: Treatment | None = None

    def blank(self, source: Any) -> Kept:
        """`Kept` before generation 1, as shapes; every array is then all zeros, and `alive` True."""
        rows = (self.shapes.slots, self.shapes.rows)
        x = jax.ShapeDtypeStruct((*rows, *source.shape), source.stored)
        memory = Samples(x, jax.ShapeDtypeStruct(rows, jnp.int32))
        params = jax.eval_shape(self.family.init, jax.random.key(0)).params if self.finetunes else ()
        kept = Kept(memory, params, jax.ShapeDtypeStruct((), jnp.bool))
        if self.treatment is None:
            return kept
        weight = jax.ShapeDtypeStruct(rows, jnp.float32) if self.treatment.weighs_pool(source) else ()
        return kept._replace(weight=weight, strategy=self.treatment.state(source))

    def begin(self, shared: Shared, cell: Cell, kept: Kept, t: jax.Array) -> Work:
        """A new model, or the previous weights in a new optimizer, and the training set."""
        state = self.family.init(key_for(cell.seed, t, Role.INIT))
        if self.finetunes:
            goes_on = cell.loop.finetune & (t > 1)
            params = jax.tree.map(lambda old, new: jnp.where(goes_on, old, new), kept.params, state.params)
            state = state._replace(params=params)
        order = shared.source.order(key_for(cell.seed, 0, Role.DATA))
        address, size = loops.compose(cell.loop, t, key_for(cell.seed, t, Role.COMPOSE), self.shapes)
        work = Work(state, address, size, order)
        if self.treatment is None:
            return work
        make = lambda: self.treatment.init(shared.source, order, cell.seed, cell.loop.n_initial)
        own = jax.lax.cond(t == 1, make, lambda: kept.strategy)  # a branch: all runs are in the same generation
        return work._replace(weight=self.treatment.weights(address, size, kept.weight), strategy=own)

    def fit(self, shared: Shared, cell: Cell, carry: tuple[Kept, Work], t: jax.Array) -> tuple[Work, jax.Array]:
        """One segment of the family's fit, or one step; also the loss curve."""
        kept, work = carry
        training_set = self._training_set(shared, cell, kept, work, t)
        if not self.stepwise and self.shapes.capacity * math.prod(shared.source.shape) * 4 <= GATHER_BELOW:
            training_set = training_set.gathered()
        state, curve = self.family.fit(self._fit_key(cell, t), training_set, work.state)
        return work._replace(state=state), curve

    @property
    def refines(self) -> bool:
        """Whether a strategy fits once more."""
        return self.treatment is not None and self.treatment.tuner is not None

    def refine(self, shared: Shared, cell: Cell, carry: tuple[Kept, Work], t: jax.Array) -> Work:
        """The strategy's second fit: the model that samples are drawn with."""
        work = carry[1]
        draw = lambda key, n: self._kept_as(shared, self._draw(shared, cell, work.state, key, n))
        steps = cell.pace.extra if cell.pace else None
        state, tuned = self.treatment.refine(cell.seed, t, cell.loop.n_initial, steps, work.state, draw)
        return work._replace(state=state, tuned=tuned)

    def finish(self, shared: Shared, cell: Cell, carry: tuple[Kept, Work], t: jax.Array) -> tuple[Kept, dict]:
        """Draws the generation's synthetic samples once: the memory keeps the first of them, the metrics see as many.

        A strategy that selects draws more for the memory, of what the metrics do not see.

        Returns:
          (kept, {"seen", "n_real", "n_synthetic", "n_real_seen", "alive"}), with a strategy that selects "n_passed",
          with one that changes the pool "pool_memorization"; of images the fixed-noise "grid" [n_grid, *shape], and
          where they are kept "samples" [n_samples, *shape], as they are stored: those that the metrics see.
        """
        kept, work = carry
        size = self.sampled_at_once(shared.source)
        draw = lambda index: self.sample(shared, cell, (work, index), t)
        if size == self.n_drawn:
            samples, good = draw(jnp.int32(0))
        else:
            samples, good = jax.lax.map(draw, jnp.arange(-(-self.n_drawn // size), dtype=jnp.int32))
            samples = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: self.n_drawn], samples)
        kept, out = self.close(shared, cell, (kept, work, jnp.all(good)), t)
        training = None
        if self.evaluator.needs_training:
            training = self._training(shared, self._training_set(shared, cell, kept, work, t))
        out["seen"] = Seen(self._features(shared, decode(samples.x[: self.n_samples])), training)
        if self.keeps_samples:
            out["samples"] = samples.x[: self.n_samples]
        if self.treatment is not None and self.treatment.has("select"):
            kept, samples = self._select(shared, cell, kept, work, samples, t, out)
        if self.treatment is not None and self.treatment.changes_pool:
            weight = kept.weight[(t - 1) % self.shapes.slots] if not isinstance(kept.weight, tuple) else ()
            out["pool_memorization"] = self._memorization(shared, cell, work, samples, weight, t)
        return kept._replace(memory=loops.remember(kept.memory, samples, t)), out

    def sample(
        self, shared: Shared, cell: Cell, carry: tuple[Work, jax.Array], t: jax.Array
    ) -> tuple[Samples, jax.Array]:
        """Block `carry[1]` of the generation's samples, as they are kept, and whether all that are seen are finite."""
        work, index = carry
        size = self.sampled_at_once(shared.source)
        samples = self._block(cell, work.state, size, key_for(cell.seed, t, Role.SAMPLE), index, self._guide(work))
        row = index * size + jnp.arange(size)
        seen = row < jnp.maximum(cell.loop.n_synthetic, self.n_samples)
        good = jnp.all(jnp.isfinite(samples.x.reshape(size, -1)), axis=1)
        x = encode(clip(samples.x, shared.source.bounds), shared.source.stored)
        return samples._replace(x=x), jnp.all(good | ~seen)

    def close(
        self, shared: Shared, cell: Cell, carry: tuple[Kept, Work, jax.Array], t: jax.Array
    ) -> tuple[Kept, dict[str, jax.Array]]:
        """What is kept, and what rows and pictures show; `carry[2]`: whether all samples were finite."""
        kept, work, good = carry
        n_real, n_synthetic = self._training_set(shared, cell, kept, work, t).counts()
        alive = kept.alive & good & finite(work.state)
        if not isinstance(work.weight, tuple):  # with weights that are no weights, anything would have been drawn
            alive &= jnp.all(jnp.isfinite(work.weight) & (work.weight >= 0))
        out = {"n_real": n_real, "n_synthetic": n_synthetic, "alive": alive, "n_real_seen": n_real}
        if self.treatment is not None and self.treatment.strategy.reads_real:
            is_fresh = (jnp.arange(work.address.shape[0]) < work.size) & (work.address >= cell.loop.n_initial)
            out["n_real_seen"] = cell.loop.n_initial + jnp.sum(is_fresh)
        if self.n_grid:
            out["grid"] = self._grid(shared, cell, work)
        params = work.state.params if self.finetunes else ()
        return kept._replace(params=params, alive=alive, strategy=work.strategy), out

    def sampled_at_once(self, source: Any) -> int:
        """Samples of one call of `sample`: a block, or all where they are fewer."""
        return min(self.block(source), self.n_drawn)

    def evaluate(self, shared: Shared, cell: Cell, seen: Seen, t: jax.Array) -> dict:
        """Each metric's state; traced with 64-bit types enabled."""
        labels = shared.source.reference.y
        return self.evaluator.states(Comparison(seen.generated, shared.reference, labels, seen.training))

    def block(self, source: Any) -> int:
        """How many samples come from one key, a multiple of the number of classes."""
        classes = max(source.num_classes, 1)
        return max(min(BLOCK, BLOCK_NUMBERS // math.prod(source.shape)) // classes, 1) * classes

    def _block(self, cell: Cell, state: Any, n: int, key: jax.Array, index: jax.Array, guide: Guide | None) -> Samples:
        """The first `n` samples of block `index`: what one block holds does not depend on how many there are."""
        return self._sample(cell, state, n, jnp.where(index > 0, jax.random.fold_in(key, index), key), guide)

    def _sample(self, cell: Cell, state: Any, n: int, key: jax.Array, guide: Guide | None) -> Samples:
        how = {} if guide is None else {"guide": guide}  # not every family knows of guides
        return self.family.sample(key, state, n, cell.bias, **how)

    def _draw(self, shared: Shared, cell: Cell, state: Any, key: jax.Array, n: int, guide: Any = None) -> Samples:
        """`n` samples, block by block."""
        size = min(self.block(shared.source), n)
        draw = lambda index: self._block(cell, state, size, key, index, guide)
        if size == n:
            return draw(jnp.int32(0))
        samples = jax.lax.map(draw, jnp.arange(-(-n // size), dtype=jnp.int32))
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n], samples)

    def _kept_as(self, shared: Shared, samples: Samples) -> Samples:
        """Samples as they would be after they were kept: images within their bounds, of 256 levels."""
        x = encode(clip(samples.x, shared.source.bounds), shared.source.stored)
        return samples._replace(x=jnp.where(jnp.isfinite(samples.x), decode(x), samples.x))

    def _guide(self, work: Work) -> Guide | None:
        return None if self.treatment is None else self.treatment.guide(work.tuned, work.strategy)

    def _select(self, shared, cell, kept, work, samples, t, out) -> tuple[Kept, Samples]:
        """The strategy's choice in the place of `samples`, as they are kept; what is counted of it goes into `out`."""
        treatment, n = self.treatment, cell.loop.n_synthetic
        draw = lambda key, rows: self._kept_as(
            shared, self._draw(shared, cell, work.state, key, rows, self._guide(work))
        )
        first = jax.tree.map(lambda a: a[: self.shapes.rows], samples)
        pool, good = treatment.select(cell.seed, t, first._replace(x=decode(first.x)), n, work.strategy, draw)
        whole = jnp.all(jnp.isfinite(pool.samples.x.reshape(self.shapes.rows, -1)), axis=1)
        alive = kept.alive & good & jnp.all(whole | (jnp.arange(self.shapes.rows) >= n))
        x = encode(clip(pool.samples.x, shared.source.bounds), shared.source.stored)
        out["alive"], out["n_passed"] = alive, pool.passed
        weight = kept.weight
        if not isinstance(pool.weight, tuple):
            weight = kept.weight.at[(t - 1) % self.shapes.slots].set(pool.weight)
        return kept._replace(alive=alive, weight=weight), pool.samples._replace(x=x)

    def _memorization(self, shared, cell, work, samples, weight, t) -> jax.Array:
        """Of what enters the pool; see `pool_copies`."""
        x = decode(samples.x[: self.shapes.rows])
        real = lambda positions: shared.source.at(work.order, positions).x
        sizes = (cell.loop.n_synthetic, cell.loop.n_initial)
        return pool_copies.memorization(cell.seed, t, x, weight, real, *sizes, self.treatment.n_initial)

    @property
    def n_drawn(self) -> int:
        """Synthetic samples of a generation."""
        return max(self.n_samples, self.shapes.rows)

    def _fit_key(self, cell: Cell, t: jax.Array) -> jax.Array:
        return key_for(cell.seed, t, Role.FIT)

    def _grid(self, shared: Shared, cell: Cell, work: Work) -> jax.Array:
        """The fixed-noise grid, `[n_grid, *shape]`."""
        grid = self._sample(cell, work.state, self.n_grid, key_for(cell.seed, 0, Role.GRID), self._guide(work))
        return clip(grid.x, shared.source.bounds)

    def _features(self, shared: Shared, x: jax.Array) -> jax.Array:
        return x if self.features_on_host else shared.extractor(x).astype(jnp.float32)

    def _training(self, shared: Shared, training_set: TrainingSet) -> Training:
        """Padding is 0 before it is seen, so that it cannot be the one feature that is not finite."""
        samples, _ = training_set.everything()
        return Training(self._features(shared, samples.x), training_set.size)

    def _training_set(self, shared: Shared, cell: Cell, kept: Kept, work: Work, t: jax.Array) -> TrainingSet:
        key = key_for(cell.seed, t, Role.BATCH)
        weight = None if isinstance(work.weight, tuple) else work.weight
        steps = cell.pace.fit if cell.pace else None
        return TrainingSet(work.address, work.size, shared.source, work.order, kept.memory, key, weight, steps)


def see(seen: Seen, function: Callable[[Any], Any]) -> Seen:
    """`Seen` with `function` applied to its samples."""
    training = seen.training and seen.training._replace(features=function(seen.training.features))
    return Seen(function(seen.generated), training)


def finite(tree: Any) -> jax.Array:
    """Whether all numbers in `tree` are."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))


def clip(x: jax.Array, bounds: tuple[float, float] | None) -> jax.Array:
    """To the range of the data, as writing an image file would; NaN stays NaN."""
    return jnp.clip(x, *bounds) if bounds else x
