"""The VAE: bounds by closed forms, and probabilistic PCA as what a linear one must find."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench import models
from madbench.errors import UserError
from madbench.models.family import Given
from madbench.models.vae import kl_from_prior
from madbench.samples import Samples
from madbench.training_set import GatheredSet


def vae(shape=(2,), num_classes=0, bounds=None, **settings):
    return models.build("vae", Given(shape, num_classes, bounds), **{"width": 8, "depth": 1, "latent": 3} | settings)


def random_params(model, seed=0, scale=0.3):
    shapes = jax.eval_shape(model.init, jax.random.key(0)).params
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(scale * rng.normal(size=a.shape), jnp.float32), shapes)


# -------------------------------------------------------------------------------------------------------- the bound


def test_the_kl_term_is_that_of_two_gaussians():
    """Dimension by dimension in float64, and once by numerical integration."""
    rng = np.random.default_rng(0)
    mean, log_variance = np.float32(rng.normal(size=(2, 5, 3)))
    m, s = np.float64(mean), np.exp(np.float64(log_variance) / 2)
    expected = np.sum(-np.log(s) + (s**2 + m**2) / 2 - 0.5, axis=1)
    np.testing.assert_allclose(kl_from_prior(mean, log_variance), expected, rtol=1e-5)
    z = np.linspace(m[0, 0] - 12 * s[0, 0], m[0, 0] + 12 * s[0, 0], 20001)
    log_ratio = -0.5 * ((z - m[0, 0]) / s[0, 0]) ** 2 - np.log(s[0, 0]) + 0.5 * z**2
    q = np.exp(-0.5 * ((z - m[0, 0]) / s[0, 0]) ** 2) / (s[0, 0] * math.sqrt(2 * math.pi))
    integral = np.sum(q * log_ratio) * (z[1] - z[0])
    assert float(kl_from_prior(mean[:1, :1], log_variance[:1, :1])[0]) == pytest.approx(integral, rel=1e-4)


def test_the_bound_is_a_gaussian_likelihood_at_the_drawn_latent_less_the_kl_term():
    model = vae((2, 2, 1), 3)
    params = random_params(model)
    rng = np.random.default_rng(1)
    x, noise = np.float32(rng.normal(size=(5, 2, 2, 1))), np.float32(rng.normal(size=(5, 3)))
    label = jnp.arange(5) % 3
    mean, log_variance = model.encoder.apply({"params": params["encoder"]}, x.reshape(5, 4), label)
    z = mean + np.exp(log_variance / 2) * noise
    centre = np.float64(model.decoder.apply({"params": params["decoder"]}, z, label))
    sigma = math.exp(params["log_sigma"])
    log_density = np.sum(-((x.reshape(5, 4) - centre) ** 2) / (2 * sigma**2) - math.log(sigma), axis=1)
    expected = log_density - 2 * math.log(2 * math.pi) - np.asarray(kl_from_prior(mean, log_variance))
    np.testing.assert_allclose(model.evidence_bound(params, x, label, noise), expected, rtol=1e-4)
    other = model.evidence_bound(params, x, (label + 1) % 3, noise)
    assert np.abs(other - expected).min() > 1e-4


def test_a_new_encoder_returns_the_prior():
    model = vae(num_classes=3)
    params = jax.jit(model.init)(jax.random.key(0)).params
    found = model.encoder.apply({"params": params["encoder"]}, jnp.ones((4, 2)), jnp.zeros(4, jnp.int32))
    np.testing.assert_array_equal(found, np.zeros((2, 4, 3)))


# ------------------------------------------------------------------------------------- linear: probabilistic PCA


D, LATENT = 5, 2
LINEAR = vae((D,), depth=0, latent=LATENT, steps=1000, batch_size=256, learning_rate=2e-2)


def gaussian_data(n=4000):
    """Two strong directions in five dimensions, and noise of different sizes in the other three."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(D, D)))[0]
    x = 1.0 + (rng.normal(size=(n, D)) * [2.0, 1.2, 0.5, 0.4, 0.3]) @ basis.T
    return np.float32(x)


def linear_model(params):
    """The decoder's matrix `[D, latent]`, its offset and σ², read off by what it does."""
    decode = lambda z: np.float64(LINEAR._decode(params, jnp.asarray(z, jnp.float32), jnp.zeros(len(z), jnp.int32)))
    offset = decode(np.zeros((1, LATENT)))[0]
    return (decode(np.eye(LATENT)) - offset).T, offset, math.exp(2 * params["log_sigma"])


def gaussian_log_likelihood(x, mean, covariance):
    centred = np.float64(x) - mean
    mahalanobis = np.sum(centred @ np.linalg.inv(covariance) * centred, axis=1)
    return -0.5 * (mahalanobis + np.linalg.slogdet(2 * math.pi * covariance)[1])


