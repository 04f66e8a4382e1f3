"""Diffusion in the EDM design: preconditioning, loss, guidance and sampler against closed forms."""

import itertools
import math
import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import diffusion, draw, path, training_set

from madbench import models
from madbench.models.edm import Edm
from madbench.models.family import Given, Group
from madbench.models.minibatch import Trained

CONFIGS = pathlib.Path(models.__file__).resolve().parents[2] / "configs"


SAMPLER_SETTINGS = ("sigma_data", "sigma_min", "sigma_max", "rho", "sampler_steps")


GAIN = {"gain": jnp.float32(1)}


SIGMAS = np.asarray([0.002, 0.05, 0.5, 1.0, 7.0, 80.0])


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
@pytest.mark.parametrize("shape", [(1,), (2, 2, 1)])
def test_preconditioning_is_table_1_of_edm(sigma_data, shape):
    """D(x; σ) = c_skip x + c_out F(c_in x; ln(σ)/4), each coefficient read through a network that returns one thing."""
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    column = SIGMAS.reshape(-1, *(1,) * len(shape))
    total = column**2 + sigma_data**2
    skip, out, scale = sigma_data**2 / total, column * sigma_data / np.sqrt(total), 1 / np.sqrt(total)
    expected = {"zero": 0, "one": 1, "input": scale * x, "noise": np.log(column) / 4, "label": 2.0}
    for what, f in expected.items():
        model = diffusion(what, shape=shape, sigma_data=sigma_data)
        sigma = jnp.asarray(SIGMAS, jnp.float32)
        got = model.estimate(GAIN, jnp.asarray(x), sigma, jnp.full(6, 2))
        np.testing.assert_allclose(got, skip * x + out * f, rtol=1e-5, atol=1e-6)


def test_within_bounds_a_denoiser_keeps_the_datas_range_and_its_gradient_leads_back():
    """D overshoots 1 at every pixel. Where the image is 1 there is nothing to learn; elsewhere, as without bounds."""
    free, bounded = diffusion("one"), diffusion("one", bounds=(-1.0, 1.0))
    gain = {"gain": jnp.float32(1e3)}
    sigma = jnp.asarray(SIGMAS, jnp.float32)
    denoise = lambda model, params: model.estimate(params, jnp.zeros((6, 2)), sigma, jnp.zeros(6, jnp.int32))
    assert (denoise(free, gain) > 1).all()
    np.testing.assert_array_equal(denoise(bounded, gain), 1)

    def gradient(model, image):
        return jax.grad(lambda params: jnp.sum((denoise(model, params) - image) ** 2))(gain)["gain"]

    assert gradient(bounded, 1.0) == 0
    slope = denoise(free, GAIN)  # D is linear in the gain
    np.testing.assert_allclose(gradient(bounded, 0.25), jnp.sum(2 * 0.75 * slope), rtol=1e-5)
    inside = {"gain": jnp.float32(1e-3)}
    np.testing.assert_array_equal(denoise(bounded, inside), denoise(free, inside))


def test_samples_keep_the_bounds_at_any_guidance():
    state = Trained(GAIN, GAIN, (), 0)
    free = draw(diffusion("label", num_classes=3), state, 60, 0.05).x
    x = draw(diffusion("label", num_classes=3, bounds=(-1.0, 0.5)), state, 60, 0.05).x
    assert free.min() < -1
    assert x.min() >= -1
    assert x.max() <= 0.5


def test_guidance_is_the_unconditional_denoiser_plus_the_difference_over_lambda():
    """With a network that returns its label, D_c and D_u differ by c_out times (label - no label)."""
    model = diffusion("label", num_classes=3)
    x = jnp.asarray([[0.3, -0.2], [1.0, 2.0], [0.0, 0.5]])
    label = jnp.asarray([0, 1, 2])
    sigma = 0.8

    def denoise(label):
        return np.float64(model.estimate(GAIN, x, jnp.full(3, sigma), label))

    conditional, unconditional = denoise(label), denoise(jnp.full(3, 3))
    for bias in (1.0, 0.8, 0.5):
        w = 1 / bias - 1  # Ho and Salimans: (1 + w) conditional - w unconditional
        expected = (1 + w) * conditional - w * unconditional
        got = model._guided(GAIN, x, jnp.float32(sigma), label, jnp.float32(bias))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_an_unconditional_model_has_no_guidance():
    model = diffusion("input")
    x = jnp.asarray([[0.3, -0.2]])
    full, half = (model._guided(GAIN, x, 0.8, jnp.zeros(1, jnp.int32), bias) for bias in (1.0, 0.5))
    np.testing.assert_array_equal(full, half)
    assert "labels" in model.bias_refusal
    assert diffusion(num_classes=2).bias_refusal == ""


