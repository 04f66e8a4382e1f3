"""Fréchet distances: against factored forms and square roots in float64, closed forms, and expectations."""

import math

import jax
import numpy as np
import pytest
import scipy.linalg
from clouds import CLOUDS, chunked, cloud, draws, low_rank, of, state, value

from madbench.metrics import METRICS, Known
from madbench.metrics.frechet import frechet
from madbench.metrics.moments import Moments
from madbench.samples import ExactMoments

FD, FD_INF = of("fd"), of("fd_inf")


def gaussian_w2(mean, covariance):
    return METRICS["gaussian_w2"].of(Known(moments=ExactMoments(np.float64(mean), np.float64(covariance))))


def frechet_by_factors(a, b):
    """With Σ = XᵀX for the centred, scaled samples X, the cross term is the sum of the singular values of X_a X_bᵀ.

    No square root of a covariance is taken, so nothing is lost where one is singular.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    x, y = ((s - s.mean(0)) / np.sqrt(len(s) - 1) for s in (a, b))
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.sum(x**2) + np.sum(y**2) - 2 * cross


def frechet_by_sqrtm(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    s, t = np.cov(a.T), np.cov(b.T)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real)


@pytest.mark.parametrize("name", CLOUDS)
def test_it_is_that_of_the_factored_form(name):
    a, b = CLOUDS[name]
    assert value(FD, a, b) == pytest.approx(frechet_by_factors(a, b), rel=1e-6)


@pytest.mark.parametrize("name", ["one dimension", "full rank", "correlated"])
def test_it_is_that_of_a_matrix_square_root_where_that_exists(name):
    a, b = CLOUDS[name]
    if a.shape[1] > 1:
        assert value(FD, a, b) == pytest.approx(frechet_by_sqrtm(a, b), rel=1e-6)
    else:
        s, t = np.float64(a).std(ddof=1), np.float64(b).std(ddof=1)
        expected = (np.float64(a).mean() - np.float64(b).mean()) ** 2 + (s - t) ** 2
        assert value(FD, a, b) == pytest.approx(expected, rel=1e-6)


def rotated(n, d, decay, seed, scale=1.0):
    """Samples whose deviations fall from 1 to 10^-decay along orthogonal directions."""
    rotation = np.linalg.qr(cloud(d, d, 99).astype(np.float64))[0]
    return (cloud(n, d, seed) * 10.0 ** (-decay * np.arange(d) / d) * scale @ rotation).astype(np.float32)


def numpy_moments(x):
    x = np.float64(x)
    centred = x - x.mean(0)
    return Moments(np.float64(len(x)), x.mean(0), centred.T @ centred)


LARGE = {
    "fewer samples than dimensions": (cloud(64, 256, 0), cloud(100, 256, 1)),
    "as many samples as dimensions": (cloud(256, 256, 0), cloud(256, 256, 1)),
    "one collapsed to ten directions": (low_rank(300, 256, 10, 0), cloud(300, 256, 1)),
    "decay by 10³": (rotated(512, 256, 3, 0), rotated(512, 256, 3, 1, 1.05)),
    "decay by 10⁵": (rotated(512, 256, 5, 0), rotated(512, 256, 5, 1, 1.05)),
    "decay by 10⁸": (rotated(512, 256, 8, 0), rotated(512, 256, 8, 1, 1.05)),
    "decay against none": (rotated(512, 256, 8, 0), cloud(512, 256, 1)),
    "decay, and fewer samples": (rotated(100, 256, 4, 0), rotated(120, 256, 4, 1)),
    "nearly the same set": (rotated(100, 256, 4, 0), rotated(100, 256, 4, 0, 1.01)),
    "512 dimensions": (rotated(200, 512, 2, 0), rotated(700, 512, 2, 1)),
}


@pytest.mark.parametrize("name", LARGE)
def test_it_is_that_of_the_factored_form_in_many_dimensions(name):
    """A covariance in float64 does not know what lies 10⁻¹³ below its largest eigenvalue: 2e-8 of FD at most here."""
    a, b = LARGE[name]
    assert frechet(numpy_moments(a), numpy_moments(b)) == pytest.approx(frechet_by_factors(a, b), rel=1e-7)


def test_square_roots_of_rounding_would_be_seen():
    """What the text books' eigenvalues of A^½ B A^½ alone make of it: the case is not an easy one."""
    a, b = (np.cov(np.float64(x).T) for x in LARGE["nearly the same set"])
    value, vector = np.linalg.eigh(a)
    root = vector * np.sqrt(np.maximum(value, 0))
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root.T @ b @ root), 0)).sum()
    a, b = LARGE["nearly the same set"]
    short = np.sum((np.float64(a).mean(0) - np.float64(b).mean(0)) ** 2) - 2 * cross
    short += np.var(np.float64(a), axis=0, ddof=1).sum() + np.var(np.float64(b), axis=0, ddof=1).sum()
    assert abs(short / frechet_by_factors(a, b) - 1) > 1e-5


