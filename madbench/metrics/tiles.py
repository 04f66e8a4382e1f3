"""All pairs of two sets of points, a tile at a time, rounded to few bits, with a bound on the error: for `screened`.

Error bound: points are rounded to x + e with ‖e‖ ≤ ρ‖x‖, and the largest ρ is known, so by Cauchy and Schwarz a dot
product is off by at most (ρ + ρ' + ρρ')‖a‖‖b‖. Sums of d products in float32 add d u ‖a‖‖b‖, u = 2⁻²⁴, in any order
(Higham 2002, equation 3.5). ‖a‖‖b‖ ≤ (‖a‖² + ‖b‖²)/2; placing points in their frame and norms add a few u.
"""

import collections
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SKETCH = 128  # points whose median is the centre
FOR_ROW, FOR_COLUMN = 1, 2  # codes of `near_of_tile`


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


class Placed(NamedTuple):
    """Points of one side of a tile in their frame, on a device.

    Attributes:
      x: `[side, d]`, rounded.
      squares: float32 `[side]`, squared norms before rounding; ∞ for padding.
      rounding: float32 `[]`, the largest share of its norm that rounding moved a point by.
    """

    x: jax.Array
    squares: jax.Array
    rounding: jax.Array


class Side(NamedTuple):
    """Rows `start` to `start + size` of a set, padded to the side of a tile, on one or on each device."""

    start: int
    size: int
    placed: tuple[Placed, ...]

    @property
    def squares(self) -> np.ndarray:
        """Squared norms, float64 `[size]`."""
        return np.asarray(self.placed[0].squares)[: self.size].astype(np.float64)

    @property
    def members(self) -> slice:
        return slice(self.start, self.start + self.size)

    def fitted(self, values: np.ndarray, padding) -> np.ndarray:
        """This side's part of `values [n]`, as long as a tile's side."""
        own = values[self.members]
        return np.pad(own, (0, self.placed[0].x.shape[0] - self.size), constant_values=padding)


class Pair(NamedTuple):
    """Two sides of a tile, and whose turn it is among the devices."""

    row: Side
    column: Side
    turn: int


