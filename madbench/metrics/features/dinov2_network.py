"""DINOv2's vision transformer (Oquab et al., arXiv 2304.07193), all four sizes; inference only.

Every head has 64 numbers. The largest network's feed-forward layers are SwiGLU (Shazeer, arXiv 2002.05202).
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 1e-6  # of layer normalization
HEAD = 64
# The reference code asks for a tenth of a patch more than there is when it resizes position embeddings, and has to keep
# that: the published features contain it.
OFFSET = 0.1


class Block(nn.Module):
    """`x [n, token, dim] -> (the same shape, None)`: attention, then two dense layers, each scaled and added.

    Attributes:
      hidden: width between the dense layers.
      gated: whether they are SwiGLU.
    """

    hidden: int
    gated: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, None]:
        dim = x.shape[-1]
        h = _norm("norm1")(x)
        query, key, value = (
            _dense(dim, name)(h).reshape(*x.shape[:2], dim // HEAD, HEAD) for name in ("query", "key", "value")
        )
        scores = jnp.einsum("nihd,njhd->nhij", query, key, precision="highest") / HEAD**0.5
        h = jnp.einsum("nhij,njhd->nihd", nn.softmax(scores), value, precision="highest").reshape(x.shape)
        x = x + _dense(dim, "output")(h) * self.param("scale1", nn.initializers.ones, (dim,))
        h = _norm("norm2")(x)
        if self.gated:
            gate, h = jnp.split(_dense(2 * self.hidden, "in")(h), 2, axis=-1)
            h = nn.silu(gate) * h
        else:
            h = nn.gelu(_dense(self.hidden, "in")(h), approximate=False)
        return x + _dense(dim, "out")(h) * self.param("scale2", nn.initializers.ones, (dim,)), None


class Transformer(nn.Module):
    """`x [n, side, side, 3] -> float32 [n, dim]`: the class token behind the last normalization.

    Attributes:
      dim, depth, hidden, gated: sizes, as in the file of the weights.
      patch: side of a patch, in pixels.
    """

    dim: int
    depth: int
    hidden: int
    gated: bool
    patch: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, height, width, channels = x.shape
        grid = height // self.patch, width // self.patch
        x = x.reshape(n, grid[0], self.patch, grid[1], self.patch, channels).transpose(0, 1, 3, 2, 4, 5)
        x = _dense(self.dim, "patches")(x.reshape(n, grid[0] * grid[1], -1))
        first = self.param("class", nn.initializers.zeros, (self.dim,))
        x = jnp.concatenate([jnp.broadcast_to(first, (n, 1, self.dim)), x], axis=1)
        x = x + self.param("positions", nn.initializers.zeros, (1 + grid[0] * grid[1], self.dim))
        blocks = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth)
        x, _ = blocks(self.hidden, self.gated, name="blocks")(x)
        return _norm("norm")(x[:, 0])


def sized(params: Mapping[str, Any]) -> Transformer:
    """The network that these weights are of."""
    depth, hidden, dim = params["blocks"]["out"]["kernel"].shape
    gated = params["blocks"]["in"]["kernel"].shape[-1] != hidden
    patch = round((params["patches"]["kernel"].shape[0] / 3) ** 0.5)
    return Transformer(dim, depth, hidden, gated, patch)


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=EPSILON, use_fast_variance=False, name=name)


def _dense(features: int, name: str) -> nn.Dense:
    return nn.Dense(features, precision=jax.lax.Precision.HIGHEST, name=name)


def resize_positions(table: np.ndarray, grid: int, offset: float = OFFSET) -> np.ndarray:
    """Position embeddings of a square image for another size, as PyTorch's bicubic interpolation makes them.

    Args:
      table: `[1 + old * old, dim]`, the class token's first.
      grid: patches along a side of the new image.
      offset: by how much of a patch the new side is said to be longer.

    Returns: float32 `[1 + grid * grid, dim]`.
    """
    old = round((table.shape[0] - 1) ** 0.5)
    if old == grid:
        return np.asarray(table, np.float32)
    weights = _bicubic(old, grid, old / (grid + offset))
    patches = table[1:].astype(np.float64).reshape(old, old, -1)
    resized = np.einsum("ai,bj,ijd->abd", weights, weights, patches, optimize=True)
    return np.concatenate([table[:1], resized.reshape(grid * grid, -1)]).astype(np.float32)


def _bicubic(old: int, new: int, step: float) -> np.ndarray:
    """float64 `[new, old]`: Keys' kernel with a = -3/4 around `(i + 1/2) step - 1/2`; the border is repeated."""
    place = (np.arange(new) + 0.5) * step - 0.5
    low = np.floor(place).astype(np.int64)
    weights = np.zeros((new, old))
    for shift in (-1, 0, 1, 2):
        d = np.abs(place - low - shift)
        near = (1.25 * d - 2.25) * d * d + 1
        far = -0.75 * (((d - 5) * d + 8) * d - 4)
        np.add.at(weights, (np.arange(new), np.clip(low + shift, 0, old - 1)), np.where(d <= 1, near, far))
    return weights


