"""`Samples`: the one shape in which data, models and metrics hand images to each other."""

from typing import NamedTuple

import jax


class Samples(NamedTuple):
    """A set of labelled samples.

    Attributes:
      x: float32 `[n, *shape]`; images lie in [-1, 1].
      y: int32 `[n]` class labels in `[0, num_classes)`, all 0 where there are no classes.
    """

    x: jax.Array
    y: jax.Array
