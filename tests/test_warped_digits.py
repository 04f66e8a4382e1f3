"""Warped digits: what a warp does to a digit, and a stream of new labelled images wherever sources are read."""

import dataclasses
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.datasets import load_digits

from madbench import cost, data, experiment, results
from madbench.config import base
from madbench.data import source as sources
from madbench.data.warped_digits import affine, framed, interpolate, render
from madbench.metrics.features import lenet
from madbench.randomness import Role, key_for

N = 300
STILL = {"rotation": 0, "scale": 0, "shear": 0, "shift": 0, "stroke": 0}
UPRIGHT = affine(0.0, 0.0, jnp.ones(2))


@pytest.fixture(scope="module")
def digits():
    """The base digits, float32 `[1797, 8, 8]` in [0, 1]."""
    return np.float32(load_digits().images / 16)


@pytest.fixture(scope="module")
def warped():
    return data.load("warped_digits", resolution=16, n_reference=N)


@jax.jit
def at(source, order, positions):
    return source.at(order, positions)


def stream(source, seed, positions):
    return at(source, source.order(key_for(seed, 0, Role.DATA)), jnp.asarray(positions))


_render = jax.jit(render, static_argnames="resolution")


def drawn(digit, matrix=UPRIGHT, moved=(0.0, 0.0), thinner=0.0, resolution=32):
    """An image as float64 ink `[resolution, resolution]` in [0, 1]."""
    image = _render(jnp.asarray(digit), matrix, jnp.asarray(moved), jnp.float32(thinner), resolution)
    return np.float64(image[..., 0] + 1) / 2


def levels(x):
    return np.rint((np.float64(x) + 1) * 127.5).astype(int)


# ---------------------------------------------------------------------------------------------------- one digit


def test_the_spline_goes_through_the_centres_of_the_pixels_and_is_scipys_between_them(digits):
    centres = (np.arange(8) - 3.5) / 4
    u, v = np.meshgrid(centres, centres, indexing="ij")
    np.testing.assert_allclose(
        interpolate(jnp.asarray(digits[3]), jnp.asarray(u), jnp.asarray(v)), digits[3], atol=1e-5
    )
    u, v = np.random.default_rng(0).uniform(-1.1, 1.1, (2, 500))
    expected = ndimage.map_coordinates(np.pad(np.float64(digits[3]), 8), np.stack([u, v]) * 4 + 3.5 + 8, order=3)
    found = interpolate(jnp.asarray(digits[3]), jnp.asarray(u), jnp.asarray(v))
    np.testing.assert_allclose(found, expected, atol=5e-3)  # ours is told of two rows of zeros and not of eight


