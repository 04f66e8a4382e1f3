"""The denoising networks: shapes, conditions, patches, attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench.networks import DiffusionTransformer, ResidualMLP


def apply_random(net, x, seed=0):
    """The network with random weights everywhere, also where it starts from 0."""
    n = x.shape[0]
    inputs = (x, jnp.linspace(-1, 1, n), jnp.arange(n) % net.num_labels)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(0.4 * rng.normal(size=a.shape), a.dtype), shapes), inputs


NETWORKS = {
    "mlp on vectors": (ResidualMLP(5, 8, 1), (7,)),
    "mlp on images": (ResidualMLP(5, 8, 2), (4, 6, 3)),
    "transformer": (DiffusionTransformer(5, 8, 1, 2, 2), (4, 6, 3)),
    "transformer in bfloat16": (DiffusionTransformer(5, 8, 1, 2, 2, "bfloat16"), (4, 4, 1)),
    "transformer with remat": (DiffusionTransformer(5, 8, 2, 2, 2, "float32", True), (4, 4, 1)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_keep_shape_and_type(name):
    net, shape = NETWORKS[name]
    x = jax.random.normal(jax.random.key(0), (3, *shape))
    params, inputs = apply_random(net, x)
    out = jax.jit(net.apply)({"params": params}, *inputs)
    assert out.shape == x.shape
    assert out.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert np.isfinite(out).all()


@pytest.mark.parametrize("name", ["mlp on images", "transformer"])
def test_networks_start_from_zero(name):
    net, shape = NETWORKS[name]
    x = jnp.ones((2, *shape))
    out, _ = jax.jit(net.init_with_output)(jax.random.key(0), x, jnp.zeros(2), jnp.zeros(2, jnp.int32))
    np.testing.assert_array_equal(out, jnp.zeros_like(x))


@pytest.mark.parametrize("name", ["mlp on images", "transformer"])
def test_networks_see_noise_level_and_label_and_keep_rows_apart(name):
    net, shape = NETWORKS[name]
    x = jnp.broadcast_to(jax.random.normal(jax.random.key(0), shape), (3, *shape))
    params, (_, noise, label) = apply_random(net, x)
    apply = jax.jit(net.apply)

    def run(x, noise, label):
        return np.asarray(apply({"params": params}, x, noise, label))

    base = run(x, noise, label)
    np.testing.assert_allclose(run(x[:1], noise[:1], label[:1])[0], base[0], rtol=1e-4, atol=1e-5)
    louder, relabelled = run(x, noise.at[1].add(0.1), label), run(x, noise, label.at[2].set(4))
    for changed, row in ((louder, 1), (relabelled, 2)):
        moved = np.abs(changed - base).reshape(3, -1).max(1) > 1e-4
        assert moved.tolist() == [i == row for i in range(3)]


def test_patches_are_cut_and_laid_back_where_they_were():
    """Without blocks, with the identity for both matrices, each patch comes back normalized by itself and in place."""
    height, width, channels, p = 4, 6, 3, 2
    size = p * p * channels
    net = DiffusionTransformer(num_labels=1, width=size, depth=0, heads=1, patch=p)
    x = np.random.default_rng(0).normal(size=(2, height, width, channels)).astype(np.float32)
    inputs = (jnp.asarray(x), jnp.zeros(2), jnp.zeros(2, jnp.int32))
    shapes = jax.eval_shape(net.init, jax.random.key(0), *inputs)["params"]
    params = jax.tree.map(lambda a: jnp.zeros(a.shape), shapes)
    kernels = {name: layer["kernel"] for name, layer in params.items() if name.startswith("Dense")}
    square = [name for name, kernel in kernels.items() if kernel.shape == (size, size)]
    assert len(square) == 2  # into the stream and out of it
    for name in square:
        params[name]["kernel"] = jnp.eye(size)
    out = jax.jit(net.apply)({"params": params}, *inputs)
    expected = np.empty_like(x)
    for n in range(2):
        for i in range(0, height, p):
            for j in range(0, width, p):
                patch = x[n, i : i + p, j : j + p]
                expected[n, i : i + p, j : j + p] = (patch - patch.mean()) / np.sqrt(patch.var() + 1e-6)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_attention_is_softmax_over_tokens_of_each_head():
    """One block's attention, head by head in NumPy."""
    from madbench.networks.transformer import _Block

    block = _Block(8, 2, "float32")
    h, condition = (jax.random.normal(jax.random.key(i), s) for i, s in ((0, (1, 5, 8)), (1, (1, 8))))
    shapes = jax.eval_shape(block.init, jax.random.key(2), h, condition)["params"]
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda a: jnp.asarray(0.5 * rng.normal(size=a.shape), jnp.float32), shapes)
    got = np.asarray(jax.jit(block.apply)({"params": params}, h, condition))[0]

    p = jax.tree.map(np.float64, params)

    def dense(i, v):
        return v @ p[f"Dense_{i}"]["kernel"] + p[f"Dense_{i}"]["bias"]

    def norm(v):
        return (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-6)

    x, c = np.float64(h)[0], np.float64(condition)[0]
    scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = np.split(dense(0, c), 6)
    u = norm(x) * (1 + scale_a) + shift_a
    q, k, v = np.split(dense(1, u), 3, axis=-1)
    mixed = np.empty_like(u)
    for head in range(2):
        cut = slice(4 * head, 4 * head + 4)
        logits = q[:, cut] @ k[:, cut].T / 2.0  # the square root of 4 features
        weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        mixed[:, cut] = weights @ v[:, cut]
    x = x + gate_a * dense(2, mixed)
    u = dense(3, norm(x) * (1 + scale_m) + shift_m)
    gelu = 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))
    np.testing.assert_allclose(got, x + gate_m * dense(4, gelu), rtol=1e-4, atol=1e-4)
