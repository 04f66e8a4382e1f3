"""The sliced Wasserstein distance against optimal assignments, quantile functions and closed forms."""

import math

import numpy as np
import pytest
from clouds import CLOUDS, chunked, cloud, grid_points, of, state, value
from scipy import stats
from scipy.optimize import linear_sum_assignment

from madbench.metrics import sliced

SWD = of("swd")


def transport(a, b):
    """Squared W₂ of two sets of numbers by the cheapest assignment, each repeated to one size."""
    size = math.lcm(len(a), len(b))
    a, b = np.repeat(a, size // len(a)), np.repeat(b, size // len(b))
    cost = (a[:, None] - b[None]) ** 2
    return cost[linear_sum_assignment(cost)].mean()


def by_assignment(generated, reference):
    lines = np.float64(sliced.directions(generated.shape[1]))
    pairs = zip((np.float64(generated) @ lines).T, (np.float64(reference) @ lines).T, strict=True)
    return np.mean([transport(a, b) for a, b in pairs])


SETS = {
    "random": (cloud(12, 5, 0), cloud(12, 5, 1, 1.5)),
    "of two sizes": (cloud(12, 5, 0), cloud(18, 5, 1, 1.5)),
    "of sizes without a common factor": (cloud(7, 3, 0), cloud(10, 3, 1)),
    "one against many": (cloud(1, 3, 0), cloud(10, 3, 1)),
    "collapsed": (np.repeat(cloud(1, 4, 0), 9, axis=0), cloud(12, 4, 1)),
    "rank-deficient": (cloud(9, 1, 0) @ cloud(1, 6, 1), cloud(12, 6, 2)),
    "tied and duplicated": (grid_points(0, 15), grid_points(1, 10)),
    "tiny scale": (cloud(8, 3, 0, 1e-6), cloud(8, 3, 1, 1e-6)),
}


@pytest.mark.parametrize("name", SETS)
def test_it_is_the_mean_over_lines_of_the_least_cost_of_transport(name):
    """To 1e-5: positions along the lines are float32, as the features."""
    assert value(SWD, *SETS[name]) == pytest.approx(by_assignment(*SETS[name]), rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(7, 10), (30, 12), (1, 5)])
def test_along_a_line_it_is_between_the_quantile_functions(n, m):
    """For sets that do not overlap ∫ (F⁻¹ - G⁻¹) is SciPy's W₁, and W₂² its square and a variance: a check by W₁."""
    a, b = np.sort(cloud(n, 1, 0)[:, 0].astype(float)), np.sort(cloud(m, 1, 1)[:, 0].astype(float))
    levels = (np.arange(200_000) + 0.5) / 200_000
    quantile = lambda x: x[np.ceil(levels * len(x)).astype(int) - 1]
    (found,) = sliced._transport(a[None], b[None])
    assert found == pytest.approx(np.mean((quantile(a) - quantile(b)) ** 2), rel=1e-4)
    assert found >= stats.wasserstein_distance(a, b) ** 2


def test_a_shift_costs_its_square_along_each_line():
    a = cloud(50, 3, 0)
    shift = np.float32([3, 0, 4])
    along = shift @ np.float64(sliced.directions(3))
    assert value(SWD, a + shift, a) == pytest.approx(np.mean(along**2), rel=1e-5)
    assert np.mean(along**2) == pytest.approx(25 / 3, rel=0.3)  # lines of all directions alike


def test_lines_are_of_length_one_and_always_the_same():
    lines = sliced.directions(6)
    assert lines.shape == (6, sliced.DIRECTIONS)
    np.testing.assert_allclose(np.linalg.norm(lines, axis=0), 1, rtol=1e-6)
    np.testing.assert_array_equal(lines, sliced.directions(6))
    assert np.linalg.matrix_rank(lines) == 6


@pytest.mark.parametrize("name", CLOUDS)
def test_equal_sets_are_at_no_distance(name):
    a, b = CLOUDS[name]
    assert value(SWD, a, a) == 0
    assert value(SWD, a, b) > 0


def test_chunks_of_both_sets_in_any_sizes_merge_to_the_whole():
    a, b = cloud(23, 4, 0), cloud(31, 4, 1)
    merged = chunked(SWD, [(a[:5], b[:20]), (a[5:6], b[20:29]), (a[6:], b[29:])])
    assert SWD.compute(merged) == pytest.approx(value(SWD, a, b), rel=1e-6)
    assert state(SWD, a, b).generated.shape == (sliced.DIRECTIONS, 23)