def heun(model, deviation, mean=0.0):
    """What the sampler makes of noise 0 and of unit noise, with the exact denoiser of N(mean, deviation²)."""
    with jax.enable_x64(True):
        noise = jnp.asarray([[0.0], [1.0], [-2.0]], jnp.float64)
        exact = lambda x, sigma: (x * deviation**2 + mean * sigma**2) / (deviation**2 + sigma**2)
        out = model.solve(exact, noise, None)
        zero, one, two = out[:, 0]
        np.testing.assert_allclose(two - zero, -2 * (one - zero), rtol=1e-12)  # its ODE is linear
        return float(zero), float(one)


def heun_gain(sampler_steps, deviation=0.25):
    """What the sampler multiplies unit noise by, with the exact denoiser of N(0, deviation²)."""
    return heun(diffusion(sampler_steps=sampler_steps), deviation)[1]


def test_heun_recovers_the_data_of_an_exact_denoiser():
    """The ODE's solution at 0 is σ_max s / sqrt(s² + σ_max²) for unit noise and N(0, s²)."""
    exact = 80 * 0.25 / math.sqrt(0.25**2 + 80**2)
    assert heun_gain(256) == pytest.approx(exact, rel=5e-4)


SAMPLERS = {
    "default": {},
    **{
        name: {k: runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]().model[k] for k in SAMPLER_SETTINGS}
        for name in ("quickstart", "digits")
    },
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("deviation", [1.5, 0.5, 0.25, 0.1])
def test_a_sampler_keeps_mean_and_deviation_of_a_perfect_model(name, deviation):
    """A loop multiplies these errors once a generation: 1 % is 10 % after ten.

    The means of pixels lie within ±1; started at 0, the samplers with σ_max = 20 are off by 0.03 where σ_data is 0.5.
    """
    model = diffusion(**SAMPLERS[name])
    zero, one = heun(model, deviation, mean=0.9)
    assert zero == pytest.approx(0.9, abs=0.006)
    assert one - zero == pytest.approx(deviation, rel=0.025)


def test_heun_converges_with_second_order():
    """Twice the intervals, a quarter of the error; the last, Euler's, step costs (σ_min / s)²/2 = 3e-5 at any."""
    last = 0.25 / math.sqrt(0.25**2 + 0.002**2)
    exact = 80 * 0.25 / math.sqrt(0.25**2 + 80**2) * last
    errors = [abs(heun_gain(n + 1) - exact) for n in (32, 64, 128)]
    for coarse, fine in itertools.pairwise(errors):
        assert 3.3 < coarse / fine < 4.8


