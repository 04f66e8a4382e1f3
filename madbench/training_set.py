"""A generation's training set as a model family reads it: batches, or everything, through `loops`' addresses."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from madbench.samples import Samples, decode, without_padding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """D^t, read through its addresses: nothing is copied until a batch is drawn.

    Attributes:
      address: int32 `[capacity]`, as `loops.compose` makes them.
      size: int32 scalar; entries from `size` on are padding.
      source: where real samples come from; has `at(order, positions) -> Samples`.
      order: the run's order of real samples, as `source.order` made it.
      memory: synthetic samples, `x [slots, rows, *shape]`, `y [slots, rows]`.
      key: of the batches. It is the set's own, so that what a step reads is known without the model: a set beyond
        memory can be read ahead.
      weight: float32 `[capacity]` in the training objective, 0 for padding, with the sum `size`; None where all
        members count alike. Batches are drawn in proportion, which in expectation weighs any loss.
      steps: int32 scalar, optimizer steps of this run's fit, at most those of the family; None for all of them.
    """

    address: jax.Array
    size: jax.Array
    source: Any
    order: Any
    memory: Samples
    key: jax.Array
    weight: jax.Array | None = None
    steps: jax.Array | None = None

    def rows(self, index: jax.Array) -> Samples:
        """The samples at `index` (int32 `[n]`, below `size`)."""
        return self._read(self.address[index])

    def batch(self, step: jax.Array, n: int) -> Samples:
        """The `n` samples of optimizer step `step`, drawn with replacement: uniformly, or by the weights."""
        return self.rows(self.drawn(step, n))

    def drawn(self, step: jax.Array, n: int) -> jax.Array:
        """Which samples those are, int32 `[n]`, below `size`."""
        return drawn(self.key, self.size, step, n, self.weight)

    def everything(self) -> tuple[Samples, jax.Array]:
        """All samples `[capacity, ...]`, and their weights: 0.0 for padding, whose samples are 0; for members 1.0, or
        where they differ `weight`."""
        return _weighted(self._read(self.address), self.size, self.weight)

    def gathered(self) -> "GatheredSet":
        """A copy with all samples side by side: dearer in memory, and cheaper for each batch."""
        return GatheredSet(self._read(self.address), self.size, self.key, self.weight, self.steps)

    def counts(self) -> tuple[jax.Array, jax.Array]:
        """How many members are real and how many synthetic, counted from the addresses."""
        member = jnp.arange(self.address.shape[0]) < self.size
        return jnp.sum(member & (self.address >= 0)), jnp.sum(member & (self.address < 0))

    def _read(self, address: jax.Array) -> Samples:
        real = self.source.at(self.order, jnp.maximum(address, 0))
        row = jnp.maximum(-1 - address, 0)
        x, y = (leaf.reshape(-1, *leaf.shape[2:])[row] for leaf in self.memory)
        return choose(address, real, Samples(decode(x), y))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GatheredSet:
    """A `TrainingSet` whose samples `[capacity, ...]` have been copied together; read in the same way."""

    samples: Samples
    size: jax.Array
    key: jax.Array
    weight: jax.Array | None = None
    steps: jax.Array | None = None

    def rows(self, index: jax.Array) -> Samples:
        return jax.tree.map(lambda leaf: leaf[index], self.samples)

    batch, drawn = TrainingSet.batch, TrainingSet.drawn

    def everything(self) -> tuple[Samples, jax.Array]:
        return _weighted(self.samples, self.size, self.weight)


def drawn(key: jax.Array, size: jax.Array, step: jax.Array, n: int, weight: jax.Array | None = None) -> jax.Array:
    """Which of `size` samples step `step` reads, int32 `[n]`: with replacement, uniformly or by `weight [capacity]`."""
    key = jax.random.fold_in(key, step)
    if weight is None:
        return jax.random.randint(key, (n,), 0, size)
    level = levels(weight).astype(jnp.uint32)
    ends = jnp.cumsum(level)
    place = _below(jax.random.bits(key, (n,)), ends[-1])
    weighted = jnp.minimum(jnp.searchsorted(ends, place, side="right"), size - 1).astype(jnp.int32)
    # Weights that are all the same are none: runs then share their batches with those that have none.
    member = jnp.arange(weight.shape[0]) < size
    differ = level.max() > jnp.where(member, level, level.max()).min()
    return jnp.where(differ, weighted, jax.random.randint(key, (n,), 0, size))


def _below(bits: jax.Array, end: jax.Array) -> jax.Array:
    """floor(bits * end / 2**32), all uint32: uniform below `end`. Of the modulo of `randint`, a member of a set with a
    large sum would be drawn several percent too often."""
    (a, b), (c, d) = ((x >> 16, x & 0xFFFF) for x in (bits, end))
    middle = (a * d & 0xFFFF) + (b * c & 0xFFFF) + (b * d >> 16)
    return a * c + (a * d >> 16) + (b * c >> 16) + (middle >> 16)


def levels(weight: jax.Array) -> jax.Array:
    """`weight [capacity]` as whole numbers in float32, the largest 2**20, or less where there are more than 4,095.

    Sums of whole numbers are exact in any order. Those of fractions are not: a boundary between two members would lie
    elsewhere where more or fewer runs are computed beside this one, and a batch would have another sample. Levels of
    levels, times anything, are the same ones.
    """
    return jnp.round(weight / weight.max() * 2.0 ** min(20, 32 - weight.shape[0].bit_length()))


def choose(address: jax.Array, real: Samples, synthetic: Samples) -> Samples:
    """Of two samples for each address, the one that it says."""
    is_real = lambda a: (address >= 0).reshape(-1, *(1,) * (a.ndim - 1))
    return jax.tree.map(lambda r, s: jnp.where(is_real(r), r, s), real, synthetic)


def _weighted(samples: Samples, size: jax.Array, weight: jax.Array | None) -> tuple[Samples, jax.Array]:
    member = jnp.arange(samples.y.shape[0]) < size
    return without_padding(samples, member), member.astype(jnp.float32) if weight is None else weight
