"""Model families: promises that every family keeps, then what is special to each.

A new family joins the first part with one line in `CASES`.
"""

import dataclasses
import functools
import itertools
import math
import pathlib
import re
import runpy
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench import models
from madbench.data.source import FiniteSource
from madbench.models.edm import Edm
from madbench.models.family import Given, Group
from madbench.models.gaussian import GaussianParams, GaussianState
from madbench.models.minibatch import Trained
from madbench.networks import DiffusionTransformer, ResidualMLP
from madbench.samples import Samples
from madbench.training_set import TrainingSet

CLASSES = 4


def training_set(x, y=None, size=None) -> TrainingSet:
    """`x` as a training set of real samples; rows from `size` on are padding."""
    x = jnp.asarray(x, jnp.float32)
    y = jnp.zeros(len(x), jnp.int32) if y is None else jnp.asarray(y, jnp.int32)
    pool = Samples(x, y)
    source = FiniteSource(pool, pool, name="t", num_classes=CLASSES, bounds=None, fingerprint={})
    memory = Samples(jnp.zeros((1, 1, *x.shape[1:])), jnp.zeros((1, 1), jnp.int32))
    address = jnp.arange(len(x), dtype=jnp.int32)
    return TrainingSet(address, jnp.int32(len(x) if size is None else size), source, address, memory, jax.random.key(7))


def four_clouds(n=512, spread=0.25, seed=0):
    """Four overlapping clouds around the corners of a square; standard deviation 0.5 in each coordinate."""
    y = np.arange(n) % CLASSES
    centre = np.sqrt(0.25 - spread**2) * np.asarray([[1, 1], [1, -1], [-1, 1], [-1, -1]])[y]
    return (centre + spread * np.random.default_rng(seed).normal(size=(n, 2))).astype(np.float32), y


# ------------------------------------------------------------------------------------------ promises of all families


@dataclasses.dataclass(frozen=True)
class Case:
    """A family as these tests use it.

    Attributes:
      settings: a model that learns the four clouds in seconds.
      short: what to change for tests that need no good model.
      num_classes: 0 where the family is unconditional.
      biases: three values of λ, falling.
      variant: of the family, where it has several cases.
    """

    family: str
    settings: dict[str, Any]
    short: dict[str, Any]
    num_classes: int
    biases: tuple[float, float, float] = (1.0, 0.6, 0.3)
    variant: str = ""

    @property
    def name(self):
        return " ".join(filter(None, (self.family, self.variant)))

    def build(self, short=True, **more):
        settings = self.settings | (self.short if short else {}) | more
        given = Given((2,), self.num_classes, capacity=64 if short else 512)  # of the sets that these tests fit
        return models.build(self.family, given, **settings)


CASES = {
    "gaussian": Case("gaussian", {}, {}, num_classes=0),
    "diffusion": Case(
        "diffusion",
        {"width": 32, "depth": 1, "steps": 600, "batch_size": 128, "learning_rate": 5e-3, "sampler_steps": 12},
        {"steps": 20, "width": 8, "batch_size": 16, "sampler_steps": 4},
        num_classes=CLASSES,
    ),
    "diffusion ddpm": Case(
        "diffusion",
        {"parameterization": "ddpm", "width": 32, "depth": 1, "steps": 800, "batch_size": 128,
         "learning_rate": 5e-3, "timesteps": 100, "beta_max": 0.1},
        {"steps": 20, "width": 8, "batch_size": 16, "timesteps": 4},
        num_classes=CLASSES,
        variant="ddpm",
    ),
    "gan": Case(
        "gan",
        {"width": 32, "depth": 2, "discriminator_width": 64, "discriminator_depth": 1, "style": 16, "latent": 8,
         "steps": 1000, "batch_size": 128, "learning_rate": 5e-3, "r1": 0.1, "r2": 0.1},
        {"steps": 20, "width": 8, "discriminator_width": 8, "batch_size": 16},
        num_classes=CLASSES,
    ),
    "mixture": Case("mixture", {"components": 4}, {"iterations": 20}, num_classes=0),
    "kde": Case("kde", {}, {}, num_classes=0, biases=(1.0, 0.5, 0.01)),  # the variance is 1 + λ/8 of the data's
    "flow": Case(
        "flow",
        {"couplings": 4, "width": 16, "depth": 1, "steps": 400, "batch_size": 128, "learning_rate": 1e-2},
        {"steps": 20, "couplings": 2, "width": 8, "batch_size": 16},
        num_classes=CLASSES,
    ),
    "vae": Case(
        "vae",
        {"width": 32, "depth": 1, "latent": 2, "decoder_noise": True,
         "steps": 600, "batch_size": 128, "learning_rate": 5e-3},
        {"steps": 20, "width": 8, "batch_size": 16},
        num_classes=CLASSES,
    ),
}  # fmt: skip
every_family = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def fit(family, key, data, segments=None):
    """Initialized and fitted, all segments in one traceable call."""
    init_key, fit_key = jax.random.split(key)
    segments = family.segments if segments is None else segments
    state, curves = jax.lax.scan(
        lambda state, _: family.fit(fit_key, data, state), family.init(init_key), length=segments
    )
    return state, curves.ravel()