@pytest.mark.parametrize("name", ["full rank", "one of low rank", "two samples"])
def test_it_is_symmetric(name):
    a, b = CLOUDS[name]
    assert value(FD, a, b) == pytest.approx(value(FD, b, a), rel=1e-6)


@pytest.mark.parametrize("name", CLOUDS)
def test_equal_sets_are_at_no_distance(name):
    a, _ = CLOUDS[name]
    assert 0 <= value(FD, a, a) <= 1e-12 * np.trace(np.atleast_2d(np.cov(np.float64(a).T)))


def test_a_shift_costs_its_square_and_a_scale_the_squared_difference():
    """x -> s x + m of one set: FD = ‖(s-1)μ + m‖² + (s-1)² tr Σ, with the sample's own moments."""
    a = np.float64(cloud(500, 6, 0))
    trace, mean = np.trace(np.cov(a.T)), a.mean(0)
    assert value(FD, a + 2, a) == pytest.approx(6 * 4, rel=1e-5)
    for s in (0.1, 0.5, 3.0):
        expected = (s - 1) ** 2 * (mean @ mean + trace)
        assert value(FD, a * s, a) == pytest.approx(expected, rel=1e-5)


def test_covariances_have_ddof_one():
    """One dimension, {0, 2} against {0, 4}: (2-1)² + (√8 - √2)²; with ddof = 0 the last would be (2 - 1)²."""
    assert value(FD, [[0.0], [2.0]], [[0.0], [4.0]]) == pytest.approx(1 + (math.sqrt(8) - math.sqrt(2)) ** 2, rel=1e-9)


@pytest.mark.parametrize("name", ["full rank", "one of low rank", "far from the origin", "tiny scale"])
def test_merging_states_equals_the_whole(name):
    a, b = CLOUDS[name]
    whole = state(FD, a, b)
    merged = chunked(FD, [(a[low:high], b) for low, high in ((0, 7), (7, 8), (8, 53), (53, None))])
    for x, y in zip(jax.tree.leaves(merged), jax.tree.leaves(whole), strict=True):
        assert np.asarray(x).dtype == np.float64
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12 * np.abs(y).max())
    assert FD.compute(merged) == pytest.approx(FD.compute(whole), rel=1e-6)


# ------------------------------------------------------------------- against the exact distribution: gaussian_w2


def test_against_exact_moments_it_is_the_distance_between_gaussians():
    """Commuting covariances: Σ_i (√a_i - √b_i)²; the sample is made to have the moments exactly."""
    x = np.float64(cloud(50, 3, 0))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T  # mean 0, covariance 1
    deviations, exact = np.asarray([1.0, 0.1, 3.0]), np.asarray([2.0, 2.0, 0.5])
    found = value(gaussian_w2([1, 2, 3], np.diag(exact**2)), x * deviations, cloud(2, 3, 1))
    assert found == pytest.approx(14 + np.sum((deviations - exact) ** 2), rel=1e-6)


def test_the_reference_sample_has_no_part_in_it():
    metric = gaussian_w2(np.zeros(4), np.eye(4))
    generated = cloud(30, 4, 0)
    assert value(metric, generated, cloud(20, 4, 1)) == value(metric, generated, cloud(20, 4, 2, 50.0))


