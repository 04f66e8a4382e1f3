"""Nearest neighbours of sets of any size: screened in float32, decided in float64.

A tile of pairs is one float32 matrix product, twice as fast as float64 on a CPU and much more on most accelerators,
with a bound on its error. What the bound cannot decide (one pair in some ten thousand) is computed again: the squared
difference itself, in float64. So the answers are exact, at the cost of float32; of a set against itself half the tiles
are enough. Rows whose neighbours are too close to each other for float32, as in a generator that has collapsed to a few
images, are screened once more in float64, where the bound is 2⁻²⁹ of it. Tiles are dealt out to all local devices, and
never more than a few are held.

Error bound (Higham 2002, equation 3.5, with ab ≤ (a² + b²)/2): a dot product of d numbers is off by at most
d u (‖a‖² + ‖b‖²)/2, u = 2⁻²⁴, in whatever order it is summed; centring and norms add a few u. Sets are scaled by a
power of two, so that nothing overflows; what underflows is bounded too.
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

SKETCH = 128  # points whose median is the centre
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
        """Squared distance of each of `points [n, d]` to its k-th other, float64 `[n]`; NaN for padding past `size`.

        ∞ where there are no k others.
        """
        points = np.asarray(points, np.float32)
        members = points[: points.shape[0] if size is None else int(size)]
        found = np.full(points.shape[0], np.nan)
        enough = len(members) > k
        found[: len(members)] = self._neighbours(members, members, k, same=True)[1][:, k - 1] if enough else np.inf
        return found

    def nearest(self, queries: np.ndarray, points: np.ndarray, size: int | None = None) -> tuple[np.ndarray, ...]:
        """Each query's nearest point: (int32 index `[n]`, squared distance float64 `[n]`).

        Of equally near ones the first; of copies of the query any.
        """
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
        rows, columns, scale = self._sides(queries, points, np.float32)
        radii = (query_radii * scale**2, point_radii * scale**2)
        for row, column, tile in self._tiles(rows, columns, partial(_balls, *radii), same=False):
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
        if not _finite(queries, points):
            return np.zeros((len(queries), k), np.int64), np.full((len(queries), k), np.nan)
        index, squared, decided = self._screen(queries, points, k, np.float32, same)
        rows = np.flatnonzero(~decided)
        if len(rows):
            found = self._screen(queries[rows], points, k, np.float64, ids=rows if same else None)
            index[rows], squared[rows], decided[rows] = found
        for i in np.flatnonzero(~decided):
            index[i], squared[i] = _row(queries[i], points, k, int(i) if same else None)
        return index, squared

    def _screen(self, queries, points, k, dtype, same=False, ids=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices and squared distances as `_neighbours`, and which rows are right for certain, bool `[n]`.

        Args:
          dtype: of the tiles.
          same: `queries` are `points`.
          ids: which of the points each query is; None where they are none of them, or `same`.
        """
        n, m = len(queries), len(points)
        others = m - (same or ids is not None)
        count = min(k + SPARE, others)
        best = _Best(n, count)
        rows, columns, scale = self._sides(queries, points, dtype, ids)
        for row, column, tile in self._tiles(rows, columns, partial(_candidates, count, same), same):
            by_row, by_column = tile
            best.offer(row.members, *(np.asarray(leaf)[: row.size] for leaf in by_row), column.start)
            if by_column:
                best.offer(column.members, *(np.asarray(leaf)[: column.size] for leaf in by_column), row.start)
        query = np.repeat(np.arange(n), count)
        squared = differences(queries, points, query, best.index.ravel()).reshape(n, count)
        index, squared = _sorted(best.index, squared)
        last = squared[:, k - 1]
        # All that were left out are at least as far as the last candidate's lower bound.
        decided = (last * scale**2 <= best.bound[:, -1]) | (last == 0) | (count == others)
        return index[:, :k], squared[:, :k], decided

    def _sides(self, queries, points, dtype, ids=None) -> tuple[list["_Side"], list["_Side"], float]:
        """Both sets cut into tiles' sides, centred and scaled: what is near 0 is exact. (rows, columns, the scale).

        The centre is a median, which samples that have diverged do not move. A set against itself is cut once.
        """
        centre = np.median(points[:: -(-len(points) // SKETCH)].astype(np.float64), axis=0)
        most = max(float(np.maximum(x.max(), -x.min())) for x in (queries, points))
        scale = 2.0 ** -np.frexp(most)[1] if 0 < most < np.inf else 1.0
        cut = lambda x, ids: _cut(x, ids, centre, scale, self.tile, dtype)
        columns = cut(points, np.arange(len(points)))
        if points is queries:
            return columns, columns, scale
        return cut(queries, np.full(len(queries), -1) if ids is None else ids), columns, scale

    def _tiles(self, rows, columns, function: Callable, same: bool) -> Iterator[tuple["_Side", "_Side", Any]]:
        """(row side, column side, what `function` finds there), with as many tiles under way as devices and one more.

        Of the `same` set, tiles on and above the diagonal.
        """
        under_way: collections.deque = collections.deque()
        for i, row in enumerate(rows):
            device = self.devices[i % len(self.devices)]
            with jax.enable_x64(True):
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
    x: np.ndarray  # float32 or float64 [side, d]
    squares: np.ndarray  # the same [side], ∞ for padding
    ids: np.ndarray  # int32 [side]: which of the points each is, -1 for none

    @property
    def members(self) -> slice:
        return slice(self.start, self.start + self.size)


def _cut(x: np.ndarray, ids: np.ndarray, centre: np.ndarray, scale: float, most: int, dtype) -> list[_Side]:
    n = len(x)
    parts = -(-n // most)
    side = -(-n // parts)
    found = []
    for start in range(0, n, side):
        part = ((x[start : start + side] - centre) * scale).astype(dtype)
        squares = np.full(side, np.inf, dtype)
        squares[: len(part)] = np.einsum("ij,ij->i", part, part, dtype=np.float64)
        pad = (0, side - len(part))
        own = np.pad(ids[start : start + side], pad, constant_values=-1).astype(np.int32)
        found.append(_Side(start, len(part), np.pad(part, (pad, (0, 0))), squares, own))
    return found


def _finite(*sets: np.ndarray) -> bool:
    return all(np.isfinite(x.min()) and np.isfinite(x.max()) for x in sets)


class _Best:
    """The candidates of each row with the smallest lower bounds so far."""

    def __init__(self, n: int, count: int):
        self.bound = np.full((n, count), np.inf)
        self.index = np.zeros((n, count), np.int64)

    def offer(self, rows: slice, bounds: np.ndarray, index: np.ndarray, offset: int) -> None:
        """Takes candidates `[rows, c]` of one tile, whose columns begin at `offset`."""
        all_bounds = np.concatenate([self.bound[rows], bounds], axis=1)
        all_index = np.concatenate([self.index[rows], index + offset], axis=1)
        order = np.argsort(all_bounds, axis=1, kind="stable")[:, : self.bound.shape[1]]
        self.bound[rows] = np.take_along_axis(all_bounds, order, axis=1)
        self.index[rows] = np.take_along_axis(all_index, order, axis=1)


# ---- tiles, on device ------------------------------------------------------------------------------------------------


def _approximate(x, y, x_squares, y_squares) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Squared distances `[a, b]`, a bound on their error, and whether neither is padding.

    Twice the bound of the module's docstring, as some accelerators' float32 is made of pieces; and products that
    underflow.
    """
    kind = jnp.finfo(x.dtype)
    norms = x_squares[:, None] + y_squares[None, :]
    error = (x.shape[1] + 16) * float(kind.eps) * norms + 4 * x.shape[1] * float(kind.tiny)
    return norms - 2 * jnp.matmul(x, y.T, precision="highest"), error, jnp.isfinite(norms)


def _candidates(count: int, same: bool, row: _Side, column: _Side, x):
    with jax.enable_x64(True):
        both = same and row.start != column.start
        return _nearest_of_tile(*x, row.ids, column.x, column.squares, column.ids, count, both)


@partial(jax.jit, static_argnums=(6, 7))
def _nearest_of_tile(x, x_squares, x_ids, y, y_squares, y_ids, count: int, both: bool):
    """(lower bounds, column indices) `[a, c]` of each row's nearest others; with `both`, likewise of each column's."""
    squared, error, real = _approximate(x, y, x_squares, y_squares)
    lower = jnp.where(real & (x_ids[:, None] != y_ids), squared - error, jnp.inf)
    smallest = lambda v: jax.lax.top_k(-v, min(count, v.shape[1]))
    negative, index = smallest(lower)
    by_row = (-negative, index)
    if not both:
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
    squared, error, real = _approximate(x, y, x_squares, y_squares)

    def compare(radii):
        slack = error + 2.0**-22 * radii  # the radius itself was rounded to float32
        inside, outside = squared + slack < radii, squared - slack > radii
        return inside, ~inside & ~outside & real

    inside, unclear = compare(y_radii[None, :])
    of_row, unclear_row = compare(x_radii[:, None])
    hits = jnp.sum(inside, axis=1, dtype=jnp.int32)
    kinds = unclear.astype(jnp.uint8) + 2 * unclear_row.astype(jnp.uint8)
    return jnp.stack([hits, hits]), jnp.any(inside, axis=0), jnp.any(of_row, axis=0), kinds


# ---- decisions, in float64 -------------------------------------------------------------------------------------------


def differences(a: np.ndarray, b: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """‖a_i - b_j‖² in float64 of pairs of rows `i [p]`, `j [p]`: `[p]`.

    Row by row in one order of summation, so that equal pairs have equal distances wherever they stand.
    """
    found = np.empty(len(i))
    size = max(1, PAIRS // a.shape[1])
    for start in range(0, len(i), size):
        part = slice(start, start + size)
        difference = np.subtract(a[i[part]], b[j[part]], dtype=np.float64)
        found[part] = np.einsum("ij,ij->i", difference, difference)
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
