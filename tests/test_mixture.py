"""The Gaussian mixture: EM against scikit-learn and SciPy, k-means++, lost components, sampling."""

import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from madbench import models
from madbench.models.family import Given
from madbench.models.mixture import Mixture, MixtureParams, MixtureState, log_joint, maximize, plus_plus
from madbench.samples import Samples
from madbench.training_set import GatheredSet

K, FLOOR = 3, 1e-3


@functools.cache
def problem(d):
    """60 samples of three overlapping clouds, and a mixture that is not yet fitted to them; all float64."""
    rng = np.random.default_rng(d)
    roots = rng.normal(size=(K, d, d))
    x = np.concatenate([rng.normal(size=(20, d)) @ (0.5 * roots[k]) + 2 * k for k in range(K)])
    weight = np.asarray([0.2, 0.3, 0.5])
    mean = np.arange(K)[:, None] * 2 + rng.normal(size=(K, d)) * 0.5
    covariance = roots @ roots.transpose(0, 2, 1) + 0.5 * np.eye(d)
    return x, weight, mean, covariance


def params_of(*arrays):
    return MixtureParams(*(jnp.asarray(a, jnp.float32) for a in arrays))


@functools.cache
def fitting(family):
    """Families are hashable: one program each for all tests."""
    return jax.jit(family.fit)


def fit(x, size=None, **settings):
    """A `Mixture` fitted to the first `size` rows: (params, curve)."""
    x = jnp.asarray(x, jnp.float32)
    family = models.build("mixture", Given(x.shape[1:]), **settings)
    key = jax.random.key(0)
    data = GatheredSet(Samples(x, jnp.zeros(len(x), jnp.int32)), jnp.int32(len(x) if size is None else size), key)
    state, curve = fitting(family)(key, data, family.init(key))
    return jax.tree.map(np.asarray, state.params), np.asarray(curve)


