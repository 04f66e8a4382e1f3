"""Kernel density estimation against SciPy, and the closed form of its fully synthetic loop."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from madbench import models
from madbench.models.family import Given
from madbench.models.kde import KernelDensityParams, KernelDensityState
from madbench.samples import Samples
from madbench.training_set import GatheredSet


def family_of(d, capacity, **settings):
    return models.build("kde", Given((d,), capacity=capacity), **settings)


def data_of(x, size=None):
    x = jnp.asarray(x, jnp.float32)
    size = jnp.int32(len(x) if size is None else size)
    return GatheredSet(Samples(x, jnp.zeros(len(x), jnp.int32)), size, jax.random.key(0))


def cloud(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) @ np.diag(1.0 + np.arange(d)) + 3


@pytest.mark.parametrize("bandwidth", ["scott", "silverman", 0.7])
@pytest.mark.parametrize("d", [1, 3])
def test_a_fit_is_scipys(d, bandwidth):
    """Over the first 40 of 64 rows: the rest is padding."""
    x = cloud(64, d)
    family = family_of(d, 64, bandwidth=bandwidth)
    state, curve = family.fit(None, data_of(x, 40), family.init(None))
    reference = stats.gaussian_kde(x[:40].T, bw_method=bandwidth)
    assert state.size == 40
    assert family.factor(state.size) == pytest.approx(reference.factor, rel=1e-6)
    kernel = family.factor(state.size) ** 2 * state.params.covariance
    np.testing.assert_allclose(kernel, reference.covariance, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(state.params.points[:40], np.float32(x[:40]))
    assert not np.any(state.params.points[40:])
    assert curve.shape == (0,)


@pytest.mark.parametrize("bias", [1.0, 0.3])
def test_samples_follow_the_density_that_scipy_gives(bias):
    """Kolmogorov and Smirnov's test against SciPy's distribution; λ shrinks the kernel and moves no point."""
    x = np.asarray([-4.0, -3.5, 0.0, 5.0, 9.0, 1e6])
    family = family_of(1, 6)
    state, _ = family.fit(None, data_of(x[:, None], 5), family.init(None))
    drawn = np.float64(family.sample(jax.random.key(1), state, 4000, jnp.float32(bias)).x)[:, 0]
    factor = stats.gaussian_kde(x[:5]).factor * math.sqrt(bias)
    reference = stats.gaussian_kde(x[:5], bw_method=factor)
    assert stats.kstest(drawn, np.vectorize(lambda v: reference.integrate_box_1d(-np.inf, v))).pvalue > 0.01


def test_samples_have_the_kernels_correlation():
    covariance = np.asarray([[4.0, 1.5], [1.5, 1.0]])
    params = KernelDensityParams(jnp.full((8, 2), 3.0), jnp.asarray(covariance, jnp.float32))
    family = family_of(2, 8, bandwidth=0.5)
    n = 20000
    x = np.float64(family.sample(jax.random.key(2), KernelDensityState(params, jnp.int32(8)), n, jnp.float32(0.6)).x)
    expected = 0.6 * 0.25 * covariance
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((np.cov(x.T) - expected) / scale).max() < 5 * math.sqrt(2 / n)
    assert np.abs(x.mean(0) - 3).max() < 5 * math.sqrt(expected.max() / n)


def test_a_fully_synthetic_loop_multiplies_the_variance_by_its_closed_form():
    """By 1 - 1/n + λh² in each generation: up at λ = 1, down at λ = 0.1; over 2000 loops from data of variance 1."""
    n, generations, loops, h, biases = 30, 5, 2000, 0.4, (1.0, 0.1)
    family = family_of(1, n, bandwidth=h)

    def run(key, bias):
        def step(x, key):
            state, _ = family.fit(None, data_of(x), family.init(None))
            return family.sample(key, state, n, bias).x, state.params.covariance[0, 0]

        first = jax.random.normal(key, (n, 1))
        return jax.lax.scan(step, first, jax.random.split(jax.random.fold_in(key, 1), generations))[1]

    keys = jax.random.split(jax.random.key(0), loops)
    all_runs = jax.jit(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))(keys, jnp.asarray(biases))
    for found, bias in zip(np.float64(all_runs), biases, strict=True):
        growth = 1 - 1 / n + bias * h**2
        assert growth > 1.1 if bias == 1 else growth < 0.99
        for t in range(generations):
            assert abs(found[:, t].mean() - growth**t) < 4 * found[:, t].std() / math.sqrt(loops)


def test_the_state_has_the_shape_of_the_largest_set():
    family = family_of(2, 50)
    first = family.init(None)
    fitted, _ = family.fit(None, data_of(cloud(50, 2), 7), first)
    assert jax.tree.map(jnp.shape, fitted) == jax.tree.map(jnp.shape, first)
    assert fitted.size.dtype == first.size.dtype
    x = np.float64(family.sample(jax.random.key(0), first, 20000, jnp.float32(1)).x)
    np.testing.assert_allclose(np.cov(x.T), np.eye(2), atol=0.05)  # before a fit, the standard normal


@pytest.mark.parametrize(
    ("bandwidth", "message"),
    [
        ("wide", "config.model.bandwidth must be 'scott' or 'silverman' or a positive number, not 'wide'"),
        (0, "config.model.bandwidth must be above 0, not 0"),
        (math.nan, "config.model.bandwidth must be above 0 and finite, not nan"),
        (None, "config.model.bandwidth must be a number, not None"),
    ],
)
def test_a_bad_bandwidth_is_refused(bandwidth, message):
    with pytest.raises(ValueError, match="bandwidth") as caught:
        family_of(2, 8, bandwidth=bandwidth)
    assert str(caught.value) == message
