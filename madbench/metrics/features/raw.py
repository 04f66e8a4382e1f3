"""The samples themselves as features: for vectors, and for images where pixels are to be compared."""

import math

import jax

from madbench.metrics.features.extractor import Extractor


def check(shape: tuple[int, ...], num_classes: int) -> None:
    """Takes anything."""


def dim(shape: tuple[int, ...], cache: str = "") -> int:
    """Number of features: of numbers in a sample."""
    return math.prod(shape)


def build(pool, num_classes: int, cache: str) -> Extractor:
    """There is nothing to train."""
    return Extractor(params=(), function=_flatten, label="raw-1")


def _flatten(params, x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)
