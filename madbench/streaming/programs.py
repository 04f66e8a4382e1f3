"""What the device does in a streamed generation. The host reads ahead what `addresses` says, and hands over batches."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from madbench.generation import Cell, Generation, Kept, Shared, Work
from madbench.randomness import Role, key_for
from madbench.samples import Samples, decode
from madbench.training_set import choose, drawn


class Batches(NamedTuple):
    """What some steps read.

    Attributes:
      rows: as their source keeps them, x `[step, n, *shape]`, y `[step, n]`; of an endless source's real samples, which
        the device draws itself, zeros.
      address: int32 `[step, n]` where the source is endless, else None: from 0 on a position of the real stream.
    """

    rows: Samples
    address: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StreamedSet:
    """A training set of which the next few steps' batches are here; read as a `TrainingSet`.

    Attributes:
      batches: of steps `first`, `first` + 1, ….
      first, size: int32 scalars.
      steps: as in `TrainingSet`.
      source, order: as in `TrainingSet`.
    """

    batches: Batches
    first: jax.Array
    size: jax.Array
    source: Any
    order: Any
    steps: Any = None

    def batch(self, step: jax.Array, n: int) -> Samples:
        rows, address = jax.tree.map(lambda a: a[step - self.first], self.batches)
        rows = Samples(decode(rows.x), rows.y)
        if self.source.available is not None:
            return rows
        return choose(address, self.source.at(self.order, jnp.maximum(address, 0)), rows)


@dataclasses.dataclass(frozen=True)
class StreamedGeneration(Generation):
    """`Generation` in pieces between which the host reads and writes.

    `Kept.memory` holds the digests of the pools on disk instead of samples: uint8 `[slots, 32]`, 0 where there is none.
    """

    def blank(self, source: Any) -> Kept:
        kept = super().blank(source)
        return kept._replace(memory=jax.ShapeDtypeStruct((self.shapes.slots, 32), jnp.uint8))

    def addresses(self, shared: Shared, cell: Cell, work: Work, t: jax.Array) -> jax.Array:
        """What the next segment of the fit reads, int32 `[step, n]`: see `_places`."""
        key = key_for(cell.seed, t, Role.BATCH)
        n = self.family.batches * self.family.batch_size
        steps = work.state.step + jnp.arange(self.family.steps // self.family.segments)
        weight = None if isinstance(work.weight, tuple) else work.weight
        index = jax.vmap(lambda step: drawn(key, work.size, step, n, weight))(steps)
        return self._places(shared, work, work.address[index])

    def members(self, shared: Shared, cell: Cell, work: Work, t: jax.Array) -> jax.Array:
        """The whole training set, int32 `[capacity]`; what lies beyond its size is padding."""
        return self._places(shared, work, work.address)

    def fit(self, shared: Shared, cell: Cell, carry: tuple[Work, Batches], t: jax.Array) -> tuple[Work, jax.Array]:
        """As many steps as there are batches; also the loss curve."""
        work, batches = carry
        training_set = StreamedSet(
            batches, work.state.step, work.size, shared.source, work.order, cell.pace.fit if cell.pace else None
        )
        state, curve = self.family.fit(self._fit_key(cell, t), training_set, work.state)
        return work._replace(state=state), curve

    def _places(self, shared: Shared, work: Work, address: jax.Array) -> jax.Array:
        """Addresses with the positions of real samples turned into places in the pool, where there is one."""
        if shared.source.available is None:
            return address
        return jnp.where(address >= 0, shared.source.index(work.order, jnp.maximum(address, 0)), address)
