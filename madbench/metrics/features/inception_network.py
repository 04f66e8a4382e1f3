"""InceptionV3 as the Fréchet inception distance has it (Szegedy et al., arXiv 1512.00567; Heusel et al. 2017).

It is the network of December 2015, which differs from the later one of other libraries: average pooling leaves padding
out of the mean, and the last block pools by maximum. Modules are named as in the PyTorch files of its weights. Batch
normalization has constant statistics, and is folded into the convolutions when those are read.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 1e-3  # of batch normalization
DIM = 2048
SIDE = 299


class Convolution(nn.Module):
    """`[n, h, w, in] -> [n, h', w', features]`: convolution, bias, ReLU; padded to keep the size if `stride` is 1."""

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padding = "SAME" if self.padded and self.stride == 1 else "VALID"
        x = nn.Conv(self.features, self.kernel, self.stride, padding, precision=jax.lax.Precision.HIGHEST, name="conv")(
            x
        )
        return nn.relu(x)


class Branches(nn.Module):
    """The outputs of a block's branches along the channels.

    Attributes:
      branches: each a sequence of (name, features, kernel, stride); a last element of several is a fork.
      pool: "mean" or "max" before the projection, or "shrink": the maximum of every second place, without projection.
      projected: features of the projection, called "branch_pool".
    """

    branches: Sequence
    pool: str
    projected: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        outputs = []
        for branch in self.branches:
            h = x
            for step in branch:
                forks = step if isinstance(step[0], tuple) else (step,)
                h = jnp.concatenate([Convolution(*fork[1:], name=fork[0])(h) for fork in forks], axis=-1)
            outputs.append(h)
        if self.pool == "shrink":
            outputs.append(shrink(x))
        else:
            pooled = mean(x) if self.pool == "mean" else nn.max_pool(x, (3, 3), (1, 1), "SAME")
            outputs.append(Convolution(self.projected, name="branch_pool")(pooled))
        return jnp.concatenate(outputs, axis=-1)


def shrink(x: jax.Array) -> jax.Array:
    """The maximum of each 3x3 square, every second place, without padding."""
    return nn.max_pool(x, (3, 3), (2, 2), "VALID")


def mean(x: jax.Array) -> jax.Array:
    """The mean of each 3x3 square, over the places within the image alone."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def block_a(projected: int) -> dict:
    return {
        "branches": (
            (("branch1x1", 64),),
            (("branch5x5_1", 48), ("branch5x5_2", 64, (5, 5))),
            (("branch3x3dbl_1", 64), ("branch3x3dbl_2", 96, (3, 3)), ("branch3x3dbl_3", 96, (3, 3))),
        ),
        "pool": "mean",
        "projected": projected,
    }


def block_b() -> dict:
    return {
        "branches": (
            (("branch3x3", 384, (3, 3), 2),),
            (("branch3x3dbl_1", 64), ("branch3x3dbl_2", 96, (3, 3)), ("branch3x3dbl_3", 96, (3, 3), 2)),
        ),
        "pool": "shrink",
    }


def block_c(width: int) -> dict:
    row, column = (1, 7), (7, 1)
    return {
        "branches": (
            (("branch1x1", 192),),
            (("branch7x7_1", width), ("branch7x7_2", width, row), ("branch7x7_3", 192, column)),
            (
                ("branch7x7dbl_1", width),
                ("branch7x7dbl_2", width, column),
                ("branch7x7dbl_3", width, row),
                ("branch7x7dbl_4", width, column),
                ("branch7x7dbl_5", 192, row),
            ),
        ),
        "pool": "mean",
        "projected": 192,
    }


def block_d() -> dict:
    return {
        "branches": (
            (("branch3x3_1", 192), ("branch3x3_2", 320, (3, 3), 2)),
            (
                ("branch7x7x3_1", 192),
                ("branch7x7x3_2", 192, (1, 7)),
                ("branch7x7x3_3", 192, (7, 1)),
                ("branch7x7x3_4", 192, (3, 3), 2),
            ),
        ),
        "pool": "shrink",
    }


def block_e(pool: str) -> dict:
    fork = lambda name: ((f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1)))
    return {
        "branches": (
            (("branch1x1", 320),),
            (("branch3x3_1", 384), fork("branch3x3_2")),
            (("branch3x3dbl_1", 448), ("branch3x3dbl_2", 384, (3, 3)), fork("branch3x3dbl_3")),
        ),
        "pool": pool,
        "projected": 192,
    }


BLOCKS = {
    "Mixed_5b": block_a(32),
    "Mixed_5c": block_a(64),
    "Mixed_5d": block_a(64),
    "Mixed_6a": block_b(),
    "Mixed_6b": block_c(128),
    "Mixed_6c": block_c(160),
    "Mixed_6d": block_c(160),
    "Mixed_6e": block_c(192),
    "Mixed_7a": block_d(),
    "Mixed_7b": block_e("mean"),
    "Mixed_7c": block_e("max"),
}


class Inception(nn.Module):
    """`x [n, height, width, 3] -> float32 [n, 2048]`, the means of the last block; x = (level - 128) / 128.

    The weights are those of 299x299 pixels; 75 is the least that the layers can take.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Convolution(32, (3, 3), 2, name="Conv2d_1a_3x3")(x)
        x = Convolution(32, (3, 3), padded=False, name="Conv2d_2a_3x3")(x)
        x = shrink(Convolution(64, (3, 3), name="Conv2d_2b_3x3")(x))
        x = Convolution(80, name="Conv2d_3b_1x1")(x)
        x = shrink(Convolution(192, (3, 3), padded=False, name="Conv2d_4a_3x3")(x))
        for name, block in BLOCKS.items():
            x = Branches(**block, name=name)(x)
        return x.mean(axis=(1, 2))


def expected() -> dict:
    """The weights that the network takes, as shapes."""
    return jax.eval_shape(Inception().init, jax.random.key(0), jnp.zeros((1, 75, 75, 3)))["params"]


def from_torch(state: Mapping[str, np.ndarray]) -> dict:
    """The weights from a PyTorch state dict, batch normalization folded in (in float64).

    Raises:
      KeyError: with the name of a missing tensor.
      ValueError: where one has another shape; the message is its name.
    """
    return _convert(expected(), state, "")


def _convert(like: dict, state: Mapping[str, np.ndarray], name: str) -> dict:
    if "conv" not in like:
        return {key: _convert(value, state, f"{name}{key}.") for key, value in like.items()}
    kernel, *norm = [
        np.asarray(state[f"{name}{leaf}"], np.float64)
        for leaf in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    ]
    kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel  # [out, in, h, w] -> [h, w, in, out]
    shapes = like["conv"]["kernel"].shape, like["conv"]["bias"].shape
    if kernel.shape != shapes[0] or any(values.shape != shapes[1] for values in norm):
        raise ValueError(name)
    gain, shift, centre, variance = norm
    scale = gain / np.sqrt(variance + EPSILON)
    folded = {"kernel": kernel * scale, "bias": shift - centre * scale}
    return {"conv": {leaf: values.astype(np.float32) for leaf, values in folded.items()}}
