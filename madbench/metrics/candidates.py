"""Candidates for a place among the k nearest, as tiles bring them, and the decision among them, in float64."""

import os
from collections.abc import Iterable
from concurrent import futures
from typing import NamedTuple

import numpy as np

from madbench.metrics import tiles

MOST = 256  # candidates of a row, before it is given up
NUMBERS = 2**17  # of pairs whose differences are taken at once: they stay in the processor's cache
BLOCK = 1024  # points that are held in float64 at once
HELD = 2**21  # pairs that are held in float64 at once
NOBODY = -1  # the id of a query that is none of the points


class Pairs(NamedTuple):
    """Queries `row` and points `column`, int64 `[p]`, and bounds of their squared distances, float64 `[p]`."""

    row: np.ndarray
    column: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def of(self, chosen: np.ndarray) -> "Pairs":
        return Pairs(*(x[chosen] for x in self))


def ranks(sorted_rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """(distinct rows, where each begins, number of each entry among them, place within its row) of sorted rows."""
    begin = np.flatnonzero(np.diff(sorted_rows, prepend=-1))
    group = np.repeat(np.arange(len(begin)), np.diff(begin, append=len(sorted_rows)))
    return sorted_rows[begin], begin, group, np.arange(len(sorted_rows)) - begin[group]


class Candidates:
    """Pairs that may be among a row's k nearest: with each that is found, fewer others can be.

    Attributes:
      most: float32 `[n]`, an upper bound on each row's k-th squared distance; -∞ where the row was given up, because
        too many points are too close to each other.
    """

    def __init__(self, n: int, k: int):
        self.most = np.full(n, np.inf, np.float32)
        self._nearest = np.full((n, k), np.inf)  # the smallest upper bounds
        self._count = np.zeros(n, np.int64)
        self._pairs = [Pairs(*np.zeros((2, 0), np.int64), *np.zeros((2, 0)))]

    def offer(self, pairs: Pairs) -> None:
        """Pairs in any order."""
        pairs = pairs.of(pairs.lower <= self.most[pairs.row])
        pairs = pairs.of(np.lexsort((pairs.upper, pairs.row)))
        self._pairs.append(pairs)
        rows, _, group, rank = ranks(pairs.row)
        k = self._nearest.shape[1]
        nearest = np.full((len(rows), k), np.inf)
        near = rank < k
        nearest[group[near], rank[near]] = pairs.upper[near]
        nearest = np.partition(np.concatenate([self._nearest[rows], nearest], axis=1), k - 1, axis=1)[:, :k]
        self._nearest[rows] = nearest
        self._count[rows] += np.bincount(group, minlength=len(rows))
        bound = np.nextafter(nearest[:, -1].astype(np.float32), np.float32(np.inf))
        self.most[rows] = np.where(self._count[rows] <= MOST, bound, -np.inf)

    def end(self) -> tuple[Pairs, np.ndarray, Pairs]:
        """(all candidates of the rows that were kept, rows that were not int64 `[r]`, their likeliest k each)."""
        kept = self._count <= MOST
        given_up = _joined(pairs.of(~kept[pairs.row]) for pairs in self._pairs)
        given_up = given_up.of(np.lexsort((given_up.lower, given_up.row)))
        few = ranks(given_up.row)[3] < self._nearest.shape[1]
        candidates = _joined(pairs.of(pairs.lower <= self.most[pairs.row]) for pairs in self._pairs)
        return candidates, np.flatnonzero(~kept), given_up.of(few)


def _joined(parts: Iterable[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def settle(queries: np.ndarray, points: np.ndarray, pairs: Pairs, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Index int64 and squared distance float64 of the k-th nearest, for each row that has pairs, in their order.

    Some candidates are surely nearer than the k-th, some surely farther; only the others are computed. Of equally near
    ones the first comes first.
    """
    bounds = []
    for bound in ("upper", "lower"):
        pairs = pairs.of(np.lexsort((getattr(pairs, bound), pairs.row)))
        rows, begin, group, _ = ranks(pairs.row)
        bounds.append(getattr(pairs, bound)[begin + k - 1])
    at_most, at_least = bounds
    nearer = pairs.upper < at_least[group]
    passed = np.bincount(group[nearer], minlength=len(rows))
    unclear = ~nearer & (pairs.lower <= at_most[group])
    pairs, group = pairs.of(unclear), group[unclear]
    exact = differences(queries, points, pairs.row, pairs.column)
    order = np.lexsort((pairs.column, exact, group))
    place = order[np.searchsorted(group, np.arange(len(rows))) + k - 1 - passed]
    return pairs.column[place], exact[place]


def differences(a: np.ndarray, b: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """‖a_i - b_j‖² in float64 of pairs of rows `i [p]`, `j [p]`: `[p]`.

    Row by row in one order of summation, so that equal pairs have equal distances wherever they stand.
    """
    found = np.empty(len(i))
    d = a.shape[1]
    size = min(max(1, NUMBERS // d), max(1, len(i)))
    workers = min(os.cpu_count(), -(-len(i) // size))

    def work(turn):
        x, y, difference = (np.empty((size, d), dtype) for dtype in (a.dtype, b.dtype, np.float64))
        for start in range(turn * size, len(i), workers * size):
            part = slice(start, min(start + size, len(i)))
            own = slice(0, part.stop - start)
            np.take(a, i[part], axis=0, out=x[own], mode="clip")  # any other mode makes copies of `out`
            np.take(b, j[part], axis=0, out=y[own], mode="clip")
            np.subtract(x[own], y[own], out=difference[own], dtype=np.float64)
            found[part] = np.einsum("ij,ij->i", difference[own], difference[own])

    if workers > 1:
        with futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, range(workers)))
    elif workers:
        work(0)
    return found


def in_float64(queries: np.ndarray, points: np.ndarray, ids: np.ndarray, k: int, frame: tiles.Frame):
    """The k-th nearest as `settle` gives it, with bounds from products in float64, of rows that nothing less decides.

    Args:
      ids: place of each query among the points; NOBODY where it is none of them.
    """
    n, d = queries.shape
    index, kth = np.zeros(n, np.int64), np.zeros(n)
    step = max(1, HELD // len(points))
    for start in range(0, n, step):
        some = slice(start, start + step)
        x = queries[some] - frame.centre
        norms = np.empty((len(x), len(points)))
        squared = np.empty_like(norms)
        for column in range(0, len(points), BLOCK):
            y, block = points[column : column + BLOCK] - frame.centre, np.s_[:, column : column + BLOCK]
            norms[block] = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y)
            squared[block] = norms[block] - 2 * (x @ y.T)
        own = np.flatnonzero(ids[some] != NOBODY)
        squared[own, ids[some][own]] = np.inf
        error = tiles.relative_error(d, np.float64) * norms + tiles.underflow(d, np.float64)
        at_most = np.partition(squared + error, k - 1, axis=1)[:, k - 1 : k]
        i, j = np.nonzero(squared - error <= at_most)
        pairs = Pairs(i + start, j, (squared - error)[i, j], (squared + error)[i, j])
        index[some], kth[some] = settle(queries, points, pairs, k)
    return index, kth
