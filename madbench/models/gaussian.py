"""The Gaussian family: exact fit and exact sampling, in any dimension. Its loops have closed forms (PROTOCOL, §7)."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from madbench.errors import UserError
from madbench.models.family import Given
from madbench.models.moments import mean_and_covariance, symmetric_root
from madbench.samples import Samples


class GaussianParams(NamedTuple):
    """Mean float32 `[d]` and covariance float32 `[d, d]`."""

    mean: jax.Array
    covariance: jax.Array


class GaussianState(NamedTuple):
    """A frozen pytree; see `models.family.State`."""

    params: GaussianParams


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """N(μ, Σ) fitted by moments; λ samples from N(μ, λΣ) (arXiv 2307.01850, section 2).

    Samples are float32: once σ falls below 1e-7 |μ| they are all equal, and σ is 0 from there on. A fully synthetic
    loop gets there when λ^t is about 1e-12.

    Attributes:
      shape: of one sample; flattened to d numbers.
      ddof: 1 divides the scatter by n-1 (unbiased, the paper), 0 by n (maximum likelihood).
    """

    shape: tuple[int, ...]
    ddof: int = 1

    segments = 1
    steps = 0
    batch_size = 0
    bias_refusal = ""
    bias_meaning = "λ multiplies the covariance"
    sampled_with = ("params",)
    takes_weights = True

    @property
    def min_samples(self) -> int:
        return 1 + self.ddof

    def init(self, key: jax.Array) -> GaussianState:
        """The standard normal; an exact fit overwrites it."""
        d = math.prod(self.shape)
        return GaussianState(GaussianParams(jnp.zeros(d), jnp.eye(d)))

    def fit(self, key, training_set, state: GaussianState) -> tuple[GaussianState, jax.Array]:
        """Sample mean and covariance. The curve is empty: there is nothing to train."""
        samples, weight = training_set.everything()
        x = samples.x.reshape(weight.shape[0], -1)
        return GaussianState(GaussianParams(*mean_and_covariance(x, weight, self.ddof))), jnp.zeros((0,))

    def sample(self, key: jax.Array, state: GaussianState, n: int, bias: jax.Array) -> Samples:
        """Through the symmetric root of Σ by `eigh`, so that a rank-deficient covariance can be sampled too."""
        mean, covariance = state.params
        noise = jax.random.normal(key, (n, mean.shape[0]))
        x = mean + jnp.sqrt(bias) * jnp.matmul(noise, symmetric_root(covariance), precision="highest")
        return Samples(x.reshape(n, *self.shape), jnp.zeros((n,), jnp.int32))


def build(given: Given, *, ddof: int = 1) -> Gaussian:
    """Settings of `config.model`: `ddof`. Labels and bounds are ignored."""
    if ddof not in (0, 1):
        raise UserError(f"config.model.ddof must be 0 or 1, not {ddof!r}")
    return Gaussian(shape=given.shape, ddof=ddof)
