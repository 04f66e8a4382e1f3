"""The Gaussian family: moments and samples against NumPy."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from toys import draw, training_set

from madbench import models
from madbench.models.family import Given
from madbench.models.gaussian import GaussianParams, GaussianState


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2, 1)])
def test_gaussian_moments_are_numpys(ddof, shape):
    """Over the first 25 of 40 rows: the rest is padding."""
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(40, *shape)).astype(np.float32)
    family = models.build("gaussian", Given(shape, 0), ddof=ddof)
    state, curve = family.fit(None, training_set(x, size=25), family.init(None))
    members = np.float64(x[:25]).reshape(25, -1)
    np.testing.assert_allclose(state.params.mean, members.mean(0), rtol=1e-5, atol=1e-5)
    expected = np.cov(members.T, ddof=ddof).reshape(members.shape[1], -1)
    np.testing.assert_allclose(state.params.covariance, expected, rtol=1e-4, atol=1e-4)
    assert curve.shape == (0,)
    assert family.min_samples == 1 + ddof


def test_the_smallest_gaussian_sets_have_finite_moments():
    for ddof in (0, 1):
        family = models.build("gaussian", Given((2,), 0), ddof=ddof)
        data = training_set(np.eye(4, 2), size=family.min_samples)
        state, _ = family.fit(None, data, family.init(None))
        assert all(np.isfinite(leaf).all() for leaf in state.params)


def gaussian_state(covariance, mean=0.0):
    covariance = jnp.asarray(covariance, jnp.float32)
    return GaussianState(GaussianParams(jnp.full(covariance.shape[0], mean, jnp.float32), covariance))


@pytest.mark.parametrize("bias", [1.0, 0.5])
@pytest.mark.parametrize("d", [1, 4])
def test_gaussian_samples_have_the_mean_and_the_scaled_covariance(bias, d):
    root = np.random.default_rng(1).normal(size=(d, d))
    covariance = root @ root.T + 0.1 * np.eye(d)
    family = models.build("gaussian", Given((d,), 0))
    n = 20000
    x = np.float64(draw(family, gaussian_state(covariance, 3.0), n, bias).x)
    deviation = np.sqrt(bias * np.diag(covariance))
    assert np.abs((x.mean(0) - 3) / deviation).max() < 5 / math.sqrt(n)
    found = np.cov(x.T).reshape(d, d) / np.outer(deviation, deviation)
    expected = bias * covariance / np.outer(deviation, deviation)
    assert np.abs(found - expected).max() < 5 * math.sqrt(2 / n)


def singular(d=6, rank=2):
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    return (basis[:, :rank] * [1.0, 0.5]) @ basis[:, :rank].T, basis[:, rank:]


@pytest.mark.parametrize(
    "share",
    [
        1e-3,
        1e-6,
    ],
)
def test_samples_of_a_singular_covariance_lie_in_its_subspace(share):
    covariance, outside = singular()
    family = models.build("gaussian", Given((6,), 0))
    x = np.float64(draw(family, gaussian_state(covariance), 2000).x)
    assert (x @ outside).std() < share * x.std()
    assert np.linalg.matrix_rank(x, tol=0.01 * np.linalg.norm(x)) == 2


def test_a_covariance_of_zero_gives_the_mean():
    for d in (1, 3):
        family = models.build("gaussian", Given((d,), 0))
        np.testing.assert_array_equal(draw(family, gaussian_state(np.zeros((d, d)), 2.0), 5).x, np.full((5, d), 2.0))


def test_a_rounding_error_in_the_covariance_does_not_change_the_samples():
    """Σ = I, as in the paper's experiment: samples must not depend on the last bits, which change with the machine."""
    noise = np.random.default_rng(1).normal(size=(6, 6)) * 1e-7
    family = models.build("gaussian", Given((6,), 0))
    a, b = (draw(family, gaussian_state(np.eye(6) + e), 50).x for e in (0, noise + noise.T))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


def test_a_bad_ddof_is_refused():
    with pytest.raises(ValueError, match=r"config\.model\.ddof must be 0 or 1, not 2"):
        models.build("gaussian", Given((2,), 0), ddof=2)
