"""Means, scatters and sums over pairs, in blocks, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import CLOUDS, cloud

from madbench.metrics import moments


def on_device(function, *arguments, **settings):
    """Traced anew, so that a changed BLOCK counts."""
    with jax.enable_x64(True):
        arrays = [jnp.asarray(a) for a in arguments]
        return jax.tree.map(np.asarray, jax.jit(lambda *a: function.__wrapped__(*a, **settings))(*arrays))


def expected(x):
    x = np.float64(x)
    return len(x), x.mean(axis=0), (x - x.mean(axis=0)).T @ (x - x.mean(axis=0))


def check(found, x):
    for a, b in zip(found, expected(x), strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * np.abs(b).max())


@pytest.mark.parametrize("name", CLOUDS)
def test_moments_are_numpys(name):
    check(on_device(moments.moments, CLOUDS[name][0]), CLOUDS[name][0])


def test_the_scatter_is_in_double_precision():
    """The variance of 1000 ± 0.001 is lost in float32, whose resolution there is 6e-5, when summed naively."""
    x = (1000 + 0.001 * np.random.default_rng(0).normal(size=(400, 1))).astype(np.float32)
    found = on_device(moments.moments, x)
    assert found.scatter[0, 0] == pytest.approx(np.float64(x).var() * 400, rel=1e-9)


@pytest.mark.parametrize("point", [0.1, 1e-30, 3e30])
def test_equal_samples_scatter_by_exactly_nothing(point):
    assert not on_device(moments.moments, np.full((37, 3), point, np.float32)).scatter.any()


@pytest.mark.parametrize("block", [1, 16, 60, 1000])
def test_the_size_of_a_block_changes_nothing(block, monkeypatch):
    x, y = cloud(61, 4, 0, 2.0, 5.0), cloud(23, 4, 1)
    monkeypatch.setattr(moments, "BLOCK", block)
    check(on_device(moments.moments, x), x)
    unit = np.float64(x) / np.linalg.norm(np.float64(x), axis=1, keepdims=True)
    np.testing.assert_allclose(on_device(moments.second_moment, x), unit.T @ unit, rtol=1e-12)
    for b, same in ((x, True), (y, False)):
        check_pairs(on_device(moments.pair_sums, x, b, np.float64(9.0), same=same), x, b, 9.0, same)


def check_pairs(found, a, b, width, same, rel=1e-12):
    cubic = gaussian = 0.0
    for i, x in enumerate(np.float64(a)):
        for j, y in enumerate(np.float64(b)):
            if not (same and i == j):
                cubic += (x @ y / len(x) + 1) ** 3
                gaussian += np.exp(-np.sum((x - y) ** 2) / width)
    assert found.cubic == pytest.approx(cubic, rel=rel)
    assert found.gaussian == pytest.approx(gaussian, rel=rel)


def test_kernels_of_samples_far_from_the_origin_keep_their_digits():
    """‖x‖² + ‖y‖² - 2x·y at 10⁴ is right to 1e-8, where squared distances are 1e-6."""
    a, b = cloud(20, 3, 0, 0.01, 1e4), cloud(15, 3, 1, 0.01, 1e4)
    check_pairs(on_device(moments.pair_sums, a, b, np.float64(1e-5), same=False), a, b, 1e-5, False, rel=1e-9)


@pytest.mark.parametrize("d", [3, 511, 512, 514])
def test_the_gram_matrix_is_whole_where_half_of_it_is_copied(d):
    x = np.float64(cloud(5, d, 0))
    with jax.enable_x64(True):
        np.testing.assert_allclose(moments.gram(jnp.asarray(x)), x.T @ x, rtol=1e-12, atol=1e-12)


def test_vectors_of_no_length_stay_so():
    x = np.concatenate([np.zeros((3, 2)), [[3.0, 4.0]], np.full((1, 2), 1e-30)]).astype(np.float32)
    total = np.outer([0.6, 0.8], [0.6, 0.8]) + 0.5
    np.testing.assert_allclose(on_device(moments.second_moment, x), total, rtol=1e-7)


@pytest.mark.parametrize("name", CLOUDS)
def test_moments_of_parts_merge_to_the_whole(name):
    x = np.concatenate([CLOUDS[name][0], CLOUDS[name][0][:3] * 2])
    parts = [on_device(moments.moments, part) for part in (x[:1], x[1:3], x[3:])]
    check(moments.merge_moments(moments.merge_moments(parts[0], parts[1]), parts[2]), x)
    check(moments.merge_moments(parts[2], moments.merge_moments(parts[1], parts[0])), x)
