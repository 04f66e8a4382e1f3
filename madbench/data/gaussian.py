"""The endless standard Gaussian N(0, I) in any dimension: the paper's first experiments, with exact answers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from madbench.data.source import EndlessSource, check_whole, endless
from madbench.samples import ExactMoments, Samples


def load(dimension: int = 100, n_reference: int = 1000, split_seed: int = 0) -> EndlessSource:
    """N(0, I), float32 `[n, dimension]`, no labels.

    Args:
      dimension: d.
      n_reference: samples drawn once for the metrics.
      split_seed: of that draw.
    """
    check_whole(1, dimension=dimension)
    draw = StandardNormal(dimension)
    return endless(draw, name="gaussian", variant=f"[{dimension}]", n_reference=n_reference, split_seed=split_seed)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class StandardNormal:
    """N(0, I), as `source.Distribution`."""

    dimension: int

    modes = None

    def __call__(self, key: jax.Array) -> Samples:
        return Samples(jax.random.normal(key, (self.dimension,)), jnp.int32(0))

    @property
    def moments(self) -> ExactMoments:
        return ExactMoments(np.zeros(self.dimension), np.eye(self.dimension))

    def density(self, x: np.ndarray) -> np.ndarray:
        squared = np.sum(np.asarray(x, np.float64) ** 2, axis=1)
        return np.exp(-0.5 * (squared + self.dimension * math.log(2 * math.pi)))
