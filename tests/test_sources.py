"""The endless sources: densities that are those of their samples, modes, equality by value, and refusals."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from madbench import data
from madbench.samples import Modes

N = 4000
SOURCES = {
    "gaussian": {"dimension": 2},
    "mixture": {"modes_per_side": 3, "spacing": 1.5, "deviation": 0.3},
    "rosenbrock": {"a": 1.0, "b": 3.0, "mu": 0.5},
}
every_source = pytest.mark.parametrize(("name", "settings"), SOURCES.items(), ids=SOURCES)


def load(name, **settings):
    return data.load(name, **SOURCES[name] | {"n_reference": N} | settings)


@pytest.fixture(scope="module")
def reference():
    """Float64 reference samples of each source."""
    return {name: np.float64(load(name).reference.x) for name in SOURCES}


@every_source
def test_shapes_and_types_are_those_of_an_endless_source(name, settings):
    source = load(name)
    assert (source.name, source.shape, source.num_classes, source.bounds) == (name, (2,), 0, None)
    assert source.available is source.pool is None
    assert source.reference.x.dtype == jnp.float32
    assert source.reference.y.dtype == jnp.int32
    assert not source.reference.y.any()
    stream = source.at(source.order(jax.random.key(0)), jnp.arange(5))
    assert stream.x.shape == (5, 2)
    assert not np.isin(stream.x, source.reference.x).any()


@every_source
def test_densities_integrate_to_one(name, settings):
    """On a fine grid: for smooth densities the sum converges faster than any power of the step."""
    axis = np.linspace(-14, 14, 1401)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = load(name).density(points)
    assert density.dtype == np.float64
    assert density.shape == (len(points),)
    assert density.sum() * 0.02**2 == pytest.approx(1, abs=2e-3)


@every_source
def test_samples_have_the_moments_of_the_density(name, settings, reference):
    """Σ f p over the same grid, for the monomials up to the second degree and a cosine that sees the modes."""
    axis = np.linspace(-14, 14, 1401)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    mass = load(name).density(points) * 0.02**2
    functions = (
        lambda x: x[:, 0],
        lambda x: x[:, 1],
        lambda x: x[:, 0] ** 2,
        lambda x: x[:, 1] ** 2,
        lambda x: x[:, 0] * x[:, 1],
        lambda x: np.cos(2 * np.pi * x[:, 0] / 1.5),
        lambda x: np.cos(2 * np.pi * x[:, 1] / 1.5),
    )
    for i, function in enumerate(functions):
        found = function(reference[name])
        expected = (function(points) * mass).sum()
        assert abs(found.mean() - expected) < 5 * found.std() / math.sqrt(N) + 5e-3, i


@every_source
def test_exact_moments_are_those_of_many_samples(name, settings):
    source, many = load(name), 100_000
    x = np.float64(source.at(source.order(jax.random.key(1)), jnp.arange(many)).x)
    mean, covariance = source.moments
    assert mean.dtype == covariance.dtype == np.float64
    assert (np.abs(x.mean(axis=0) - mean) < 5 * x.std(axis=0) / math.sqrt(many)).all()
    products = (x - mean)[:, :, None] * (x - mean)[:, None, :]
    assert (np.abs(products.mean(axis=0) - covariance) < 5 * products.std(axis=0) / math.sqrt(many)).all()


@pytest.mark.parametrize("settings", [{"dimension": 1}, {"modes_per_side": 1}, {"modes_per_side": 4, "spacing": 1.0}])
def test_a_mixtures_moments_are_those_of_its_centres_and_of_a_mode(settings):
    source = data.load("mixture", n_reference=2, deviation=0.5, **settings)
    centres = np.asarray(source.modes.centres)
    expected = np.cov(centres.T, ddof=0).reshape(centres.shape[1], -1) + 0.25 * np.eye(centres.shape[1])
    np.testing.assert_allclose(source.moments.mean, centres.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(source.moments.covariance, expected, atol=1e-12)


def test_images_have_no_exact_moments():
    assert data.load("digits").moments is None


def test_the_gaussian_density_is_scipys():
    x = np.random.default_rng(0).normal(size=(20, 4))
    expected = stats.multivariate_normal(np.zeros(4)).pdf(x)
    np.testing.assert_allclose(data.load("gaussian", dimension=4, n_reference=2).density(x), expected, rtol=1e-12)


@pytest.mark.parametrize("dimension", [1, 2])
def test_the_mixture_density_is_a_sum_over_its_modes(dimension):
    source = data.load("mixture", dimension=dimension, modes_per_side=3, deviation=0.6, n_reference=2)
    x = np.random.default_rng(0).normal(size=(20, dimension)) * 2
    normals = [stats.multivariate_normal(centre, 0.36 * np.eye(dimension)) for centre in source.modes.centres]
    assert len(normals) == 3**dimension
    np.testing.assert_allclose(source.density(x), np.mean([n.pdf(x) for n in normals], axis=0), rtol=1e-10)


def test_the_rosenbrock_density_is_its_definition():
    """p ∝ exp(-a (x₁ - μ)² - b (x₂ - x₁²)²), normalized by an integral that SciPy does."""
    a, b, mu = 0.5, 1.0, 0.0
    kernel = lambda second, first: math.exp(-a * (first - mu) ** 2 - b * (second - first**2) ** 2)
    total, _ = integrate.dblquad(kernel, -7, 9, lambda v: v**2 - 4, lambda v: v**2 + 4)
    x = np.random.default_rng(0).normal(size=(20, 2))
    expected = [kernel(second, first) / total for first, second in x]
    np.testing.assert_allclose(data.load("rosenbrock", n_reference=2).density(x), expected, rtol=1e-6)


def test_the_default_mixture_has_the_25_modes_of_the_literature():
    source = data.load("mixture", n_reference=N)
    assert source.modes.radius == pytest.approx(0.15)
    assert set(source.modes.centres) == {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    x = np.float64(source.reference.x)
    distance = np.linalg.norm(x[:, None] - np.asarray(source.modes.centres), axis=2)
    counts = np.bincount(distance.argmin(axis=1), minlength=25)
    assert stats.chisquare(counts).pvalue > 0.01
    inside = (distance.min(axis=1) <= source.modes.radius).mean()
    assert abs(inside - (1 - math.exp(-4.5))) < 5 * math.sqrt(0.011 / N)


def test_an_even_grid_is_centred_too():
    modes = data.load("mixture", modes_per_side=2, dimension=1, spacing=3.0, deviation=0.1, n_reference=2).modes
    assert modes == Modes(((-1.5,), (1.5,)), pytest.approx(0.3))


def test_sources_without_modes_to_count_say_so():
    assert load("gaussian").modes is load("rosenbrock").modes is None
    digits = data.load("digits")
    assert digits.modes is digits.density is None


@every_source
def test_equal_sources_are_one_program_and_others_are_not(name, settings):
    traces = []

    @jax.jit
    def first(source, order):
        traces.append(1)
        return source.at(order, jnp.arange(2)).x

    order = jax.random.key_data(jax.random.key(0))
    once = first(load(name), order)
    np.testing.assert_array_equal(first(load(name), order), once)
    assert len(traces) == 1
    changed = {"gaussian": {"dimension": 3}, "mixture": {"deviation": 0.4}, "rosenbrock": {"mu": 0.6}}[name]
    first(load(name, **changed), order)
    assert len(traces) == 2


@every_source
def test_fingerprints_follow_the_data(name, settings):
    one, again, other = (load(name, n_reference=50, split_seed=seed).fingerprint for seed in (0, 0, 1))
    assert one == again
    assert one["name"].partition("[")[0] == name
    assert one["sha256"] != other["sha256"]


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("mixture", {"modes_per_side": 0}, "config.data.modes_per_side must be a whole number of at least 1, not 0"),
        ("mixture", {"dimension": 3}, "config.data.dimension must be 1 or 2 for source 'mixture', not 3"),
        ("mixture", {"dimension": True}, "config.data.dimension must be 1 or 2"),
        ("mixture", {"spacing": -1.0}, "config.data.spacing must be above 0, not -1.0"),
        ("mixture", {"deviation": "x"}, "config.data.deviation must be a number, not 'x'"),
        ("mixture", {"n_reference": 0}, "config.data.n_reference must be a whole number of at least 1, not 0"),
        ("rosenbrock", {"a": 0}, "config.data.a must be above 0, not 0"),
        ("rosenbrock", {"b": math.inf}, "config.data.b must be above 0 and finite, not inf"),
        ("rosenbrock", {"mu": math.nan}, "config.data.mu must be finite, not nan"),
        ("rosenbrock", {"split_seed": -1}, "config.data.split_seed must be a whole number of at least 0, not -1"),
    ],
)
def test_bad_settings_are_refused_in_one_line(source, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        data.load(source, **settings)
    assert "\n" not in str(caught.value)
