"""The flow: an invertible network with the right determinant, and densities with known answers."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench import models
from madbench.errors import UserError
from madbench.models.family import Given
from madbench.networks import RealNVP
from madbench.networks.coupling import LOG_SCALE_LIMIT, kept_by
from madbench.samples import Samples
from madbench.training_set import GatheredSet


def flow(shape=(2,), num_classes=0, bounds=None, **settings):
    return models.build("flow", Given(shape, num_classes, bounds), **{"width": 16, "depth": 1} | settings)


def random_params(net, seed=0, scale=0.3):
    """Random weights everywhere, also where a new flow has zeros."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, net.dimension)), jnp.zeros(1, jnp.int32))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(scale * rng.normal(size=a.shape), a.dtype), shapes["params"])


# ----------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize(("dimension", "num_classes"), [(2, 0), (5, 3)])
def test_the_inverse_undoes_and_the_determinant_is_that_of_the_jacobian(dimension, num_classes):
    net = RealNVP(dimension, num_classes, couplings=5, width=8, depth=1)
    params = random_params(net)
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        x, label = jnp.asarray(rng.normal(size=(6, dimension))), jnp.arange(6) % max(num_classes, 1)
        forward = lambda x, label: net.apply({"params": params}, x[None], label[None])
        z, logdet = jax.jit(net.apply)({"params": params}, x, label)
        jacobian = jax.jit(jax.vmap(jax.jacfwd(lambda x, label: forward(x, label)[0][0])))(x, label)
        back = jax.jit(functools.partial(net.apply, method="inverse"))({"params": params}, z, label)
        np.testing.assert_allclose(back, x, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(logdet, np.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9)
        assert np.abs(z - x).max() > 0.1
        assert np.abs(np.asarray(jacobian) - np.eye(dimension)).min(axis=0).max() > 1e-3  # every input matters
        if num_classes:
            other = net.apply({"params": params}, x, (label + 1) % num_classes)[0]
            assert np.abs(other - z).max() > 1e-3


def test_a_new_flow_is_the_identity():
    net = RealNVP(4, 3, couplings=3, width=8)
    x, label = jax.random.normal(jax.random.key(1), (5, 4)), jnp.arange(5) % 3
    params = jax.jit(net.init)(jax.random.key(0), x, label)
    z, logdet = jax.jit(net.apply)(params, x, label)
    np.testing.assert_array_equal(z, x)
    np.testing.assert_array_equal(logdet, 0)
    np.testing.assert_array_equal(jax.jit(functools.partial(net.apply, method="inverse"))(params, x, label), x)


@pytest.mark.parametrize("dimension", [2, 3, 64])
def test_each_pair_of_couplings_moves_every_dimension(dimension):
    masks = np.asarray([kept_by(i, dimension) for i in range(6)])
    assert set(np.unique(masks)) == {0, 1}
    np.testing.assert_array_equal(masks[::2] + masks[1::2], 1)
    assert (masks[0].sum(), masks[1].sum()) == (dimension // 2, dimension - dimension // 2)
    if dimension > 8:  # and the pairs split differently
        assert np.abs(masks[0] - masks[2]).sum() > dimension / 8


def test_a_coupling_keeps_its_half_and_scales_the_other_within_the_limit():
    net = RealNVP(4, couplings=1, width=8, depth=1)
    params = random_params(net, scale=50.0)
    params = {**params, "log_scale_0": jnp.zeros(4), "shift_0": jnp.zeros(4)}
    x = jax.random.normal(jax.random.key(0), (7, 4))
    z, logdet = net.apply({"params": params}, x, jnp.zeros(7, jnp.int32))
    kept = kept_by(0, 4) == 1
    np.testing.assert_array_equal(z[:, kept], x[:, kept])
    assert (np.abs(z[:, ~kept] - x[:, ~kept]) > 1e-3).all()
    assert np.abs(logdet).max() <= 2 * LOG_SCALE_LIMIT + 1e-5
    assert np.abs(logdet).max() > LOG_SCALE_LIMIT


# --------------------------------------------------------------------------------------------------------- densities


def test_the_density_integrates_to_one():
    """Over a grid of 2-D, for a flow with random weights; Riemann sums of a smooth density converge fast."""
    model = flow(couplings=4)
    params = random_params(model.net, scale=0.2)
    edge, n = 12.0, 400
    axis = np.linspace(-edge, edge, n)
    x = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), jnp.float32)
    log_density = jax.jit(model.log_likelihood)(params, x, jnp.zeros(len(x), jnp.int32), x)
    density = np.exp(np.float64(log_density)).reshape(n, n)
    assert density[[0, -1]].max() + density[:, [0, -1]].max() < 1e-6  # the grid is wide enough
    assert density.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=2e-3)
    assert np.abs(np.log(density.max()) + math.log(2 * math.pi)) > 0.05  # and it is not the normal's