def test_heun_visits_the_noise_levels_of_edm():
    """Equation 5 with ρ = 7: σ_max first, σ_min last, each level seen twice, as Heun does: the last by
    its Euler step, the first for the start."""
    seen = []
    model = diffusion(sampler_steps=6)

    def denoise(x, sigma):
        jax.debug.callback(lambda s: seen.append(float(s)), sigma, ordered=True)
        return x * 0

    model.solve(denoise, jnp.ones((1, 1)), None)
    jax.effects_barrier()
    i = np.arange(6)
    levels = (80 ** (1 / 7) + i / 5 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(seen, np.repeat(levels, 2), rtol=1e-4)


def test_a_tenth_of_the_labels_is_hidden_in_training(monkeypatch):
    """Labels as the network sees them, collected over the steps of a fit."""
    seen = []
    model = diffusion("label", num_classes=3, steps=10, batch_size=400)

    def denoise(self, params, x, sigma, label):
        jax.debug.callback(lambda v: seen.append(np.asarray(v)), label)
        return params["gain"] * x

    monkeypatch.setattr(Edm, "estimate", denoise)
    data = training_set(np.zeros((9, 2)), np.arange(9) % 3)
    path(model, data)
    jax.effects_barrier()
    labels = np.concatenate(seen)
    assert len(labels) == 4000
    share = np.bincount(labels, minlength=4) / 4000
    assert abs(share[3] - 0.1) < 5 * math.sqrt(0.1 * 0.9 / 4000)
    assert np.abs(share[:3] - 0.3).max() < 5 * math.sqrt(0.3 * 0.7 / 4000)


def test_the_loss_is_equation_8_of_edm():
    """The network returns 0: D = c_skip (x + n), and E[λ(σ) |D - x|²] is known in closed form, dimension by dimension.

    D - x = c_skip n - (1 - c_skip) x, so the weighted error of one dimension has the mean
    (σ² + σ_d²)/(σσ_d)² (c_skip² σ² + (1 - c_skip)² m₂), m₂ the data's second moment; for m₂ = σ_d² that is 1.
    """
    model = diffusion("zero", steps=10, batch_size=4000, sigma_data=0.5)
    x = np.where(np.arange(8)[:, None] % 2, 0.5, -0.5) * np.ones((1, 3), np.float32)
    _, losses = path(model, training_set(x))
    assert np.mean(losses) == pytest.approx(1.0, abs=0.02)


BAD_SETTINGS = [
    ({"steps": 0}, "config.model.steps"),
    ({"steps": 1.5}, "config.model.steps"),
    ({"steps": True}, "config.model.steps"),
    ({"batch_size": 0}, "config.model.batch_size"),
    ({"sample_batch": -1}, "config.model.sample_batch"),
    ({"sampler_steps": 1}, "config.model.sampler_steps"),
    ({"learning_rate": 0.0}, "config.model.learning_rate"),
    ({"learning_rate": math.inf}, "config.model.learning_rate"),
    ({"learning_rate": math.nan}, "config.model.learning_rate"),
    ({"learning_rate": "fast"}, "config.model"),
    ({"sigma_data": -1.0}, "config.model.sigma_data"),
    ({"sigma_min": 90.0}, "config.model.sigma_max"),
    ({"label_dropout": 1.0}, "config.model.label_dropout"),
    ({"warmup": -0.1}, "config.model.warmup"),
    ({"epochs": -1.0}, "config.model.epochs"),
    ({"width": 0}, "config.model.width"),
    ({"depth": 0}, "config.model.depth"),
    ({"network": "unet"}, "config.model.network"),
    ({"network": "transformer", "patch": 3}, "patch=3 must divide"),
    ({"network": "transformer", "width": 30}, "heads=4 must divide config.model.width=30"),
    ({"group": Group("d", ((0, 1, 2),)), "batch_size": 128}, "config.model.batch_size=128"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS, ids=[str(i) for i in range(len(BAD_SETTINGS))])
def test_bad_diffusion_settings_are_refused_in_one_line(settings, message):
    settings = dict(settings)
    given = Given((8, 8, 1), 10, group=settings.pop("group", Group()))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        models.build("diffusion", given, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": math.inf},  # the learning rate stays at 0
        {"sigma_max": math.inf},  # samples are NaN
        {"ema_exponent": -5.0},  # the average's first weight is infinite
        {"ema_exponent": "wide"},  # TypeError in the first fit
        {"p_mean": math.nan},  # the loss is NaN
        {"network": "transformer", "dtype": "float33"},  # TypeError in init
    ],
    ids=str,
)
def test_these_bad_diffusion_settings_are_refused_too(settings):
    with pytest.raises(ValueError, match=r"config\.model"):
        models.build("diffusion", Given((8, 8, 1), 10), **settings)


def test_a_transformer_refuses_vectors():
    with pytest.raises(ValueError, match="needs images, not samples of shape"):
        models.build("diffusion", Given((100,), 0), network="transformer")