@pytest.fixture(scope="module")
def fitted():
    """For each case: (family, first state, fitted state, loss curve)."""
    x, y = four_clouds()
    out = {}
    for name, case in CASES.items():
        family = case.build(short=False)
        key = jax.random.key(0)
        state, curve = jax.jit(lambda key, data, family=family: fit(family, key, data))(key, training_set(x, y))
        out[name] = family, compiled(family)[0](jax.random.split(key)[0]), state, curve
    return out


@functools.cache
def compiled(family):
    """Families are hashable: one program each for all tests."""
    return jax.jit(family.init), jax.jit(family.fit)


@functools.cache
def sampler(family, n):
    return jax.jit(lambda key, state, bias: family.sample(key, state, n, bias))


def draw(family, state, n, bias=1.0, seed=9):
    return jax.tree.map(np.asarray, sampler(family, n)(jax.random.key(seed), state, jnp.float32(bias)))


def moments_distance(samples, x, y, num_classes):
    """Largest error of a class's mean and standard deviation, in units of the data's standard deviation 0.5."""
    worst = 0.0
    for label in range(max(num_classes, 1)):
        ours = samples.x[samples.y == label]
        theirs = x[y == label] if num_classes else x
        worst = max(worst, np.abs(ours.mean(0) - theirs.mean(0)).max(), np.abs(ours.std(0) - theirs.std(0)).max())
    return worst / 0.5


@every_family
def test_attributes_are_those_of_the_protocol(case):
    family = case.build()
    for name, least in (("segments", 1), ("steps", 0), ("batch_size", 0), ("min_samples", 1)):
        assert type(getattr(family, name)) is int, name
        assert getattr(family, name) >= least, name
    assert family.bias_refusal == ""
    hash(family)  # a static argument of compiled programs


@every_family
def test_a_fitted_model_is_closer_to_the_data_than_a_new_one(case, fitted):
    family, first, state, curve = fitted[case.name]
    x, y = four_clouds()
    before, after = (moments_distance(draw(family, s, 1000), x, y, case.num_classes) for s in (first, state))
    assert after < 0.3
    assert after < before / 3
    assert np.isfinite(curve).all()
    if family.steps:
        assert curve[-1] < curve[0]


@every_family
def test_bias_one_leaves_the_distribution_alone(case, fitted):
    """Overall moments against the data, within what a small model and 1000 samples allow."""
    family, _, state, _ = fitted[case.name]
    x, _ = four_clouds()
    samples = draw(family, state, 1000).x
    assert np.abs(samples.mean(0) - x.mean(0)).max() < 0.08
    np.testing.assert_allclose(samples.std(0), x.std(0), rtol=0.1)


@every_family
def test_a_smaller_bias_means_less_diversity(case, fitted):
    """Variance around the mean of each class, at three values of λ with the same noise."""
    family, _, state, _ = fitted[case.name]

    def spread(bias):
        samples = draw(family, state, 1000, bias)
        return np.mean([samples.x[samples.y == label].var(0).mean() for label in np.unique(samples.y)])

    one, some, little = (spread(bias) for bias in case.biases)
    assert one > 1.05 * some > 1.05**2 * little


