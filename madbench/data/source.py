"""The two kinds of source: a finite set, split once, and an endless distribution.

Both answer the same questions. A run meets real samples at *positions* 0, 1, 2, … of its own stream: `order(key)` fixes
the stream, `at(order, positions)` reads it. Sources are pytrees, so their arrays are inputs of the compiled program
and not constants inside it.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from madbench import checks
from madbench.errors import UserError
from madbench.randomness import Role, key_for
from madbench.samples import ExactMoments, Modes, Samples, decode


class Source(Protocol):
    """What `experiment` needs of a source.

    Attributes:
      name: as in the tables.
      shape: of one sample; `(height, width, channels)` for images.
      num_classes: 0 where there are no labels.
      bounds: `(-1.0, 1.0)` for images: what a model samples is clipped to it, as writing an image file would. Else
        None.
      pool: the training pool on the host, as it is stored: `x` is uint8 or float32, see `samples.decode`; it may be a
        view of a file that is larger than memory. None where endless.
      available: real samples in that pool, None where endless.
      stored: dtype in which samples are kept: uint8 for images of 256 levels, else float32.
      reference: the samples that metrics compare with; never trained on.
      fingerprint: name, version, count and sha256 of the data.
      density: the exact probability density, on the host: float64 NumPy `[n, d] -> [n]`; None where unknown.
      modes: of the distribution; None where it has none to count.
      moments: of the distribution; None where unknown.
      examples: labelled real samples to train a feature network on, none of them in the reference; None where there
        are no labels and no pool.
    """

    name: str
    shape: tuple[int, ...]
    num_classes: int
    bounds: tuple[float, float] | None
    pool: Samples | None
    available: int | None
    stored: np.dtype
    reference: Samples
    fingerprint: dict[str, Any]
    density: Callable[[np.ndarray], np.ndarray] | None
    modes: Modes | None
    moments: ExactMoments | None
    examples: Samples | None

    def order(self, key: jax.Array) -> Any:
        """The stream of real samples of one run."""

    def at(self, order: Any, positions: jax.Array) -> Samples:
        """The real samples at `positions` (int32 `[n]`) of that stream. Traceable."""


def _static():
    return dataclasses.field(metadata={"static": True})


class Frozen(dict):
    """A dict that can be hashed, as static fields of a pytree must be."""

    def __hash__(self):
        return hash(tuple(sorted((k, str(v)) for k, v in self.items())))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FiniteSource:
    """A set in memory, or in a file that is mapped there: a training pool and a reference part, disjoint.

    The pool keeps its bytes, of images a quarter of what float32 needs; `at` decodes what it reads.
    """

    pool: Samples
    reference: Samples
    name: str = _static()
    num_classes: int = _static()
    bounds: tuple[float, float] | None = _static()
    fingerprint: dict[str, Any] = _static()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pool.x.shape[1:]

    @property
    def density(self) -> None:
        return None

    @property
    def modes(self) -> None:
        return None

    @property
    def moments(self) -> None:
        return None

    @property
    def available(self) -> int:
        return self.pool.y.shape[0]

    @property
    def stored(self) -> np.dtype:
        return np.dtype(self.pool.x.dtype)

    @property
    def examples(self) -> Samples:
        return self.pool

    def order(self, key: jax.Array) -> jax.Array:
        """A permutation of the pool, int32 `[available]`."""
        return jax.random.permutation(key, jnp.arange(self.available, dtype=jnp.int32))

    def at(self, order: jax.Array, positions: jax.Array) -> Samples:
        """Positions past the end start over; `experiment` refuses that unless `reuse_fresh` allows it."""
        index = self.index(order, positions)
        if isinstance(index, jax.core.Tracer):  # NumPy's arrays cannot be indexed by what is traced
            return Samples(decode(jnp.asarray(self.pool.x)[index]), jnp.asarray(self.pool.y)[index])
        index = np.asarray(index)  # reads these rows of a mapped file, and no others
        return Samples(jnp.asarray(decode(self.pool.x[index])), jnp.asarray(self.pool.y[index]))

    def index(self, order: jax.Array, positions: jax.Array) -> jax.Array:
        """Which sample of the pool lies at each position."""
        return order[positions % self.available]

    def without_images(self) -> "FiniteSource":
        """The same set, its pool's images left on the host: for programs that are handed their batches."""
        return dataclasses.replace(self, pool=self.pool._replace(x=np.zeros((0, *self.shape), self.stored)))


