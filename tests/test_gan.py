"""The GAN's parts against closed forms: modulation, penalties, objectives, truncation."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench import models
from madbench.errors import UserError
from madbench.models.family import Given
from madbench.models.gan import OBJECTIVES, _squared_slopes
from madbench.networks import Discriminator, Mapping, Synthesis
from madbench.networks.style import ModulatedDense

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def gan(shape=(2,), num_classes=3, bounds=None, **settings):
    tiny = {"width": 8, "depth": 2, "style": 4, "latent": 5, "discriminator_width": 8, "batch_size": 12, "steps": 4}
    return models.build("gan", Given(shape, num_classes, bounds), **tiny | settings)


# ---------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulation_equals_weights_made_for_each_sample(demodulate):
    """StyleGAN2, equations 1 and 3, sample by sample in float64."""
    net = ModulatedDense(7, demodulate)
    x, w = normal(5, 6), normal(5, 4)
    params = net.init(jax.random.key(0), x, w)["params"]
    params = jax.tree.map(lambda a: a + 0.1 * normal(*a.shape), params)
    out = net.apply({"params": params}, x, w)
    affine, kernel = params["Dense_0"], np.float64(params["kernel"])
    for i in range(5):
        style = np.float64(w[i]) @ affine["kernel"] + affine["bias"]
        weight = style[:, None] * kernel
        if demodulate:
            weight = weight / np.sqrt((weight**2).sum(axis=0) + 1e-8)
        np.testing.assert_allclose(out[i], x[i] @ weight + params["bias"], rtol=1e-4, atol=1e-5)


def test_at_the_start_layers_keep_the_scale():
    net = Synthesis((64,), 256, 4)
    w = normal(400, 32)
    noise = jnp.zeros((400, net.noise_size))
    x = net.apply(net.init(jax.random.key(0), w, noise), w, noise)
    assert 0.3 < float(x.std()) < 3


def test_noise_is_off_at_first_and_enters_by_its_strength():
    net = Synthesis((3,), 8, 2)
    w, noise = normal(6, 4), normal(6, 2 * 8)
    params = net.init(jax.random.key(0), w, noise)["params"]
    silent = net.apply({"params": params}, w, noise)
    np.testing.assert_array_equal(silent, net.apply({"params": params}, w, -noise))
    loud = {**params, "noise_1": jnp.ones(8)}
    assert jnp.abs(net.apply({"params": loud}, w, noise) - net.apply({"params": loud}, w, -noise)).max() > 0.01


def test_the_mapping_depends_on_the_direction_of_z_and_on_the_label():
    net = Mapping(3, 8)
    z, label = normal(4, 5), jnp.asarray([0, 1, 2, 0])
    params = net.init(jax.random.key(0), z, label)
    out = net.apply(params, z, label)
    np.testing.assert_allclose(out, net.apply(params, 7 * z, label), rtol=1e-4, atol=1e-5)
    assert jnp.abs(out - net.apply(params, z, (label + 1) % 3)).max() > 0.01


def test_the_discriminator_projects_on_the_label():
    net = Discriminator(3, 8, 1)
    x = normal(4, 2)
    params = net.init(jax.random.key(0), x, jnp.zeros(4, jnp.int32))
    of = lambda label: net.apply(params, x, jnp.full(4, label))
    assert jnp.abs(of(0) - of(1)).max() > 0.01
    unconditional = Discriminator(0, 8, 1)
    params = unconditional.init(jax.random.key(0), x, jnp.zeros(4, jnp.int32))
    np.testing.assert_array_equal(
        unconditional.apply(params, x, jnp.zeros(4, jnp.int32)), unconditional.apply(params, x, jnp.full(4, 2))
    )


# ---------------------------------------------------------------------------------------------- penalties, objectives


class Quadratic:
    """A stand-in for the discriminator: D(x) = a·x + |x|²/2 + c[label], with ∇D = a + x."""

    def __init__(self, a):
        self.a = jnp.asarray(a)

    def apply(self, variables, x, label):
        return x @ self.a + 0.5 * jnp.sum(x**2, axis=1) + variables["params"][label]


A = np.asarray([0.5, -1.0], np.float32)
LABELS = jnp.asarray([0, 1, 2, 1])
OFFSETS = jnp.asarray([0.0, 0.3, -0.2])


def test_slopes_are_gradients_of_each_sample():
    x = normal(4, 2)
    judge = lambda x: Quadratic(A).apply({"params": OFFSETS}, x, LABELS)
    np.testing.assert_allclose(_squared_slopes(judge, x), ((A + x) ** 2).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_losses_are_those_of_their_papers(objective):
    real, fake, mix = normal(4, 2), normal(4, 2), np.float32(RNG.uniform(size=4))
    model = dataclasses.replace(
        gan(), objective=objective, discriminator=Quadratic(A), r1=0.7, r2=0.4, gradient_penalty=3.0
    )
    value = lambda x: x @ A + 0.5 * (x**2).sum(axis=1) + np.asarray(OFFSETS)[np.asarray(LABELS)]
    slope = lambda x: ((A + x) ** 2).sum(axis=1)
    softplus = lambda v: np.log1p(np.exp(np.float64(v)))
    on_real, on_fake = value(real), value(fake)
    between = mix[:, None] * real + (1 - mix[:, None]) * fake
    expected = {
        # Huang et al., equations 2 to 4
        "relativistic": (
            softplus(on_fake - on_real).mean() + 0.35 * slope(real).mean() + 0.2 * slope(fake).mean(),
            softplus(on_real - on_fake).mean(),
        ),
        # Goodfellow et al. 2014 with Mescheder et al., equation 9
        "non_saturating": (
            (softplus(on_fake) + softplus(-on_real)).mean() + 0.35 * slope(real).mean(),
            softplus(-on_fake).mean(),
        ),
        # Gulrajani et al., equation 3
        "wgan_gp": (
            (on_fake - on_real).mean() + 3 * ((np.sqrt(slope(between)) - 1) ** 2).mean(),
            -on_fake.mean(),
        ),
    }
    judge = lambda x: Quadratic(A).apply({"params": OFFSETS}, x, LABELS)
    found = model._discriminator_loss(OFFSETS, real, fake, LABELS, mix), model._generator_loss(judge, real, fake)
    np.testing.assert_allclose(found, expected[objective], rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_takes_steps(objective):
    model = gan(objective=objective, critic_steps=2)
    state = model.init(jax.random.key(0))
    from madbench.samples import Samples

    batch = Samples(jnp.asarray(normal(24, 2)), jnp.arange(24, dtype=jnp.int32) % 3)
    new, loss = jax.jit(model.step)(jax.random.key(1), batch, state, jnp.float32(1e-3))
    assert model.batches == 2
    assert math.isfinite(loss)
    for name in ("mapping", "synthesis", "discriminator"):
        moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), new.params[name], state.params[name])
        assert max(jax.tree.leaves(moved)) > 1e-4


# --------------------------------------------------------------------------------------------------------- truncation


def test_at_bias_one_nothing_is_truncated_and_towards_zero_only_noise_is_left():
    model = gan()
    state = model.init(jax.random.key(0))
    state = state._replace(w_mean=jnp.asarray(normal(3, 4)))
    draw = jax.jit(lambda state, bias: model.sample(jax.random.key(2), state, 30, bias))
    moved = state._replace(w_mean=state.w_mean + 5)
    np.testing.assert_allclose(draw(state, 1.0).x, draw(moved, 1.0).x, rtol=1e-4, atol=1e-4)
    still = draw(state, 0.0)
    for label in range(3):
        same = still.x[still.y == label]
        np.testing.assert_allclose(same, jnp.broadcast_to(same[0], same.shape), rtol=1e-5, atol=1e-6)
    assert jnp.abs(still.x[0] - still.x[1]).max() > 1e-3


def test_truncation_is_linear_in_w():
    model = dataclasses.replace(gan(), synthesis=_Identity())
    state = gan().init(jax.random.key(0))
    state = state._replace(w_mean=jnp.asarray(normal(3, 4)))
    draw = lambda bias: model.sample(jax.random.key(2), state, 12, jnp.float32(bias)).x
    mean = state.w_mean[jnp.arange(12) % 3]
    np.testing.assert_allclose(draw(0.3), mean + 0.3 * (draw(1.0) - mean), rtol=1e-4, atol=1e-5)


class _Identity:
    """Returns w."""

    noise_size = 16

    def apply(self, variables, w, noise):
        return w


def test_the_mean_of_w_is_by_class_and_a_missing_class_keeps_its_own():
    model = gan(ema_exponent=0.0)  # the plain mean of all steps
    state = model.init(jax.random.key(0))
    first, second = normal(4, 4), normal(4, 4)
    state = state._replace(w_mean=model._track(state, first, jnp.asarray([0, 0, 1, 2])), step=jnp.int32(1))
    np.testing.assert_allclose(state.w_mean, [first[:2].mean(0), first[2], first[3]], rtol=1e-5)
    tracked = model._track(state, second, jnp.asarray([0, 0, 2, 2]))
    expected = [
        (first[:2].mean(0) + second[:2].mean(0)) / 2,
        first[2],
        (first[3] + second[2:].mean(0)) / 2,
    ]
    np.testing.assert_allclose(tracked, expected, rtol=1e-5)


def test_samples_keep_the_bounds():
    model = gan(bounds=(-1.0, 0.5))
    state = model.init(jax.random.key(0))
    wild = state._replace(ema=jax.tree.map(lambda a: 30 * a, state.ema))
    x = model.sample(jax.random.key(0), wild, 50, 1.0).x
    assert x.min() >= -1
    assert x.max() <= 0.5
    assert x.max() - x.min() > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "hinge"}, "config.model.objective must be one of relativistic, non_saturating, wgan_gp"),
        ({"r1": -1.0}, "config.model.r1 must be at least 0"),
        ({"latent": 0}, "config.model.latent must be a whole number of at least 1"),
        ({"critic_steps": 0}, "config.model.critic_steps"),
        ({"discriminator_width": 1.5}, "config.model.discriminator_width"),
        ({"gradient_penalty": float("nan")}, "config.model.gradient_penalty"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        gan(**settings)
    assert "\n" not in str(caught.value)
