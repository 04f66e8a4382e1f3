"""Nearest neighbours of sets of any size: screened in float32, decided in float64.

A tile of pairs is one float32 matrix product, twice as fast as float64 on a CPU and much more on most accelerators,
with a bound on its error. What the bound cannot decide (one pair in some ten thousand) is computed again: the squared
difference itself, in float64. So the answers are exact, those of `neighbours`, at the cost of float32; of a set against
itself half the tiles are enough. Tiles are dealt out to all local devices, and never more than a few are held.

Error bound (Higham 2002, equation 3.5, with ab ≤ (a² + b²)/2): a dot product of d numbers is off by at most
d u (‖a‖² + ‖b‖²)/2, u = 2⁻²⁴, in whatever order it is summed; centring and norms add a few u.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from madbench.metrics.neighbours import Cross

SPARE = 3  # candidates beyond those asked for, so that rounding seldom leaves a row undecided
PAIRS = 2**20  # numbers of the pairs whose differences are taken at once


@dataclasses.dataclass(frozen=True)
class Engine:
    """`within`, `nearest` and `cross` as in `neighbours`, of NumPy arrays, on the host; NumPy results.

    Attributes:
      devices: to share the tiles.
      tile: rows and columns of a tile, at most.
    """

    devices: tuple[Any, ...] = dataclasses.field(default_factory=lambda: tuple(jax.local_devices()))
    tile: int = 1024

    def within(self, points: np.ndarray, k: int, size: int | None = None) -> np.ndarray:
        """Squared distance of each of `points [n, d]` to its k-th other, float64 `[n]`; NaN for padding past `size`."""
        points = np.asarray(points, np.float32)
        members = points[: points.shape[0] if size is None else int(size)]
        found = np.full(points.shape[0], np.nan)
        found[: len(members)] = self._neighbours(members, members, k, same=True)[1][:, k - 1]
        return found

    def nearest(self, queries: np.ndarray, points: np.ndarray, size: int | None = None) -> tuple[np.ndarray, ...]:
        """Each query's nearest point: (int32 index `[n]`, squared distance float64 `[n]`)."""
        points = np.asarray(points, np.float32)
        points = points[: points.shape[0] if size is None else int(size)]
        index, squared = self._neighbours(np.asarray(queries, np.float32), points, 1, same=False)
        return index[:, 0].astype(np.int32), squared[:, 0]

    def cross(self, queries, points, query_radii, point_radii) -> Cross:
        """See `neighbours.cross`."""
        queries, points = np.asarray(queries, np.float32), np.asarray(points, np.float32)
        query_radii, point_radii = np.asarray(query_radii, np.float64), np.asarray(point_radii, np.float64)
        n, m = len(queries), len(points)
        counts = np.zeros((2, n), np.int64)  # closed, open
        covered, reached = np.zeros(m, bool), np.zeros(m, bool)
        rows, columns = self._sides(queries, points)
        for row, column, tile in self._tiles(rows, columns, partial(_balls, query_radii, point_radii), same=False):
            hits, covers, reaches, unclear = (np.asarray(leaf) for leaf in tile)
            i, j = row.members, column.members
            counts[:, i] += hits[:, : row.size]
            covered[j] |= covers[: column.size]
            reached[j] |= reaches[: column.size]
            a, b = np.nonzero(unclear[: row.size, : column.size])
            a, b = a + row.start, b + column.start
            for part in range(0, len(a), PAIRS):  # copies tie by the million
                x, y = a[part : part + PAIRS], b[part : part + PAIRS]
                kind = unclear[x - row.start, y - column.start]
                squared = differences(queries, points, x, y)
                by_point, by_query = (kind & 1) > 0, (kind & 2) > 0
                closed, strictly = squared <= point_radii[y], squared < point_radii[y]
                np.add.at(counts[0], x[by_point & closed], 1)
                np.add.at(counts[1], x[by_point & strictly], 1)
                covered[y[by_point & strictly]] = True
                reached[y[by_query & (squared <= query_radii[x])]] = True
        return Cross(*counts.astype(np.int32), covered, reached)

    # ---- k nearest -------------------------------------------------------------------------------------------------

    def _neighbours(self, queries, points, k: int, same: bool) -> tuple[np.ndarray, np.ndarray]:
        """Indices int64 and squared distances float64 `[n, k]`, nearest first; of the `same` set, of the others."""
        n, m = len(queries), len(points)
        count = min(k + SPARE, m - same)
        best = _Best(n, count)
        rows, columns = self._sides(queries, points)
        for row, column, tile in self._tiles(rows, columns, partial(_candidates, count, same), same):
            by_row, by_column = tile
            best.offer(row.members, *(np.asarray(leaf)[: row.size] for leaf in by_row), column.start)
            if same and row.start != column.start:
                best.offer(column.members, *(np.asarray(leaf)[: column.size] for leaf in by_column), row.start)
        query = np.repeat(np.arange(n), count)
        squared = differences(queries, points, query, best.index.ravel()).reshape(n, count)
        index, squared = _sorted(best.index, squared)
        # All that were left out are at least as far as the last candidate's lower bound.
        decided = (squared[:, k - 1] <= best.bound[:, -1]) | (squared[:, k - 1] == 0) | (count == m - same)
        for i in np.flatnonzero(~decided):
            index[i, :k], squared[i, :k] = _row(queries[i], points, k, int(i) if same else None)
        return index[:, :k], squared[:, :k]

    def _sides(self, queries, points) -> tuple[list["_Side"], list["_Side"]]:
        """Both sets cut into tiles' sides, centred: what is near 0 is exact. A set against itself is cut once."""
        centre = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        rows = _cut(queries, centre, self.tile)
        return rows, rows if points is queries else _cut(points, centre, self.tile)

    def _tiles(self, rows, columns, function: Callable, same: bool) -> Iterator[tuple["_Side", "_Side", Any]]:
        """(row side, column side, what `function` finds there), with as many tiles under way as devices and one more.

        Of the `same` set, tiles on and above the diagonal.
        """
        under_way: collections.deque = collections.deque()
        for i, row in enumerate(rows):
            device = self.devices[i % len(self.devices)]
            x = jax.device_put((row.x, row.squares), device)
            for column in columns[i if same else 0 :]:
                under_way.append((row, column, function(row, column, x)))
                if len(under_way) > len(self.devices):
                    yield under_way.popleft()
        yield from under_way


