"""Both engines of nearest neighbours against loops over NumPy's differences, on sets made to mislead them."""

import collections
import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import PAIRS, SCREENED, cloud, clusters, grid_points, radii, squared

from madbench.metrics import candidates, neighbours, screened, tiles
from madbench.metrics.candidates import NOBODY

ENGINES = {"traced": neighbours, "screened": SCREENED}
both = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)

# Beside PAIRS: what float32, or centring, or blocks could get wrong.
HARD = {
    "copies of the reference": (np.repeat(cloud(37, 3, 1)[[3, 9, 20, 1]], 10, axis=0), cloud(37, 3, 1)),
    "many duplicates of few": (grid_points(0, 40, side=2, d=3), grid_points(1, 37, side=2, d=3)),
    "whole numbers in many dimensions": (grid_points(0, 40, side=3, d=40), grid_points(1, 37, side=3, d=40)),
    "tight clusters far apart": (clusters(40, 3, 0, 3, 1e-5), clusters(37, 3, 1, 3, 1e-5)),
    "far from the origin": (cloud(40, 3, 0, 1e-3, 1000.0), cloud(37, 3, 1, 1e-3, 1000.0)),
    "far from each other": (cloud(40, 3, 0), cloud(37, 3, 1, 1.0, 1e5)),
    "of two sizes": (cloud(40, 3, 0, 1e-3), cloud(37, 3, 1, 1e3)),
    "too small for squares in float32": (cloud(40, 3, 0, 1e-25), cloud(37, 3, 1, 1e-25)),
    "too small for some squares": (cloud(40, 3, 0, 1e-19), cloud(37, 3, 1, 1e-19)),
    "too large for squares in float32": (cloud(40, 3, 0, 1e25), cloud(37, 3, 1, 1e25)),
    "one sample has gone to infinity, nearly": (
        np.concatenate([cloud(39, 3, 0), cloud(1, 3, 2, 1e37)]),
        np.concatenate([cloud(1, 3, 3, 1e37), cloud(36, 3, 1)]),
    ),
}
SETS = PAIRS | HARD
every_set = pytest.mark.parametrize("name", SETS)
# Two distances that are equal in the reals, other than by being 0 or whole: for the traced engine rounding decides.
TIED = {"copies of the reference"}


@functools.cache
def truth(name):
    """(radii of a, radii of b, squared distances) by the differences."""
    a, b = SETS[name]
    return radii(a), radii(b), squared(a, b)


def run(engine, function, *arrays, k=None, size=None):
    """As jobs call it: traced in one program, or on the host; NumPy either way."""
    settings = {"k": k} if function == "within" else {}
    settings |= {} if size is None else {"size": np.int32(size)}
    with jax.enable_x64(True):
        if engine is SCREENED:
            return getattr(engine, function)(*arrays, **settings)
        return jax.tree.map(
            np.asarray, program(function, neighbours.BLOCK)(*(jnp.asarray(x) for x in arrays), **settings)
        )


@functools.cache
def program(function, block):
    """One for all tests, and for each size of a block."""
    static = ("k",) if function == "within" else ()
    return jax.jit(
        lambda *arrays, **settings: getattr(neighbours, function)(*arrays, **settings), static_argnames=static
    )


def check(engine, found, expected, points):
    """To rounding: of the difference where that is taken; of the norms, from the centre, in the traced engine."""
    norms = np.median(squared(points, np.median(points, axis=0)[None]))
    tolerance = {"rtol": 1e-12} if engine is SCREENED else {"rtol": 1e-9, "atol": 1e-14 * norms}
    np.testing.assert_allclose(found, expected, **tolerance)


@both
@every_set
def test_radii_are_distances_to_the_fifth_other(engine, name):
    for x, expected in zip(SETS[name], truth(name)[:2], strict=True):
        check(engine, run(engine, "within", x, k=5), expected, x)


@both
@every_set
def test_the_nearest_is_the_nearest(engine, name):
    a, b = SETS[name]
    index, found = run(engine, "nearest", a, b)
    distance = truth(name)[2]
    assert index.dtype == np.int32
    check(engine, found, distance.min(axis=1), b)
    check(engine, distance[np.arange(len(a)), index], distance.min(axis=1), b)
    # Of equals the first; but of copies the screened engine takes any, and in clusters rounding moves the traced one.
    certain = distance.min(axis=1) > 0 if engine is SCREENED else np.full(len(a), "clusters" not in name)
    np.testing.assert_array_equal(index[certain], distance.argmin(axis=1)[certain])