# Names of Meta's own files, and of the Hugging Face's, which are the ones used here.
_META = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.mlp\.w12\.", ".mlp.weights_in."),
    (r"\.mlp\.w3\.", ".mlp.weights_out."),
)


def canonical(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors under the Hugging Face's names, without the mask token, which only training uses."""
    found = {}
    for name, value in state.items():
        for pattern, replacement in _META:
            name = re.sub(pattern, replacement, name)
        if ".attn.qkv." in name and value.shape[0] % 3 == 0:
            for part, third in zip(("query", "key", "value"), np.split(value, 3), strict=True):
                found[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = third
        elif name != "embeddings.mask_token":
            found[name] = value
    return found


def from_torch(state: Mapping[str, np.ndarray], side: int, offset: float = OFFSET) -> dict[str, Any]:
    """The weights of the network for images of `side` pixels, from `canonical` tensors.

    Raises:
      KeyError: with the name of a missing tensor.
      ValueError: where tensors are left over, or one has an impossible shape; the message is a name.
    """
    left = dict(state)

    def take(name: str, *shape: int) -> np.ndarray:
        value = np.asarray(left.pop(name), np.float32)
        if value.size != np.prod(shape) or value.shape[0] not in (1, shape[0]):
            raise ValueError(name)
        return value.reshape(shape)

    def dense(name: str, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        return {"kernel": take(f"{name}.weight", outputs, inputs).T, "bias": take(f"{name}.bias", outputs)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": take(f"{name}.weight", dim), "bias": take(f"{name}.bias", dim)}

    def block(i: int) -> dict[str, Any]:
        layer = f"encoder.layer.{i}"
        return {
            **{name: norm(f"{layer}.{name}") for name in ("norm1", "norm2")},
            **{name: dense(f"{layer}.attention.attention.{name}", dim, dim) for name in ("query", "key", "value")},
            "output": dense(f"{layer}.attention.output.dense", dim, dim),
            "in": dense(f"{layer}.mlp.{enter}", dim, wide),
            "out": dense(f"{layer}.mlp.{leave}", hidden, dim),
            **{f"scale{j}": take(f"{layer}.layer_scale{j}.lambda1", dim) for j in (1, 2)},
        }

    kernel = state["embeddings.patch_embeddings.projection.weight"].shape  # [dim, 3, patch, patch]
    positions = state["embeddings.position_embeddings"].shape[-2]
    dim, patch = kernel[0], kernel[-1]
    if kernel != (dim, 3, patch, patch) or 0 in kernel or dim % HEAD or side % patch:
        raise ValueError("embeddings.patch_embeddings.projection.weight")
    if positions != 1 + round((positions - 1) ** 0.5) ** 2:
        raise ValueError("embeddings.position_embeddings")
    gated = "encoder.layer.0.mlp.weights_in.weight" in state
    enter, leave = ("weights_in", "weights_out") if gated else ("fc1", "fc2")
    wide = state[f"encoder.layer.0.mlp.{enter}.bias"].shape[0]
    hidden = wide // 2 if gated else wide
    if wide != hidden * (1 + gated):
        raise ValueError(f"encoder.layer.0.mlp.{enter}.bias")
    depth = sum(name.endswith(".norm1.weight") for name in state)
    blocks = [block(i) for i in range(depth)]
    projection = take("embeddings.patch_embeddings.projection.weight", dim, 3, patch, patch)
    params = {
        "patches": {
            "kernel": projection.transpose(2, 3, 1, 0).reshape(-1, dim),
            "bias": take("embeddings.patch_embeddings.projection.bias", dim),
        },
        "class": take("embeddings.cls_token", dim),
        "positions": resize_positions(take("embeddings.position_embeddings", positions, dim), side // patch, offset),
        "norm": norm("layernorm"),
        "blocks": jax.tree.map(lambda *leaves: np.stack(leaves), *blocks),
    }
    if left:
        raise ValueError(min(left))
    return params
