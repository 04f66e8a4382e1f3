"""Maximum mean discrepancies against their definitions, pair by pair, in NumPy float64."""

import math

import numpy as np
import pytest
from clouds import CLOUDS, chunked, cloud, draws, of, scores, value

KID, MMD = METRICS = of("kid"), of("mmd")


def polynomial(x, y):
    """torch-fidelity's defaults: degree 3, gamma 1/d, coef0 1."""
    return (np.float64(x) @ np.float64(y).T / x.shape[1] + 1) ** 3


def gaussian_of(reference):
    """2σ² is the mean squared distance between two reference samples."""
    reference, m = np.float64(reference), len(reference)
    width = sum(np.sum((a - b) ** 2) for a in reference for b in reference) / (m * (m - 1))
    return lambda x, y: np.exp(-((np.float64(x)[:, None] - np.float64(y)[None]) ** 2).sum(2) / max(width, 1e-38))


def unbiased(kernel, x, y):
    """MMD²_u of Gretton et al., equation 3: no sample is paired with itself."""
    n, m = len(x), len(y)
    within = lambda z: kernel(z, z).sum() - np.trace(kernel(z, z))
    return within(x) / (n * (n - 1)) + within(y) / (m * (m - 1)) - 2 * kernel(x, y).mean()


@pytest.mark.parametrize("name", CLOUDS)
def test_they_are_their_definitions(name):
    """To 1e-6, or to rounding of the kernels' size, which is all that is left where the distance is next to nothing."""
    generated, reference = CLOUDS[name]
    found = scores(METRICS, generated, reference)
    expected = unbiased(polynomial, generated, reference)
    assert found["kid"] == pytest.approx(expected, rel=1e-6, abs=1e-11 * np.abs(polynomial(generated, reference)).max())
    assert found["mmd"] == pytest.approx(unbiased(gaussian_of(reference), generated, reference), rel=1e-6, abs=1e-11)


def test_kid_over_subsets_is_the_mean_of_their_values():
    """As torch-fidelity does it: subsets of both sets are drawn and judged, and the values are averaged."""
    rng = np.random.default_rng(0)
    generated, reference = cloud(120, 16, 0), cloud(150, 16, 1, 1.1, 0.1)
    subsets = [(rng.choice(120, 50, False), rng.choice(150, 50, False)) for _ in range(6)]
    expected = np.mean([unbiased(polynomial, generated[i], reference[j]) for i, j in subsets])
    merged = chunked(KID, [(generated[i], reference[j]) for i, j in subsets])
    assert KID.compute(merged) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric", METRICS, ids=["kid", "mmd"])
def test_merging_is_a_mean_over_all_subsets_in_any_order(metric):
    chunks = [(cloud(10, 3, s), cloud(12, 3, s + 50, 1.0 + s)) for s in range(3)]
    expected = np.mean([value(metric, *chunk) for chunk in chunks])
    for order in ((0, 1, 2), (2, 0, 1)):
        assert metric.compute(chunked(metric, [chunks[i] for i in order])) == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS, ids=["kid", "mmd"])
def test_equal_distributions_scatter_about_nothing(metric):
    found = draws(metric, cloud(200 * 40, 4, 0).reshape(200, 40, 4), cloud(200 * 30, 4, 1).reshape(200, 30, 4))
    assert abs(found.mean()) < 4 * found.std(ddof=1) / math.sqrt(200)
    assert found.min() < 0 < found.max()


def test_mmd_of_gaussians_is_its_closed_form():
    """N(m, 1) in d dimensions: E k over a pair whose difference is N(δ, 2) is (w/(w+4))^(d/2) exp(-δ²/(w+4))."""
    d, shift, count = 2, 1.0, 150
    generated = cloud(count * 60, d, 0, 1.0, shift).reshape(count, 60, d)
    reference = cloud(count * 60, d, 1).reshape(count, 60, d)
    width = 2 * d  # of each reference sample's own within a few per cent
    scale = (width / (width + 4)) ** (d / 2)
    expected = 2 * scale * (1 - np.exp(-d * shift**2 / (width + 4)))
    found = draws(MMD, generated, reference)
    assert abs(found.mean() - expected) < 4 * found.std(ddof=1) / math.sqrt(count) + 0.02 * expected


def test_mmd_does_not_move_with_both_sets_and_scales_with_them():
    a, b = CLOUDS["full rank"]
    assert value(MMD, a * 4, b * 4) == pytest.approx(value(MMD, a, b), rel=1e-9)
    assert value(MMD, a + 512, b + 512) == pytest.approx(value(MMD, a, b), rel=1e-3)  # float32 features themselves


def test_a_reference_that_is_one_point_has_a_kernel_too():
    point = np.ones((5, 2), np.float32)
    assert value(MMD, cloud(6, 2, 0), point) == 1.0  # no two samples are near each other but those of the point
    assert value(MMD, point, point) == 0.0
