"""The DDPM parameterization against closed forms: schedule, loss, guidance, and what ancestral sampling returns."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench import models
from madbench.errors import UserError
from madbench.models.ddpm import Ddpm
from madbench.models.edm import Edm
from madbench.models.family import Given
from madbench.models.minibatch import Trained
from madbench.samples import Samples

BETA = np.linspace(1e-4, 0.02, 500)  # DDPM, section 4, at the paper's T
SIGNAL = np.cumprod(1 - BETA)


class Says(nn.Module):
    """Returns 0, its noise input, or its label; with one weight, so that there is a state."""

    what: str

    @nn.compact
    def __call__(self, x, noise, label):
        gain = self.param("gain", nn.initializers.ones, ())
        rows = (-1, *(1,) * (x.ndim - 1))
        values = {"zero": jnp.zeros(x.shape[0]), "noise": noise, "label": label.astype(jnp.float32)}
        return gain * jnp.broadcast_to(values[self.what].reshape(rows), x.shape)


PARAMS = {"gain": jnp.float32(1)}
STATE = Trained(PARAMS, PARAMS, (), 0)


def ddpm(what="zero", shape=(2,), num_classes=0, bounds=None, **settings):
    return Ddpm(given=Given(shape, num_classes, bounds), net=Says(what), **settings)


def test_the_config_word_chooses_and_each_keeps_its_own_settings():
    settings = models.FAMILIES.settings("diffusion")
    assert settings["parameterization"] == "edm"
    assert settings["timesteps"] == 500
    assert settings["sigma_data"] == 0.5
    assert isinstance(models.build("diffusion", Given((2,)), timesteps=7), Edm)
    chosen = models.build("diffusion", Given((2,)), parameterization="ddpm", timesteps=600, sigma_data=0.3)
    assert isinstance(chosen, Ddpm)
    assert chosen.timesteps == 600
    with pytest.raises(UserError, match=r"config\.model\.parameterization must be one of edm, ddpm, not 'vdm'"):
        models.build("diffusion", Given((2,)), parameterization="vdm")


def test_every_time_is_trained_and_no_other():
    levels = np.asarray(ddpm(timesteps=7, beta_max=0.99).levels(jax.random.key(0), 7000))
    counts = np.bincount(levels, minlength=7)
    assert len(counts) == 7
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(1000)


def test_the_loss_of_a_network_that_sees_no_noise_is_one():
    """E|ε|² per dimension, whatever the image."""
    x, noise = (np.random.default_rng(i).normal(size=(4000, 3)).astype(np.float32) for i in (0, 1))
    model = ddpm(shape=(3,))
    loss = model.loss(PARAMS, 5 * x, jnp.arange(4000) % 500, noise, jnp.zeros(4000, jnp.int32))
    assert float(loss) == pytest.approx(np.mean(noise**2), rel=1e-5)


def test_the_network_meets_images_at_the_papers_signal_to_noise_ratio(monkeypatch):
    seen = {}

    def estimate(self, params, x, level, label):
        seen["x"] = x
        return x * 0

    monkeypatch.setattr(Ddpm, "estimate", estimate)
    image, noise = np.full((3, 2), 2.0, np.float32), np.full((3, 2), -1.0, np.float32)
    level = np.asarray([0, 100, 499])
    ddpm().loss(PARAMS, image, jnp.asarray(level), noise, jnp.zeros(3, jnp.int32))
    expected = 2 * np.sqrt(SIGNAL[level]) - np.sqrt(1 - SIGNAL[level])
    np.testing.assert_allclose(seen["x"][:, 0], expected, rtol=1e-5)


def test_the_network_is_told_the_noise_level_as_edm_tells_it():
    level = np.asarray([0, 250, 499])
    told = ddpm("noise").estimate(PARAMS, jnp.zeros((3, 2)), jnp.asarray(level), jnp.zeros(3, jnp.int32))
    sigma = np.sqrt((1 - SIGNAL[level]) / SIGNAL[level])
    np.testing.assert_allclose(told[:, 0], np.log(sigma) / 4, rtol=1e-5)


def test_guidance_extrapolates_the_noise():
    model = ddpm("label", num_classes=3)
    x, label = jnp.zeros((3, 2)), jnp.asarray([0, 1, 2])
    for bias in (1.0, 0.5):
        w = 1 / bias - 1
        got = model._guided(PARAMS, x, jnp.int32(5), label, jnp.float32(bias))
        np.testing.assert_allclose(got[:, 0], (1 + w) * np.arange(3) - w * 3, rtol=1e-5)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.0, 0.5), (0.6, 0.2), (0.0, 0.05)])
def test_ancestral_sampling_multiplies_what_algorithm_2_says(mean, deviation):
    """With the exact ε of N(mean, deviation²) each step is affine in x, so mean and variance follow by recursion."""
    model = ddpm(shape=(1,))
    signal = jnp.asarray(SIGNAL, jnp.float32)

    def exact(x, t):  # E[ε | x_t]
        a = signal[t]
        return jnp.sqrt(1 - a) * (x - jnp.sqrt(a) * mean) / (a * deviation**2 + 1 - a)

    m, v = 0.0, 1.0
    for t in range(499, -1, -1):  # algorithm 2, in float64
        a, b = SIGNAL[t], BETA[t]
        slope = math.sqrt(1 - a) / (a * deviation**2 + 1 - a)
        step = b / math.sqrt(1 - a)
        gain = (1 - step * slope) / math.sqrt(1 - b)
        m = gain * m + step * slope * math.sqrt(a) * mean / math.sqrt(1 - b)
        v = gain**2 * v + (b if t else 0.0)

    n = 20000
    noise = jax.random.normal(jax.random.key(0), (n, 1))
    draw = lambda i: jax.random.normal(jax.random.fold_in(jax.random.key(1), i), (n, 1))
    x = np.float64(jax.jit(lambda noise: model.solve(exact, noise, draw))(noise))
    assert abs(x.mean() - m) < 5 * math.sqrt(v / n)
    assert x.var() == pytest.approx(v, rel=5 * math.sqrt(2 / n))
    # and it is the data's, but for the schedule's end, and 1.8 % of a standard deviation where that is 0.05
    assert math.sqrt(v) / deviation == pytest.approx(1, abs=0.02)
    assert m == pytest.approx(mean, abs=0.02)


def test_samples_keep_the_bounds_and_rows_have_noise_of_their_own():
    model = ddpm("label", num_classes=3, bounds=(-1.0, 0.5), timesteps=20, beta_max=0.5, sample_batch=7)
    draw = jax.jit(lambda n_bias: model.sample(jax.random.key(0), STATE, 30, n_bias))
    x = np.asarray(draw(0.1).x)
    assert x.min() >= -1
    assert x.max() <= 0.5
    free = ddpm(timesteps=20, beta_max=0.5).sample(jax.random.key(0), STATE, 30, 1.0)
    assert isinstance(free, Samples)
    assert len(np.unique(np.asarray(free.x))) == 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timesteps": 1}, "config.model.timesteps must be a whole number of at least 2"),
        ({"beta_min": 0.0}, "config.model.beta_min must be above 0"),
        ({"beta_max": 1.0}, "config.model.beta_max must be at least 0.0001 and below 1"),
        ({"beta_max": 1e-5}, "config.model.beta_max"),
        ({"timesteps": 100}, "leave 0.6 of an image in the last step's noise; raise beta_max"),
        ({"timesteps": 9000}, "leave 1.7e-20 of an image"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(UserError, match=message):
        ddpm(**settings)