LEVELS = {"bounds": (-1.0, 1.0), "dequantization": 0.5}  # -1, -0.5, 0, 0.5, 1


def test_the_dequantized_density_integrates_to_one_over_the_levels():
    """Two pixels of five levels: with noise on a grid, level by level, by the midpoint rule.

    Beyond the image of the levels, a logit reaches ±ln(19): what the flow puts there is missing. A normal of deviation
    1/3, three of which are inside, leaves that below 1 %.
    """
    model = flow((2, 1, 1), couplings=2, **LEVELS)
    params = random_params(model.net, scale=0.1)
    params |= {"log_scale_0": jnp.full(2, math.log(3.0))}
    noise = (np.arange(20) + 0.5) / 20
    pairs = lambda a: np.stack(np.meshgrid(a, a), -1).reshape(-1, 2, 1, 1)
    levels, within = pairs(np.linspace(-1, 1, 5)), pairs(noise)
    x = jnp.asarray(np.repeat(levels, len(within), axis=0), jnp.float32)
    u = jnp.asarray(np.tile(within, (len(levels), 1, 1, 1)), jnp.float32)
    log_density = jax.jit(model.log_likelihood)(params, x, jnp.zeros(len(x), jnp.int32), u)
    assert np.exp(np.float64(log_density)).sum() * (0.5 / 20) ** 2 == pytest.approx(1, abs=0.02)


def test_an_image_comes_back_from_the_line_wherever_in_its_level_it_lay():
    model = flow((4, 4, 1), **LEVELS)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 5, size=(50, 16)) / 2 - 1, jnp.float32)
    y, _ = model._from_levels(x, jnp.asarray(rng.uniform(0.001, 0.999, size=(50, 16)), jnp.float32))
    assert np.abs(y).max() <= math.log(19) + 1e-3
    np.testing.assert_allclose(model._to_levels(y), x, atol=1e-6)


def test_the_determinant_of_the_logit_is_its_slope():
    model = flow((3,), **LEVELS)
    x, noise = jnp.asarray([[-1.0, 0.0, 1.0]]), jnp.asarray([[0.1, 0.5, 0.9]])
    through = lambda noise: model._from_levels(x, noise[None])[0][0]
    slopes = np.diag(jax.jacfwd(through)(noise[0])) / model.dequantization  # noise moves x by the level's width
    np.testing.assert_allclose(model._from_levels(x, noise)[1][0], np.log(slopes).sum(), rtol=1e-5)


def test_samples_of_images_lie_on_the_levels_within_the_bounds():
    model = flow((4, 4, 1), 3, couplings=2, **LEVELS)
    state = jax.eval_shape(model.init, jax.random.key(0))._replace(ema=random_params(model.net))
    draw = jax.jit(lambda ema: model.sample(jax.random.key(1), state._replace(ema=ema), 60, 1.0).x)
    assert set(np.unique(draw(state.ema))) == {-1, -0.5, 0, 0.5, 1}
    assert np.isnan(draw(jax.tree.map(lambda a: a * jnp.nan, state.ema))).all()


# ---------------------------------------------------------------------------------------------------------- learning