def test_a_digit_that_is_not_warped_is_the_base_digit_resized(digits):
    """Drawn over the whole frame and averaged in squares, bright and dark are where they were."""
    for digit in digits[:30]:
        squares = drawn(digit, jnp.eye(2), resolution=64).reshape(8, 8, 8, 8).mean(axis=(1, 3))
        assert np.corrcoef(squares.ravel(), digit.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("resolution", [16, 28, 64])
def test_without_warps_only_the_base_digits_are_drawn_each_with_its_label(digits, resolution):
    source = data.load("warped_digits", resolution=resolution, n_reference=20, **STILL)
    every = jax.jit(jax.vmap(lambda d: render(d, UPRIGHT, jnp.zeros(2), jnp.float32(0), resolution)))(digits)
    every, labels = levels(every), load_digits().target
    for image, label in zip(levels(source.reference.x), source.reference.y, strict=True):
        apart = np.abs(every - image).max(axis=(1, 2, 3))
        assert apart.min() <= 1  # another program rounds otherwise
        assert labels[apart.argmin()] == label


def test_moving_a_digit_by_whole_pixels_moves_its_image(digits):
    still = drawn(digits[5])
    moved = drawn(digits[5], moved=(3 / 16, -2 / 16))
    np.testing.assert_allclose(moved, np.roll(still, (3, -2), axis=(0, 1)), atol=1.01 / 255)
    centre = ndimage.center_of_mass(still)
    quarter = ndimage.center_of_mass(drawn(digits[5], moved=(0.25 / 16, 0.0)))
    np.testing.assert_allclose(np.subtract(quarter, centre), (0.25, 0), atol=0.02)


def test_rotation_is_anticlockwise_shear_leans_to_the_right_and_scales_are_of_height_and_width(digits):
    for digit in digits[:5]:
        still = drawn(digit)
        turned = drawn(digit, affine(math.pi / 2, 0.0, jnp.ones(2)))
        np.testing.assert_allclose(turned, np.rot90(still), atol=1.01 / 255)
        leaning = drawn(digit, affine(0.0, 0.3, jnp.ones(2)))
        top, bottom = (leaning[half].sum(axis=0) for half in (np.s_[:12], np.s_[20:]))
        before = [still[half].sum(axis=0) for half in (np.s_[:12], np.s_[20:])]
        middle = lambda ink: (ink * np.arange(32)).sum() / ink.sum()
        assert middle(top) > middle(before[0]) + 1
        assert middle(bottom) < middle(before[1]) - 1
        high = drawn(digit, affine(0.0, 0.0, jnp.asarray([1.2, 1.0])))
        spread = lambda image, axis: np.sqrt(np.cov(np.arange(32), aweights=image.sum(axis=1 - axis)))
        assert spread(high, 0) / spread(still, 0) == pytest.approx(1.2, abs=0.02)
        assert spread(high, 1) / spread(still, 1) == pytest.approx(1.0, abs=0.02)


def test_a_wider_stroke_covers_every_pixel_that_a_thinner_one_does(digits):
    for digit in digits[:10]:
        images = [drawn(digit, thinner=share) for share in (-0.35, -0.1, 0.2, 0.35)]
        for wide, thin in itertools.pairwise(images):
            assert (wide >= thin).all()
            assert wide.sum() > 1.02 * thin.sum()


def test_ink_covers_the_same_share_of_the_frame_at_every_resolution(digits):
    for digit in digits[:10]:
        shares = [drawn(digit, resolution=side).mean() for side in (8, 16, 28, 64)]
        np.testing.assert_allclose(shares, shares[-1], rtol=0.05)


def test_what_does_not_fit_into_the_frame_is_made_smaller_until_it_does(digits):
    for matrix in (UPRIGHT, 3 * affine(0.7, 0.5, jnp.ones(2))):
        smaller, low, high = framed(jnp.asarray(digits[0]), matrix, 0.9)
        assert (np.asarray(low) <= np.asarray(high) + 1e-6).all()
        share = float(smaller[0, 0] / matrix[0, 0])
        np.testing.assert_allclose(smaller, share * np.asarray(matrix), atol=1e-6)
        assert share == pytest.approx(1.0) if matrix is UPRIGHT else share < 0.6


def test_no_warp_however_wild_crops_a_digit():
    wild = {"rotation": 179, "scale": 0.9, "shear": 0.9, "shift": 0.9, "stroke": 0.6}
    x = np.asarray(data.load("warped_digits", resolution=24, n_reference=N, **wild).reference.x)
    assert (x[:, [0, -1]] == -1).all()
    assert (x[:, :, [0, -1]] == -1).all()
    assert ((x > 0).sum(axis=(1, 2, 3)) > 4).all()


# ------------------------------------------------------------------------------------------------------ streams


def test_shapes_types_and_grey_levels_are_those_of_image_files(warped):
    assert (warped.name, warped.shape, warped.num_classes, warped.bounds) == (
        "warped_digits",
        (16, 16, 1),
        10,
        (-1.0, 1.0),
    )
    assert warped.available is warped.pool is warped.density is warped.modes is warped.moments is None
    for part in (warped.reference, stream(warped, 0, range(N))):
        assert part.x.dtype == jnp.float32
        assert part.y.dtype == jnp.int32
        assert part.x.shape == (N, 16, 16, 1)
        x = np.asarray(part.x)
        of_a_file = np.float32(levels(x)) / np.float32(127.5) - 1
        np.testing.assert_allclose(x, of_a_file, rtol=0, atol=1.2e-7)
        assert (x.min(), x.max()) == (-1, 1)
        assert len(np.unique(levels(x))) > 200


def test_a_position_is_one_sample_however_it_is_read(warped):
    together = stream(warped, 0, range(100))
    few = stream(warped, 0, [42, 7, 42])
    np.testing.assert_array_equal(few.y, np.asarray(together.y)[[42, 7, 42]])
    assert np.abs(levels(few.x) - levels(together.x)[[42, 7, 42]]).max() <= 1
    np.testing.assert_array_equal(stream(warped, 0, range(100)).x, together.x)


def test_long_streams_are_drawn_some_at_a_time_and_are_the_same(warped, monkeypatch):
    order = warped.order(key_for(0, 0, Role.DATA))
    whole = at(warped, order, jnp.arange(50))
    monkeypatch.setattr(sources, "_NUMBERS_AT_ONCE", 16 * 16 * 20)
    in_parts = jax.jit(lambda source: source.at(order, jnp.arange(50)))
    parts = in_parts(warped)
    assert "scan" in str(jax.make_jaxpr(in_parts)(warped))
    np.testing.assert_array_equal(parts.y, whole.y)
    assert np.abs(levels(parts.x) - levels(whole.x)).max() <= 1


def test_no_two_samples_are_equal_in_any_stream_or_the_reference(warped, monkeypatch):
    monkeypatch.setattr(sources, "_EXAMPLES", N)
    parts = [stream(warped, seed, range(N)).x for seed in range(3)] + [warped.reference.x, warped.examples.x]
    assert len({image.tobytes() for part in parts for image in np.asarray(part)}) == 5 * N


def test_classes_are_as_frequent_as_among_the_base_digits(warped):
    y = jax.jit(lambda order: warped.at(order, jnp.arange(20_000)).y)(warped.order(jax.random.key(3)))
    share = np.bincount(load_digits().target) / 1797
    assert stats.chisquare(np.bincount(y, minlength=10), share * 20_000).pvalue > 0.01


def test_runs_are_mapped(warped):
    orders = jnp.stack([warped.order(key_for(seed, 0, Role.DATA)) for seed in range(3)])
    mapped = jax.jit(jax.vmap(lambda order: warped.at(order, jnp.arange(5))))(orders)
    for seed in range(3):
        alone = stream(warped, seed, range(5))
        np.testing.assert_array_equal(mapped.y[seed], alone.y)
        assert np.abs(levels(mapped.x[seed]) - levels(alone.x)).max() <= 1


def test_the_base_digits_are_inputs_of_a_program_and_counted_in_its_memory(warped):
    traces = []

    @jax.jit
    def first(source, order):
        traces.append(1)
        return source.at(order, jnp.arange(3))

    order = warped.order(jax.random.key(0))
    once = first(warped, order)
    again = data.load("warped_digits", resolution=16, n_reference=N)
    np.testing.assert_array_equal(first(again, order).x, once.x)
    blank = dataclasses.replace(warped, draw=dataclasses.replace(warped.draw, images=warped.draw.images[::-1]))
    assert not np.array_equal(first(blank, order).x, once.x)
    assert len(traces) == 1
    first(dataclasses.replace(warped, draw=data.load("warped_digits", resolution=8, n_reference=1).draw), order)
    assert len(traces) == 2
    assert cost.tree_bytes(warped) == 1797 * (64 + 4) + N * (16 * 16 + 1) * 4


def test_the_fingerprint_is_of_the_digits_and_the_warps_and_not_of_the_reference(warped):
    mark = lambda **settings: data.load("warped_digits", **{"resolution": 16, "n_reference": 1} | settings).fingerprint
    assert mark() == mark(split_seed=1) == warped.fingerprint
    assert warped.fingerprint["name"].startswith("warped_digits[16,10.0,")
    assert mark(stroke=0.1) != mark()


def test_examples_for_feature_networks_do_not_depend_on_the_reference(warped, monkeypatch):
    monkeypatch.setattr(sources, "_EXAMPLES", 50)
    other = data.load("warped_digits", resolution=16, n_reference=7, split_seed=4)
    np.testing.assert_array_equal(other.examples.x, warped.examples.x)
    assert set(np.asarray(warped.examples.y).tolist()) <= set(range(10))
    assert data.load("gaussian", n_reference=2).examples is None


# ------------------------------------------------------------------------------------------------- in the house


def test_a_fresh_data_loop_runs_on_them_to_its_end(tmp_path, monkeypatch):
    """With features that are trained on labelled examples, of which an endless source has no pool."""
    monkeypatch.setattr(sources, "_EXAMPLES", 200)
    monkeypatch.setitem(lenet.RECIPE, "steps", 5)
    config = base("warped_digits", "gaussian")
    config.data.update(resolution=8, n_reference=40)
    config.n_initial = 60
    config.loops = ("fully_synthetic", "fresh_data(n_fresh=50,n_synthetic=20)")
    config.seeds = 1
    config.generations = 3
    config.n_grid = 2
    config.metrics.names = ("fd",)
    experiment.run(config, tmp_path / "work", cache=str(tmp_path / "cache"))
    found = results.load(tmp_path / "work")
    eaten = {(r["loop"], r["generation"]): (r["n_real"], r["n_synthetic"]) for r in found.rows}
    assert [eaten["fresh_data(n_fresh=50,n_synthetic=20)", t] for t in (1, 2, 3)] == [(60, 0), (50, 20), (50, 20)]
    assert all(math.isfinite(r["fd"]) for r in found.rows)
    assert len(list((tmp_path / "cache").glob("lenet-*.npz"))) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 7}, "config.data.resolution must be a whole number of at least 8, not 7"),
        ({"resolution": 28.0}, "config.data.resolution must be a whole number of at least 8, not 28.0"),
        ({"rotation": 180}, "config.data.rotation must be at least 0 and below 180, not 180"),
        ({"rotation": "x"}, "config.data.rotation must be a number, not 'x'"),
        ({"scale": -0.1}, "config.data.scale must be at least 0 and below 1, not -0.1"),
        ({"shear": 1}, "config.data.shear must be at least 0 and below 1, not 1"),
        ({"shift": math.nan}, "config.data.shift must be at least 0 and below 1 and finite, not nan"),
        ({"stroke": True}, "config.data.stroke must be a number, not True"),
        ({"n_reference": 0}, "config.data.n_reference must be a whole number of at least 1, not 0"),
        ({"split_seed": -1}, "config.data.split_seed must be a whole number of at least 0, not -1"),
        ({"strokes": 1}, "config.data.strokes does not fit source 'warped_digits', which takes resolution, rotation"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        data.load("warped_digits", **settings)
    assert "\n" not in str(caught.value)