@every_family
def test_first_samples_do_not_depend_on_how_many_follow(case, fitted):
    family, _, state, _ = fitted[case.name]
    many = draw(family, state, 37, 0.7)
    for n in (1, 8):
        few = draw(family, state, n, 0.7)
        np.testing.assert_allclose(few.x, many.x[:n], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(few.y, many.y[:n])


@every_family
def test_labels_come_in_turn_and_in_equal_numbers(case, fitted):
    family, _, state, _ = fitted[case.name]
    samples = draw(family, state, 22)
    np.testing.assert_array_equal(samples.y, np.arange(22) % max(case.num_classes, 1))
    assert samples.y.dtype == np.int32
    assert samples.x.dtype == np.float32
    assert samples.x.shape == (22, 2)


@functools.cache
def programs(family):
    """A whole run, and several at once: (key, training set, λ) -> (state, curve, samples)."""

    def run(key, data, bias):
        state, curve = fit(family, key, data)
        return state, curve, family.sample(key, state, 9, bias)

    return jax.jit(run), jax.jit(jax.vmap(run))


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


RUNS = 3
KEYS = jax.random.split(jax.random.key(5), RUNS)
BIASES = jnp.asarray([1.0, 0.8, 0.5])
SETS = [training_set(*four_clouds(64, seed=seed), size=size) for seed, size in ((1, 64), (2, 40), (3, 17))]


@every_family
def test_fit_and_sample_are_functions_of_their_key(case):
    run, _ = programs(case.build())
    once, again, other = (run(KEYS[i], SETS[0], BIASES[1])[2].x for i in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1e-3


@every_family
def test_a_run_alone_equals_the_same_run_under_vmap(case):
    """Three runs with their own keys, sets of their own sizes, and λ; each alone gives the same model and samples."""
    run, together = programs(case.build())
    mapped = together(KEYS, stack(SETS), BIASES)
    for i in range(RUNS):
        alone = run(KEYS[i], SETS[i], BIASES[i])
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(mapped), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=1e-3, atol=1e-4)


@every_family
def test_a_run_with_nan_parameters_leaves_its_neighbours_alone(case):
    """NaN comes in through the second run's samples and reaches all that it learns."""
    _, together = programs(case.build())
    nan = training_set(np.full((64, 2), np.nan, np.float32), size=40)
    mixed, clean = (together(KEYS, stack([SETS[0], middle, SETS[2]]), BIASES) for middle in (nan, SETS[1]))
    assert all(not np.isfinite(leaf[1]).all() for leaf in jax.tree.leaves(mixed[0].params))
    assert not np.isfinite(mixed[2].x[1]).any()
    for a, b in zip(jax.tree.leaves(mixed), jax.tree.leaves(clean), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[[0, 2]], np.asarray(b)[[0, 2]])


@every_family
def test_padding_is_never_trained_on(case):
    """Rows beyond `size` may hold anything finite."""
    run, _ = programs(case.build())
    x, y = four_clouds(64)
    spoiled = x.copy()
    spoiled[40:] = 1e6
    a, b = (run(KEYS[0], training_set(values, y, size=40), BIASES[0]) for values in (x, spoiled))
    jax.tree.map(np.testing.assert_array_equal, a, b)


@every_family
def test_init_depends_on_its_key_alone_and_carries_params(case):
    init, _ = compiled(case.build())
    a, b = init(jax.random.key(0)), init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.leaves(a.params)


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize(
    "settings", [{"no_such_setting": 1}, {"shape_": 3}, {"ddof": 3, "width": 0}], ids=["unknown", "typo", "bad"]
)
def test_settings_that_do_not_fit_are_refused_in_one_line(family, settings):
    with pytest.raises(ValueError, match=r"config\.model") as caught:
        models.build(family, Given((2,), 0), **settings)
    assert "\n" not in str(caught.value)


def test_an_unknown_family_is_refused_in_one_line():
    with pytest.raises(ValueError, match="unknown model family 'gan2'") as caught:
        models.build("gan2", Given((2,), 0))
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------------------------- Gaussian


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


# -------------------------------------------------------------------------------------------------------- diffusion


class Stub(nn.Module):
    """A network with one parameter that returns what it is given, so that preconditioning can be read off."""

    what: str

    @nn.compact
    def __call__(self, x, noise, label):
        gain = self.param("gain", nn.initializers.ones, ())
        rows = (-1, *(1,) * (x.ndim - 1))
        return (
            gain
            * {
                "zero": jnp.zeros_like(x),
                "one": jnp.ones_like(x),
                "input": x,
                "noise": jnp.broadcast_to(noise.reshape(rows), x.shape),
                "label": jnp.broadcast_to(label.astype(jnp.float32).reshape(rows), x.shape),
            }[self.what]
        )


def diffusion(net="zero", num_classes=0, shape=(2,), bounds=None, group=None, **settings):
    net = Stub(net) if isinstance(net, str) else net
    return Edm(given=Given(shape, num_classes, bounds, group=group or Group()), net=net, **settings)


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


def test_sampling_in_chunks_equals_sampling_at_once():
    whole, chunks = (diffusion(Linear(), CLASSES, sampler_steps=3, sample_batch=batch) for batch in (4096, 4))
    state = compiled(whole)[0](jax.random.key(0))
    rng = np.random.default_rng(0)
    ema = jax.tree.map(lambda a: a + np.float32(0.05) * rng.normal(size=a.shape).astype(np.float32), state.ema)
    state = state._replace(ema=ema)
    a, b = draw(whole, state, 11, 0.6), draw(chunks, state, 11, 0.6)
    np.testing.assert_allclose(a.x, b.x, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(a.y, b.y)


class Linear(nn.Module):
    """A network that learns and compiles fast."""

    @nn.compact
    def __call__(self, x, noise, label):
        return nn.Dense(x.shape[1])(jnp.concatenate([x, noise[:, None], jax.nn.one_hot(label, CLASSES + 1)], axis=1))


def tiny(steps=10, **settings):
    """With ten steps, each segment is one step: every parameter on the way can be seen."""
    return diffusion(Linear(), CLASSES, steps=steps, **({"batch_size": 8} | settings))


def path(family, data=None, calls=None):
    """The state after each call of `fit`."""
    data = training_set(*four_clouds(64)) if data is None else data
    init, step = compiled(family)
    states, curves = [init(jax.random.key(0))], []
    for _ in range(family.segments if calls is None else calls):
        state, curve = step(jax.random.key(1), data, states[-1])
        states.append(state)
        curves.append(curve)
    return states, curves


def test_the_average_has_the_weights_of_a_power_function():
    """EDM2, equation 8: weights proportional to t^γ. Integrated over each step: (i/T)^(γ+1) - ((i-1)/T)^(γ+1)."""
    gamma = 2.5
    states, _ = path(tiny(ema_exponent=gamma, warmup=0.0))
    assert len(states) == 11
    i = np.arange(1, 11)
    weight = ((i / 10) ** (gamma + 1)) - ((i - 1) / 10) ** (gamma + 1)
    assert weight.sum() == pytest.approx(1)
    leaves = [jax.tree.leaves(s.params) for s in states[1:]]
    for k, average in enumerate(jax.tree.leaves(states[-1].ema)):
        direct = sum(w * np.float64(leaf[k]) for w, leaf in zip(weight, leaves, strict=True))
        np.testing.assert_allclose(average, direct, rtol=1e-4, atol=1e-6)


def test_samples_are_drawn_with_the_average():
    family = tiny()
    state = path(family, calls=3)[0][-1]
    poisoned = state._replace(params=jax.tree.map(lambda a: a * jnp.nan, state.params))
    np.testing.assert_array_equal(draw(family, state, 5).x, draw(family, poisoned, 5).x)


def test_the_learning_rate_rises_linearly_and_falls_as_half_a_cosine():
    model = diffusion(learning_rate=3e-3, warmup=0.2)
    progress = np.linspace(0, 1, 21)
    expected = 3e-3 * np.minimum(progress / 0.2, 1) * (1 + np.cos(np.pi * progress)) / 2
    np.testing.assert_allclose([model.rate(jnp.float32(p)) for p in progress], expected, rtol=1e-5, atol=1e-9)
    assert float(model.rate(jnp.float32(1.5))) == pytest.approx(0, abs=1e-9)
    assert float(diffusion(learning_rate=3e-3, warmup=0.0).rate(jnp.float32(0))) == pytest.approx(3e-3)


def test_steps_are_adams_at_the_scheduled_rate():
    """Adam's first step is the sign of the gradient, so without warm-up a weight moves by the rate or not at all."""
    family = tiny(warmup=0.0, learning_rate=1e-3)
    before, after = (jax.tree.leaves(s.params) for s in path(family, calls=1)[0])
    moved = np.concatenate([np.abs(np.float64(a) - np.float64(b)).ravel() for a, b in zip(before, after, strict=True)])
    big = moved[moved > 1e-5]
    assert len(big) >= 10
    np.testing.assert_allclose(big, 1e-3, rtol=0.02)


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


def test_a_fit_in_segments_is_one_fit():
    """The state carries its step: ten calls of four steps walk through the steps of one call of forty."""
    family = tiny(steps=40)
    assert family.segments == 10
    states, curves = path(family)

    class Whole(Edm):
        segments = 1

    whole = Whole(**{f.name: getattr(family, f.name) for f in dataclasses.fields(family)})
    state, curve = jax.jit(whole.fit)(jax.random.key(1), training_set(*four_clouds(64)), states[0])
    assert [int(s.step) for s in states] == list(range(0, 41, 4))
    assert int(state.step) == 40
    for a, b in zip(jax.tree.leaves(states[-1]), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    parts = np.asarray([c.mean() for c in curves])
    np.testing.assert_allclose(parts, curve.reshape(10, -1).mean(1), rtol=1e-3)


@pytest.mark.parametrize(("steps", "segments"), [(1, 1), (7, 7), (10, 10), (11, 1), (24, 8), (1000, 10)])
def test_segments_divide_the_steps(steps, segments):
    assert diffusion(steps=steps).segments == segments


def test_epochs_stop_smaller_sets_early():
    """Two passes over 24 and over 40 samples in batches of 8 are 6 and 10 steps; then nothing moves any more."""
    family = tiny(epochs=2.0)
    for size, steps in ((40, 10), (24, 6), (1, 1)):
        states, _ = path(family, training_set(*four_clouds(64), size=size))
        assert [int(s.step) for s in states] == [min(i, steps) for i in range(11)]
        jax.tree.map(np.testing.assert_array_equal, states[steps], states[-1])


def test_epochs_give_each_set_its_own_whole_schedule():
    """A set of 24 with two epochs trains as it would alone with six steps."""
    data = training_set(*four_clouds(64), size=24)
    waiting, alone = path(tiny(epochs=2.0), data)[0][-1], path(tiny(steps=6), data)[0][-1]
    for a, b in zip(jax.tree.leaves(waiting), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_without_epochs_every_set_trains_for_the_same_steps():
    states, _ = path(tiny(), training_set(*four_clouds(64), size=3))
    assert int(states[-1].step) == 10


def tiny_gan(group=None):
    settings = {"width": 8, "depth": 2, "style": 4, "latent": 4, "discriminator_width": 8, "batch_size": 8}
    return models.build("gan", Given((2,), CLASSES, group=group or Group()), steps=10, **settings)


def tiny_family(family, group=None):
    settings = CASES[family].settings | CASES[family].short
    return models.build(
        family, Given((2,), CLASSES, group=group or Group()), **settings | {"batch_size": 8, "steps": 10}
    )


SHARED = {
    "diffusion": functools.partial(tiny, sampler_steps=3),
    "gan": tiny_gan,
    "flow": functools.partial(tiny_family, "flow"),
    "vae": functools.partial(tiny_family, "vae"),
}


@pytest.mark.parametrize("make", SHARED.values(), ids=SHARED)
def test_a_group_of_devices_computes_what_one_device_does(make):
    """A run whose batch two devices share, twice side by side, against the run alone."""
    data = training_set(*four_clouds(64))
    alone, shared = make(), make(group=Group(axis="device", members=((0, 1), (2, 3))))

    def run(family):
        def one(key):
            state, curve = fit(family, key, data, segments=3)
            return state.ema, curve, family.sample(key, state, 5, 0.7)

        return one

    keys = jax.random.split(jax.random.key(3), 2)
    spread = jax.pmap(run(shared), axis_name="device")(jnp.repeat(keys, 2))
    run_alone = jax.jit(run(alone))
    for i in range(2):
        expected = jax.tree.leaves(run_alone(keys[i]))
        for a, b in zip(expected, jax.tree.leaves(spread), strict=True):
            both = np.asarray(b)[2 * i : 2 * i + 2]
            np.testing.assert_allclose(both[0], a, rtol=1e-3, atol=1e-4)
            np.testing.assert_array_equal(both[0], both[1])


BAD_SETTINGS = [
    ({"steps": 0}, "config.model.steps"),
    ({"steps": 1.5}, "config.model.steps"),
    ({"steps": True}, "config.model.steps"),
    ({"batch_size": 0}, "config.model.batch_size"),
    ({"sample_batch": 0}, "config.model.sample_batch"),
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
    ({"network": "transformer", "width": 30}, "heads=4 the width 30"),
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


# --------------------------------------------------------------------------------------------------------- networks


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


def test_a_state_is_a_tuple_of_arrays_with_params():
    state = tiny().init(jax.random.key(0))
    assert isinstance(state, Trained)
    assert int(state.step) == 0
    jax.tree.map(np.testing.assert_array_equal, state.params, state.ema)