@both
@every_set
def test_balls_hold_what_lies_in_them(engine, name):
    """By the engine's own radii, so that both sides of a tie are its own."""
    a, b = SETS[name]
    of_a, of_b, distance = truth(name)
    found = run(engine, "cross", a, b, *(run(engine, "within", x, k=5) for x in (a, b)))
    if engine is neighbours and name in TIED:  # rounding decides ties, and nothing else
        least, most = (
            (
                (distance < factor * of_b).sum(axis=1),
                (distance < factor * of_b).any(axis=0),
                (distance <= factor * of_a[:, None]).any(axis=0),
            )
            for factor in (1 - 1e-9, 1 + 1e-9)
        )
        assert (least[0] < most[0]).any()
        for counts in (found.open, found.closed):
            assert (least[0] <= counts).all()
            assert (counts <= most[0]).all()
        for which, hit in ((1, found.covered), (2, found.reached)):
            assert not (least[which] & ~hit).any()
            assert not (hit & ~most[which]).any()
        return
    np.testing.assert_array_equal(found.closed, (distance <= of_b).sum(axis=1))
    np.testing.assert_array_equal(found.open, (distance < of_b).sum(axis=1))
    np.testing.assert_array_equal(found.covered, (distance < of_b).any(axis=0))
    np.testing.assert_array_equal(found.reached, (distance <= of_a[:, None]).any(axis=0))
    assert found.closed.dtype == found.open.dtype == np.int32


def test_the_sets_tie_and_do_not():
    """The balls' boundaries are met, else a strict comparison could not be told from a loose one."""
    for name in ("ties and duplicates", "more ties", "whole numbers in many dimensions", "copies of the reference"):
        _, of_b, distance = truth(name)
        assert ((distance <= of_b).sum(axis=1) > (distance < of_b).sum(axis=1)).any(), name


@both
@pytest.mark.parametrize("k", [1, 8])
def test_any_rank_with_ties_counted_one_by_one(engine, k):
    for points in (grid_points(3, 40, side=3, d=3), np.zeros((40, 3), np.float32)):
        np.testing.assert_allclose(run(engine, "within", points, k=k), radii(points, k), rtol=1e-12)


GARBAGE = {"zeros": 0.0, "copies": None, "far": 1e30}


@both
@pytest.mark.parametrize("garbage", GARBAGE)
def test_padding_is_nobodys_neighbour(engine, garbage):
    points, queries = cloud(24, 3, 0), cloud(37, 3, 1)
    fill = queries[:16] if garbage == "copies" else np.full((16, 3), GARBAGE[garbage], np.float32)
    padded = np.concatenate([points, fill])
    np.testing.assert_allclose(run(engine, "within", padded, k=5, size=24)[:24], radii(points), rtol=1e-9)
    index, found = run(engine, "nearest", queries, padded, size=24)
    np.testing.assert_array_equal(index, squared(queries, points).argmin(axis=1))
    np.testing.assert_allclose(found, squared(queries, points).min(axis=1), rtol=1e-9)


@both
def test_who_has_no_fifth_other_has_no_radius(engine):
    padded = np.concatenate([cloud(4, 3, 0), np.zeros((36, 3), np.float32)])
    assert np.isinf(run(engine, "within", padded, k=5, size=4)[:4]).all()
    np.testing.assert_allclose(run(engine, "within", padded, k=3, size=4)[:4], radii(padded[:4], 3), rtol=1e-9)


@both
def test_equal_points_are_at_no_distance_in_thousands_of_dimensions(engine):
    """d·2⁻⁵³ exceeds the threshold of the traced engine in the worst case; rounding is not that bad."""
    few = cloud(8, 3072, 0, 1.0, 0.5)
    points = np.repeat(few, 7, axis=0)[np.random.default_rng(0).permutation(56)]
    assert not run(engine, "within", points, k=5).any()
    assert not run(engine, "nearest", few, points)[1].any()


# ------------------------------------------------------------------------------------------------------ traced


@pytest.mark.parametrize("block", [1, 41, 100])
def test_the_traced_engine_is_the_same_in_blocks(block, monkeypatch):
    """PAIRS' sets of 40 x 37: a row at a time, several, sizes that do not divide."""
    name = "ties and duplicates"
    a, b = SETS[name]
    monkeypatch.setattr(neighbours, "BLOCK", block)
    test_balls_hold_what_lies_in_them(neighbours, name)
    np.testing.assert_array_equal(run(neighbours, "within", a, k=5), radii(a))
    np.testing.assert_array_equal(run(neighbours, "within", np.concatenate([b, b]), k=5, size=len(b))[:37], radii(b))
    index, _ = run(neighbours, "nearest", a, b)
    np.testing.assert_array_equal(index, squared(a, b).argmin(axis=1))