def sample(params, n, bias, shape):
    family = Mixture(shape=shape, components=len(params.weight))
    draw = jax.jit(lambda key, params, bias: family.sample(key, MixtureState(params), n, bias).x)
    return np.float64(draw(jax.random.key(3), params, jnp.float32(bias)))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_densities_are_scipys(d):
    x, weight, mean, covariance = problem(d)
    found = log_joint(jnp.asarray(x, jnp.float32), params_of(weight, mean, covariance))
    normals = [stats.multivariate_normal(m, c) for m, c in zip(mean, covariance, strict=True)]
    expected = [math.log(w) + np.atleast_1d(n.logpdf(x)) for w, n in zip(weight, normals, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@jax.jit
def iterate(x, member, params):
    return maximize(x, jax.nn.softmax(log_joint(x, params), axis=0) * member, params, FLOOR)


def scikit_learn(x, weight, mean, covariance, iterations):
    """Its mixture after so many iterations from the given one."""
    reference = GaussianMixture(
        K, reg_covar=FLOOR, tol=0, max_iter=iterations, weights_init=weight, means_init=mean,
        precisions_init=np.linalg.inv(covariance),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return reference.fit(x)


@pytest.mark.parametrize("iterations", [1, 5])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_iterations_of_em_are_scikit_learns(d, iterations):
    """With ten rows of padding, whose shares are 0."""
    x, *start = problem(d)
    reference = scikit_learn(x, *start, iterations)
    padded = jnp.asarray(np.concatenate([x, np.zeros((10, d))]), jnp.float32)
    member = jnp.arange(70) < 60
    params = params_of(*start)
    for _ in range(iterations):
        params = iterate(padded, member, params)
    expected = reference.weights_, reference.means_, reference.covariances_
    for found, wanted in zip(params, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-3)


def grid(n, seed=0):
    """n samples of nine tight clouds, and their centres."""
    centres = 2.0 * np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(-1, 2)
    which = np.arange(n) % 9
    return centres[which] + 0.05 * np.random.default_rng(seed).normal(size=(n, 2)), centres


def test_separate_modes_are_found_with_their_moments():
    """Far apart, each component is one cloud: its share, mean and maximum-likelihood covariance, without the floor."""
    x, centres = grid(270)
    params, curve = fit(x, components=9, iterations=10, covariance_floor=1e-4)
    order = [int(np.argmin(np.linalg.norm(params.mean - c, axis=1))) for c in centres]
    assert sorted(order) == list(range(9))
    clouds = [x[i::9] for i in range(9)]
    np.testing.assert_allclose(params.weight, 1 / 9, rtol=1e-5)
    np.testing.assert_allclose(params.mean[order], [c.mean(0) for c in clouds], atol=1e-5)
    expected = [np.cov(c.T, ddof=0) for c in clouds]
    np.testing.assert_allclose(params.covariance[order], expected, rtol=1e-3, atol=1e-6)
    density = [stats.multivariate_normal(c.mean(0), np.cov(c.T, ddof=0) + 1e-4 * np.eye(2)).pdf(x) / 9 for c in clouds]
    assert curve[-1] == pytest.approx(-np.log(np.sum(density, axis=0)).mean(), abs=1e-3)


@pytest.mark.parametrize(("iterations", "points"), [(20, 10), (7, 7)])
def test_the_curve_is_the_negative_log_likelihood_and_never_rises(iterations, points):
    x, *_ = problem(2)
    _, curve = fit(x, components=K, iterations=iterations, covariance_floor=FLOOR)
    assert curve.shape == (points,)
    assert (np.diff(curve) < 1e-4).all()
    if iterations == 20:
        assert curve[-1] < curve[0] - 0.01


def test_centres_are_members_drawn_by_their_distance():
    """Two far points and forty near ones: the far ones are always among four centres, and no padding is."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(40, 2)) * 0.1, [[50, 0], [0, 50]], np.full((20, 2), 1e3)])
    weight = jnp.asarray(np.arange(62) < 42, jnp.float32)
    keys = jax.random.split(jax.random.key(0), 20)
    choose = jax.jit(jax.vmap(lambda key: plus_plus(key, jnp.asarray(x, jnp.float32), weight, 4)))
    centres = np.asarray(choose(keys))
    members = {tuple(row) for row in np.float32(x[:42])}
    assert {tuple(row) for row in centres.reshape(-1, 2)} <= members
    for far in x[40:42]:
        assert (centres == np.float32(far)).all(axis=2).any(axis=1).all()
    assert len({tuple(row) for row in centres[:, 0]}) > 10  # the first is uniform over the members
    assert all(len({tuple(row) for row in one}) == 4 for one in centres)


def test_a_second_centre_follows_the_squared_distance():
    """From either of two near points, the third is drawn with its share of D²; greedy candidates only raise that."""
    x = jnp.asarray([[0.0], [1.0], [3.0]])
    keys = jax.random.split(jax.random.key(1), 2000)
    centres = np.asarray(jax.jit(jax.vmap(lambda key: plus_plus(key, x, jnp.ones(3), 2)))(keys))[..., 0]
    assert np.abs(np.asarray([(centres[:, 0] == v).mean() for v in (0, 1, 3)]) - 1 / 3).max() < 0.05
    after_zero = centres[centres[:, 0] == 0, 1]
    # two candidates; 3 leaves a sum of 1 and 1 leaves 4, so 1 stays only where both candidates are it
    assert (after_zero == 1).mean() == pytest.approx(0.1**2, abs=0.01)


def test_components_without_samples_do_no_harm():
    """Three distinct points, given twenty times over, for six components; and all samples equal."""
    for points in ([[0, 0], [1, 0], [0, 1]], [[2, 2]]):
        x = np.tile(np.asarray(points, float), (60 // len(points), 1))
        params, curve = fit(x, components=6, iterations=20)
        assert all(np.isfinite(leaf).all() for leaf in (*params, curve))
        assert params.weight.sum() == pytest.approx(1, abs=1e-5)
        assert (params.weight == 0).sum() >= 6 - 2 * len(points)
        x = sample(params, 200, 1.0, (2,))
        assert np.abs(x[:, None] - np.asarray(points)).max(axis=2).min(axis=1).max() < 0.01


def test_samples_on_a_line_have_a_fit():
    """Their covariances are singular, and the floor is a ten-billionth of the variance."""
    t = 100 * np.random.default_rng(0).normal(size=300)
    params, curve = fit(np.stack([t, 3 * t, -t], axis=1), components=4, iterations=20)
    assert all(np.isfinite(leaf).all() for leaf in (*params, curve))
    x = sample(params, 2000, 1.0, (3,))
    assert (x @ np.asarray([3, -1, 0]) / math.sqrt(10)).std() < 0.01 * x[:, 0].std()
    assert x[:, 0].std() == pytest.approx(t.std(), rel=0.1)


def test_a_lost_component_keeps_what_it_was():
    x, weight, mean, covariance = problem(2)
    far = mean.copy()
    far[1] = 1e4
    before = params_of(weight, far, covariance)
    share = jax.nn.softmax(log_joint(jnp.asarray(x, jnp.float32), before), axis=0)
    after = maximize(jnp.asarray(x, jnp.float32), share, before, FLOOR)
    assert after.weight[1] == 0
    assert after.weight.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(after.mean[1], before.mean[1])
    np.testing.assert_array_equal(after.covariance[1], before.covariance[1])
    again = log_joint(jnp.asarray(x, jnp.float32), after)
    assert np.isneginf(again[1]).all()
    assert np.isfinite(again[0]).all()


def test_one_sample_that_is_not_finite_spoils_every_parameter():
    for bad in (np.nan, np.inf):
        x, _ = grid(90)
        x[17, 1] = bad
        params, _ = fit(x, components=9, iterations=5)
        assert not any(np.isfinite(leaf).all() for leaf in params)


def test_padding_of_any_length_gives_the_same_fit():
    """Noise is drawn per row: a grid with larger sets starts from the same centres."""
    x, _ = grid(90)
    longer = np.concatenate([x, np.full((50, 2), 7.0)])
    (a, _), (b, _) = (fit(data, 90, components=9, iterations=5) for data in (x, longer))
    for short, padded in zip(a, b, strict=True):
        np.testing.assert_allclose(short, padded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [1.0, 0.4])
def test_samples_have_the_mixtures_weights_means_and_scaled_covariances(bias):
    """Components far apart, so that each sample's is known."""
    _, weight, _, covariance = problem(2)
    mean = 100.0 * np.asarray([[-1, 0], [0, 1], [1, 0]])
    n = 20000
    x = sample(params_of(weight, mean, covariance), n, bias, (2,))
    which = np.argmin(np.linalg.norm(x[:, None] - mean, axis=2), axis=1)
    for k in range(K):
        own = x[which == k]
        assert abs(len(own) / n - weight[k]) < 5 * math.sqrt(weight[k] * (1 - weight[k]) / n)
        deviation = np.sqrt(bias * np.diag(covariance[k]))
        assert np.abs((own.mean(0) - mean[k]) / deviation).max() < 5 / math.sqrt(len(own))
        scale = np.outer(deviation, deviation)
        assert np.abs((np.cov(own.T) - bias * covariance[k]) / scale).max() < 5 * math.sqrt(2 / len(own))


@pytest.mark.parametrize("n_fresh", [0, 10])
def test_a_loop_loses_modes_as_neutral_drift_does_and_fresh_data_bring_them_back(n_fresh):
    """Far apart, a mode's count j of n is a Wright-Fisher chain: Binomial(n - n_fresh, j / n) of the model's samples
    and Binomial(n_fresh, 1 / modes) of fresh ones."""
    n, modes, generations, runs = 40, 4, 12, 400
    family = Mixture(shape=(1,), components=modes, iterations=3)

    def real(key, count):
        which, noise = (
            jax.random.randint(key, (count,), 0, modes),
            jax.random.normal(jax.random.fold_in(key, 1), (count,)),
        )
        return (10.0 * which + 0.01 * noise)[:, None]

    def run(key):
        def step(x, key):
            data = GatheredSet(Samples(x, jnp.zeros(n, jnp.int32)), jnp.int32(n), key)
            state, _ = family.fit(key, data, family.init(key))
            synthetic = family.sample(jax.random.fold_in(key, 1), state, n - n_fresh, jnp.float32(1)).x
            x = jnp.concatenate([synthetic, real(jax.random.fold_in(key, 2), n_fresh)])
            nearest = jnp.round(x[:, 0] / 10)
            return x, jnp.sum(jnp.any(nearest[:, None] == jnp.arange(modes), axis=0))

        return jax.lax.scan(step, real(key, n), jax.random.split(jax.random.fold_in(key, 2), generations))[1]

    left = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), runs)))
    counts = np.arange(n + 1)
    fresh = stats.binom.pmf(np.arange(n_fresh + 1), n_fresh, 1 / modes)
    step = [np.convolve(stats.binom.pmf(np.arange(n - n_fresh + 1), n - n_fresh, j / n), fresh) for j in counts]
    chance = stats.binom.pmf(counts, n, 1 / modes)
    for t in range(generations):
        chance = chance @ step
        error = math.sqrt(modes * chance[0] * (1 - chance[0]) / runs)  # at most: when one is lost, others gain
        assert abs(left[:, t].mean() - modes * (1 - chance[0])) < 4 * error
    assert (left[:, -1].mean() < 3.5) == (n_fresh == 0)
    if n_fresh:
        assert left[:, -1].mean() > 3.9


def test_a_loop_collapses_beyond_the_floor():
    """One component of n samples: E log σ² falls by 1/n and more in each generation (PROTOCOL, section 7)."""
    n, generations = 20, 300
    family = Mixture(shape=(1,), components=1, iterations=2)

    def step(x, key):
        data = GatheredSet(Samples(x, jnp.zeros(n, jnp.int32)), jnp.int32(n), key)
        state, _ = family.fit(key, data, family.init(key))
        return family.sample(key, state, n, jnp.float32(1)).x, state.params.covariance[0, 0, 0]

    run = lambda key: jax.lax.scan(step, jax.random.normal(key, (n, 1)), jax.random.split(key, generations))[1]
    variance = np.float64(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 200)))
    k = n - 1
    fall = special.psi(k / 2) - math.log(k / 2) + math.log(k / n)
    t = 200
    found = np.log(variance[:, t - 1])
    assert np.median(variance[:, -1]) < 1e-7 < family.covariance_floor
    assert abs(found.mean() - t * fall) < 4 * math.sqrt(t * special.polygamma(1, k / 2) / 200)