@jax.jit
def mean_bound(params, x):
    """The evidence bound, averaged over data and 64 draws of z."""
    label = jnp.zeros(len(x), jnp.int32)

    def one(key):
        return LINEAR.evidence_bound(params, x, label, jax.random.normal(key, (len(x), LATENT))).mean()

    return jax.lax.map(one, jax.random.split(jax.random.key(0), 64)).mean()


@functools.cache
def fitted():
    x = jnp.asarray(gaussian_data())
    data = GatheredSet(Samples(x, jnp.zeros(len(x), jnp.int32)), jnp.int32(len(x)), jax.random.key(1))

    def run(key):
        return jax.lax.scan(lambda s, _: LINEAR.fit(key, data, s), LINEAR.init(key), length=LINEAR.segments)[0]

    return jax.jit(run)(jax.random.key(0))


def test_a_linear_vae_finds_probabilistic_pca():
    """Tipping and Bishop 1999: σ² is the mean of the eigenvalues left out, W Wᵀ + σ²I keeps the first ones.

    The likelihood of that optimum is known too (their equation 8, here through the covariance it stands for); a linear
    VAE's bound reaches it (Lucas et al. 2019, arXiv 1911.02469, section 4).
    """
    x = gaussian_data()
    value, vector = np.linalg.eigh(np.cov(x.T, ddof=0).astype(np.float64))
    noise = value[: D - LATENT].mean()
    kept = np.concatenate([np.full(D - LATENT, noise), value[D - LATENT :]])
    optimum = (vector * kept) @ vector.T
    state = fitted()
    matrix, offset, variance = linear_model(state.params)
    assert variance == pytest.approx(noise, rel=0.05)
    np.testing.assert_allclose(offset, x.mean(0), atol=0.1)
    np.testing.assert_allclose(matrix @ matrix.T + variance * np.eye(D), optimum, atol=0.06 * value[-1])
    best = gaussian_log_likelihood(x, x.mean(0), optimum).mean()
    assert best - 0.03 < mean_bound(state.params, x) < best + 0.01  # above only by the noise of the draws


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_bound_never_exceeds_the_exact_likelihood(seed):
    """A linear decoder's p(x) is N(b, W Wᵀ + σ²I); whatever the encoder, the bound lies below."""
    x = gaussian_data(500)
    params = random_params(LINEAR, seed)
    matrix, offset, variance = linear_model(params)
    exact = gaussian_log_likelihood(x, offset, matrix @ matrix.T + variance * np.eye(D)).mean()
    assert mean_bound(params, x) < exact


@pytest.mark.parametrize("noise", [True, False])
def test_samples_of_a_linear_vae_are_those_of_its_gaussian_with_the_scaled_covariance(noise):
    """With its noise: N(b, λ(W Wᵀ + σ²I)), as the Gaussian family defines λ. Without: N(b, λ W Wᵀ)."""
    n, state = 40000, fitted()
    matrix, offset, variance = linear_model(state.ema)
    model = vae((D,), depth=0, latent=LATENT, decoder_noise=noise)
    draw = jax.jit(lambda state, bias: model.sample(jax.random.key(3), state, n, bias).x)
    for bias in (1.0, 0.5):
        x = np.float64(draw(state, bias))
        expected = bias * (matrix @ matrix.T + noise * variance * np.eye(D))
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        assert (np.abs(x.mean(0) - offset) / np.sqrt(np.diag(expected))).max() < 5 / math.sqrt(n)
        assert (np.abs(np.cov(x.T) - expected) / scale).max() < 5 * math.sqrt(2 / n)


# ------------------------------------------------------------------------------------------------ bounds and settings


@pytest.mark.parametrize("noise", [True, False])
def test_samples_keep_the_bounds(noise):
    model = vae((2, 2, 1), 3, (-1.0, 0.5), decoder_noise=noise)
    params = random_params(model, scale=2.0)
    state = jax.eval_shape(model.init, jax.random.key(0))
    x = np.asarray(jax.jit(lambda ema: model.sample(jax.random.key(0), state._replace(ema=ema), 60, 1.0).x)(params))
    assert x.shape == (60, 2, 2, 1)
    assert x.min() >= -1
    assert x.max() <= 0.5
    assert x.max() - x.min() > 1


def test_the_average_holds_what_samples_need():
    state = jax.eval_shape(vae().init, jax.random.key(0))
    assert set(state.ema) == {"decoder", "log_sigma"}
    assert set(state.params) == {"encoder", "decoder", "log_sigma"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent": 0}, "config.model.latent must be a whole number of at least 1"),
        ({"width": True}, "config.model.width"),
        ({"depth": -1}, "config.model.depth must be a whole number of at least 0"),
        ({"decoder_noise": 1}, "config.model.decoder_noise must be True or False, not 1"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        vae(**settings)
    assert "\n" not in str(caught.value)
