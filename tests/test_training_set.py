"""Batches by weight: in proportion, and the same ones whatever is computed beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from madbench.training_set import _below, drawn, levels

CAPACITY, SIZE, BATCH = 1080, 1000, 256


def weights(run, size=1.0):
    """Of `SIZE` members, and 0 of the others."""
    raw = np.random.default_rng(run).exponential(size=CAPACITY).astype(np.float32)
    return levels(jnp.where(jnp.arange(CAPACITY) < SIZE, raw, 0)) * np.float32(size)


def batches(weight, steps=40):
    draw = lambda step: drawn(jax.random.key(0), jnp.int32(SIZE), step, BATCH, weight)
    return jax.vmap(draw)(jnp.arange(steps))


def test_draws_are_in_proportion():
    weight = np.float64(weights(0))
    counts = np.bincount(np.ravel(batches(weights(0), 4000)), minlength=CAPACITY)
    assert counts[SIZE:].sum() == 0
    assert stats.chisquare(counts[:SIZE], weight[:SIZE] / weight.sum() * counts.sum()).pvalue > 0.01


def test_what_is_uniform_below_an_end_is_a_product_of_64_bits():
    bits, end = np.random.default_rng(0).integers(0, 2**32, (2, 10_000), np.uint32)
    end[:3], bits[:3] = (1, 2**32 - 1, 2**32 - 1), (2**32 - 1, 2**32 - 1, 0)
    np.testing.assert_array_equal(_below(jnp.asarray(bits), jnp.asarray(end)), np.uint64(bits) * end >> 32)


def test_equal_weights_draw_what_none_do():
    equal = jnp.where(jnp.arange(CAPACITY) < SIZE, 0.3, 0.0)
    np.testing.assert_array_equal(batches(equal), batches(None))
    assert (np.asarray(batches(equal.at[3].set(0.31))) != batches(None)).any()


@pytest.mark.parametrize("runs", [1, 2, 3, 6, 30])
def test_what_is_drawn_does_not_depend_on_the_runs_beside_it(runs):
    """Nor on how the factor is rounded that all weights of a set have."""
    beside = jnp.stack([weights(run, 1e-3 * (1 + 1e-6 * runs)) for run in range(runs)])
    np.testing.assert_array_equal(jax.jit(jax.vmap(batches))(beside)[0], batches(weights(0)))


@pytest.mark.parametrize("capacity", [1, 600, 4095, 4096, 100_000])
def test_levels_of_levels_are_the_same_and_their_sum_is_exact(capacity):
    rng = np.random.default_rng(capacity)
    level = levels(jnp.asarray(rng.uniform(0.01, 3.0, capacity), jnp.float32))
    np.testing.assert_array_equal(levels(level * np.float32(rng.uniform(0.1, 10))), level)
    np.testing.assert_array_equal(level, np.round(level))
    assert float(level.max()) == 2.0 ** (20 if capacity < 4096 else 19 if capacity == 4096 else 15)
    assert np.asarray(jnp.full(capacity, level.max()).astype(jnp.uint32), np.uint64).sum() < 2**32