def test_its_chunks_are_of_generated_samples():
    metric, (a, b) = gaussian_w2(np.ones(8), 2 * np.eye(8)), CLOUDS["full rank"]
    merged = chunked(metric, [(a[:7], b), (a[7:8], b), (a[8:], b)])
    assert metric.compute(merged) == pytest.approx(value(metric, a, b), rel=1e-9)


def test_a_collapsed_generator_is_as_far_as_the_whole_variance():
    metric = gaussian_w2(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    assert value(metric, np.zeros((7, 3)), cloud(5, 3, 0)) == pytest.approx(14)


@pytest.mark.parametrize(("d", "n"), [(1, 100), (8, 400)])
def test_its_bias_in_finite_samples_is_the_known_one(d, n):
    """E = d/n + d(d+1)/(4(n-1)) to first order, for n samples of N(0, 1) against N(0, 1) itself."""
    count = 400
    found = draws(gaussian_w2(np.zeros(d), np.eye(d)), *(cloud(count * m, d, 0).reshape(count, m, d) for m in (n, 2)))
    expected = d / n + d * (d + 1) / (4 * (n - 1))
    # The next order is smaller by d/n or so.
    assert abs(found.mean() - expected) < 4 * found.std() / math.sqrt(count) + expected * d / n


# --------------------------------------------------------------------------------------------------- extrapolated


def test_extrapolated_it_is_unbiased_where_the_distance_is_not():
    """Equal Gaussians in 16 dimensions, 400 samples each: FD is far from 0, its extrapolation scatters about it."""
    sets = [cloud(60 * 400, 16, seed).reshape(60, 400, 16) for seed in (0, 1)]
    plain, extrapolated = draws(FD, *sets), draws(FD_INF, *sets)
    error = extrapolated.std(ddof=1) / math.sqrt(60)
    assert abs(extrapolated.mean()) < 4 * error + 0.02 * plain.mean()
    assert plain.mean() > 30 * error
    assert extrapolated.min() < 0 < extrapolated.max()


def test_extrapolated_it_finds_the_true_shift_and_scale():
    """N(m, 1) against N(0, 4), d = 4: ‖m‖² + 4 (2 - 1)²."""
    a, b = cloud(40 * 400, 4, 0, 1.0, 0.5).reshape(40, 400, 4), cloud(40 * 400, 4, 1, 2.0).reshape(40, 400, 4)
    found, plain = draws(FD_INF, a, b), draws(FD, a, b)
    assert abs(found.mean() - 5.0) < 4 * found.std(ddof=1) / math.sqrt(40)
    bias = plain - found
    assert bias.mean() > 4 * bias.std(ddof=1) / math.sqrt(40)


def test_extrapolated_it_does_not_mind_the_order_of_samples():
    """Four classes far apart, sorted: quarters of one class each would be a distribution of their own."""
    centres = np.repeat(10 * cloud(4, 3, 5), 100, axis=0)
    generated, reference = cloud(400, 3, 0) + centres, (cloud(400, 3, 1) + centres)[::-1]
    sorted_by_class = value(FD_INF, generated, reference)
    shuffled = value(FD_INF, *(np.random.default_rng(7).permutation(x) for x in (generated, reference)))
    assert abs(sorted_by_class - shuffled) < 20
    assert value(FD, generated[:100], reference[:100]) > 200  # one class against another


def test_extrapolated_sets_of_any_size_are_quartered():
    for n, m in ((8, 8), (103, 9)):
        assert np.isfinite(value(FD_INF, cloud(n, 2, 0), cloud(m, 2, 1)))


def test_extrapolated_chunks_make_up_the_quarters():
    """The quarters of the whole are those of the chunks together, quarter by quarter."""
    chunks = [(cloud(40, 3, s), cloud(56, 3, s + 10, 1.5)) for s in range(3)]
    merged = chunked(FD_INF, chunks)
    for side in (0, 1):
        order = np.random.default_rng(0).permutation(len(chunks[0][side]))
        for quarter, index in enumerate(np.array_split(order, 4)):
            expected = numpy_moments(np.concatenate([chunk[side][index] for chunk in chunks]))
            for x, y in zip(merged[side][quarter], expected, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9)
    assert np.isfinite(FD_INF.compute(merged))