class Distribution(Protocol):
    """What an endless source draws from: a pytree.

    Its arrays, if it draws with any, are inputs of the compiled program; the rest is equal by value, so that equal
    sources are one program. A frozen dataclass is one by `jax.tree_util.register_static`, one with arrays by
    `register_dataclass`.

    Attributes:
      modes: None where there are none to count.
      moments: None where they are not known.
      density: `x [n, d]` -> the probability density at each, `[n]`, on the host, in float64; None where unknown.
    """

    modes: Modes | None
    moments: ExactMoments | None
    density: Callable[[np.ndarray], np.ndarray] | None

    def __call__(self, key: jax.Array) -> Samples:
        """One sample, x `[*shape]`, y `[]`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EndlessSource:
    """A distribution with exact sampling: every position of every stream is a new sample."""

    reference: Samples
    name: str = _static()
    num_classes: int = _static()
    bounds: tuple[float, float] | None = _static()
    fingerprint: dict[str, Any] = _static()
    draw: Distribution

    @property
    def shape(self) -> tuple[int, ...]:
        return self.reference.x.shape[1:]

    @property
    def density(self) -> Callable[[np.ndarray], np.ndarray] | None:
        return self.draw.density

    @property
    def modes(self) -> Modes | None:
        return self.draw.modes

    @property
    def moments(self) -> ExactMoments | None:
        return self.draw.moments

    @property
    def pool(self) -> None:
        return None

    @property
    def available(self) -> None:
        return None

    @property
    def stored(self) -> np.dtype:
        return np.dtype(np.uint8 if self.bounds else np.float32)

    @property
    def examples(self) -> Samples | None:
        """Drawn each time; the same for every reference, so that tasks of one distribution share a network."""
        return _draw(self.draw, key_for(0, 0, Role.EXAMPLES), jnp.arange(_EXAMPLES)) if self.num_classes else None

    def without_images(self) -> "EndlessSource":
        return self

    def order(self, key: jax.Array) -> jax.Array:
        """The raw key of the stream, so that it is an ordinary array in checkpoints."""
        return jax.random.key_data(key)

    def at(self, order: jax.Array, positions: jax.Array) -> Samples:
        return _draw(self.draw, jax.random.wrap_key_data(order), positions)


_EXAMPLES = 10_000
_NUMBERS_AT_ONCE = 2**18  # of samples that are drawn at a time: what renders an image takes many times its memory


def _draw(draw: Distribution, key: jax.Array, positions: jax.Array) -> Samples:
    """The samples at `positions` (int32 `[n]`) of the stream of `key`, images some at a time."""
    one = lambda p: draw(jax.random.fold_in(key, p))
    shape = jax.eval_shape(one, positions[0]).x.shape
    at_once = max(_NUMBERS_AT_ONCE // math.prod(shape), 1)
    if len(shape) < 3 or len(positions) <= at_once:
        return jax.vmap(one)(positions)
    return jax.lax.map(one, positions, batch_size=at_once)


def endless(
    draw: Distribution,
    *,
    name: str,
    variant: str = "",
    num_classes: int = 0,
    bounds: tuple[float, float] | None = None,
    n_reference: int,
    split_seed: int,
) -> EndlessSource:
    """An endless source, its reference part drawn once.

    Args:
      draw: the distribution.
      name: as in the tables.
      variant: follows the name in the fingerprint, where one name stands for several distributions.
      num_classes: of its labels; 0 where there are none.
      bounds: of its samples, for images.
      n_reference: samples for the metrics.
      split_seed: of their draw.

    Raises:
      UserError: settings out of range; one line.
    """
    check_whole(1, n_reference=n_reference)
    check_whole(0, split_seed=split_seed)
    reference = _draw(draw, key_for(split_seed, 0, Role.REFERENCE), jnp.arange(n_reference))
    # Rendered images may differ by a grey level between processors; what they are made of does not.
    data = [np.asarray(leaf) for leaf in jax.tree.leaves(draw)] or [np.asarray(reference.x)]
    return EndlessSource(
        reference=reference,
        name=name,
        num_classes=num_classes,
        bounds=bounds,
        fingerprint=fingerprint(name + variant, "1", None, *data),
        draw=draw,
    )


check_whole = functools.partial(checks.check_whole, "config.data")
check_number = functools.partial(checks.check_number, "config.data")


def split(
    x: np.ndarray, y: np.ndarray, *, name: str, version: str, num_classes: int, n_reference: int, split_seed: int
) -> FiniteSource:
    """Splits an image set once, by a seeded permutation, into reference part and training pool.

    Args:
      x: uint8 `[n, height, width, channels]`, or float32 in [-1, 1] where the data have no 8 bits.
      y: int32 `[n]`.
      name: as in the tables.
      version: of the data.
      num_classes: 0 where there are no labels.
      n_reference: size of the reference part.
      split_seed: of the permutation.

    Raises:
      UserError: the reference part leaves nothing to train on.
    """
    check_split(name, len(x), n_reference, split_seed)
    order = permutation(len(x), split_seed)
    found = fingerprint(name, version, len(x), x, y)
    return parted(x[order], y[order], num_classes=num_classes, n_reference=n_reference, fingerprint=found)


def check_split(name: str, count: int, n_reference: int, split_seed: int) -> None:
    """Raises UserError (one line) where `count` samples cannot be split so."""
    check_whole(0, split_seed=split_seed)
    if type(n_reference) is not int or not 0 < n_reference < count:
        asked = f"config.data.n_reference={n_reference}"
        raise UserError(f"{asked} must leave training data of the {count} samples in {name}; {at_most_a_third(count)}")


def at_most_a_third(count: int) -> str:
    """What to do about a reference part that is too large for `count` samples: the floors draw two more such sets."""
    return f"set it to {count // 3} or less, a third of them" if count >= 3 else "there must be three or more"


def permutation(count: int, split_seed: int) -> np.ndarray:
    """int64 `[count]`: the order in which a set is parted into reference and pool."""
    return np.random.default_rng(split_seed).permutation(count)


def parted(
    x: np.ndarray, y: np.ndarray, *, num_classes: int, n_reference: int, fingerprint: dict[str, Any]
) -> FiniteSource:
    """A set that lies in the order of its permutation: the pool is a view of what follows the reference.

    Args:
      x: uint8 or float32 `[n, height, width, channels]`, as in `split`; may be mapped from a file.
      y: int32 `[n]`.
      num_classes: 0 where there are no labels.
      n_reference: size of the reference part.
      fingerprint: of the set, as `fingerprint` makes it.
    """
    return FiniteSource(
        pool=Samples(x[n_reference:], y[n_reference:]),
        reference=Samples(jnp.asarray(decode(x[:n_reference])), jnp.asarray(y[:n_reference])),
        name=fingerprint["name"],
        num_classes=num_classes,
        bounds=(-1.0, 1.0),
        fingerprint=Frozen(fingerprint),
    )


def fingerprint(name: str, version: str, count: int | None, *arrays: np.ndarray) -> dict[str, Any]:
    """Name, version, count and a sha256 over the arrays' bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str((array.dtype, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return Frozen(name=name, version=version, count=count, sha256=digest.hexdigest())
