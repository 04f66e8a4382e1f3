"""Metrics against brute force and closed forms, and the feature extractors they look through."""

import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from madbench import data
from madbench.metrics import METRICS, Evaluator, features, select
from madbench.metrics.features import lenet as lenet_module
from madbench.metrics.manifold import K

FD, PRECISION, RECALL = METRICS["fd"], METRICS["precision"], METRICS["recall"]


def state(metric, generated, reference):
    """The metric's state as `experiment` gets it: from float32 features, with 64-bit types enabled, as NumPy."""
    with jax.enable_x64(True):
        a, b = jnp.asarray(generated, jnp.float32), jnp.asarray(reference, jnp.float32)
        return jax.tree.map(np.asarray, jax.jit(metric.state)(a, b))


def value(metric, generated, reference):
    return metric.compute(state(metric, generated, reference))


def cloud(n, d, seed, scale=1.0, shift=0.0):
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale + shift).astype(np.float32)


# ----------------------------------------------------------------------------------------------- Fréchet distance


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


def low_rank(n, d, rank, seed):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + 3).astype(np.float32)


CLOUDS = {
    "one dimension": (cloud(50, 1, 0), cloud(60, 1, 1, 2.0, 1.0)),
    "full rank": (cloud(300, 8, 0), cloud(200, 8, 1, 1.5, 0.3)),
    "correlated": (cloud(300, 8, 0) @ cloud(8, 8, 5), cloud(300, 8, 1)),
    "far from the origin": (cloud(100, 4, 0, 1.0, 1000.0), cloud(100, 4, 1, 1.1, 1000.5)),
    "both of low rank": (low_rank(100, 12, 3, 0), low_rank(100, 12, 4, 1)),
    "one of low rank": (low_rank(100, 12, 2, 0), cloud(100, 12, 1)),
    "fewer samples than dimensions": (cloud(10, 30, 0), cloud(12, 30, 1, 1.2)),
    "two samples": (cloud(2, 5, 0), cloud(2, 5, 1)),
    "collapsed to a point": (np.ones((20, 6), np.float32), cloud(40, 6, 1)),
    "tiny scale": (cloud(100, 5, 0, 1e-6), cloud(100, 5, 1, 2e-6)),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_the_frechet_distance_is_that_of_the_factored_form(name):
    a, b = CLOUDS[name]
    assert value(FD, a, b) == pytest.approx(frechet_by_factors(a, b), rel=1e-6)


@pytest.mark.parametrize("name", ["one dimension", "full rank", "correlated"])
def test_the_frechet_distance_is_that_of_a_matrix_square_root_where_that_exists(name):
    a, b = CLOUDS[name]
    if a.shape[1] > 1:
        assert value(FD, a, b) == pytest.approx(frechet_by_sqrtm(a, b), rel=1e-6)
    else:
        s, t = np.float64(a).std(ddof=1), np.float64(b).std(ddof=1)
        expected = (np.float64(a).mean() - np.float64(b).mean()) ** 2 + (s - t) ** 2
        assert value(FD, a, b) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["full rank", "one of low rank", "two samples"])
def test_the_frechet_distance_is_symmetric(name):
    a, b = CLOUDS[name]
    assert value(FD, a, b) == pytest.approx(value(FD, b, a), rel=1e-6)


@pytest.mark.parametrize("name", CLOUDS)
def test_equal_sets_are_at_no_distance(name):
    a, _ = CLOUDS[name]
    assert 0 <= value(FD, a, a) <= 1e-6 * np.trace(np.atleast_2d(np.cov(np.float64(a).T)))


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
def test_merging_frechet_states_equals_the_whole(name):
    a, b = CLOUDS[name]
    whole = state(FD, a, b)
    merged = state(FD, a[:7], b)
    for chunk in (a[7:8], a[8:60], a[60:]):
        merged = FD.merge(merged, state(FD, chunk, b))
    for x, y in zip(jax.tree.leaves(merged), jax.tree.leaves(whole), strict=True):
        assert np.asarray(x).dtype == np.float64
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12 * np.abs(y).max())
    assert FD.compute(merged) == pytest.approx(FD.compute(whole), rel=1e-6)


def test_the_frechet_state_is_in_double_precision():
    """The variance of 1000 ± 0.001 is lost in float32, whose resolution there is 6e-5, when summed naively."""
    a = (1000 + 0.001 * np.random.default_rng(0).normal(size=(400, 1))).astype(np.float32)
    (_, _, scatter), _ = state(FD, a, a)
    assert float(scatter[0, 0]) == pytest.approx(np.float64(a).var() * 400, rel=1e-9)


