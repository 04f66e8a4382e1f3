"""What data, models and metrics hand to each other: `Samples`, and what is known of their distribution."""

from typing import NamedTuple

import jax
import numpy as np


class Samples(NamedTuple):
    """A set of labelled samples.

    Attributes:
      x: float32 `[n, *shape]`; images lie in [-1, 1].
      y: int32 `[n]` class labels in `[0, num_classes)`, all 0 where there are no classes.
    """

    x: jax.Array
    y: jax.Array


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
