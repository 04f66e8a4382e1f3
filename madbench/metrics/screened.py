"""Nearest neighbours of sets of any size: screened in float32, decided in float64.

A tile of pairs is one float32 matrix product, twice as fast as float64 on a CPU and much more on most accelerators,
with a bound on its error. What the bound cannot decide (one pair in some ten thousand) is computed again: the squared
difference itself, in float64. So the answers are exact, at the cost of float32; of a set against itself half the tiles
are enough. Rows whose neighbours are too close to each other for float32, as in a generator that has collapsed to a few
images, are screened once more in float64. Tiles are dealt out to all local devices, and never more than a few are held.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from madbench.metrics import tiles
from madbench.metrics.moments import Moments
from madbench.metrics.neighbours import Cross

SPARE = 4  # candidates beyond those asked for, so that rounding seldom leaves a row undecided
PAIRS = 2**20  # numbers of the pairs whose differences are taken at once
ROWS = 2**21  # pairs of undecided rows that are held at once
UNCLEAR = tiles.OPEN | tiles.REACH_OPEN
BLOCK = 1024  # points that are held in float64 at once


@dataclasses.dataclass(frozen=True)
class Engine:
    """`within`, `nearest`, `cross` and `moments` as in `neighbours`, of NumPy arrays, on the host; NumPy results.

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
        found[: len(members)] = self._kth(members, members, k)[1] if len(members) > k else np.inf
        return found

    def nearest(self, queries: np.ndarray, points: np.ndarray, size: int | None = None) -> tuple[np.ndarray, ...]:
        """Each query's nearest point: (int32 index `[n]`, squared distance float64 `[n]`).

        Of equally near ones the first; of copies of the query any.
        """
        points = np.asarray(points, np.float32)
        points = points[: points.shape[0] if size is None else int(size)]
        index, squared = self._kth(np.array(queries, np.float32), points, 1)
        return index.astype(np.int32), squared

    def cross(self, queries, points, query_radii, point_radii) -> Cross:
        """See `neighbours.cross`."""
        queries, points = np.asarray(queries, np.float32), np.asarray(points, np.float32)
        query_radii, point_radii = np.asarray(query_radii, np.float64), np.asarray(point_radii, np.float64)
        n, m = len(queries), len(points)
        counts = np.zeros((2, n), np.int64)  # closed, open
        covered, reached = np.zeros(m, bool), np.zeros(m, bool)

        def decide(x, y, kind):
            squared = differences(queries, points, x, y)
            by_point, by_query = (kind & tiles.OPEN) > 0, (kind & tiles.REACH_OPEN) > 0
            closed, strictly = squared <= point_radii[y], squared < point_radii[y]
            np.add.at(counts[0], x[by_point & closed], 1)
            np.add.at(counts[1], x[by_point & strictly], 1)
            covered[y[by_point & strictly]] = True
            reached[y[by_query & (squared <= query_radii[x])]] = True

        undecided = _Pairs(decide)
        frame = tiles.frame_of(queries, points)
        scaled = [radii * frame.scale**2 for radii in (query_radii, point_radii)]
        radii = lambda row, column: (tiles.padded(scaled[0], row), tiles.padded(scaled[1], column))
        columns = list(tiles.cut(points, frame, self.tile, self.devices))
        for row, column, tile in tiles.run(
            tiles.every(self._in_turn(queries, frame), columns), radii, tiles.balls_of_tile
        ):
            hits, of_rows, of_columns, codes = tile
            counts[:, row.members] += np.asarray(hits)[: row.size]
            of_columns = np.asarray(of_columns)[: column.size]
            covered[column.members] |= (of_columns & tiles.INSIDE) > 0
            reached[column.members] |= (of_columns & tiles.REACHED) > 0
            some = np.flatnonzero(np.asarray(of_rows)[: row.size] & UNCLEAR)
            if some.size:
                codes = np.asarray(codes)[some] & UNCLEAR
                x, y = np.nonzero(codes)
                undecided.add(some[x] + row.start, y + column.start, codes[x, y])
        undecided.flush()
        return Cross(*counts.astype(np.int32), covered, reached)

    def moments(self, features: np.ndarray) -> Moments:
        """As `moments.moments`, by BLAS, which knows that xᵀx is symmetric; FD is finished on the host anyway."""
        n, d = features.shape
        scatter = np.zeros((d, d))
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite has no metrics
            mean = features.mean(axis=0, dtype=np.float64)  # of equal float32 numbers exactly they
            for start in range(0, n, BLOCK):
                centred = features[start : start + BLOCK].astype(np.float64)
                centred -= mean
                scatter += centred.T @ centred
        return Moments(np.float64(n), mean, scatter)

    # ---- the k-th nearest ------------------------------------------------------------------------------------------

    def _kth(self, queries, points, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Index int64 and squared distance float64 `[n]` of the k-th nearest; of the same array, among the others."""
        same = points is queries
        n, m = len(queries), len(points)
        if not tiles.all_finite(queries, points):
            return np.zeros(n, np.int64), np.full(n, np.nan)
        best = _Best(n, min(k + SPARE, m - same))
        frame = tiles.frame_of(queries, points)
        settings = lambda r, c: (best.index.shape[1], same, same and r.start == c.start)
        columns = list(tiles.cut(points, frame, self.tile, self.devices))
        pairs = tiles.half(columns) if same else tiles.every(self._in_turn(queries, frame), columns)
        of_rows = np.empty(n, np.float32)  # squared norms
        for row, column, tile in tiles.run(pairs, settings, tiles.nearest_of_tile):
            by_row, by_column = tile
            best.offer(row, *by_row, column.start)
            if by_column:
                best.offer(column, *by_column, row.start)
            of_rows[row.members] = np.asarray(row.squares[0])[: row.size]
        of_columns = np.concatenate([np.asarray(side.squares[0])[: side.size] for side in columns])
        norms = of_rows[:, None].astype(np.float64) + of_columns[best.index]
        lower = best.bound.astype(np.float64)
        upper = lower + 2.01 * tiles.error_bound(norms, queries.shape[1], np.float32)
        at_least, at_most = lower[:, k - 1], np.partition(upper, k - 1, axis=1)[:, k - 1]
        # Some candidates are surely nearer than the k-th, some surely farther; the others are computed.
        nearer = upper < at_least[:, None]
        row, column = np.nonzero(~nearer & (lower <= at_most[:, None]))
        squared = np.full(lower.shape, np.inf)
        squared[row, column] = differences(queries, points, row, best.index[row, column]) * frame.scale**2
        order = np.lexsort((best.index, squared), axis=1)
        place = np.take_along_axis(order, (k - 1 - nearer.sum(axis=1))[:, None], axis=1)
        index, kth = (np.take_along_axis(a, place, axis=1)[:, 0] for a in (best.index, squared))
        # All that are no candidates are at least as far as the last candidate's lower bound.
        decided = (kth <= lower[:, -1]) | (kth == 0) | (lower.shape[1] == m - same)
        undecided = np.flatnonzero(~decided)
        kth /= frame.scale**2
        index[undecided], kth[undecided] = _rows(queries, points, undecided, k, same, frame)
        return index, kth

    def _in_turn(self, queries: np.ndarray, frame: tiles.Frame) -> Iterator[tiles.Side]:
        """Sides of the queries, of which no more than a few are placed at once."""
        return tiles.cut(queries, frame, self.tile, self.devices, turns=True)


class _Pairs:
    """Pairs of indices that wait to be decided, many at once; copies tie by the million."""

    def __init__(self, decide: Callable[[np.ndarray, np.ndarray, np.ndarray], None]):
        self._decide = decide
        self._waiting: list[tuple[np.ndarray, ...]] = []
        self._count = 0

    def add(self, *arrays: np.ndarray) -> None:
        self._waiting.append(arrays)
        self._count += len(arrays[0])
        if self._count > PAIRS:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._decide(*(np.concatenate(parts) for parts in zip(*self._waiting, strict=True)))
        self._waiting, self._count = [], 0


class _Best:
    """The candidates of each row with the smallest lower bounds so far, those first."""

    def __init__(self, n: int, count: int):
        self.bound = np.full((n, count), np.inf, np.float32)
        self.index = np.zeros((n, count), np.int64)

    def offer(self, side: tiles.Side, bounds: jax.Array, index: jax.Array, offset: int) -> None:
        """Takes candidates `[side, c]` of one tile, whose columns begin at `offset`."""
        rows, size = side.members, side.size
        all_bounds = np.concatenate([self.bound[rows], np.asarray(bounds)[:size]], axis=1)
        all_index = np.concatenate([self.index[rows], np.asarray(index)[:size] + offset], axis=1)
        order = np.argsort(all_bounds, axis=1, kind="stable")[:, : self.bound.shape[1]]
        self.bound[rows] = np.take_along_axis(all_bounds, order, axis=1)
        self.index[rows] = np.take_along_axis(all_index, order, axis=1)


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


def _rows(queries, points, rows: np.ndarray, k: int, same: bool, frame: tiles.Frame) -> tuple[np.ndarray, np.ndarray]:
    """The k-th nearest (index, squared distance) of rows that float32 cannot decide: screened again in float64.

    What even that leaves open, ties above all, is settled by the differences themselves.
    """
    found_index, found = np.zeros(len(rows), np.int64), np.zeros(len(rows))
    step = max(1, ROWS // len(points))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        x = queries[some] - frame.centre
        norms = np.empty((len(some), len(points)))
        squared = np.empty_like(norms)
        for column in range(0, len(points), BLOCK):
            y, block = points[column : column + BLOCK] - frame.centre, np.s_[:, column : column + BLOCK]
            norms[block] = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y)
            squared[block] = norms[block] - 2 * (x @ y.T)
        if same:
            squared[np.arange(len(some)), some] = np.inf
        error = tiles.error_bound(norms, x.shape[1], np.float64)
        at_least, at_most = (np.partition(s, k - 1, axis=1)[:, k - 1 : k] for s in (squared - error, squared + error))
        nearer = squared + error < at_least
        i, j = np.nonzero(~nearer & (squared - error <= at_most))
        exact = differences(queries, points, some[i], j)
        order = np.lexsort((j, exact, i))  # by row, then distance, then index
        first = np.searchsorted(i, np.arange(len(some)))
        place = order[first + k - 1 - nearer.sum(axis=1)]
        found_index[start : start + step], found[start : start + step] = j[place], exact[place]
    return found_index, found
