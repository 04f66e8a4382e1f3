"""What a model family is: three pure functions of one run.

Families do not know that `fleet` maps them over hundreds of runs. The one thing they may know of is their `Group`: the
devices among which the fleet divides the batch of a run where runs are fewer than devices.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from madbench import checks
from madbench.errors import UserError
from madbench.samples import Samples

# A frozen pytree with a field `params`: what the model has learned. Fine-tuning carries `params` into the next
# generation; everything else (optimizer, averages, counters) `init` makes anew.
State = Any


class Family(Protocol):
    """A model family.

    Attributes:
      segments: parts of one fit. The state carries its step, so that calls of `fit` with one key continue each other;
        between segments the host shows progress and can stop.
      steps: optimizer steps of one fit; 0 where the fit is exact.
      batch_size: samples per step; 0 where the fit takes the whole set.
      min_samples: smallest training set that can be fitted.
      bias_refusal: why λ below 1 means nothing to this model; "" where it does.
      bias_meaning: what λ does, for the table's notes, and whether the paper says so or it is ours.

    Strategies ask for more, which a family may have:
      takes_weights: True where `fit` heeds the weights of a training set: by its batches, or those of `everything`.
      sampled_with: names of the state's fields that `sample` reads, of weights that can be extrapolated.
      guidable: True where `sample` takes a `guide`, a `Guide`; `level_dtype` is then that of its noise levels.
      takes_steps: True where `fit` heeds the steps of a training set. A second fit also asks that the family is a
        dataclass with the fields `steps`, `learning_rate` and `given`.
      knows_labels: True where samples have the labels that they were drawn with.
    """

    segments: int
    steps: int
    batch_size: int
    min_samples: int
    bias_refusal: str
    bias_meaning: str

    def init(self, key: jax.Array) -> State:
        """A new model."""

    def fit(self, key: jax.Array, training_set: Any, state: State) -> tuple[State, jax.Array]:
        """Advances by one segment on `training_set` (`training_set.TrainingSet`), or by `Given.steps_per_call` steps.

        Returns:
          (state, curve float32 `[points]`): the training loss, averaged over equal parts of the segment.
        """

    def sample(self, key: jax.Array, state: State, n: int, bias: jax.Array) -> Samples:
        """`n` samples at sampling bias λ = `bias`, labels in equal numbers: 0, 1, 2, …, 0, 1, 2, …

        The first rows do not depend on `n`.
        """


class Guide(NamedTuple):
    """What changes the estimates of a diffusion model's sampler.

    Attributes:
      change: `(fitted, tuned, x, level) -> like fitted`, see `strategies.Strategy.guide`.
      tuned: other weights to sample with, as `sampled_weights` gives them, whose estimate is `tuned`; None for none.
    """

    change: Callable[..., jax.Array]
    tuned: Any


def sampled_weights(family: Family, state: State) -> tuple[Any, ...]:
    """What samples are drawn with: the fields of the state that `sampled_with` names."""
    return tuple(getattr(state, name) for name in family.sampled_with)


def with_sampled_weights(family: Family, state: State, weights: tuple[Any, ...]) -> State:
    """The state that draws its samples with `weights`."""
    return state._replace(**dict(zip(family.sampled_with, weights, strict=True)))


@dataclasses.dataclass(frozen=True)
class Group:
    """The devices that share one run. With one device, everything here is the identity.

    Attributes:
      axis: name of the mapped device axis.
      members: for each group, the indices of its devices on that axis.
    """

    axis: str | None = None
    members: tuple[tuple[int, ...], ...] = ()

    @property
    def size(self) -> int:
        return len(self.members[0]) if self.members else 1

    def part(self, batch: Any) -> Any:
        """This device's equal part of a batch `[n, ...]`; `n` is a multiple of the group's size."""
        if self.size == 1:
            return batch
        rank = jax.lax.axis_index(self.axis) % self.size  # members are consecutive
        cut = lambda a: jax.lax.dynamic_slice_in_dim(a, rank * (a.shape[0] // self.size), a.shape[0] // self.size)
        return jax.tree.map(cut, batch)

    def mean(self, tree: Any) -> Any:
        """The mean over the group, of gradients and losses."""
        if self.size == 1:
            return tree
        return jax.lax.pmean(tree, self.axis, axis_index_groups=[list(m) for m in self.members])

    def map_rows(self, function: Callable[[Any], jax.Array], rows: Any) -> jax.Array:
        """`function(rows)` for a row-wise function, each device computing its part; every device gets all rows."""
        if self.size == 1:
            return function(rows)
        n = jax.tree.leaves(rows)[0].shape[0]
        pad = -n % self.size
        padded = jax.tree.map(lambda a: a[jnp.arange(n + pad) % n] if pad else a, rows)
        out = function(self.part(padded))
        groups = [list(m) for m in self.members]
        return jax.lax.all_gather(out, self.axis, axis_index_groups=groups, tiled=True)[:n]


@dataclasses.dataclass(frozen=True)
class Given:
    """What a family is told of its data and of the plan.

    Attributes:
      shape: of one sample.
      num_classes: 0 where there are no labels.
      bounds: least and greatest value that the data can have; None where there are none.
      capacity: samples of the largest training set; 0 where unknown.
      group: the devices that share one run.
      steps_per_call: of the optimizer in a call of `fit`, 0 for a whole segment; a single one is no loop, for programs
        that are slow within one.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    bounds: tuple[float, float] | None = None
    capacity: int = 0
    group: Group = Group()
    steps_per_call: int = 0

    def labels(self, n: int) -> jax.Array:
        """The labels of `n` samples, int32 `[n]`: 0, 1, 2, …, 0, 1, 2, …; all 0 without classes."""
        return jnp.arange(n, dtype=jnp.int32) % max(self.num_classes, 1)

    def clipped(self, x: jax.Array) -> jax.Array:
        """`x` within the bounds, where there are any."""
        return jnp.clip(x, *self.bounds) if self.bounds else x

    def squashed(self, x: jax.Array) -> jax.Array:
        """`x` from the real line into the bounds, by a tanh, where there are any."""
        if not self.bounds:
            return x
        low, high = self.bounds
        return low + (high - low) * (1 + jnp.tanh(x)) / 2


check_whole = functools.partial(checks.check_whole, "config.model")
check_number = functools.partial(checks.check_number, "config.model")


def check_precision(dtype: Any, remat: Any) -> None:
    """Raises UserError unless `config.model.dtype` is a type that networks compute in, and `remat` True or False."""
    if dtype not in ("float32", "bfloat16", "float16"):
        raise UserError(f"config.model.dtype must be float32, bfloat16 or float16, not {dtype!r}")
    if type(remat) is not bool:
        raise UserError(f"config.model.remat must be True or False, not {remat!r}")
