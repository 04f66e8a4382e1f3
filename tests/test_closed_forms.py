"""The Gaussian loops against their closed forms (PROTOCOL, section 7): thousands of runs as one program."""

import functools
import math

import numpy as np
import pytest
from gaussian_loops import check_mean, drive
from scipy import special

N, T = 100, 50
N_ML, T_ML = 20, 12
FRESH = (20, 30, 0.9)  # n_r, n_s, λ


@pytest.fixture(scope="module")
def unbiased():
    """Fits with the unbiased variance, as the paper's."""
    n_r, n_s, bias = FRESH
    synthetic = {1.0: "fully_synthetic(bias=1.0)", 0.9: "fully_synthetic(bias=0.9)"}
    fresh = f"fresh_data(n_initial={n_r},n_fresh={n_r},n_synthetic={n_s},bias={bias})"
    found = drive(T, (*synthetic.values(), fresh), N, ddof=1)
    return {bias: found[loop] for bias, loop in synthetic.items()} | {"fresh": found[fresh]}


@pytest.fixture(scope="module")
def maximum_likelihood():
    return drive(T_ML, ("accumulate", "replace"), N_ML, ddof=0)


biases = pytest.mark.parametrize("bias", [1.0, 0.9])
times = pytest.mark.parametrize("t", [1, 2, 10, 25, 50])


@functools.cache
def c4(n):
    return math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))


def expected_mu2(t, bias):
    return sum(bias**i for i in range(t)) / N


def test_the_formulas_give_the_printed_examples():
    k = N - 1
    assert 50 * (special.digamma(k / 2) - math.log(k / 2)) == pytest.approx(-0.50675, abs=5e-6)
    assert 50 * special.polygamma(1, k / 2) == pytest.approx(1.0204, abs=5e-5)
    assert expected_mu2(50, 1.0) + 2 - 2 * c4(N) ** 50 == pytest.approx(0.7372, abs=5e-5)
    v, s = fixed_point(*FRESH)
    assert v == pytest.approx(0.02742, abs=5e-6)
    assert s == pytest.approx(0.88416, abs=5e-6)


@biases
@times
def test_log_variance_drifts_down(unbiased, bias, t):
    """E log σ²_t = t [ψ(k/2) - ln(k/2)] + (t-1) ln λ; at λ = 1 every path collapses though the mean stays."""
    k = N - 1
    expected = t * (special.digamma(k / 2) - math.log(k / 2)) + (t - 1) * math.log(bias)
    check_mean(np.log(unbiased[bias][:, t - 1, 1]), expected)


@biases
@times
def test_log_variance_spreads(unbiased, bias, t):
    """Var log σ²_t = t ψ₁(k/2); the variance's standard error from the fourth moment."""
    values = np.log(unbiased[bias][:, t - 1, 1])
    squares = (values - values.mean()) ** 2 * len(values) / (len(values) - 1)
    check_mean(squares, t * special.polygamma(1, (N - 1) / 2))


@biases
@times
def test_variance_falls_with_the_bias_alone(unbiased, bias, t):
    """E σ²_t = λ^(t-1)."""
    check_mean(unbiased[bias][:, t - 1, 1], bias ** (t - 1))


@biases
@times
def test_the_mean_walks(unbiased, bias, t):
    """E μ_t = 0 and E μ²_t = (1/n) Σ_{i<t} λ^i."""
    mean = unbiased[bias][:, t - 1, 0]
    check_mean(mean, 0.0)
    check_mean(mean**2, expected_mu2(t, bias))


@biases
@times
def test_standard_deviation_shrinks(unbiased, bias, t):
    """E σ_t = λ^((t-1)/2) c₄(n)^t."""
    check_mean(np.sqrt(unbiased[bias][:, t - 1, 1]), bias ** ((t - 1) / 2) * c4(N) ** t)


@biases
@times
def test_distance_to_the_truth_grows(unbiased, bias, t):
    """E W₂² = E μ²_t + 1 + λ^(t-1) - 2 E σ_t, for W₂² = μ² + (σ-1)²."""
    mean, variance = unbiased[bias][:, t - 1].T
    expected = expected_mu2(t, bias) + 1 + bias ** (t - 1) - 2 * bias ** ((t - 1) / 2) * c4(N) ** t
    check_mean(mean**2 + (np.sqrt(variance) - 1) ** 2, expected)


def fixed_point(n_r, n_s, bias) -> tuple[float, float]:
    """V and S of the fresh loop, from their two linear equations:

    V = (1-a)²/n_r + a²(V + λS/n_s)
    (N-1)S = (n_r-1) + (n_s-1)λS + (n_r n_s/N)(1/n_r + V + λS/n_s)
    """
    total = n_r + n_s
    a, between = n_s / total, n_r * n_s / total
    left = [[1 - a**2, -(a**2) * bias / n_s], [-between, total - 1 - (n_s - 1) * bias - between * bias / n_s]]
    return tuple(np.linalg.solve(left, [(1 - a) ** 2 / n_r, n_r - 1 + between / n_r]))


def test_fresh_data_settles_at_the_fixed_point(unbiased):
    """Averages over the generations after a burn-in of 25, in which the start shrinks below 1e-6 of itself."""
    v, s = fixed_point(*FRESH)
    settled = unbiased["fresh"][:, 25:]
    check_mean((settled[..., 0] ** 2).mean(axis=1), v)
    check_mean(settled[..., 1].mean(axis=1), s)


def test_fresh_data_starts_with_real_data_alone(unbiased):
    """Generation 1 fits 20 real samples: E μ² = 1/20 and E σ² = 1, far from the fixed point."""
    first = unbiased["fresh"][:, 0]
    check_mean(first[:, 0] ** 2, 1 / 20)
    check_mean(first[:, 1], 1.0)


@pytest.mark.parametrize("t", [1, 2, 3, 6, T_ML])
@pytest.mark.parametrize("loop", ["accumulate", "replace"])
def test_maximum_likelihood_variance(maximum_likelihood, loop, t):
    """Accumulate: Π_{i<=t} (1 - 1/(n i²)), which stays above 0; replace: (1 - 1/n)^t, which does not."""
    expected = {
        "accumulate": math.prod(1 - 1 / (N_ML * i**2) for i in range(1, t + 1)),
        "replace": (1 - 1 / N_ML) ** t,
    }[loop]
    check_mean(maximum_likelihood[loop][:, t - 1, 1], expected)


def test_the_two_paradigms_are_told_apart(maximum_likelihood):
    """Runs are paired by their seeds: at the last generation the difference is many standard errors."""
    gap = maximum_likelihood["accumulate"][:, -1, 1] - maximum_likelihood["replace"][:, -1, 1]
    assert gap.mean() > 10 * gap.std(ddof=1) / math.sqrt(len(gap))
