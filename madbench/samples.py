"""What data, models and metrics hand to each other: `Samples`, and what is known of their distribution."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Samples(NamedTuple):
    """A set of labelled samples.

    Attributes:
      x: float32 `[n, *shape]`; images lie in [-1, 1]. Where real images are stored, also uint8: see `decode`.
      y: int32 `[n]` class labels in `[0, num_classes)`, all 0 where there are no classes.
    """

    x: jax.Array
    y: jax.Array


def encode(x: jax.Array, dtype: np.dtype) -> jax.Array:
    """`x` as it is kept: images in [-1, 1] as the 256 levels of a file where `dtype` is uint8, others as they are."""
    return jnp.round((x + 1) * 127.5).astype(jnp.uint8) if dtype == np.uint8 else x.astype(dtype)


def decode(x: Any) -> Any:
    """Images of 8 bits as float32 in [-1, 1]: 0 is -1, 255 is 1. Anything else as it is. NumPy or traced arrays.

    (2x - 255) / 255 as one product of a whole number, which is rounded once: so NumPy and every compiled program agree
    to the bit. Of x / 127.5 - 1 a compiler makes a fused x * (1 / 127.5) - 1, which differs at 205 of the 256 levels.
    """
    return (x.astype(np.float32) * 2 - 255) * np.float32(1 / 255) if x.dtype == np.uint8 else x


def without_padding(samples: Samples, member: jax.Array) -> Samples:
    """`samples [n]` with zeros where they are not members: other loops' samples are not this run's to read."""
    zeroed = lambda a: jnp.where(member.reshape(-1, *(1,) * (a.ndim - 1)), a, 0)
    return jax.tree.map(zeroed, samples)


class Modes(NamedTuple):
    """The modes of a real distribution. Hashable, so that it can be a static field.

    Attributes:
      centres: one tuple of d numbers per mode.
      radius: a sample at most this far from a centre belongs to that mode.
    """

    centres: tuple[tuple[float, ...], ...]
    radius: float


class ExactMoments(NamedTuple):
    """Of a real distribution itself: mean float64 `[d]` and covariance float64 `[d, d]`."""

    mean: np.ndarray
    covariance: np.ndarray
