"""Endless handwritten digits: scikit-learn's 1,797 real ones under random warps, drawn at any resolution.

A sample is a base digit, an affine map and a stroke width. The 8x8 grey values of the base digit are interpolated by
cubic splines, the ink is where the interpolant exceeds a level (lower levels are wider strokes), and a pixel's grey is
the part of it that lies in the ink. All of it is products of small matrices: nothing is gathered but the base digit,
and nothing scattered, so that it runs under `vmap` inside any training program.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from madbench.data.source import EndlessSource, check_number, check_whole, endless
from madbench.samples import Samples

_SIDE = 8  # of a base digit
_BEYOND = 2  # knots of the splines beyond the base digit on either side, where its grey is 0
_FILLS = 0.72  # of the frame by the 8x8 box, before warps; MNIST's 20 of 28 pixels
_LEVEL = 0.44  # of the digit's own brightness: where the edge of its ink lies
_FINEST = 24  # points along a side at least: smaller images are averages of finer ones


def load(
    resolution: int = 28,
    rotation: float = 10.0,
    scale: float = 0.1,
    shear: float = 0.15,
    shift: float = 0.08,
    stroke: float = 0.3,
    n_reference: int = 1000,
    split_seed: int = 0,
) -> EndlessSource:
    """Digits as float32 `[n, resolution, resolution, 1]` in [-1, 1], of 256 grey levels, with labels 0..9.

    A digit that a warp would push over the border is moved less; one that would not fit at all is made smaller.

    Args:
      resolution: pixels along a side.
      rotation: at most so many degrees either way.
      scale: height and width each change by a factor of at most 1 + scale, either way.
      shear: at most so far to either side, by height.
      shift: at most so far along each axis, by side of the image.
      stroke: the level at which ink begins changes by this share of it, either way; 0 leaves the stroke as it was.
      n_reference: samples drawn once for the metrics.
      split_seed: of that draw.

    Raises:
      UserError: settings out of range; one line.
    """
    check_whole(_SIDE, resolution=resolution)
    check_number(rotation, "rotation", least=0, below=180)
    for name, value in {"scale": scale, "shear": shear, "shift": shift, "stroke": stroke}.items():
        check_number(value, name, least=0, below=1)
    warps = Warps(resolution, *(float(value) for value in (rotation, scale, shear, shift, stroke)))
    from sklearn.datasets import load_digits  # slow to import

    base = load_digits()
    return endless(
        WarpedDigit(jnp.asarray(base.images, jnp.uint8), jnp.asarray(base.target, jnp.int32), warps),
        name="warped_digits",
        variant=str(list(dataclasses.astuple(warps))).replace(" ", ""),
        num_classes=10,
        bounds=(-1.0, 1.0),
        n_reference=n_reference,
        split_seed=split_seed,
    )


@dataclasses.dataclass(frozen=True)
class Warps:
    """How far digits are warped at most, and where to; each as in `load`."""

    resolution: int
    rotation: float
    scale: float
    shear: float
    shift: float
    stroke: float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class WarpedDigit:
    """The distribution, as `source.Distribution`.

    Attributes:
      images: base digits, uint8 `[base, 8, 8]` from 0 to 16.
      labels: int32 `[base]`.
      warps: how far they are warped.
    """

    images: jax.Array
    labels: jax.Array
    warps: Warps = dataclasses.field(metadata={"static": True})

    modes = moments = density = None

    @jax.jit  # of a draw outside a program: one, not one for each line
    def __call__(self, key: jax.Array) -> Samples:
        base_key, warp_key = jax.random.split(key)
        index = jax.random.randint(base_key, (), 0, self.labels.shape[0])
        u = jax.random.uniform(warp_key, (7,), minval=-1.0, maxval=1.0)
        digit = self.images[index] / 16.0
        most, side = self.warps, self.warps.resolution
        matrix = affine(math.radians(most.rotation) * u[0], most.shear * u[1], (1 + most.scale) ** u[2:4])
        matrix, low, high = framed(digit, matrix, 1 - 2 / side)  # a pixel of background all around
        moved = jnp.clip(2 * most.shift * u[4:6], low, high)
        return Samples(render(digit, matrix, moved, most.stroke * u[6], side), self.labels[index])


def affine(angle: jax.Array, shear: jax.Array, scale: jax.Array) -> jax.Array:
    """From the box of a digit to the frame of the image, both [-1, 1]² as (row, column) with rows downwards: `[2, 2]`.

    Args:
      angle: in radians, anticlockwise.
      shear: columns to the right for each row upwards.
      scale: of rows and of columns, `[2]`.
    """
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    rotate = jnp.stack([jnp.stack([cosine, -sine]), jnp.stack([sine, cosine])])
    lean = jnp.eye(2) - shear * jnp.asarray([[0.0, 0.0], [1.0, 0.0]])
    return _FILLS * (rotate @ lean) * scale


def framed(digit: jax.Array, matrix: jax.Array, most: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Makes a digit smaller where its ink would not fit into [-most, most]², and says how far it may be moved there.

    Args:
      digit: float32 `[8, 8]` in [0, 1].
      matrix: of `affine`.
      most: half the side of what the ink may fill.

    Returns:
      (matrix, low, high): shifts `[2]` from `low` to `high` keep the ink inside.
    """
    axis = (jnp.arange(_SIDE) - (_SIDE - 1) / 2) * (2 / _SIDE)
    centre = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), -1)  # [8, 8, 2]
    at = jnp.sum(centre[:, :, None, :] * matrix, -1)
    reach = jnp.sum(jnp.abs(matrix), axis=1) * (2 / _SIDE)  # to the centres of the pixels around, where there is none
    ink = (digit > 0)[:, :, None]
    first = jnp.min(jnp.where(ink, at - reach, jnp.inf), axis=(0, 1))
    last = jnp.max(jnp.where(ink, at + reach, -jnp.inf), axis=(0, 1))
    fit = jnp.minimum(1.0, 2 * most / jnp.max(last - first))
    return fit * matrix, -most - fit * first, most - fit * last