def cut(x: np.ndarray, frame: Frame, most: int, devices: tuple, dtype, turns: bool = False) -> Iterator[Side]:
    """`x [n, d]` as sides of tiles, of one size of at most `most`, on every device, or, in `turns`, on one each."""
    n = len(x)
    parts = -(-n // most)
    size = -(-n // parts)
    for i, start in enumerate(range(0, n, size)):
        part = x[start : start + size]
        whole = np.pad(part, ((0, size - len(part)), (0, 0)))
        chosen = [devices[i % len(devices)]] if turns else devices
        yield Side(start, len(part), tuple(_placed(whole, frame, len(part), dtype, device) for device in chosen))


def every(rows: Iterable[Side], columns: list[Side]) -> Iterator[Pair]:
    """All tiles of two sets."""
    for i, row in enumerate(rows):
        for column in columns:
            yield Pair(row, column, i)


def run(pairs: Iterable[Pair], settings: Callable, function: Callable) -> Iterator[tuple[Side, Side, Any]]:
    """(row side, column side, what `function` finds there), with as many tiles under way as devices and one more.

    Args:
      pairs: of sides.
      settings: (row side, column side) -> further arguments of `function`.
      function: of both sides' `Placed`, jitted.
    """
    under_way: collections.deque = collections.deque()
    for row, column, turn in pairs:
        found = function(*(side.placed[turn % len(side.placed)] for side in (row, column)), *settings(row, column))
        under_way.append((row, column, found))
        if len(under_way) > len(column.placed):
            yield under_way.popleft()
    yield from under_way


def _placed(x: np.ndarray, frame: Frame, size: int, dtype, device) -> Placed:
    with jax.enable_x64(True):
        return _place(*jax.device_put((x, *frame), device), size, dtype)


@partial(jax.jit, static_argnames="dtype")
def _place(x, centre, scale, size, dtype) -> Placed:
    """Points of which the first `size` are no padding, in their frame, rounded to `dtype`."""
    exact = ((x - centre) * scale).astype(jnp.float32)
    rounded = exact.astype(dtype)
    length = lambda x: jnp.sum(x.astype(jnp.float64) ** 2, axis=1)
    squares = length(exact)
    lost = length(exact - rounded.astype(jnp.float32)) / jnp.where(squares > 0, squares, 1.0)
    real = jnp.arange(x.shape[0]) < size
    rounding = 1.000001 * jnp.sqrt(jnp.max(jnp.where(real, lost, 0.0)))
    return Placed(rounded, jnp.where(real, squares, jnp.inf).astype(jnp.float32), rounding.astype(jnp.float32))


def relative_error(d: int, dtype, rounding: float = 0.0, other: float = 0.0) -> float:
    """Bound on the error of squared distances over ‖a‖² + ‖b‖², where sums are taken in `dtype`.

    Of those sums twice the module's bound: some accelerators' float32 is made of pieces.
    """
    return (d + 16) * float(jnp.finfo(dtype).eps) + rounding + other + rounding * other


def underflow(d: int, dtype) -> float:
    """What products too small for `dtype` add to the error."""
    return 4 * d * float(jnp.finfo(dtype).tiny)


def errors(row: Side, column: Side, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """What `approximate` says of pairs of members, on the host, in float64."""
    d = row.placed[0].x.shape[1]
    relative = relative_error(d, np.float32, *(float(side.placed[0].rounding) for side in (row, column)))
    return relative * (row.squares[i] + column.squares[j]) + underflow(d, np.float32)


def approximate(row: Placed, column: Placed) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Squared distances `[a, b]`, a bound on their error, and whether neither is padding."""
    norms = row.squares[:, None] + column.squares[None, :]
    products = jax.lax.dot_general(
        row.x, column.x, (((1,), (1,)), ((), ())), precision="highest", preferred_element_type=jnp.float32
    )
    d = row.x.shape[1]
    relative = relative_error(d, jnp.float32, row.rounding, column.rounding)
    return norms - 2 * products, relative * norms + underflow(d, jnp.float32), jnp.isfinite(norms)


@jax.jit
def near_of_tile(row: Placed, column: Placed, row_ids, column_ids, row_most, column_most):
    """Who may be whose near neighbour.

    Args:
      row, column: sides of the tile.
      row_ids, column_ids: int32 `[a]`, `[b]`; points of equal id are the same, and nobody's neighbours.
      row_most, column_most: float32 `[a]`, `[b]`, squared distances beyond which nothing is looked for.

    Returns:
      (lower bounds of squared distances, float32 `[a, b]`, ∞ where there is none; codes uint8 `[a, b]`: FOR_ROW where
      they lie within the row's limit, FOR_COLUMN likewise).
    """
    squared, error, real = approximate(row, column)
    others = real & (row_ids[:, None] != column_ids[None, :])
    lower = jax.lax.optimization_barrier(jnp.where(others, squared - error, jnp.inf))
    for_row = (lower <= row_most[:, None]).astype(jnp.uint8) * FOR_ROW
    return lower, for_row | (lower <= column_most[None, :]).astype(jnp.uint8) * FOR_COLUMN


INSIDE, OPEN, REACHED, REACH_OPEN = 1, 2, 4, 8  # codes of `balls_of_tile`


@jax.jit
def balls_of_tile(row: Placed, column: Placed, row_radii, column_radii):
    """What is certain, and what is not.

    A code for each pair: INSIDE where the row surely lies in the column's ball, OPEN where that is unclear, REACHED and
    REACH_OPEN likewise for the column in the row's ball.

    Returns:
      (int32 `[a]`: columns' balls that surely hold each row; uint8 `[a]`: all codes of each row; uint8 `[b]`: of each
      column; uint8 `[a, b]`: the codes).
    """
    squared, error, real = approximate(row, column)

    def compare(radii, inside, unclear):
        gap, slack = radii - squared, error + 2.0**-22 * radii  # the radius itself was rounded to float32
        found = jnp.where(gap > slack, jnp.uint8(inside), jnp.uint8(unclear))
        return jnp.where((gap >= -slack) & real, found, jnp.uint8(0))

    codes = compare(column_radii[None, :], INSIDE, OPEN) | compare(row_radii[:, None], REACHED, REACH_OPEN)
    codes = jax.lax.optimization_barrier(codes)  # computed once, and not again for each of what follows
    of_rows, of_columns = (jax.lax.reduce(codes, jnp.uint8(0), jax.lax.bitwise_or, (axis,)) for axis in (1, 0))
    return jnp.sum((codes & INSIDE).astype(jnp.int32), axis=1), of_rows, of_columns, codes
