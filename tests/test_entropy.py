"""Entropy by nearest neighbours against closed forms."""

import math

import numpy as np
import pytest
from clouds import SCREENED, chunked, cloud, draws, of, radii, value
from scipy.special import digamma, gammaln

from madbench.metrics import neighbours

ENTROPY = of("entropy")
REFERENCE = cloud(10, 2, 99)


def by_loops(x, k=5):
    """Kozachenko and Leonenko: ψ(n) - ψ(k) + log V_d + (d/n) Σ log ε_i."""
    n, d = x.shape
    volume = 0.5 * d * np.log(np.pi) - gammaln(0.5 * d + 1)
    return digamma(n) - digamma(k) + volume + d * np.mean(0.5 * np.log(radii(x, k)))


@pytest.mark.parametrize("engine", [neighbours, SCREENED], ids=["traced", "screened"])
@pytest.mark.parametrize("d", [1, 3, 40])
def test_it_is_its_definition(engine, d):
    x = cloud(50, d, 0, 2.0)
    assert value(ENTROPY, x, cloud(40, d, 1), engine=engine) == pytest.approx(by_loops(x), rel=1e-9)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_of_gaussians_it_is_the_closed_form(d):
    """d/2 log 2πe; the estimate's own bias, from densities that are not flat within a ball, is a few hundredths."""
    count, n, deviation = 40, 400, 3.0
    sets = cloud(count * n, d, 0, deviation).reshape(count, n, d)
    found = draws(ENTROPY, sets, np.broadcast_to(cloud(8, d, 1), (count, 8, d)))
    expected = d / 2 * math.log(2 * math.pi * math.e * deviation**2)
    assert abs(found.mean() - expected) < 4 * found.std(ddof=1) / math.sqrt(count) + 0.02 * d


def test_of_the_uniform_distribution_it_is_the_logarithm_of_its_length():
    """Of length 7; the edges cost a few neighbours in 400."""
    count, n = 40, 400
    sets = np.random.default_rng(0).uniform(0, 7, size=(count, n, 1)).astype(np.float32)
    found = draws(ENTROPY, sets, np.broadcast_to(cloud(8, 1, 1), (count, 8, 1)))
    assert abs(found.mean() - math.log(7)) < 4 * found.std(ddof=1) / math.sqrt(count) + 0.02


def test_it_moves_with_the_logarithm_of_the_scale_and_not_with_the_place():
    x = cloud(60, 2, 0)
    here = value(ENTROPY, x, REFERENCE)
    assert value(ENTROPY, x * 8, REFERENCE) == pytest.approx(here + 2 * math.log(8))
    assert value(ENTROPY, x + 64, REFERENCE) == pytest.approx(here, abs=1e-4)


def test_a_collapsed_set_has_the_entropy_of_float32s_resolution():
    """-∞ in truth: balls of radius 2⁻²⁴ times the root mean square of the reference."""
    x = np.repeat(cloud(1, 2, 0), 30, axis=0)
    size = np.sum(np.float64(REFERENCE) ** 2) / len(REFERENCE)
    expected = digamma(30) - digamma(5) + math.log(math.pi) + 2 * math.log(2.0**-24 * math.sqrt(size))
    assert value(ENTROPY, x, REFERENCE) == pytest.approx(expected)
    assert np.isfinite(value(ENTROPY, x, np.zeros((6, 2))))


def test_merged_chunks_are_the_mean_of_their_estimates():
    x = cloud(90, 2, 0)
    merged = ENTROPY.compute(chunked(ENTROPY, [(x[:30], REFERENCE), (x[30:], REFERENCE)]))
    assert merged == pytest.approx(by_loops(x[:30]) / 3 + by_loops(x[30:]) * 2 / 3)
    assert merged == pytest.approx(by_loops(x), abs=0.2)