def render(digit: jax.Array, matrix: jax.Array, moved: jax.Array, thinner: jax.Array, resolution: int) -> jax.Array:
    """The image of a digit.

    Args:
      digit: float32 `[8, 8]` in [0, 1].
      matrix: from the digit's box to the frame, `[2, 2]`.
      moved: its centre in the frame, `[2]`.
      thinner: the level of the edge is raised by this share of it; above -1.
      resolution: pixels along a side.

    Returns:
      float32 `[resolution, resolution, 1]` in [-1, 1], one of 256 grey levels each.
    """
    finer = -(-_FINEST // resolution)
    side = resolution * finer
    axis = (jnp.arange(-1, side + 1) + 0.5) * (2 / side) - 1  # one more on either side, for the differences below
    (a, b), (c, d) = matrix
    inverse = jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])]) / (a * d - b * c)
    row, column = axis[:, None] - moved[0], axis[None, :] - moved[1]
    u, v = (i * row + j * column for i, j in inverse)  # in the box of the digit, [side + 2, side + 2]
    value = interpolate(digit, u, v)
    # The distance of a pixel from the edge, in pixels, to first order: what is within half a pixel is grey.
    slope = jnp.hypot(value[2:, 1:-1] - value[:-2, 1:-1], value[1:-1, 2:] - value[1:-1, :-2]) / 2
    brightness = jnp.sum(digit**2) / jnp.sum(digit)
    above = value[1:-1, 1:-1] - _LEVEL * (1 + thinner) * brightness
    covered = jnp.clip(0.5 + above / (slope + 1e-6), 0.0, 1.0)
    covered = covered.reshape(resolution, finer, resolution, finer).mean(axis=(1, 3))
    return ((jnp.round(255.0 * covered) - 127.5) / 127.5)[:, :, None]


def interpolate(digit: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
    """The cubic spline through the centres of the base pixels, and through 0 on the two rows around them.

    Args:
      digit: float32 `[8, 8]`.
      u, v: row and column in the digit's box, [-1, 1]; outside there is next to nothing. Of one shape.

    Returns:
      Values in that shape.
    """
    knots = jnp.asarray(_KNOTS, jnp.float32)
    coefficients = knots @ digit @ knots.T
    by_row, by_column = (_cubic(_SIDE / 2 * (w.reshape(-1) + 1) - 0.5) for w in (u, v))
    return jnp.sum((coefficients.T @ by_row) * by_column, axis=0).reshape(u.shape)


def _cubic(at: jax.Array) -> jax.Array:
    """Cubic B-splines around the knots -2, -1, …, 9 at `at [n]`: `[12, n]`; points last run six times faster."""
    t = jnp.abs(at - jnp.arange(-_BEYOND, _SIDE + _BEYOND)[:, None])
    near, far = jnp.maximum(1 - t, 0), jnp.maximum(2 - t, 0)
    return far**3 / 6 - near**3 * (4 / 6)


def _spline_knots() -> np.ndarray:
    """From values at 0, …, 7 to the coefficients at -2, …, 9 whose spline has them, and 0 at the others: `[12, 8]`."""
    n = _SIDE + 2 * _BEYOND
    at_knots = np.eye(n) * 4 / 6 + (np.eye(n, k=1) + np.eye(n, k=-1)) / 6
    return np.linalg.inv(at_knots)[:, _BEYOND:-_BEYOND]


_KNOTS = _spline_knots()