# ---------------------------------------------------------------------------------------------- precision, recall


def share_inside(queries, points, k=5):
    """By loops: a query is inside if it is within the k-th neighbour's distance (others only) of any point."""
    queries, points = np.float64(queries), np.float64(points)
    radii = []
    for i, p in enumerate(points):
        others = sorted(float(np.sum((p - q) ** 2)) for j, q in enumerate(points) if j != i)
        radii.append(others[k - 1])
    hits = 0
    for q in queries:
        hits += any(float(np.sum((q - p) ** 2)) <= r for p, r in zip(points, radii, strict=True))
    return hits / len(queries)


def grid_points(seed, n, side=4):
    """Whole-number points: distances are exact, and many of them tie."""
    return np.random.default_rng(seed).integers(0, side, size=(n, 2)).astype(np.float32)


PAIRS = {
    "overlapping": (cloud(40, 3, 0), cloud(50, 3, 1, 0.7, 0.5)),
    "one dimension": (cloud(30, 1, 0), cloud(30, 1, 1, 1.0, 2.0)),
    "apart": (cloud(30, 3, 0), cloud(30, 3, 1, 1.0, 100.0)),
    "many dimensions": (cloud(30, 40, 0), cloud(35, 40, 1, 0.9)),
    "ties and duplicates": (grid_points(0, 40), grid_points(1, 30, side=6)),
    "smallest sets": (cloud(6, 2, 0), cloud(6, 2, 1)),
    "collapsed against a cloud": (np.repeat(cloud(1, 3, 0), 30, 0), cloud(40, 3, 1)),
    "two points against a cloud": (np.repeat(cloud(2, 3, 0), 15, 0), cloud(40, 3, 1)),
    "tiny and far from the origin": (cloud(30, 2, 0, 0.01, 50.0), cloud(30, 2, 1, 0.01, 50.01)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_precision_is_the_share_of_generated_points_inside_the_reference(name):
    generated, reference = PAIRS[name]
    assert value(PRECISION, generated, reference) == share_inside(generated, reference)


@pytest.mark.parametrize("name", PAIRS)
def test_recall_is_the_share_of_reference_points_inside_the_generated(name):
    generated, reference = PAIRS[name]
    assert value(RECALL, generated, reference) == share_inside(reference, generated)


def test_the_pairs_above_are_not_all_or_nothing():
    shares = [share_inside(*PAIRS[name]) for name in ("overlapping", "many dimensions")]
    shares += [share_inside(*PAIRS[name][::-1]) for name in ("ties and duplicates", "one dimension")]
    assert all(0 < share < 1 for share in shares)


def test_five_neighbours_without_the_point_itself_and_the_boundary_counts():
    """Points 0, 1, …, 5: the 5th other neighbour of 0 and of 5 is at 5, so the manifold is exactly [-5, 10]."""
    assert K == 5
    points = np.arange(6, dtype=np.float32)[:, None]
    for query, expected in ((-5.0, 1.0), (10.0, 1.0), (-5.001, 0.0), (10.001, 0.0)):
        assert value(PRECISION, [[query]], points) == expected, query


def test_duplicates_of_a_point_count_as_its_neighbours():
    """Six equal points have radius 0: only the point itself is inside. Five leave a positive radius."""
    line = np.asarray([[0.0]] * 6 + [[100.0 + 10 * i] for i in range(6)], np.float32)
    assert value(PRECISION, [[0.0]], line) == 1.0
    assert value(PRECISION, [[1e-3]], line) == 0.0
    assert value(PRECISION, [[1e-3]], line[1:]) == 1.0


def test_shrinking_the_generated_cloud_keeps_precision_and_loses_recall():
    """The orientation: swapped, the two numbers would trade places."""
    real = cloud(300, 2, 0)
    shrunk = cloud(300, 2, 1) * np.float32(0.1)
    assert value(PRECISION, shrunk, real) > 0.95
    assert value(RECALL, shrunk, real) < 0.2


def test_spreading_the_generated_cloud_keeps_recall_and_loses_precision():
    real, spread = cloud(300, 2, 0), cloud(300, 2, 1) * np.float32(10)
    assert value(PRECISION, spread, real) < 0.2
    assert value(RECALL, spread, real) > 0.95


@pytest.mark.parametrize("name", PAIRS)
def test_equal_sets_have_precision_and_recall_one(name):
    points, _ = PAIRS[name]
    assert value(PRECISION, points, points) == 1.0
    assert value(RECALL, points, points) == 1.0


def test_a_generator_collapsed_to_one_real_point_has_all_precision_and_no_recall():
    real = cloud(200, 4, 0)
    collapsed = np.repeat(real[:1], 200, 0)
    assert value(PRECISION, collapsed, real) == 1.0
    assert value(RECALL, collapsed, real) == 1 / 200  # the point itself


def test_merging_shares_over_queries_equals_the_whole():
    generated, reference = PAIRS["overlapping"]
    precision = PRECISION.merge(state(PRECISION, generated[:9], reference), state(PRECISION, generated[9:], reference))
    recall = RECALL.merge(state(RECALL, generated, reference[:9]), state(RECALL, generated, reference[9:]))
    assert PRECISION.compute(precision) == share_inside(generated, reference)
    assert RECALL.compute(recall) == share_inside(reference, generated)


# ------------------------------------------------------------------------------------------- registry, evaluator


def test_metrics_say_what_they_are():
    assert (FD.direction, PRECISION.direction, RECALL.direction) == ("lower", "higher", "higher")
    assert (FD.min_samples, PRECISION.min_samples, RECALL.min_samples) == (2, 6, 6)
    for name, metric in METRICS.items():
        assert metric.name == name
        assert type(metric.version) is int
        assert metric.version >= 1
        assert metric.cite


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "is empty"), (("fd", "fid"), "unknown metric 'fid'"), (("fd", "recall", "fd"), "'fd' is named twice")],
)
def test_bad_selections_are_refused_in_one_line(names, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        select(names)
    assert "\n" not in str(caught.value)


def evaluate(names, generated, reference):
    evaluator = Evaluator(select(names))
    with jax.enable_x64(True):
        states = jax.jit(evaluator.states)(jnp.asarray(generated), jnp.asarray(reference))
    return evaluator.compute(states)


def test_the_evaluator_gives_each_metric_its_own_value():
    generated, reference = PAIRS["overlapping"]
    scores = evaluate(("recall", "fd", "precision"), generated, reference)
    assert list(scores) == ["recall", "fd", "precision"]
    assert scores["precision"] == share_inside(generated, reference)
    assert scores["recall"] == share_inside(reference, generated)
    assert scores["fd"] == pytest.approx(frechet_by_factors(generated, reference), rel=1e-6)
    assert all(type(v) is float for v in scores.values())
    assert Evaluator(select(("fd",))).versions == {"fd": METRICS["fd"].version}


def test_the_evaluator_is_the_same_under_vmap():
    generated = np.stack([PAIRS["overlapping"][0], cloud(40, 3, 7, 3.0)])
    reference = PAIRS["overlapping"][1]
    evaluator = Evaluator(select(tuple(METRICS)))
    with jax.enable_x64(True):
        states = jax.jit(jax.vmap(evaluator.states, in_axes=(0, None)))(generated, jnp.asarray(reference))
    for i in range(2):
        together = evaluator.compute(jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], states))
        assert together == pytest.approx(evaluate(tuple(METRICS), generated[i], reference), rel=1e-9)


