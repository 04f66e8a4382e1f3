"""A source's exact density on a grid, for the picture of generations that drift from it."""

import numpy as np

from madbench.data.source import Source

_POINTS = {1: 512, 2: 256}  # along each axis, by dimension
_MARGIN = 0.1  # of the reference's range, on either side


def density_grid(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """The true density over the range of the reference, widened by 10 % of it on either side.

    Args:
      source: of samples of shape (1,) or (2,), with a density.

    Returns:
      (axes, density): float64 `[d, points]` and `[points]` or `[points, points]`, at (axes[0, i], axes[1, j]).
    """
    x = np.asarray(source.reference.x, np.float64)
    low, high = x.min(axis=0), x.max(axis=0)
    # a single reference sample has no range
    margin = np.where(high > low, _MARGIN * (high - low), 1.0)
    points = _POINTS[x.shape[1]]
    axes = np.linspace(low - margin, high + margin, points, axis=1)
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return axes, source.density(mesh.reshape(-1, len(axes))).reshape(mesh.shape[:-1])