class _Side(NamedTuple):
    """Rows `start` to `start + size` of a set, centred, padded to the size of a tile's side; padding is far away."""

    start: int
    size: int
    x: np.ndarray  # float32 [side, d]
    squares: np.ndarray  # float32 [side], ∞ for padding

    @property
    def members(self) -> slice:
        return slice(self.start, self.start + self.size)


def _cut(x: np.ndarray, centre: np.ndarray, most: int) -> list[_Side]:
    n = len(x)
    parts = -(-n // most)
    side = -(-n // parts)
    found = []
    for start in range(0, n, side):
        part = x[start : start + side] - centre
        squares = np.full(side, np.inf, np.float32)
        squares[: len(part)] = np.einsum("ij,ij->i", part, part, dtype=np.float64)
        found.append(_Side(start, len(part), np.pad(part, ((0, side - len(part)), (0, 0))), squares))
    return found


class _Best:
    """The candidates of each row with the smallest lower bounds so far."""

    def __init__(self, n: int, count: int):
        self.bound = np.full((n, count), np.inf, np.float32)
        self.index = np.zeros((n, count), np.int64)

    def offer(self, rows: slice, bounds: np.ndarray, index: np.ndarray, offset: int) -> None:
        """Takes candidates `[rows, c]` of one tile, whose columns begin at `offset`."""
        all_bounds = np.concatenate([self.bound[rows], bounds], axis=1)
        all_index = np.concatenate([self.index[rows], index + offset], axis=1)
        order = np.argsort(all_bounds, axis=1, kind="stable")[:, : self.bound.shape[1]]
        self.bound[rows] = np.take_along_axis(all_bounds, order, axis=1)
        self.index[rows] = np.take_along_axis(all_index, order, axis=1)


# ---- tiles, on device, in float32 ------------------------------------------------------------------------------------


def _relative_bound(d: int) -> float:
    """Twice the bound of the module's docstring over ‖a‖² + ‖b‖²: some accelerators' float32 is made of pieces."""
    return (d + 16) * 2.0**-23


def _approximate(x, y, x_squares, y_squares) -> tuple[jax.Array, jax.Array]:
    """Squared distances float32 `[a, b]` and their norms' sum, which scales the bound of the error."""
    norms = x_squares[:, None] + y_squares[None, :]
    return norms - 2 * jnp.matmul(x, y.T, precision="highest"), norms


def _candidates(count: int, same: bool, row: _Side, column: _Side, x):
    return _nearest_of_tile(*x, column.x, column.squares, count, same, row.start == column.start)


@partial(jax.jit, static_argnums=(4, 5, 6))
def _nearest_of_tile(x, x_squares, y, y_squares, count: int, same: bool, diagonal: bool):
    """(lower bounds, column indices) `[a, c]` of each row's nearest; likewise of each column's, of the same set."""
    squared, norms = _approximate(x, y, x_squares, y_squares)
    lower = squared - _relative_bound(x.shape[1]) * norms
    lower = jnp.where(jnp.isfinite(norms), lower, jnp.inf)
    if same and diagonal:
        lower = jnp.where(jnp.eye(*lower.shape, dtype=bool), jnp.inf, lower)
    smallest = lambda v: jax.lax.top_k(-v, min(count, v.shape[1]))
    negative, index = smallest(lower)
    by_row = (-negative, index)
    if not same or diagonal:
        return by_row, ()
    negative, index = smallest(lower.T)
    return by_row, (-negative, index)


def _balls(query_radii, point_radii, row: _Side, column: _Side, x):
    radii = []
    for side, given in ((row, query_radii), (column, point_radii)):
        padded = np.full(len(side.x), -1.0, np.float32)
        padded[: side.size] = given[side.members]
        radii.append(padded)
    return _balls_of_tile(*x, column.x, column.squares, *radii)


@jax.jit
def _balls_of_tile(x, x_squares, y, y_squares, x_radii, y_radii):
    """What is certain, and what is not.

    Returns:
      (int32 `[2, a]`: columns' balls that hold each row, closed and open; bool `[b]`: columns whose ball holds a row;
      bool `[b]`: columns in a row's ball; uint8 `[a, b]`: 1 where the column's ball is unclear, 2 where the row's is).
    """
    squared, norms = _approximate(x, y, x_squares, y_squares)
    error = _relative_bound(x.shape[1]) * norms

    def compare(radii):
        slack = error + 2.0**-22 * radii  # the radius itself was rounded to float32
        inside, outside = squared + slack < radii, squared - slack > radii
        return inside, ~inside & ~outside & jnp.isfinite(norms)

    inside, unclear = compare(y_radii[None, :])
    of_row, unclear_row = compare(x_radii[:, None])
    hits = jnp.sum(inside, axis=1, dtype=jnp.int32)
    kinds = unclear.astype(jnp.uint8) + 2 * unclear_row.astype(jnp.uint8)
    return jnp.stack([hits, hits]), jnp.any(inside, axis=0), jnp.any(of_row, axis=0), kinds


# ---- decisions, in float64 -------------------------------------------------------------------------------------------


@jax.jit
def _squared_difference(a, b):
    return jnp.sum((a.astype(jnp.float64) - b.astype(jnp.float64)) ** 2, axis=1)


def differences(a: np.ndarray, b: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """‖a_i - b_j‖² in float64 of pairs of rows `i [p]`, `j [p]`: `[p]`.

    By one program on blocks of one size, so that equal pairs have equal distances wherever they stand.
    """
    found = np.empty(len(i))
    size = max(1, PAIRS // a.shape[1])
    for start in range(0, len(i), size):
        part = slice(start, start + size)
        pad = (0, size - len(i[part]))
        with jax.enable_x64(True):
            squared = _squared_difference(a[np.pad(i[part], pad)], b[np.pad(j[part], pad)])
        found[part] = np.asarray(squared)[: len(i[part])]
    return found


def _row(query: np.ndarray, points: np.ndarray, k: int, itself: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of one row by the differences themselves, for rows that float32 cannot decide."""
    index = np.arange(len(points)) if itself is None else np.delete(np.arange(len(points)), itself)
    squared = differences(query[None], points, np.zeros(len(index), np.int64), index)
    order = np.argsort(squared, kind="stable")[:k]
    return index[order], squared[order]


def _sorted(index: np.ndarray, squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((index, squared), axis=1)
    return np.take_along_axis(index, order, axis=1), np.take_along_axis(squared, order, axis=1)
