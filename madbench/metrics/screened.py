"""Nearest neighbours of sets of any size: screened in float32, decided in float64.

A tile of pairs is one float32 matrix product, twice as fast as float64 on a CPU and much more on most accelerators,
with a bound on its error. What the bound cannot decide (one pair in some ten thousand) is computed again: the squared
difference itself, in float64. So the answers are exact, at the cost of float32; of a set against itself half the tiles
are enough. Rows whose neighbours are too close to each other for float32, as in a generator that has collapsed to a few
images, are screened once more in float64. Tiles are dealt out to all local devices, and never more than a few are held.

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
SPARE = 4  # candidates beyond those asked for, so that rounding seldom leaves a row undecided
PAIRS = 2**20  # numbers of the pairs whose differences are taken at once
ROWS = 2**21  # pairs of undecided rows that are held at once
BLOCK = 1024  # points that are held in float64 for them


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
            by_point, by_query = (kind & 1) > 0, (kind & 2) > 0
            closed, strictly = squared <= point_radii[y], squared < point_radii[y]
            np.add.at(counts[0], x[by_point & closed], 1)
            np.add.at(counts[1], x[by_point & strictly], 1)
            covered[y[by_point & strictly]] = True
            reached[y[by_query & (squared <= query_radii[x])]] = True

        undecided = _Pairs(decide)
        frame = _frame(queries, points)
        rows, columns = self._sides(queries, points, frame)
        scaled = [radii * frame.scale**2 for radii in (query_radii, point_radii)]
        radii = {
            id(side): _padded(of_set[side.members], side)
            for sides, of_set in zip((rows, columns), scaled, strict=True)
            for side in sides
        }
        for row, column, tile in self._tiles(rows, columns, lambda r, c: (radii[id(r)], radii[id(c)]), _balls_of_tile):
            hits, covers, reaches, unclear_rows, kinds = tile
            counts[:, row.members] += np.asarray(hits)[: row.size]
            covered[column.members] |= np.asarray(covers)[: column.size]
            reached[column.members] |= np.asarray(reaches)[: column.size]
            some = np.flatnonzero(np.asarray(unclear_rows)[: row.size])
            if some.size:
                kinds = np.asarray(kinds)[some]
                x, y = np.nonzero(kinds)
                undecided.add(some[x] + row.start, y + column.start, kinds[x, y])
        undecided.flush()
        return Cross(*counts.astype(np.int32), covered, reached)

    # ---- the k-th nearest ------------------------------------------------------------------------------------------

    def _kth(self, queries, points, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Index int64 and squared distance float64 `[n]` of the k-th nearest; of the same array, among the others."""
        same = points is queries
        n, m = len(queries), len(points)
        if not _finite(queries, points):
            return np.zeros(n, np.int64), np.full(n, np.nan)
        best = _Best(n, min(k + SPARE, m - same))
        frame = _frame(queries, points)
        rows, columns = self._sides(queries, points, frame)
        settings = lambda r, c: (best.index.shape[1], same, same and r.start == c.start)
        for row, column, tile in self._tiles(rows, columns, settings, _nearest_of_tile, half=same):
            by_row, by_column = tile
            best.offer(row, *by_row, column.start)
            if by_column:
                best.offer(column, *by_column, row.start)
        squares = [np.concatenate([np.asarray(s.squares[0])[: s.size] for s in side]) for side in (rows, columns)]
        norms = squares[0][:, None].astype(np.float64) + squares[1][best.index]
        lower = best.bound.astype(np.float64)
        upper = lower + 2.01 * _error(norms, queries.shape[1], np.float32)
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

    def _sides(self, queries, points, frame: "_Frame") -> tuple[list["_Side"], list["_Side"]]:
        """Both sets cut into tiles' sides. A set against itself is cut once."""
        rows = self._cut(queries, frame)
        return rows, rows if points is queries else self._cut(points, frame)

    def _cut(self, x: np.ndarray, frame: "_Frame") -> list["_Side"]:
        n = len(x)
        parts = -(-n // self.tile)
        side = -(-n // parts)
        found = []
        for start in range(0, n, side):
            part = x[start : start + side]
            whole = np.pad(part, ((0, side - len(part)), (0, 0)))
            with jax.enable_x64(True):
                placed = [_placed(*jax.device_put((whole, *frame), device), len(part)) for device in self.devices]
            found.append(_Side(start, len(part), *zip(*placed, strict=True)))
        return found

    def _tiles(
        self, rows, columns, settings: Callable, function: Callable, half: bool = False
    ) -> Iterator[tuple["_Side", "_Side", Any]]:
        """(row side, column side, what `function` finds there), with as many tiles under way as devices and one more.

        Args:
          rows, columns: from `_sides`.
          settings: (row side, column side) -> further arguments of `function`.
          function: of both sides' points and squares, jitted.
          half: only tiles on and above the diagonal.
        """
        under_way: collections.deque = collections.deque()
        for i, row in enumerate(rows):
            k = i % len(self.devices)
            for column in columns[i if half else 0 :]:
                tile = function(row.x[k], row.squares[k], column.x[k], column.squares[k], *settings(row, column))
                under_way.append((row, column, tile))
                if len(under_way) > len(self.devices):
                    yield under_way.popleft()
        yield from under_way


class _Side(NamedTuple):
    """Rows `start` to `start + size` of a set, centred, padded to the side of a tile, on each device.

    `x` holds float32 `[side, d]`, `squares` their float32 norms squared `[side]`, ∞ for padding.
    """

    start: int
    size: int
    x: tuple[jax.Array, ...]
    squares: tuple[jax.Array, ...]

    @property
    def members(self) -> slice:
        return slice(self.start, self.start + self.size)


class _Frame(NamedTuple):
    """Where tiles have their origin, and the power of two that they are multiplied by: what is near 0 is exact.

    The centre is a median, which samples that have diverged do not move.
    """

    centre: np.ndarray  # float64 [d]
    scale: float


def _frame(queries: np.ndarray, points: np.ndarray) -> _Frame:
    centre = np.median(points[:: -(-len(points) // SKETCH)].astype(np.float64), axis=0)
    most = max(float(np.maximum(x.max(), -x.min())) for x in (queries, points))
    return _Frame(centre, 2.0 ** -int(np.frexp(most)[1]) if 0 < most < np.inf else 1.0)


def _finite(*sets: np.ndarray) -> bool:
    return all(np.isfinite(x.min()) and np.isfinite(x.max()) for x in sets)


def _padded(radii: np.ndarray, side: _Side) -> np.ndarray:
    """float32 `[side]`; padding has no ball."""
    return np.pad(radii.astype(np.float32), (0, side.x[0].shape[0] - side.size), constant_values=-1.0)


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

    def offer(self, side: _Side, bounds: jax.Array, index: jax.Array, offset: int) -> None:
        """Takes candidates `[side, c]` of one tile, whose columns begin at `offset`."""
        rows, size = side.members, side.size
        all_bounds = np.concatenate([self.bound[rows], np.asarray(bounds)[:size]], axis=1)
        all_index = np.concatenate([self.index[rows], np.asarray(index)[:size] + offset], axis=1)
        order = np.argsort(all_bounds, axis=1, kind="stable")[:, : self.bound.shape[1]]
        self.bound[rows] = np.take_along_axis(all_bounds, order, axis=1)
        self.index[rows] = np.take_along_axis(all_index, order, axis=1)


# ---- tiles, on device, in float32 ------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames="size")
def _placed(x, centre, scale, size: int):
    """(float32 points in their frame, their squared norms), the norms of padding past `size` ∞."""
    placed = ((x - centre) * scale).astype(jnp.float32)
    squares = jnp.sum(placed.astype(jnp.float64) ** 2, axis=1).astype(jnp.float32)
    return placed, jnp.where(jnp.arange(x.shape[0]) < size, squares, jnp.inf)


def _error(norms, d: int, dtype):
    """Bound on the error of squared distances, for ‖a‖² + ‖b‖² = `norms`: relative, and what underflows.

    Twice that of the module's docstring: some accelerators' float32 is made of pieces.
    """
    kind = np.finfo(dtype)
    return (d + 16) * float(kind.eps) * norms + 4 * d * float(kind.tiny)


def _approximate(x, x_squares, y, y_squares) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Squared distances `[a, b]`, a bound on their error, and whether neither is padding."""
    norms = x_squares[:, None] + y_squares[None, :]
    squared = norms - 2 * jnp.matmul(x, y.T, precision="highest")
    return squared, _error(norms, x.shape[1], x.dtype), jnp.isfinite(norms)


@partial(jax.jit, static_argnums=(4, 5, 6))
def _nearest_of_tile(x, x_squares, y, y_squares, count: int, same: bool, diagonal: bool):
    """(lower bounds, column indices) `[a, c]` of each row's nearest; likewise of each column's, of the same set."""
    squared, error, real = _approximate(x, x_squares, y, y_squares)
    lower = jnp.where(real, squared - error, jnp.inf)
    if diagonal:
        lower = jnp.where(jnp.eye(*lower.shape, dtype=bool), jnp.inf, lower)

    def smallest(values):
        negative, index = jax.lax.top_k(-values, min(count, values.shape[1]))
        return -negative, index

    return smallest(lower), smallest(lower.T) if same and not diagonal else ()


@jax.jit
def _balls_of_tile(x, x_squares, y, y_squares, x_radii, y_radii):
    """What is certain, and what is not.

    Returns:
      (int32 `[a]`: columns' balls that hold each row; bool `[b]`: columns whose ball holds a row; bool `[b]`: columns
      in a row's ball; bool `[a]`: rows of which something is unclear; uint8 `[a, b]`: 1 where the column's ball is
      unclear, 2 where the row's is).
    """
    squared, error, real = _approximate(x, x_squares, y, y_squares)

    def compare(radii):
        slack = error + 2.0**-22 * radii  # the radius itself was rounded to float32
        inside, outside = squared + slack < radii, squared - slack > radii
        return inside, ~inside & ~outside & real

    inside, unclear = compare(y_radii[None, :])
    of_row, unclear_row = compare(x_radii[:, None])
    kinds = unclear.astype(jnp.uint8) + 2 * unclear_row.astype(jnp.uint8)
    hits = jnp.sum(inside, axis=1, dtype=jnp.int32)
    return hits, jnp.any(inside, axis=0), jnp.any(of_row, axis=0), jnp.any(kinds > 0, axis=1), kinds


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


def _rows(queries, points, rows: np.ndarray, k: int, same: bool, frame: _Frame) -> tuple[np.ndarray, np.ndarray]:
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
        error = _error(norms, x.shape[1], np.float64)
        at_least, at_most = (np.partition(s, k - 1, axis=1)[:, k - 1 : k] for s in (squared - error, squared + error))
        nearer = squared + error < at_least
        i, j = np.nonzero(~nearer & (squared - error <= at_most))
        exact = differences(queries, points, some[i], j)
        order = np.lexsort((j, exact, i))  # by row, then distance, then index
        first = np.searchsorted(i, np.arange(len(some)))
        place = order[first + k - 1 - nearer.sum(axis=1)]
        found_index[start : start + step], found[start : start + step] = j[place], exact[place]
    return found_index, found