def test_samples_that_are_not_finite_have_no_scores():
    generated, reference = PAIRS["overlapping"]
    generated = generated.copy()
    generated[3, 1] = np.nan
    assert evaluate(("fd", "precision"), generated, reference) == {"fd": None, "precision": None}


@pytest.mark.parametrize("name", ["precision", "recall"])
def test_samples_that_are_not_finite_have_no_score_in_any_metric_alone(name):
    generated, reference = PAIRS["overlapping"]
    assert evaluate((name,), np.full_like(generated, np.nan), reference) == {name: None}


# ------------------------------------------------------------------------------------------------------- features


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def lenet(digits, feature_cache):
    return features.build("lenet", digits.pool, 10, feature_cache)


def weights_equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def forbid_training(monkeypatch):
    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(lenet_module, "train", refuse)


def train_at_once(monkeypatch):
    """Weights from a formula of the data and the recipe instead of training, for tests of the cache alone."""

    def train(x, y, num_classes):
        fill = np.float32(np.dot(y, np.arange(len(y))) % 1000 + lenet_module.RECIPE["steps"])
        shapes = jax.eval_shape(lenet_module.LeNet(num_classes).init, jax.random.key(0), x[:1])["params"]
        return jax.tree.map(lambda leaf: np.full(leaf.shape, fill), shapes)

    monkeypatch.setattr(lenet_module, "train", train)


def accuracy(extractor, samples):
    last = extractor.params["Dense_4"]
    logits = extractor(samples.x) @ last["kernel"] + last["bias"]
    return float(jnp.mean(jnp.argmax(logits, axis=1) == samples.y))


def test_raw_features_are_the_flattened_samples():
    extractor = features.build("raw", None, 0, "unused")
    x = jnp.arange(24, dtype=jnp.float32).reshape(2, 2, 3, 2)
    np.testing.assert_array_equal(extractor(x), np.arange(24).reshape(2, 12))
    assert extractor.label == "raw-1"
    assert extractor(x).dtype == jnp.float32


