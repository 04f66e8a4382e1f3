"""What feature networks for photographs are shown: samples as an image file holds them, at the network's size."""

import jax
import jax.numpy as jnp
import numpy as np

from madbench.errors import UserError

SMALLEST = 8  # pixels: below, a photograph's network sees nothing but its own resizing


def check(name: str, shape: tuple[int, ...]) -> None:
    """Raises UserError (one line) unless samples of `shape` are grey or RGB images of at least 8x8."""
    if len(shape) != 3 or shape[2] not in (1, 3) or min(shape[:2]) < SMALLEST:
        raise UserError(
            f"features {name!r} see grey or RGB images of at least {SMALLEST}x{SMALLEST}, not {shape}; try 'raw'"
        )


def levels(x: jax.Array) -> jax.Array:
    """What an image file of samples in [-1, 1] holds: the nearest of 0, ..., 255 as float32, three channels.

    `x [n, height, width, 1 or 3] -> [n, height, width, 3]`; grey is repeated, NaN stays NaN.
    """
    stored = jnp.clip(jnp.floor(x.astype(jnp.float32) * 127.5 + 128.0), 0.0, 255.0)
    return jnp.broadcast_to(stored, (*x.shape[:3], 3))


def resize_bilinear(x: jax.Array, side: int) -> jax.Array:
    """Bilinear resizing as TensorFlow 1 does it, which the published FIDs use: `[n, h, w, c] -> [n, side, side, c]`.

    Pixel i is taken at i · old/new, without centring and without smoothing (`ResizeBilinear`, align_corners=False).
    """
    return _apply(x, _bilinear(x.shape[1], side), _bilinear(x.shape[2], side))


def _bilinear(old: int, new: int) -> np.ndarray:
    """float32 `[new, old]`; positions are rounded to float32 as TensorFlow rounds them."""
    place = np.arange(new, dtype=np.float32) * np.float32(old / new)
    low = place.astype(np.int64)
    share = place - low.astype(np.float32)
    weights = np.zeros((new, old), np.float32)
    np.add.at(weights, (np.arange(new), low), 1 - share)
    np.add.at(weights, (np.arange(new), np.minimum(low + 1, old - 1)), share)
    return weights


def _apply(x: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    """`rows [side, h]` and `columns [side, w]` applied to `x [n, h, w, c]`: two small matrix products."""
    x = jnp.einsum("ij,nhjc->nhic", columns, x, precision="highest")
    return jnp.einsum("ij,njwc->niwc", rows, x, precision="highest")


def resize_bicubic(x: jax.Array, side: int) -> jax.Array:
    """Pillow's bicubic resizing of 8-bit images, to the bit: `[n, h, w, c] -> [n, side, side, c]`, whole numbers.

    Columns first, then rows, each rounded to 0, ..., 255; when shrinking, the kernel widens with the step. (From
    version 13 on Pillow begins with the rows of tall images; published numbers are older.) Pillow computes with whole
    weights of 22 bits. Here they are two digits of 11 bits, so that each sum is a whole number below 2²⁴, which float32
    holds exactly, for sides up to 3,500 pixels; above, a level may be off by one.
    """
    if x.shape[2] != side:
        x = _fixed_point(lambda digit: jnp.einsum("ij,nhjc->nhic", digit, x, precision="highest"), x.shape[2], side)
    if x.shape[1] != side:
        x = _fixed_point(lambda digit: jnp.einsum("ij,njwc->niwc", digit, x, precision="highest"), x.shape[1], side)
    return x


def _fixed_point(product, old: int, new: int) -> jax.Array:
    """⌊(Σ weight · level + 2²¹) / 2²²⌋ within 0, ..., 255, for whole weights = high · 2¹¹ + low."""
    whole = _bicubic(old, new)
    high = np.floor_divide(whole + 2**10, 2**11)
    low = whole - high * 2**11
    carry = jnp.floor(product(low.astype(np.float32)) / 2**11)
    return jnp.clip(jnp.floor((product(high.astype(np.float32)) + carry + 2**10) / 2**11), 0.0, 255.0)


def _bicubic(old: int, new: int) -> np.ndarray:
    """int64 `[new, old]`: weights times 2²², of Keys' kernel with a = -1/2 (IEEE Trans. ASSP 29, 1981)."""
    step = old / new
    widen = max(step, 1.0)
    weights = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * step
        first = max(int(centre - 2 * widen + 0.5), 0)
        last = min(int(centre + 2 * widen + 0.5), old)
        distance = np.abs((np.arange(first, last) - centre + 0.5) / widen)
        near = ((1.5 * distance - 2.5) * distance) * distance + 1
        far = (((distance - 5) * distance + 8) * distance - 4) * -0.5
        values = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
        weights[i, first:last] = values / values.sum()
    scaled = weights * 2**22
    return np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int64)