def test_the_traced_engine_is_the_same_under_vmap():
    batch = np.stack([cloud(30, 3, seed) for seed in range(3)])
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(lambda x: neighbours.within(x, 5)))(jnp.asarray(batch))
    np.testing.assert_allclose(found, [radii(x) for x in batch], rtol=1e-12)


# ---------------------------------------------------------------------------------------------------- screened


@pytest.mark.parametrize("tile", [7, 37])
@pytest.mark.parametrize("name", ["ties and duplicates", "tight clusters far apart"])
def test_the_size_of_a_tile_changes_nothing(name, tile):
    a, b = SETS[name]
    engine, one = screened.Engine(SCREENED.devices, tile), screened.Engine(SCREENED.devices)
    for x in (a, b):
        np.testing.assert_array_equal(engine.within(x, 5), one.within(x, 5))
    for x, y in zip(engine.nearest(a, b), one.nearest(a, b), strict=True):
        np.testing.assert_array_equal(x, y)
    for x, y in zip(engine.cross(a, b, *truth(name)[:2]), one.cross(a, b, *truth(name)[:2]), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["overlapping", "ties and duplicates"])
def test_the_number_of_devices_changes_nothing(name):
    a, b = SETS[name]
    assert len(jax.local_devices()) == 4
    alone, all_four = (screened.Engine(tuple(jax.local_devices()[:n]), tile=9) for n in (1, 4))
    np.testing.assert_array_equal(alone.within(a, 5), all_four.within(a, 5))
    for x, y in zip(alone.cross(a, b, *truth(name)[:2]), all_four.cross(a, b, *truth(name)[:2]), strict=True):
        np.testing.assert_array_equal(x, y)


def in_float32(a, b):
    """The products as a tile takes them, and nothing decided afterwards."""
    centre = np.median(b, axis=0)
    a, b = a - centre, b - centre
    return np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1) - 2 * a @ b.T


def test_float32_alone_is_wrong_where_the_engine_is_right():
    a, b = SETS["tight clusters far apart"]
    distance = truth("tight clusters far apart")[2]
    alone = in_float32(a, b)
    wrong = distance[np.arange(len(a)), alone.argmin(axis=1)] > 1.5 * distance.min(axis=1)
    assert wrong.mean() > 0.3
    of_b = truth("tight clusters far apart")[1]
    assert ((alone < of_b).sum(axis=1) != (distance < of_b).sum(axis=1)).mean() > 0.3
    index, _ = SCREENED.nearest(a, b)
    np.testing.assert_array_equal(index, distance.argmin(axis=1))


LADDERS = {"bfloat16": ("bfloat16", "float32"), "float32": ("float32",), "float64": ()}


@pytest.mark.parametrize("screens", LADDERS.values(), ids=LADDERS)
@every_set
def test_the_precision_of_screening_changes_nothing(name, screens):
    """Not even the last bit. Without any there is float64; balls need one."""
    a, b = SETS[name]
    engine = dataclasses.replace(SCREENED, tile=37, screens=screens or ("float32",))
    ids = np.arange(len(a), dtype=np.int32)
    np.testing.assert_array_equal(engine._kth(a, a, ids, 5, screens)[1], SCREENED.within(a, 5))
    np.testing.assert_array_equal(
        engine._kth(a, b, np.full_like(ids, NOBODY), 1, screens)[1], SCREENED.nearest(a, b)[1]
    )
    if screens:
        for x, y in zip(engine.cross(a, b, *truth(name)[:2]), SCREENED.cross(a, b, *truth(name)[:2]), strict=True):
            np.testing.assert_array_equal(x, y)


def test_a_device_that_is_faster_in_bfloat16_screens_in_it():
    fast = screened.precisions((types.SimpleNamespace(platform="gpu"),))
    assert fast == ("bfloat16", "float32")
    assert screened.precisions(tuple(jax.local_devices())) in (fast, ("float32",))
    assert SCREENED.screens == screened.precisions(SCREENED.devices)


@pytest.fixture
def tiles_in(monkeypatch):
    """How many tiles were screened in which precision, "float64" for rows."""
    seen = collections.Counter()

    def counted(function, name):
        def call(row, *rest):
            seen[name or str(row.x.dtype)] += 1
            return function(row, *rest)

        return call

    for module, function, name in (
        (tiles, "near_of_tile", None),
        (tiles, "balls_of_tile", None),
        (screened, "in_float64", "float64"),
    ):
        monkeypatch.setattr(module, function, counted(getattr(module, function), name))
    return seen


