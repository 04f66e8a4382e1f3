"""One generation of one run: begin, fit, finish, evaluate. Pure functions that the fleet maps over a whole grid."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from madbench import loops
from madbench.metrics import Comparison, Evaluator, Training
from madbench.models import Family
from madbench.randomness import Role, key_for
from madbench.samples import Samples, decode, encode
from madbench.training_set import TrainingSet

# Training sets up to this many bytes are copied together before a segment of the fit: that costs one pass over the set
# and saves a third of each batch's reading (12 % of a step of the quickstart). Larger ones are read in place.
GATHER_BELOW = 2**26
# Synthetic samples that come from one key: at most so many, and so many numbers.
BLOCK, BLOCK_NUMBERS = 2**14, 2**26


class Cell(NamedTuple):
    """One point of the grid as the program takes it.

    Attributes:
      loop: `loops.LoopInputs`.
      bias: float32 scalar, λ.
      seed: uint32 scalar.
    """

    loop: Any
    bias: Any
    seed: Any


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
    """

    memory: Samples
    params: Any
    alive: Any


class Work(NamedTuple):
    """What lives within a generation: the model, and its training set's addresses, size and real stream."""

    state: Any
    address: Any
    size: Any
    order: Any


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

    def blank(self, source: Any) -> Kept:
        """`Kept` before generation 1, as shapes; every array is then all zeros, and `alive` True."""
        rows = (self.shapes.slots, self.shapes.rows)
        x = jax.ShapeDtypeStruct((*rows, *source.shape), source.stored)
        memory = Samples(x, jax.ShapeDtypeStruct(rows, jnp.int32))
        params = jax.eval_shape(self.family.init, jax.random.key(0)).params if self.finetunes else ()
        return Kept(memory, params, jax.ShapeDtypeStruct((), jnp.bool))

    def begin(self, shared: Shared, cell: Cell, kept: Kept, t: jax.Array) -> Work:
        """A new model, or the previous weights in a new optimizer, and the training set."""
        state = self.family.init(key_for(cell.seed, t, Role.INIT))
        if self.finetunes:
            goes_on = cell.loop.finetune & (t > 1)
            params = jax.tree.map(lambda old, new: jnp.where(goes_on, old, new), kept.params, state.params)
            state = state._replace(params=params)
        order = shared.source.order(key_for(cell.seed, 0, Role.DATA))
        address, size = loops.compose(cell.loop, t, key_for(cell.seed, t, Role.COMPOSE), self.shapes)
        return Work(state, address, size, order)

    def fit(self, shared: Shared, cell: Cell, carry: tuple[Kept, Work], t: jax.Array) -> tuple[Work, jax.Array]:
        """One segment of the family's fit, or one step; also the loss curve."""
        kept, work = carry
        training_set = self._training_set(shared, cell, kept, work, t)
        if not self.stepwise and self.shapes.capacity * math.prod(shared.source.shape) * 4 <= GATHER_BELOW:
            training_set = training_set.gathered()
        state, curve = self.family.fit(self._fit_key(cell, t), training_set, work.state)
        return work._replace(state=state), curve

    def finish(self, shared: Shared, cell: Cell, carry: tuple[Kept, Work], t: jax.Array) -> tuple[Kept, dict]:
        """Draws the generation's synthetic samples once: the memory keeps the first of them, the metrics see as many.

        Returns:
          (kept, {"seen", "n_real", "n_synthetic", "alive"}), of images the fixed-noise "grid" [n_grid, *shape], and
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
        return kept._replace(memory=loops.remember(kept.memory, samples, t)), out

    def sample(
        self, shared: Shared, cell: Cell, carry: tuple[Work, jax.Array], t: jax.Array
    ) -> tuple[Samples, jax.Array]:
        """Block `carry[1]` of the generation's samples, as they are kept, and whether all that are seen are finite."""
        work, index = carry
        size = self.sampled_at_once(shared.source)
        samples = self.drawn_block(cell, work.state, size, t, index)
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
        out = {"n_real": n_real, "n_synthetic": n_synthetic, "alive": alive}
        if self.n_grid:
            out["grid"] = self._grid(shared, cell, work)
        return kept._replace(params=work.state.params if self.finetunes else (), alive=alive), out

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

    def drawn_block(self, cell: Cell, state: Any, n: int, t: jax.Array, index: jax.Array) -> Samples:
        """The first `n` samples of block `index`: what one block holds does not depend on how many there are."""
        key = key_for(cell.seed, t, Role.SAMPLE)
        key = jnp.where(index > 0, jax.random.fold_in(key, index), key)
        return self.family.sample(key, state, n, cell.bias)

    @property
    def n_drawn(self) -> int:
        """Synthetic samples of a generation."""
        return max(self.n_samples, self.shapes.rows)

    def _fit_key(self, cell: Cell, t: jax.Array) -> jax.Array:
        return key_for(cell.seed, t, Role.FIT)

    def _grid(self, shared: Shared, cell: Cell, work: Work) -> jax.Array:
        """The fixed-noise grid, `[n_grid, *shape]`."""
        grid = self.family.sample(key_for(cell.seed, 0, Role.GRID), work.state, self.n_grid, cell.bias)
        return clip(grid.x, shared.source.bounds)

    def _features(self, shared: Shared, x: jax.Array) -> jax.Array:
        return x if self.features_on_host else shared.extractor(x).astype(jnp.float32)

    def _training(self, shared: Shared, training_set: TrainingSet) -> Training:
        """Padding is 0 before it is seen, so that it cannot be the one feature that is not finite."""
        samples, weight = training_set.everything()
        return Training(self._features(shared, samples.x), weight.sum().astype(jnp.int32))

    def _training_set(self, shared: Shared, cell: Cell, kept: Kept, work: Work, t: jax.Array) -> TrainingSet:
        key = key_for(cell.seed, t, Role.BATCH)
        return TrainingSet(work.address, work.size, shared.source, work.order, kept.memory, key)


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
