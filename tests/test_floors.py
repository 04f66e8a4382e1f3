"""The floor of every metric: what two real samples of one size make of it."""

import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from madbench import data, floors
from madbench.metrics import Evaluator, Known, features, select
from madbench.randomness import Role, key_for

NAMES = ("fd", "precision", "recall")


@functools.cache
def extractor():
    return features.build("raw", None, 0, "")


def measured(source, n=None):
    reference = extractor()(source.reference.x)[:n]
    return floors.measure(source, extractor(), reference, Evaluator(select(NAMES, Known())))


@functools.cache
def gaussian(dimension, n):
    return measured(data.load("gaussian", dimension=dimension, n_reference=n))


def frechet(x, y):
    """tr (Σ₁Σ₂)^½ from the eigenvalues of the product itself: another way than the suite's."""
    a, b = np.cov(x.T).reshape(x.shape[1], -1), np.cov(y.T).reshape(x.shape[1], -1)
    root = np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a) + np.trace(b) - 2 * root


def test_in_one_dimension_the_floor_is_its_closed_form():
    """Given the reference's mean m and deviation s, E FD = 1/n + m² + 1 + s² - 2 s c₄(n) over real samples of n."""
    n = 200
    x = np.float64(data.load("gaussian", dimension=1, n_reference=n).reference.x)
    m, s = x.mean(), x.std(ddof=1)
    c4 = math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
    expected = 1 / n + m**2 + 1 + s**2 - 2 * s * c4
    draws = np.random.default_rng(0).normal(size=(4000, n))
    spread = ((draws.mean(1) - m) ** 2 + (draws.std(1, ddof=1) - s) ** 2).std()
    assert abs(gaussian(1, n)["fd"]["mean"] - expected) < 4 * spread / math.sqrt(floors.REPEATS)


@pytest.mark.parametrize(("dimension", "n"), [(2, 100), (4, 400)])
def test_the_floor_of_a_gaussian_is_of_the_known_size(dimension, n):
    """2d/n from the means and, to first order, d(d+1)/(2(n-1)) from the covariances; one reference serves all draws."""
    expected = 2 * dimension / n + dimension * (dimension + 1) / (2 * (n - 1))
    assert expected / 2 < gaussian(dimension, n)["fd"]["mean"] < 2 * expected


def test_the_floor_shrinks_with_the_sample():
    assert gaussian(4, 400)["fd"]["mean"] < gaussian(4, 40)["fd"]["mean"] / 3


def test_real_samples_look_real():
    for name in ("precision", "recall"):
        assert 0.8 < gaussian(2, 100)[name]["mean"] <= 1


def test_each_floor_is_ordered_and_not_a_point():
    for found in (gaussian(2, 100), gaussian(4, 400)):
        assert tuple(found) == NAMES
        for floor in found.values():
            assert set(floor) == {"mean", "p5", "p95"}
            assert all(type(v) is float for v in floor.values())
            assert floor["p5"] < floor["mean"] < floor["p95"]


def test_measuring_again_gives_the_same():
    gaussian.cache_clear()
    first = gaussian(2, 100)
    gaussian.cache_clear()
    assert gaussian(2, 100) == first


def test_a_finite_floor_compares_the_pool_with_the_reference():
    """Each of the forty draws again in NumPy: so many of the pool, none twice, none of the reference."""
    n = 80
    source = data.load("digits", n_reference=n)
    reference = np.float64(source.reference.x).reshape(n, -1)
    pool = np.float64(source.pool.x).reshape(source.available, -1)
    drawn = []
    for repeat in range(floors.REPEATS):
        index = np.asarray(source.order(key_for(0, repeat, Role.FLOOR)))[:n]
        assert len(set(index.tolist())) == n
        drawn.append(frechet(pool[index], reference))
    found = measured(source)["fd"]
    assert found["mean"] == pytest.approx(np.mean(drawn), rel=1e-5)
    overlap = n / source.available
    for name, percentile in (("p5", 5), ("p95", 95)):
        widened = np.mean(drawn) + (np.percentile(drawn, percentile) - np.mean(drawn)) / math.sqrt(1 - overlap)
        assert found[name] == pytest.approx(widened, rel=1e-5)
    assert found["p5"] > 0


def test_draws_are_not_those_that_runs_train_on():
    """A floor from the stream of seed 0 would be one of the model's own training set."""
    source = data.load("gaussian", dimension=2, n_reference=10)
    position = jnp.arange(10)
    train = source.at(source.order(key_for(0, 0, Role.DATA)), position).x
    draws = [source.at(source.order(key_for(0, r, Role.FLOOR)), position).x for r in range(3)]
    for i, draw in enumerate(draws):
        assert np.abs(draw - train).max() > 0.1
        assert np.abs(draw - source.reference.x).max() > 0.1
        assert np.abs(draw - draws[i - 1]).max() > 0.1
