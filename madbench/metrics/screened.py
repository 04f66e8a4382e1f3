"""Nearest neighbours of sets of any size: screened in few bits, decided in float64.

A tile of pairs is one matrix product in bfloat16, or in float32 where the device is no faster in less, with a bound on
its error. What the bound cannot decide is screened again in float32, then in float64, and what is left (some ten
thousandths of the pairs) is computed as the difference itself, in float64. So the answers are exact, at the cost of the
first screening; of a set against itself half the tiles are enough. Rows go to the next precision where their neighbours
are too close to each other, as in a generator that has collapsed to a few images. Tiles are dealt out to all local
devices, and never more than a few are held.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from scipy.linalg import blas

from madbench.metrics import tiles
from madbench.metrics.candidates import NOBODY, Candidates, Pairs, differences, in_float64, settle
from madbench.metrics.moments import Moments
from madbench.metrics.neighbours import Cross

UNCLEAR = tiles.OPEN | tiles.REACH_OPEN
MANY = 1 / 64  # a tile with more unclear pairs than this share is screened again
WAITING = 2**20  # pairs that wait for a decision
BLOCK = 512  # samples that are held in float64 at once


def precisions(devices: tuple) -> tuple[str, ...]:
    """What to screen in, one after the other: any choice gives the same answers."""
    flags = pathlib.Path("/proc/cpuinfo")
    if devices[0].platform != "cpu" or (
        flags.exists() and {"avx512_bf16", "amx_bf16"} & set(flags.read_text().split())
    ):
        return "bfloat16", "float32"
    return ("float32",)


@dataclasses.dataclass(frozen=True)
class Engine:
    """`within`, `nearest`, `cross` and `moments` as in `neighbours`, of NumPy arrays, on the host; NumPy results.

    Attributes:
      devices: to share the tiles.
      tile: rows and columns of a tile, at most.
      screens: precisions of the products, the fastest that `devices` have by default.
    """

    devices: tuple[Any, ...] = dataclasses.field(default_factory=lambda: tuple(jax.local_devices()))
    tile: int = 768
    screens: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "screens", self.screens or precisions(self.devices))

    def within(self, points: np.ndarray, k: int, size: int | None = None) -> np.ndarray:
        """Squared distance of each of `points [n, d]` to its k-th other, float64 `[n]`; NaN for padding past `size`.

        ∞ where there are no k others.
        """
        points = np.asarray(points, np.float32)
        members = points[: points.shape[0] if size is None else int(size)]
        found = np.full(points.shape[0], np.nan)
        found[: len(members)] = (
            self._kth(members, members, np.arange(len(members), dtype=np.int32), k, self.screens)[1]
            if len(members) > k
            else np.inf
        )
        return found

    def nearest(self, queries: np.ndarray, points: np.ndarray, size: int | None = None) -> tuple[np.ndarray, ...]:
        """Each query's nearest point: (int32 index `[n]`, squared distance float64 `[n]`).

        Of equally near ones the first; of copies of the query any.
        """
        points = np.asarray(points, np.float32)
        points = points[: points.shape[0] if size is None else int(size)]
        queries = np.asarray(queries, np.float32)
        index, squared = self._kth(queries, points, np.full(len(queries), NOBODY, np.int32), 1, self.screens)
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
        for row, column, hits, of_columns, (x, y, kind) in self._balls(queries, points, query_radii, point_radii):
            counts[:, row.members] += hits
            covered[column.members] |= (of_columns & tiles.INSIDE) > 0
            reached[column.members] |= (of_columns & tiles.REACHED) > 0
            undecided.add(x + row.start, y + column.start, kind)
        undecided.flush()
        return Cross(*counts.astype(np.int32), covered, reached)

    def _balls(self, queries, points, query_radii, point_radii) -> Iterator[tuple]:
        """(row side, column side, hits, codes of the columns, (row, column, code) of unclear pairs) of every tile.

        A tile with many unclear pairs is left to the next precision.
        """
        frame = tiles.frame_of(queries, points)
        of_queries, of_points = ((r * frame.scale**2).astype(np.float32) for r in (query_radii, point_radii))
        radii = lambda row, column: (row.fitted(of_queries, -1.0), column.fitted(of_points, -1.0))  # of padding: none
        wanted = None
        for screen in self.screens:
            rows, columns = self._cut(queries, frame, screen, turns=True), list(self._cut(points, frame, screen))
            pairs = (p for p in tiles.every(rows, columns) if wanted is None or (p.row.start, p.column.start) in wanted)
            again = set()
            for row, column, tile in tiles.run(pairs, radii, tiles.balls_of_tile):
                hits, of_rows, of_columns, codes = tile
                some = np.flatnonzero(np.asarray(of_rows)[: row.size] & UNCLEAR)
                kind = np.asarray(codes)[some] & UNCLEAR if some.size else np.zeros((0, 1), np.uint8)
                x, y = np.divmod(np.flatnonzero(kind > 0), kind.shape[1])
                if len(x) > MANY * row.size * column.size and screen != self.screens[-1]:
                    again.add((row.start, column.start))
                else:
                    unclear = some[x], y, kind[x, y]
                    yield row, column, np.asarray(hits)[: row.size], np.asarray(of_columns)[: column.size], unclear
            if not again:
                break
            wanted = again

    def moments(self, features: np.ndarray) -> Moments:
        """As `moments.moments`, by BLAS, which knows that xᵀx is symmetric; FD is finished on the host anyway."""
        n, d = features.shape
        scatter = np.zeros((d, d), order="F")  # its upper triangle
        centred = np.empty((min(n, BLOCK), d))
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite has no metrics
            mean = features.mean(axis=0, dtype=np.float64)  # of equal float32 numbers exactly they
            for start in range(0, n, BLOCK):
                block = features[start : start + BLOCK]
                own = np.subtract(block, mean, out=centred[: len(block)], dtype=np.float64)
                scatter = blas.dsyrk(1.0, own.T, beta=1.0, c=scatter, overwrite_c=True)
        for low in range(0, d, BLOCK):
            high = low + BLOCK
            corner = np.triu(scatter[low:high, low:high])
            scatter[low:high, low:high] = corner + np.triu(corner, 1).T
            scatter[high:, low:high] = scatter[low:high, high:].T
        return Moments(np.float64(n), mean, scatter)

    # ---- the k-th nearest ------------------------------------------------------------------------------------------

    def _kth(self, queries, points, ids: np.ndarray, k: int, screens: tuple[str, ...]) -> tuple[np.ndarray, ...]:
        """Index int64 and squared distance float64 `[n]` of the k-th nearest of the points, itself not counted.

        Args:
          ids: int32 `[n]`, place of each query among the points; NOBODY where it is none of them.
          screens: precisions, the fastest first; float64 comes last anyway.
        """
        index, kth = np.zeros(len(queries), np.int64), np.full(len(queries), np.nan)
        if not tiles.all_finite(queries, points):
            return index, kth
        frame = tiles.frame_of(queries, points)
        if not screens:
            return in_float64(queries, points, ids, k, frame)
        pairs, given_up, likely = self._candidates(queries, points, ids, k, frame, screens[0]).end()
        kept = np.setdiff1d(np.arange(len(queries)), given_up)
        index[kept], kth[kept] = settle(queries, points, pairs, k)
        # Where these are copies, they are the nearest, whatever else there is.
        index[given_up], kth[given_up] = settle(queries, points, likely, k)
        rest = given_up[kth[given_up] > 0]
        if 2 * rest.size > len(queries):  # of a set against itself, half the tiles are enough
            return self._kth(queries, points, ids, k, screens[1:])
        if rest.size:
            index[rest], kth[rest] = self._kth(queries[rest], points, ids[rest], k, screens[1:])
        return index, kth

    def _candidates(self, queries, points, ids, k: int, frame: tiles.Frame, screen: str) -> Candidates:
        """For a place among the k nearest: first of one tile for each row, then, within the limits so found, of all."""
        same = points is queries
        found = Candidates(len(queries), k)
        columns = list(self._cut(points, frame, screen))
        places = np.arange(len(points), dtype=np.int32)
        nothing = np.full(len(points), -np.inf, np.float32)

        def settings(row, column):
            of_columns = found.most if same and row is not column else nothing
            limits = row.fitted(found.most, -np.inf), column.fitted(of_columns, -np.inf)
            return row.fitted(ids, NOBODY), column.fitted(places, NOBODY - 1), *limits

        rows = lambda: columns if same else self._cut(queries, frame, screen, turns=True)
        first = (tiles.Pair(row, columns[i * same], i) for i, row in enumerate(rows()))
        for row, column, (lower, _) in tiles.run(first, settings, tiles.near_of_tile):
            lower = np.asarray(lower)[: row.size, : column.size]
            found.offer(_pairs(row, column, lower, lower <= _limits(row, column, lower, k)))
        others = (tiles.Pair(r, c, i) for i, r in enumerate(rows()) for c in columns[i * same + 1 :])
        for row, column, (lower, codes) in tiles.run(others, settings, tiles.near_of_tile):
            lower, codes = np.asarray(lower), np.asarray(codes)
            found.offer(_pairs(row, column, lower, (codes & tiles.FOR_ROW) > 0))
            if same:
                pairs = _pairs(row, column, lower, (codes & tiles.FOR_COLUMN) > 0)
                found.offer(pairs._replace(row=pairs.column, column=pairs.row))
        return found

    def _cut(self, x: np.ndarray, frame: tiles.Frame, screen: str, turns: bool = False) -> Iterator[tiles.Side]:
        """Sides of tiles; in `turns` they lie on one device each, and no more than a few are placed at once."""
        return tiles.cut(x, frame, self.tile, self.devices, screen, turns)


class _Pairs:
    """Pairs of indices that wait to be decided, many at once; copies tie by the million."""

    def __init__(self, decide: Callable[[np.ndarray, np.ndarray, np.ndarray], None]):
        self._decide = decide
        self._waiting: list[tuple[np.ndarray, ...]] = []
        self._count = 0

    def add(self, *arrays: np.ndarray) -> None:
        self._waiting.append(arrays)
        self._count += len(arrays[0])
        if self._count > WAITING:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._decide(*(np.concatenate(parts) for parts in zip(*self._waiting, strict=True)))
        self._waiting, self._count = [], 0


def _limits(row: tiles.Side, column: tiles.Side, lower: np.ndarray, k: int) -> np.ndarray:
    """Upper bounds `[a, 1]` on the k-th squared distance in one tile, of lower bounds `[a, b]`; ∞ where it has no k."""
    if k > column.size:
        return np.full((row.size, 1), np.inf)
    nearest = np.partition(lower, k - 1, axis=1)[:, k - 1]
    farthest = np.argmax(column.squares)
    return (nearest + 2.01 * tiles.errors(row, column, np.arange(row.size), farthest))[:, None]


def _pairs(row: tiles.Side, column: tiles.Side, lower: np.ndarray, chosen: np.ndarray) -> Pairs:
    """The pairs of a tile that are `chosen`, bool `[a, b]`, and neither padding nor a point with itself."""
    i, j = np.divmod(np.flatnonzero(chosen), chosen.shape[1])
    bound = lower[i, j].astype(np.float64)
    real = np.isfinite(bound)
    i, j, bound = i[real], j[real], bound[real]
    return Pairs(i + row.start, j + column.start, bound, bound + 2.01 * tiles.errors(row, column, i, j))
