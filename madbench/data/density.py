"""A source's exact density on a grid, for the picture of generations that drift from it."""

import jax.numpy as jnp
import numpy as np

from madbench.data.source import Source
from madbench.randomness import Role, key_for

_POINTS = {1: 512, 2: 256}  # along each axis, by dimension
_DRAWS = 2000  # beyond whose range there is next to nothing; the reference may be too few for that
_MARGIN = 0.1  # of their range, on either side


def density_grid(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """The true density over the range of 2,000 real samples, widened by 10 % of it on either side.

    Args:
      source: of samples of shape (1,) or (2,), with a density.

    Returns:
      (axes, density): float64 `[d, points]` and `[points]` or `[points, points]`, at (axes[0, i], axes[1, j]).
    """
    x = source.at(source.order(key_for(0, 0, Role.FLOOR)), jnp.arange(_DRAWS)).x
    x = np.asarray(x, np.float64)
    low, high = x.min(axis=0), x.max(axis=0)
    margin = _MARGIN * (high - low)
    points = _POINTS[x.shape[1]]
    axes = np.linspace(low - margin, high + margin, points, axis=1)
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return axes, source.density(mesh.reshape(-1, len(axes))).reshape(mesh.shape[:-1])