def test_each_precision_is_used_where_the_one_before_cannot_tell(tiles_in, monkeypatch):
    """Two clusters, as wide as their distance, a hundredth of it, a millionth."""
    monkeypatch.setattr(candidates, "MOST", 36)
    engine = dataclasses.replace(SCREENED, screens=LADDERS["bfloat16"])
    for width, needed in ((1.0, ["bfloat16"]), (0.01, ["bfloat16", "float32"]), (1e-6, list(LADDERS))):
        tiles_in.clear()
        x = clusters(100, 3, 0, 2, width)
        np.testing.assert_allclose(engine.within(x, 5), radii(x), rtol=1e-12)
        assert list(tiles_in) == needed, width
    tiles_in.clear()
    engine.cross(x, x, radii(x), radii(x))
    assert tiles_in["float32"] == tiles_in["bfloat16"] == 49  # none is clear, and only differences decide


def test_copies_are_not_looked_at_twice(tiles_in, monkeypatch):
    """Of more copies than candidates, each is at distance 0 from its neighbours, and no precision tells more."""
    monkeypatch.setattr(candidates, "MOST", 8)
    x = np.repeat(cloud(2, 3, 0), 30, axis=0)
    assert not SCREENED.within(x, 5).any()
    assert set(tiles_in) == {SCREENED.screens[0]}


def test_what_float64_cannot_decide_either_is_decided_by_differences(tiles_in, monkeypatch):
    """On a circle around the first point all others tie, more than there may be candidates."""
    monkeypatch.setattr(candidates, "MOST", 8)
    circle = np.asarray([(x, y) for x in range(-65, 66) for y in range(-65, 66) if x * x + y * y == 65**2], np.float32)
    points = np.concatenate([np.zeros((1, 2), np.float32), circle])
    assert len(circle) > 8
    np.testing.assert_array_equal(SCREENED.within(points, 5), radii(points))
    assert tiles_in.pop("float64") == 1
    index, found = SCREENED.nearest(points[:1], circle)
    assert (index[0], found[0]) == (0, 65**2)  # the first of equals
    assert tiles_in["float64"] == 1


@pytest.mark.parametrize("name", ["tight clusters far apart", "far from each other", "overlapping"])
def test_what_products_can_decide_is_not_left_to_differences(name, monkeypatch):
    """Else a collapsed set would cost as much as all its pairs."""
    monkeypatch.setattr(candidates, "MOST", 8)
    a, b = SETS[name]
    pairs, differences = [], candidates.differences

    def count(x, y, i, j):
        pairs.append(len(i))
        return differences(x, y, i, j)

    monkeypatch.setattr(candidates, "differences", count)
    SCREENED.within(a, 5)
    SCREENED.nearest(a, b)
    assert 0 < sum(pairs) < 16 * len(a)


def test_pairs_without_a_decision_are_worked_off_in_parts(monkeypatch):
    """Copies tie by the million: here 35 pairs at a time."""
    monkeypatch.setattr(screened, "WAITING", 35)
    test_balls_hold_what_lies_in_them(SCREENED, "many duplicates of few")
    test_radii_are_distances_to_the_fifth_other(SCREENED, "overlapping")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_sets_that_are_not_finite_come_back_at_once(bad, tiles_in):
    x = cloud(50, 3, 0)
    x[7, 1] = bad
    assert np.isnan(SCREENED.within(x, 5)).all()
    assert np.isnan(SCREENED.nearest(cloud(9, 3, 1), x)[1]).all()
    assert not tiles_in


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_bound_on_the_error_holds(dtype):
    """Tiles' distances are off by less than they say, and by more than a thousandth of it where nothing underflows."""
    for d, scale in ((3, 1.0), (300, 1.0), (3, 1e-20), (3, 1e-30)):
        x, y = (cloud(64, d, seed, scale) for seed in (0, 1))
        frame = tiles.Frame(np.zeros(d), 1.0)
        a, b = (next(tiles.cut(v, frame, 64, SCREENED.devices, dtype)).placed[0] for v in (x, y))
        found, error, real = (np.float64(leaf) for leaf in tiles.approximate(a, b))
        off = np.abs(found - squared(x, y))
        assert real.all()
        assert (off <= error).all(), (d, scale)
        assert scale < 1 or off.max() > 1e-3 * error.max(), (d, scale)
