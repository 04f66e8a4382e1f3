"""The endless standard Gaussian N(0, I) in any dimension: the paper's first experiments, with exact answers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from madbench.data.source import EndlessSource, fingerprint
from madbench.errors import UserError
from madbench.randomness import Role, key_for
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
            raise UserError(f"config.data.{name} must be a whole number of at least 1, not {value!r}")
    if type(split_seed) is not int or split_seed < 0:
        raise UserError(f"config.data.split_seed must be a whole number of at least 0, not {split_seed!r}")
    key = key_for(split_seed, 0, Role.REFERENCE)
    draw = StandardNormal(dimension)
    reference = jax.vmap(lambda i: draw(jax.random.fold_in(key, i)))(jnp.arange(n_reference))
    return EndlessSource(
        reference=reference,
        name="gaussian",
        num_classes=0,
        bounds=None,
        fingerprint=fingerprint(f"gaussian[{dimension}]", "1", None, np.asarray(reference.x)),
        draw=draw,
        density=standard_normal_density,
    )


def standard_normal_density(x: np.ndarray) -> np.ndarray:
    """Of N(0, I), float64 `[n, d]` -> `[n]`."""
    return np.exp(-0.5 * np.sum(x**2, axis=1)) / (2 * np.pi) ** (x.shape[1] / 2)


@dataclasses.dataclass(frozen=True)
class StandardNormal:
    """One sample of N(0, I); equal where the dimension is, so that equal sources are one program."""

    dimension: int

    def __call__(self, key: jax.Array) -> Samples:
        return Samples(jax.random.normal(key, (self.dimension,)), jnp.int32(0))