@functools.cache
def program(model):
    """A whole fit: key, float32 `[n, 2]` -> state."""

    def run(key, x):
        data = GatheredSet(Samples(x, jnp.zeros(x.shape[0], jnp.int32)), jnp.int32(x.shape[0]), key)
        return jax.lax.scan(lambda state, _: model.fit(key, data, state), model.init(key), length=model.segments)

    return jax.jit(run)


def learned(model, x):
    state, _ = program(model)(jax.random.key(0), jnp.asarray(x, jnp.float32))
    return state


LEARNER = flow(couplings=4, width=32, depth=2, steps=600, batch_size=512, learning_rate=1e-2)


def mean_log_likelihood(model, state, x):
    x = jnp.asarray(x, jnp.float32)
    return float(model.log_likelihood(state.ema, x, jnp.zeros(len(x), jnp.int32), x).mean())


def test_a_flow_learns_a_gaussian_and_lambda_scales_its_covariance():
    """N(μ, σ²I): the likelihood reaches the entropy, ln(2πe σ²), and samples at λ have variance λσ²."""
    mean, deviation = np.asarray([3.0, -1.0]), 0.5
    draw = lambda n, seed: mean + deviation * np.random.default_rng(seed).normal(size=(n, 2))
    state = learned(LEARNER, draw(10000, 0))
    entropy = math.log(2 * math.pi * math.e * deviation**2)
    fresh = draw(10000, 1)
    exact = np.mean(-np.sum((fresh - mean) ** 2, axis=1) / (2 * deviation**2)) - math.log(2 * math.pi * deviation**2)
    assert exact == pytest.approx(-entropy, abs=0.05)
    assert exact - 0.02 < mean_log_likelihood(LEARNER, state, fresh) < exact + 0.002  # Gibbs: never above it for long
    for bias in (1.0, 0.25):
        x = np.asarray(jax.jit(lambda s, b: LEARNER.sample(jax.random.key(5), s, 20000, b).x)(state, bias))
        np.testing.assert_allclose(x.mean(0), mean, atol=0.03)
        np.testing.assert_allclose(np.cov(x.T) / (bias * deviation**2), np.eye(2), atol=0.06)


def test_a_flow_approaches_the_entropy_of_the_rosenbrock_density():
    """x₁ ~ N(1, 1), x₂ | x₁ ~ N(x₁², 0.1): the entropy is the sum of both Gaussians', whatever the curve."""

    def draw(n, seed):
        a, b = np.random.default_rng(seed).normal(size=(2, n))
        return np.stack([1 + a, (1 + a) ** 2 + math.sqrt(0.1) * b], axis=1)

    fresh = draw(10000, 1)
    a, b = fresh[:, 0] - 1, (fresh[:, 1] - fresh[:, 0] ** 2) / math.sqrt(0.1)
    exact = np.mean(-0.5 * (a**2 + b**2)) - math.log(2 * math.pi * math.sqrt(0.1))
    gaussian = -0.5 * math.log((2 * math.pi * math.e) ** 2 * np.linalg.det(np.cov(fresh.T)))
    found = mean_log_likelihood(LEARNER, learned(LEARNER, draw(10000, 0)), fresh)
    assert exact - 0.15 < found < exact
    assert gaussian < exact - 0.5  # the best Gaussian is far off


# ---------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"couplings": 0}, "config.model.couplings must be a whole number of at least 1"),
        ({"width": 2.5}, "config.model.width"),
        ({"depth": 0}, "config.model.depth"),
        ({"dequantization": 0.0}, "config.model.dequantization must be above 0"),
        ({"dequantization": "fine"}, "config.model.dequantization must be a number"),
        ({"dequantization": 0.3, "bounds": (-1.0, 1.0)}, "config.model.dequantization=0.3 must be the distance"),
        ({"dequantization": 5.0, "bounds": (-1.0, 1.0)}, "config.model.dequantization=5 must be the distance"),
        ({"shape": (1,)}, "one number per sample"),
        ({"shape": (1, 1, 1)}, "one number per sample"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        flow(**settings)
    assert "\n" not in str(caught.value)


def test_eight_bit_images_are_the_default():
    assert dataclasses.replace(flow((8, 8, 3), bounds=(-1.0, 1.0))).dequantization * 255 == pytest.approx(2)