def test_the_lenet_knows_the_digits_it_was_never_shown(lenet, digits):
    assert accuracy(lenet, digits.reference) > 0.95


def test_lenet_features_are_84_numbers_a_sample(lenet, digits):
    seen = jax.jit(lambda f, x: f(x))(lenet, digits.reference.x[:5])
    assert seen.shape == (5, 84)
    assert seen.dtype == jnp.float32
    np.testing.assert_allclose(seen, lenet(digits.reference.x[:7])[:5], rtol=1e-5, atol=1e-5)
    assert float(jnp.std(seen)) > 0


def test_a_second_build_loads_the_same_weights_without_training(lenet, digits, feature_cache, monkeypatch):
    forbid_training(monkeypatch)
    again = features.build("lenet", digits.pool, 10, feature_cache)
    assert again.label == lenet.label
    assert weights_equal(again.params, lenet.params)


def test_training_again_gives_the_same_label(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(lenet_module.RECIPE, "steps", 5)
    labels = {features.build("lenet", digits.pool, 10, str(tmp_path / cache)).label for cache in "ab"}
    assert len(labels) == 1
    name, _, weights = labels.pop().partition(":")
    assert name == "lenet-1"
    assert len(weights) == 12
    assert set(weights) <= set("0123456789abcdef")


def test_other_data_or_another_recipe_is_another_file_and_another_label(digits, tmp_path, monkeypatch):
    train_at_once(monkeypatch)
    half = jax.tree.map(lambda a: a[:600], digits.pool)
    swapped = digits.pool._replace(y=(digits.pool.y + 1) % 10)
    labels = {features.build("lenet", pool, 10, str(tmp_path)).label for pool in (digits.pool, half, swapped)}
    monkeypatch.setitem(lenet_module.RECIPE, "steps", 4)
    labels.add(features.build("lenet", digits.pool, 10, str(tmp_path)).label)
    assert len(labels) == 4
    assert len(list(tmp_path.iterdir())) == 4  # and no drafts are left behind


DAMAGE = {
    "empty": lambda whole: b"",
    "not an archive": lambda whole: b"something else",
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "one byte flipped": lambda whole: whole[:3000] + bytes([whole[3000] ^ 255]) + whole[3001:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_file_is_trained_anew(damage, digits, tmp_path, monkeypatch):
    train_at_once(monkeypatch)
    first = features.build("lenet", digits.pool, 10, str(tmp_path))
    (path,) = pathlib.Path(tmp_path).iterdir()
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    again = features.build("lenet", digits.pool, 10, str(tmp_path))
    assert again.label == first.label
    forbid_training(monkeypatch)
    assert features.build("lenet", digits.pool, 10, str(tmp_path)).label == first.label


def test_a_cache_file_without_all_layers_is_trained_anew(digits, tmp_path, monkeypatch):
    train_at_once(monkeypatch)
    first = features.build("lenet", digits.pool, 10, str(tmp_path))
    (path,) = pathlib.Path(tmp_path).iterdir()
    with open(path, "wb") as file:
        np.savez(file, **{"Dense_0/kernel": np.zeros((9, 16), np.float32)})
    assert features.build("lenet", digits.pool, 10, str(tmp_path)).label == first.label


@pytest.mark.parametrize("shape", [(4, 4, 1), (5, 7, 3), (28, 28, 1), (32, 32, 3)])
def test_the_lenet_takes_small_images_of_any_side(shape):
    net = lenet_module.LeNet(10)
    x = jnp.zeros((2, *shape))
    seen, logits = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x)[0], x)
    assert seen.shape == (2, 84)
    assert logits.shape == (2, 10)
    features.check("lenet", shape, 10)


@pytest.mark.parametrize(
    ("name", "shape", "num_classes", "message"),
    [
        ("vgg", (8, 8, 1), 10, "unknown features 'vgg'"),
        ("lenet", (100,), 10, "sees images of 4x4 to 32x32, not (100,)"),
        ("lenet", (3, 8, 1), 10, "sees images"),
        ("lenet", (8, 33, 1), 10, "sees images"),
        ("lenet", (8, 8, 1), 0, "has none"),
    ],
)
def test_features_that_cannot_see_the_data_are_refused_in_one_line(name, shape, num_classes, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        features.check(name, shape, num_classes)
    assert "\n" not in str(caught.value)


def test_raw_features_take_any_shape():
    features.check("raw", (100,), 0)
    features.check("raw", (64, 64, 3), 10)
