"""A diffusion transformer for images larger than an MLP can take."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from madbench.networks.embedding import Condition


class DiffusionTransformer(nn.Module):
    """`x [n, height, width, channels], noise [n], label [n] -> [n, height, width, channels]`.

    DiT with adaLN-Zero blocks (Peebles and Xie 2023, figure 3). Patches are cut and laid back by reshape, so the
    whole network is matrix products.

    Attributes:
      num_labels: classes and one more for "no label".
      width: of the residual stream.
      depth: blocks.
      heads: attention heads; divides `width`.
      patch: side of a patch; divides height and width.
      dtype: of the matrix products; parameters and outputs stay float32.
      remat: recompute activations in the backward pass, to save memory.
    """

    num_labels: int
    width: int = 256
    depth: int = 4
    heads: int = 4
    patch: int = 2
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, noise: jax.Array, label: jax.Array) -> jax.Array:
        n, height, width, channels = x.shape
        p = self.patch
        if height % p or width % p or self.width % self.heads:
            raise ValueError(
                f"patch {p} must divide the image's {height}x{width}, and heads {self.heads} the width {self.width}"
            )
        rows, columns = height // p, width // p
        patches = x.reshape(n, rows, p, columns, p, channels).transpose(0, 1, 3, 2, 4, 5)
        patches = patches.reshape(n, rows * columns, p * p * channels)

        h = nn.Dense(self.width, dtype=self.dtype)(patches)
        h = h + self.param("position", nn.initializers.normal(0.02), (rows * columns, self.width))
        condition = Condition(self.width, self.num_labels)(noise, label)
        block = nn.remat(_Block) if self.remat else _Block
        for i in range(self.depth):
            h = block(self.width, self.heads, self.dtype, name=f"block_{i}")(h, condition)

        scale, shift = jnp.split(_zeros(2 * self.width)(condition)[:, None], 2, axis=-1)
        h = _normalize(h) * (1 + scale) + shift
        out = _zeros(p * p * channels)(h).reshape(n, rows, columns, p, p, channels)
        return out.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape)


class _Block(nn.Module):
    """adaLN-Zero: attention and MLP, each scaled, shifted and gated by the condition; the identity at first."""

    width: int
    heads: int
    dtype: str

    @nn.compact
    def __call__(self, h: jax.Array, condition: jax.Array) -> jax.Array:  # [n, token, width], [n, width]
        modulation = jnp.split(_zeros(6 * self.width)(condition)[:, None], 6, axis=-1)
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = modulation
        h = h + gate_a * self._attention(_normalize(h) * (1 + scale_a) + shift_a)
        u = nn.Dense(4 * self.width, dtype=self.dtype)(_normalize(h) * (1 + scale_m) + shift_m)
        return h + gate_m * nn.Dense(self.width, dtype=self.dtype)(nn.gelu(u))

    def _attention(self, h: jax.Array) -> jax.Array:
        n, tokens, width = h.shape
        qkv = nn.Dense(3 * width, dtype=self.dtype)(h).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = jnp.moveaxis(qkv, 2, 0)  # [n, token, head, feature]
        logits = jnp.einsum("nqhf,nkhf->nhqk", q, k) * (width // self.heads) ** -0.5
        weights = jax.nn.softmax(logits.astype(jnp.float32)).astype(v.dtype)
        return nn.Dense(width, dtype=self.dtype)(jnp.einsum("nhqk,nkhf->nqhf", weights, v).reshape(n, tokens, width))


def _zeros(features: int) -> nn.Dense:
    return nn.Dense(features, kernel_init=nn.initializers.zeros)


def _normalize(h: jax.Array) -> jax.Array:
    h = h.astype(jnp.float32)
    h = h - h.mean(axis=-1, keepdims=True)
    return h * jax.lax.rsqrt(jnp.square(h).mean(axis=-1, keepdims=True) + 1e-6)
