"""An endless mixture of equal Gaussians on a grid, in one or two dimensions: the paper's 25 modes, by default."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from madbench.data.source import EndlessSource, check_number, check_whole, endless
from madbench.errors import UserError
from madbench.samples import ExactMoments, Modes, Samples


def load(
    modes_per_side: int = 5,
    dimension: int = 2,
    spacing: float = 2.0,
    deviation: float = 0.05,
    n_reference: int = 1000,
    split_seed: int = 0,
) -> EndlessSource:
    """Float32 `[n, dimension]`, no labels. The grid is centred at 0.

    The defaults are those of the field (Lin et al. 2018, "PacGAN", arXiv 1712.04086): standard deviation
    0.05 at (±4, ±4), (±4, ±2), …, (0, 0).

    Args:
      modes_per_side: modes along each axis.
      dimension: 1 or 2.
      spacing: between neighbouring modes.
      deviation: standard deviation of a mode along each axis.
      n_reference: samples drawn once for the metrics.
      split_seed: of that draw.
    """
    check_whole(1, modes_per_side=modes_per_side)
    if type(dimension) is not int or dimension not in (1, 2):
        raise UserError(f"config.data.dimension must be 1 or 2 for source 'mixture', not {dimension!r}")
    check_number(spacing, "spacing", above=0)
    check_number(deviation, "deviation", above=0)
    draw = GridMixture(modes_per_side, dimension, float(spacing), float(deviation))
    variant = f"[{modes_per_side}^{dimension}]"
    return endless(draw, name="mixture", variant=variant, n_reference=n_reference, split_seed=split_seed)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class GridMixture:
    """The mixture, as `source.Distribution`."""

    modes_per_side: int
    dimension: int
    spacing: float
    deviation: float

    def __call__(self, key: jax.Array) -> Samples:
        mode_key, noise_key = jax.random.split(key)
        cell = jax.random.randint(mode_key, (self.dimension,), 0, self.modes_per_side)
        centre = self.spacing * (cell - (self.modes_per_side - 1) / 2)
        return Samples(centre + self.deviation * jax.random.normal(noise_key, (self.dimension,)), jnp.int32(0))

    @property
    def _axis(self) -> list[float]:
        return [self.spacing * (i - (self.modes_per_side - 1) / 2) for i in range(self.modes_per_side)]

    @property
    def modes(self) -> Modes:
        """Within three standard deviations, the convention of the experiment with 25 Gaussians."""
        return Modes(tuple(itertools.product(self._axis, repeat=self.dimension)), 3 * self.deviation)

    @property
    def moments(self) -> ExactMoments:
        """Along each axis, the variance of the grid, spacing²(k² - 1)/12, and of a mode."""
        variance = self.spacing**2 * (self.modes_per_side**2 - 1) / 12 + self.deviation**2
        return ExactMoments(np.zeros(self.dimension), variance * np.eye(self.dimension))

    def density(self, x: np.ndarray) -> np.ndarray:
        """On a grid, the product over the axes of equal mixtures in one dimension."""
        standard = (np.asarray(x, np.float64)[:, :, None] - self._axis) / self.deviation
        by_axis = np.exp(-0.5 * standard**2).mean(axis=2) / (self.deviation * math.sqrt(2 * math.pi))
        return by_axis.prod(axis=1)
