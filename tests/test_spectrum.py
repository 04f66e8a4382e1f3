"""Diversity against the definitions: Vendi's n x n kernel, singular values, variances."""

import numpy as np
import pytest
from clouds import CLOUDS, chunked, cloud, of, value

VENDI, RANK, VARIANCE = of("vendi"), of("effective_rank"), of("variance")
REFERENCE = cloud(5, 3, 9)
every_cloud = pytest.mark.parametrize("name", CLOUDS)


def perplexity(weights):
    p = np.asarray(weights)[np.asarray(weights) > 0]
    p = p / p.sum()
    return np.exp(-np.sum(p * np.log(p)))


def vendi(x):
    """exp of the entropy of the eigenvalues of K/n, K the cosines."""
    x = np.float64(x) / np.linalg.norm(np.float64(x), axis=1, keepdims=True)
    return perplexity(np.maximum(np.linalg.eigvalsh(x @ x.T / len(x)), 0))


@every_cloud
def test_the_vendi_score_is_that_of_the_kernel(name):
    generated, reference = CLOUDS[name]
    assert value(VENDI, generated, reference) == pytest.approx(vendi(generated), rel=1e-6)


def test_the_vendi_score_counts_what_is_different():
    axes = np.repeat(np.eye(4), 5, axis=0)
    assert value(VENDI, axes, axes) == pytest.approx(4)
    assert value(VENDI, axes[:5], axes) == pytest.approx(1)
    assert value(VENDI, axes[:10] * 7, axes) == pytest.approx(2)
    assert value(VENDI, np.zeros((3, 4)), axes) == 0


@every_cloud
def test_the_effective_rank_is_that_of_the_singular_values(name):
    """To 1e-4: singular values at the rounding of float32 features, 1e-7 of the largest, weigh that much."""
    generated, reference = CLOUDS[name]
    centred = np.float64(generated) - np.float64(generated).mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    found = value(RANK, generated, reference)
    if name == "collapsed to a point":
        assert found == 0
    else:
        assert found == pytest.approx(perplexity(singular), rel=1e-4)


def test_the_effective_rank_counts_directions_that_are_filled_alike():
    x = np.concatenate([np.eye(6), -np.eye(6)])
    assert value(RANK, x, REFERENCE) == pytest.approx(6)
    assert value(RANK, x * [1, 1, 1, 0, 0, 0], REFERENCE) == pytest.approx(3)
    assert value(RANK, x * 1e-4 + 100, REFERENCE) == pytest.approx(6, rel=1e-2)


@every_cloud
def test_variance_is_the_ratio_of_total_variances(name):
    generated, reference = (np.float64(x) for x in CLOUDS[name])
    expected = generated.var(axis=0, ddof=1).sum() / reference.var(axis=0, ddof=1).sum()
    assert value(VARIANCE, *CLOUDS[name]) == pytest.approx(expected, rel=1e-9)


def test_variance_has_no_value_where_the_reference_is_a_point():
    assert value(VARIANCE, cloud(5, 3, 0), np.ones((5, 3))) is None
    assert value(VARIANCE, np.ones((5, 3)), cloud(5, 3, 0)) == 0


@pytest.mark.parametrize("metric", [VENDI, RANK, VARIANCE], ids=["vendi", "effective_rank", "variance"])
@pytest.mark.parametrize("name", ["full rank", "one of low rank", "duplicated", "collapsed to a point"])
def test_chunks_of_generated_samples_merge_to_the_whole(metric, name):
    a, b = CLOUDS[name]
    merged = chunked(metric, [(a[:7], b), (a[7:9], b), (a[9:], b)])
    assert metric.compute(merged) == pytest.approx(value(metric, a, b), rel=1e-9)
