"""What the device does in a streamed generation. The host reads ahead what `addresses` says, and hands over batches."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from madbench.generation import Cell, Generation, Kept, Shared, Work, clip, finite
from madbench.samples import Samples, decode, encode


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
      source, order: as in `TrainingSet`.
    """

    batches: Batches
    first: jax.Array
    size: jax.Array
    source: Any
    order: Any

    def batch(self, step: jax.Array, n: int) -> Samples:
        rows, address = jax.tree.map(lambda a: a[step - self.first], self.batches)
        rows = Samples(decode(rows.x), rows.y)
        if address is None:
            return rows
        real = self.source.at(self.order, jnp.maximum(address, 0))
        is_real = lambda a: (address >= 0).reshape(-1, *(1,) * (a.ndim - 1))
        return jax.tree.map(lambda r, s: jnp.where(is_real(s), r, s), real, rows)


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
        training_set = self._training_set(shared, cell, Kept(None, None, None), work, t)
        n = self.family.batches * self.family.batch_size
        steps = work.state.step + jnp.arange(self.family.steps // self.family.segments)
        drawn = jax.vmap(lambda step: training_set.drawn(step, n))(steps)
        return self._places(shared, work, work.address[drawn])

    def members(self, shared: Shared, cell: Cell, work: Work, t: jax.Array) -> jax.Array:
        """The whole training set, int32 `[capacity]`; what lies beyond its size is padding."""
        return self._places(shared, work, work.address)

    def fit(self, shared: Shared, cell: Cell, carry: tuple[Work, Batches], t: jax.Array) -> tuple[Work, jax.Array]:
        """As many steps as there are batches; also the loss curve."""
        work, batches = carry
        training_set = StreamedSet(batches, work.state.step, work.size, shared.source, work.order)
        state, curve = self.family.fit(self._fit_key(cell, t), training_set, work.state)
        return work._replace(state=state), curve

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

    def _places(self, shared: Shared, work: Work, address: jax.Array) -> jax.Array:
        """Addresses with the positions of real samples turned into places in the pool, where there is one."""
        if shared.source.available is None:
            return address
        return jnp.where(address >= 0, shared.source.index(work.order, jnp.maximum(address, 0)), address)
