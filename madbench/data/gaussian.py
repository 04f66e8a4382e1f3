"""The endless standard Gaussian N(0, I) in any dimension: the paper's first experiments, with exact answers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from madbench.data.source import EndlessSource, fingerprint
from madbench.samples import Samples


def load(dimension: int = 100, n_reference: int = 1000, split_seed: int = 0) -> EndlessSource:
    """N(0, I), float32 `[n, dimension]`, no labels.

    Args:
      dimension: d.
      n_reference: samples drawn once for the metrics.
      split_seed: of that draw.
    """
    for name, value in (("dimension", dimension), ("n_reference", n_reference)):
        if type(value) is not int or value < 1:
            raise ValueError(f"config.data.{name} must be a whole number of at least 1, not {value!r}")
    key = jax.random.fold_in(jax.random.key(split_seed), 0x7EF)  # apart from every run's stream
    draw = functools.partial(_draw, dimension)
    reference = jax.vmap(lambda i: draw(jax.random.fold_in(key, i)))(jnp.arange(n_reference))
    return EndlessSource(
        reference=reference,
        name="gaussian",
        num_classes=0,
        bounds=None,
        fingerprint=fingerprint(f"gaussian[{dimension}]", "1", None, np.asarray(reference.x)),
        draw=draw,
    )


def _draw(dimension: int, key: jax.Array) -> Samples:
    return Samples(jax.random.normal(key, (dimension,)), jnp.int32(0))
