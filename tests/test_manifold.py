"""Precision, recall, density and coverage against loops, against prdc, and against their expectations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import PAIRS, SCREENED, chunked, cloud, draws, grid_points, of, radii, scores, squared, take, value
from prdc import compute_prdc

from madbench.metrics import Comparison, neighbours
from madbench.metrics.comparison import K

PRECISION, RECALL, DENSITY, COVERAGE = METRICS = tuple(of(n) for n in ("precision", "recall", "density", "coverage"))
NAMES = tuple(metric.name for metric in METRICS)
both = pytest.mark.parametrize("engine", [neighbours, SCREENED], ids=["traced", "screened"])
every_pair = pytest.mark.parametrize("name", PAIRS)


def by_loops(generated, reference, k=5):
    """The four definitions, sample by sample. A radius is the distance to the k-th other."""
    of_generated, of_reference, distance = radii(generated, k), radii(reference, k), squared(generated, reference)
    n, m = distance.shape
    return {
        "precision": sum(any(distance[i, j] <= of_reference[j] for j in range(m)) for i in range(n)) / n,
        "recall": sum(any(distance[i, j] <= of_generated[i] for i in range(n)) for j in range(m)) / m,
        "density": sum(distance[i, j] < of_reference[j] for i in range(n) for j in range(m)) / (k * n),
        "coverage": sum(any(distance[i, j] < of_reference[j] for i in range(n)) for j in range(m)) / m,
    }


@both
@every_pair
def test_they_are_their_definitions(engine, name):
    assert scores(METRICS, *PAIRS[name], engine=engine) == pytest.approx(by_loops(*PAIRS[name]), rel=1e-12)


def test_the_pairs_are_not_all_or_nothing():
    all_found = [by_loops(*pair) for pair in PAIRS.values()]
    for metric in NAMES:
        found = {each[metric] for each in all_found}
        assert len([v for v in found if v not in (0, 1)]) >= 4, metric
        assert 0 in found


# ---------------------------------------------------------------------------------------------------------- prdc

# prdc takes ‖a‖² + ‖b‖² - 2a·b, which is exact in whole numbers and in nothing else: elsewhere equal points are at a
# distance, by rounding, and the strict comparison with a radius of 0 falls as it likes. So whatever is duplicated or
# collapsed here is whole. It gets float64, as scikit-learn rounds distances of float32 to float32.
WHOLE = np.asarray([[3, -1, 2, 7]])
AGAINST_PRDC = {
    "random": (cloud(60, 4, 0), cloud(50, 4, 1, 0.8, 0.3)),
    "random, many dimensions": (cloud(60, 64, 0), cloud(50, 64, 1)),
    "random, far apart": (cloud(60, 4, 0), cloud(50, 4, 1, 1.0, 50.0)),
    "tied": (grid_points(0, 60, side=3, d=4), grid_points(1, 50, side=4, d=4)),
    "collapsed to a point": (np.repeat(WHOLE, 60, axis=0), grid_points(1, 50, side=8, d=4)),
    "collapsed, inside out": (grid_points(1, 60, side=8, d=4), np.repeat(WHOLE, 50, axis=0)),
    "rank-deficient": (
        grid_points(0, 60, side=9, d=1) @ WHOLE,
        grid_points(1, 50, side=9, d=2) @ grid_points(2, 2, d=4),
    ),
    "duplicated": (
        np.repeat(grid_points(0, 10, side=9, d=4), 6, axis=0),
        np.repeat(grid_points(1, 25, side=9, d=4), 2, axis=0),
    ),
    "copies of the reference": (
        np.tile(grid_points(1, 50, side=9, d=4)[::5], (6, 1)),
        grid_points(1, 50, side=9, d=4),
    ),
    "tiny": (cloud(7, 4, 0), cloud(7, 4, 1)),
    "tiny and tied": (grid_points(0, 7, side=2, d=4), grid_points(1, 7, side=2, d=4)),
}


@both
@pytest.mark.parametrize("name", AGAINST_PRDC)
def test_they_are_prdcs(engine, name):
    """Density and coverage are. Precision and recall count boundaries in, where prdc's `<` leaves them out.

    Our own counts with `<` are therefore compared: the open balls of the reference for precision, and, sides swapped,
    those of the generated samples for recall.
    """
    generated, reference = (np.asarray(x, np.float32) for x in AGAINST_PRDC[name])
    theirs = compute_prdc(np.float64(reference), np.float64(generated), nearest_k=K)
    ours = scores(METRICS, generated, reference, engine=engine)
    strict = {"precision": strictly(generated, reference, engine), "recall": strictly(reference, generated, engine)}
    assert ours["density"] == pytest.approx(theirs["density"], rel=1e-12)
    assert ours["coverage"] == pytest.approx(theirs["coverage"], rel=1e-12)
    assert strict["precision"] == pytest.approx(theirs["precision"], rel=1e-12)
    assert strict["recall"] == pytest.approx(theirs["recall"], rel=1e-12)
    if name.startswith("random") or name == "tiny":  # no distance is another's radius
        assert (ours["precision"], ours["recall"]) == (strict["precision"], strict["recall"])
    else:
        assert ours["precision"] >= strict["precision"]
        assert ours["recall"] >= strict["recall"]


def strictly(queries, points, engine):
    """Share of queries in any open ball of the points."""
    with jax.enable_x64(True):
        if engine is neighbours:
            return np.asarray(open_balls(jnp.asarray(queries), jnp.asarray(points))).mean()
        return (Comparison(queries, points, engine=engine).cross.open > 0).mean()


@jax.jit
def open_balls(queries, points):
    return Comparison(queries, points).cross.open > 0


def test_some_of_these_tie():
    """Where boundaries make a difference between `<` and `<=`, that is."""
    generated, reference = AGAINST_PRDC["collapsed to a point"]
    assert strictly(reference, generated, SCREENED) == 0  # balls of radius 0 are empty without their boundary
    for name in ("tied", "tiny and tied", "duplicated", "copies of the reference"):
        distance, radius = squared(*AGAINST_PRDC[name]), radii(AGAINST_PRDC[name][1])
        assert (distance <= radius).sum() > (distance < radius).sum(), name


# -------------------------------------------------------------------------------------------------- known answers


def test_five_neighbours_without_the_point_itself_and_the_boundary_counts():
    """Points 0, 1, …, 5: the 5th other neighbour of 0 and of 5 is at 5, so the manifold is exactly [-5, 10]."""
    assert K == 5
    points = np.arange(6, dtype=np.float32)[:, None]
    for query, expected in ((-5.0, 1.0), (10.0, 1.0), (-5.001, 0.0), (10.001, 0.0)):
        assert share_inside([[query]], points) == expected, query


def share_inside(queries, points):
    """Precision of fewer generated samples than it asks for."""
    with jax.enable_x64(True):
        points = np.asarray(points, np.float32)
        found = neighbours.cross(np.asarray(queries, np.float32), points, np.zeros(len(queries)), radii(points))
        return float(np.mean(np.asarray(found.closed) > 0))


def test_duplicates_of_a_point_count_as_its_neighbours():
    """Six equal points have radius 0: only the point itself is inside. Five leave a positive radius."""
    line = np.asarray([[0.0]] * 6 + [[100.0 + 10 * i] for i in range(6)], np.float32)
    assert share_inside([[0.0]], line) == 1.0
    assert share_inside([[1e-3]], line) == 0.0
    assert share_inside([[1e-3]], line[1:]) == 1.0


def test_shrinking_the_generated_cloud_keeps_precision_and_loses_recall():
    """The orientation: swapped, the two numbers would trade places. Coverage goes with recall."""
    real = cloud(300, 2, 0)
    found = scores(METRICS, cloud(300, 2, 1, 0.1), real)
    assert found["precision"] > 0.95
    assert found["recall"] < 0.2
    assert found["coverage"] < 0.2


def test_spreading_the_generated_cloud_keeps_recall_and_loses_precision():
    real = cloud(300, 2, 0)
    found = scores(METRICS, cloud(300, 2, 1, 10.0), real)
    assert found["precision"] < 0.2
    assert found["recall"] > 0.95
    assert found["density"] < 0.2


@every_pair
def test_equal_sets_have_precision_and_recall_one(name):
    points, _ = PAIRS[name]
    assert scores((PRECISION, RECALL), points, points, engine=SCREENED) == {"precision": 1.0, "recall": 1.0}


def test_copies_of_the_reference_have_density_one_exactly():
    """Each open ball holds its own centre and k - 1 others: the k-th neighbour lies on the boundary."""
    real = cloud(50, 3, 0)
    assert value(DENSITY, real[::-1], real, engine=SCREENED) == 1.0


def test_a_generator_collapsed_to_one_real_point_has_all_precision_and_no_recall():
    real = cloud(300, 2, 0)
    found = scores(METRICS, np.repeat(real[:1], 300, 0), real)
    assert found["precision"] == 1.0
    assert found["recall"] == 1 / 300  # the point itself
    assert found["coverage"] < 0.1


@pytest.mark.parametrize(("n", "m"), [(10, 30), (8, 60)])
def test_equal_distributions_have_density_one_and_the_known_coverage(n, m):
    """For n generated and m reference samples, whatever the distribution.

    Of the n + m - 1 others of a reference sample, any is as likely as any other to be among its k nearest. It is not
    covered where the k nearest are all real: C(m-1, k)/C(n+m-1, k) = Π_{i=1..k} (m-i)/(n+m-i). And a generated sample
    lies in a reference sample's ball with probability k/m, so in k of the m balls on average.
    """
    count = 600
    generated, reference = cloud(count * n, 2, 0).reshape(count, n, 2), cloud(count * m, 2, 1).reshape(count, m, 2)
    coverage = 1 - math.prod((m - i) / (n + m - i) for i in range(1, K + 1))
    for metric, expected in ((DENSITY, 1.0), (COVERAGE, coverage)):
        found = draws(metric, generated, reference)
        assert abs(found.mean() - expected) < 4 * found.std(ddof=1) / math.sqrt(count), metric.name
    other = 1 - math.prod((n - i) / (n + m - i) for i in range(1, K + 1))
    assert abs(coverage - other) > 0.1  # so that swapped sides would be seen


def test_chunks_of_what_is_counted_equal_the_whole():
    """Precision and density count generated samples, recall reference samples, whose own radii they do not read."""
    generated, reference = PAIRS["overlapping"]
    expected = by_loops(generated, reference)
    chunks = {
        "precision": [(generated[:9], reference), (generated[9:], reference)],
        "recall": [(generated, reference[:9]), (generated, reference[9:])],
    }
    chunks["density"] = chunks["precision"]
    for name, parts in chunks.items():
        merged = of(name).compute(chunked(of(name), parts, engine=SCREENED))
        assert merged == pytest.approx(expected[name]), name


def test_merged_coverage_is_the_mean_over_subsets_of_the_reference():
    generated, reference = PAIRS["overlapping"]
    parts = (reference[:9], reference[9:])
    merged = COVERAGE.compute(chunked(COVERAGE, [(generated, part) for part in parts], engine=SCREENED))
    expected = sum(len(part) * by_loops(generated, part)["coverage"] for part in parts) / len(reference)
    assert merged == pytest.approx(expected)
    assert merged != by_loops(generated, reference)["coverage"]


def test_states_are_hits_and_their_number():
    states = take(METRICS, *PAIRS["overlapping"])["states"]
    for metric, total in ((PRECISION, 40), (RECALL, 37), (DENSITY, 40 * K), (COVERAGE, 37)):
        found = states[metric.name]
        assert found.total == total
        assert found.hits.dtype == found.total.dtype == np.float64
        assert metric.compute(metric.merge(found, found)) == metric.compute(found)
