"""Strategies on one-dimensional Gaussians, where the papers' formulas say what must come out: thousands of runs."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_loops import check_mean, drive
from scipy import optimize, special

from madbench.models.family import Given
from madbench.samples import Samples
from madbench.strategies import build

GOLDEN = (math.sqrt(5) - 1) / 2
N, T, SEEDS = 20, 8, 3000
LINE = Given((1,))

# ---- golden ratio ----------------------------------------------------------------------------------------------------


def optimal(n_real, n_synthetic):
    """The weight that makes the stationary variance of the mean least (He et al.), by search."""
    variance = lambda w: (w**2 / n_real + (1 - w) ** 2 / n_synthetic) / (1 - (1 - w) ** 2)
    return optimize.minimize_scalar(variance, bounds=(1e-4, 1), method="bounded", options={"xatol": 1e-10}).x


@pytest.mark.parametrize(("n_real", "n_synthetic"), [(1, 1), (50, 50), (100, 900), (300, 100), (1, 100)])
def test_the_weight_is_the_optimal_one(n_real, n_synthetic):
    is_real = jnp.arange(n_real + n_synthetic) < n_real
    weight = np.asarray(build("golden_ratio", LINE).weigh(is_real, jnp.int32(n_real), jnp.int32(n_synthetic)), float)
    of_real = weight[:n_real].sum() / weight.sum()
    assert of_real == pytest.approx(optimal(n_real, n_synthetic), abs=1e-5)
    if n_real == n_synthetic:
        assert of_real == pytest.approx(GOLDEN, abs=1e-6)


@functools.cache
def fresh(weight):
    """Fits of a loop with as many fresh real samples as synthetic ones, `[seed, generation, 2]`."""
    loop = f"fresh_data(n_fresh={N},n_synthetic={N})"
    return drive(T, (loop,), N, ddof=1, seeds=SEEDS, strategy=f"golden_ratio(weight={weight})")[loop]


def moments(w):
    """E μ² and E σ² by generation: the mean of weighted samples, and their unbiased weighted variance."""
    variance, spread, found = 1 / N, 1.0, []
    for t in range(1, T + 1):
        if t > 1:
            squares = w**2 / N + (1 - w) ** 2 / N
            new = w**2 / N + (1 - w) ** 2 * (variance + spread / N)
            within = w + (1 - w) * spread - w**2 / N - (1 - w) ** 2 * spread / N
            spread = (within + w * (1 - w) * variance) / (1 - squares)
            variance = new
        found.append((variance, spread))
    return np.array(found)


@pytest.mark.parametrize("weight", [0.3, 0.0, 0.9])
def test_weighted_loops_have_the_moments_of_the_recursion(weight):
    found, expected = fresh(weight), moments(weight or GOLDEN)
    for t in (1, 2, 4, 8):
        check_mean(found[:, t - 1, 0] ** 2, expected[t - 1, 0])
        check_mean(found[:, t - 1, 1], expected[t - 1, 1])


def test_no_other_weight_keeps_the_mean_as_near():
    """Paired by seed: real samples are the same."""
    best = fresh(0.0)[:, -1, 0] ** 2
    for other in (0.3, 0.9):
        difference = fresh(other)[:, -1, 0] ** 2 - best
        assert difference.mean() > 4 * difference.std(ddof=1) / math.sqrt(SEEDS)
    assert moments(GOLDEN)[-1, 0] < min(moments(w)[-1, 0] for w in (0.5, 0.55, 0.7, 0.75))


# ---- K-choice --------------------------------------------------------------------------------------------------------


def curated(sigma, k, scale):
    """Variance of the one of K = 2 from N(0, σ²) that is chosen, reward -scale x²/2, by quadrature."""
    assert k == 2
    node, weight = special.roots_hermitenorm(200)
    weight = weight / weight.sum()
    x, y = sigma * node[:, None], sigma * node[None]
    chosen = 2 * special.expit(scale / 2 * (y**2 - x**2))
    return float(np.sum(weight[:, None] * weight * chosen * x**2))


def test_choice_by_a_quadratic_reward_contracts_the_variance():
    n = 400_000
    strategy = build("k_choice(candidates=2,reward='quadratic',scale=1.5)", LINE)
    x = 1.3 * jax.random.normal(jax.random.key(1), (2, n, 1))
    candidates = Samples(x, jnp.zeros(n, jnp.int32))
    chosen = np.asarray(jax.jit(strategy.select)(jax.random.key(2), candidates, jnp.ones(n, bool), ()).x, float)
    check_mean(chosen[:, 0] ** 2, curated(1.3, 2, 1.5))
    check_mean(chosen[:, 0], 0.0)


def test_with_many_candidates_the_density_is_tilted_by_the_reward():
    """K -> ∞: N(0, σ²) becomes N(0, σ²/(1 + scale σ²)); with K candidates the error is of order 1/K."""
    n, k = 40_000, 128
    strategy = build(f"k_choice(candidates={k},reward='quadratic',scale=1.5)", LINE)
    x = 1.3 * jax.random.normal(jax.random.key(1), (k, n, 1))
    chosen = strategy.select(jax.random.key(2), Samples(x, jnp.zeros(n, jnp.int32)), jnp.ones(n, bool), ())
    assert float(jnp.var(chosen.x)) == pytest.approx(1.3**2 / (1 + 1.5 * 1.3**2), rel=0.03)


def test_a_curated_loop_contracts_as_predicted():
    n, generations = 400, 4
    name = "k_choice(candidates=2,reward='quadratic',scale=1.0)"
    found = drive(generations, ("fully_synthetic",), n, ddof=1, seeds=400, strategy=name)["fully_synthetic"]
    variance = 1.0
    for t in range(generations):
        check_mean(found[:, t, 1], variance, sigmas=5)  # the expectation of later steps is not quite linear in σ²
        variance = curated(math.sqrt(variance), 2, 1.0)
    assert variance < 0.4


# ---- Neon ------------------------------------------------------------------------------------------------------------


@functools.cache
def extrapolated(weight):
    """The model of generation 1, `[seed, 2]`: mean and variance, extrapolated by w."""
    return drive(1, ("fully_synthetic",), N, ddof=1, seeds=SEEDS, strategy=f"neon(weight={weight})")["fully_synthetic"][
        :, 0
    ]


def test_extrapolation_moves_mean_and_covariance_as_the_formula_says():
    """θ = (1+w) θ_r - w θ_s, of which w = 0 gives θ_r, w = 1 gives θ_s, and w = 3 must follow."""
    fitted, one = extrapolated(0), extrapolated(1)
    tuned = 2 * fitted - one
    assert np.allclose(extrapolated(3), 4 * fitted - 3 * tuned, atol=1e-4)
    plain = drive(1, ("fully_synthetic",), N, ddof=1, seeds=SEEDS)["fully_synthetic"][:, 0]
    assert np.array_equal(fitted, plain)


def test_the_second_fit_is_one_on_the_models_own_samples():
    """θ_s is fitted to N samples of N(μ_r, σ_r²): E μ_s = μ_r, Var μ_s = σ_r²/N, E σ_s² = σ_r², Var σ_s² known."""
    fitted = extrapolated(0)
    tuned = 2 * fitted - extrapolated(1)
    step = (tuned - fitted) / np.stack([np.sqrt(fitted[:, 1]), fitted[:, 1]], axis=1)
    check_mean(step[:, 0], 0.0)
    check_mean(step[:, 0] ** 2, 1 / N)
    check_mean(step[:, 1], 0.0)
    check_mean(step[:, 1] ** 2, 2 / (N - 1))
