"""The endless two-dimensional Rosenbrock density, a curved ridge, with exact sampling.

Source: Pagani, Wiegand and Nadarajah 2022, "An n-dimensional Rosenbrock distribution for Markov chain Monte Carlo
testing", Scandinavian Journal of Statistics 49(2).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from madbench.data.source import EndlessSource, check_number, endless
from madbench.samples import ExactMoments, Samples


def load(
    a: float = 0.5, b: float = 1.0, mu: float = 0.0, n_reference: int = 1000, split_seed: int = 0
) -> EndlessSource:
    """p(x) ∝ exp(-a (x₁ - μ)² - b (x₂ - x₁²)²), float32 `[n, 2]`, no labels.

    MAD (arXiv 2307.01850) does not give its constants; those of the defaults are ours.

    Args:
      a: sets the ridge's extent: x₁ has variance 1/(2a).
      b: sets its width: x₂, given x₁, has variance 1/(2b).
      mu: μ, the mean of x₁.
      n_reference: samples drawn once for the metrics.
      split_seed: of that draw.
    """
    check_number(a, "a", above=0)
    check_number(b, "b", above=0)
    check_number(mu, "mu")
    draw = Rosenbrock(float(a), float(b), float(mu))
    return endless(draw, name="rosenbrock", n_reference=n_reference, split_seed=split_seed)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Rosenbrock:
    """x₁ ~ N(μ, 1/(2a)), then x₂ ~ N(x₁², 1/(2b)); as `source.Distribution`."""

    a: float
    b: float
    mu: float

    modes = None

    def __call__(self, key: jax.Array) -> Samples:
        along, across = jax.random.normal(key, (2,))
        first = self.mu + along / math.sqrt(2 * self.a)
        second = first**2 + across / math.sqrt(2 * self.b)
        return Samples(jnp.stack([first, second]), jnp.int32(0))

    @property
    def moments(self) -> ExactMoments:
        """With s² = 1/(2a) the variance of x₁: E x₁² = μ² + s², Var x₁² = 2s⁴ + 4μ²s², Cov(x₁, x₁²) = 2μs²."""
        s2 = 1 / (2 * self.a)
        across = 2 * self.mu * s2
        of_square = 2 * s2**2 + 4 * self.mu**2 * s2
        covariance = [[s2, across], [across, of_square + 1 / (2 * self.b)]]
        return ExactMoments(np.asarray([self.mu, self.mu**2 + s2]), np.asarray(covariance))

    def density(self, x: np.ndarray) -> np.ndarray:
        first, second = np.asarray(x, np.float64).T
        exponent = self.a * (first - self.mu) ** 2 + self.b * (second - first**2) ** 2
        return math.sqrt(self.a * self.b) / math.pi * np.exp(-exponent)
