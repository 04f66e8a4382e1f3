"""All pairs of two sets of points, a tile at a time, in float32 with a bound on the error: for `screened`.

Error bound (Higham 2002, equation 3.5, with ab ≤ (a² + b²)/2): a dot product of d numbers is off by at most
d u (‖a‖² + ‖b‖²)/2, u = 2⁻²⁴, in whatever order it is summed; placing points in their frame and norms add a few u.
"""

import collections
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SKETCH = 128  # points whose median is the centre


class Frame(NamedTuple):
    """Where tiles have their origin, and the power of two that they are multiplied by: what is near 0 is exact.

    The centre is a median, which samples that have diverged do not move.
    """

    centre: np.ndarray  # float64 [d]
    scale: float


def frame_of(queries: np.ndarray, points: np.ndarray) -> Frame:
    centre = np.median(points[:: -(-len(points) // SKETCH)].astype(np.float64), axis=0)
    most = max(float(np.maximum(x.max(), -x.min())) for x in (queries, points))
    return Frame(centre, 2.0 ** -int(np.frexp(most)[1]) if 0 < most < np.inf else 1.0)


def all_finite(*sets: np.ndarray) -> bool:
    return all(np.isfinite(x.min()) and np.isfinite(x.max()) for x in sets)


class Side(NamedTuple):
    """Rows `start` to `start + size` of a set, in their frame, padded to the side of a tile, on one or each device.

    `x` holds float32 `[side, d]`, `squares` their float32 norms squared `[side]`, ∞ for padding.
    """

    start: int
    size: int
    x: tuple[jax.Array, ...]
    squares: tuple[jax.Array, ...]

    @property
    def members(self) -> slice:
        return slice(self.start, self.start + self.size)


def padded(radii: np.ndarray, side: Side) -> np.ndarray:
    """The radii of one side, float32 `[side]`; padding has no ball."""
    own = radii[side.members].astype(np.float32)
    return np.pad(own, (0, side.x[0].shape[0] - side.size), constant_values=-1.0)


class Pair(NamedTuple):
    """Two sides of a tile, and the number of the device that computes it."""

    row: Side
    column: Side
    device: int


def cut(x: np.ndarray, frame: Frame, most: int, devices: tuple, turns: bool = False) -> Iterator[Side]:
    """`x [n, d]` as sides of tiles, of one size of at most `most`, on every device, or, in `turns`, on one each."""
    n = len(x)
    parts = -(-n // most)
    size = -(-n // parts)
    for i, start in enumerate(range(0, n, size)):
        part = x[start : start + size]
        whole = np.pad(part, ((0, size - len(part)), (0, 0)))
        chosen = [devices[i % len(devices)]] if turns else devices
        with jax.enable_x64(True):
            placed = [_placed(*jax.device_put((whole, *frame), device), len(part)) for device in chosen]
        yield Side(start, len(part), *zip(*placed, strict=True))


def every(rows: Iterable[Side], columns: list[Side]) -> Iterator[Pair]:
    """All tiles of two sets."""
    for i, row in enumerate(rows):
        for column in columns:
            yield Pair(row, column, i % len(column.x))


def half(sides: list[Side]) -> Iterator[Pair]:
    """Tiles of a set against itself, on and above the diagonal."""
    for i, row in enumerate(sides):
        for column in sides[i:]:
            yield Pair(row, column, i % len(column.x))


def run(pairs: Iterable[Pair], settings: Callable, function: Callable) -> Iterator[tuple[Side, Side, Any]]:
    """(row side, column side, what `function` finds there), with as many tiles under way as devices and one more.

    Args:
      pairs: of sides.
      settings: (row side, column side) -> further arguments of `function`.
      function: of both sides' points and squares, jitted.
    """
    under_way: collections.deque = collections.deque()
    for row, column, device in pairs:
        own = device % len(row.x)
        sides = (row.x[own], row.squares[own], column.x[device], column.squares[device])
        under_way.append((row, column, function(*sides, *settings(row, column))))
        if len(under_way) > len(column.x):
            yield under_way.popleft()
    yield from under_way


@partial(jax.jit, static_argnames="size")
def _placed(x, centre, scale, size: int):
    """(float32 points in their frame, their squared norms), the norms of padding past `size` ∞."""
    placed = ((x - centre) * scale).astype(jnp.float32)
    squares = jnp.sum(placed.astype(jnp.float64) ** 2, axis=1).astype(jnp.float32)
    return placed, jnp.where(jnp.arange(x.shape[0]) < size, squares, jnp.inf)


def error_bound(norms, d: int, dtype):
    """Bound on the error of squared distances, for ‖a‖² + ‖b‖² = `norms`: relative, and what underflows.

    Twice that of the module's docstring: some accelerators' float32 is made of pieces.
    """
    kind = np.finfo(dtype)
    return (d + 16) * float(kind.eps) * norms + 4 * d * float(kind.tiny)


def approximate(x, x_squares, y, y_squares) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Squared distances `[a, b]`, a bound on their error, and whether neither is padding."""
    norms = x_squares[:, None] + y_squares[None, :]
    squared = norms - 2 * jnp.matmul(x, y.T, precision="highest")
    return squared, error_bound(norms, x.shape[1], x.dtype), jnp.isfinite(norms)


@partial(jax.jit, static_argnums=(4, 5, 6))
def nearest_of_tile(x, x_squares, y, y_squares, count: int, same: bool, diagonal: bool):
    """(lower bounds, column indices) `[a, c]` of each row's nearest; likewise of each column's, of the same set."""
    squared, error, real = approximate(x, x_squares, y, y_squares)
    lower = jnp.where(real, squared - error, jnp.inf)
    if diagonal:
        lower = jnp.where(jnp.eye(*lower.shape, dtype=bool), jnp.inf, lower)

    def smallest(values):
        negative, index = jax.lax.top_k(-values, min(count, values.shape[1]))
        return -negative, index

    return smallest(lower), smallest(lower.T) if same and not diagonal else ()


INSIDE, OPEN, REACHED, REACH_OPEN = 1, 2, 4, 8  # codes of `balls_of_tile`


@jax.jit
def balls_of_tile(x, x_squares, y, y_squares, x_radii, y_radii):
    """What is certain, and what is not.

    A code for each pair: INSIDE where the row surely lies in the column's ball, OPEN where that is unclear, REACHED and
    REACH_OPEN likewise for the column in the row's ball.

    Returns:
      (int32 `[a]`: columns' balls that surely hold each row; uint8 `[a]`: all codes of each row; uint8 `[b]`: of each
      column; uint8 `[a, b]`: the codes).
    """
    squared, error, real = approximate(x, x_squares, y, y_squares)

    def compare(radii, inside, unclear):
        gap, slack = radii - squared, error + 2.0**-22 * radii  # the radius itself was rounded to float32
        found = jnp.where(gap > slack, jnp.uint8(inside), jnp.uint8(unclear))
        return jnp.where((gap >= -slack) & real, found, jnp.uint8(0))

    codes = compare(y_radii[None, :], INSIDE, OPEN) | compare(x_radii[:, None], REACHED, REACH_OPEN)
    codes = jax.lax.optimization_barrier(codes)  # computed once, and not again for each of what follows
    of_rows, of_columns = (jax.lax.reduce(codes, jnp.uint8(0), jax.lax.bitwise_or, (axis,)) for axis in (1, 0))
    return jnp.sum((codes & INSIDE).astype(jnp.int32), axis=1), of_rows, of_columns, codes
