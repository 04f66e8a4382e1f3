"""Kernel density estimation with a Gaussian kernel of the data's own shape, as `scipy.stats.gaussian_kde` does it.

Sources:
  bandwidths  Scott 1992, "Multivariate Density Estimation", section 6.3; Silverman 1986, "Density Estimation for
              Statistics and Data Analysis", section 4.3
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from madbench.errors import UserError
from madbench.models.family import Given, check_number
from madbench.models.moments import mean_and_covariance, symmetric_root
from madbench.samples import Samples

BANDWIDTHS = ("scott", "silverman")


class KernelDensityParams(NamedTuple):
    """The samples float32 `[capacity, d]`, padding 0, and their covariance `[d, d]`."""

    points: jax.Array
    covariance: jax.Array


class KernelDensityState(NamedTuple):
    """A frozen pytree; see `models.family.State`.

    Attributes:
      params: what was learned.
      size: int32 scalar, how many of the points are samples.
    """

    params: KernelDensityParams
    size: jax.Array


@dataclasses.dataclass(frozen=True)
class KernelDensity:
    """The mean of N(xᵢ, h²Σ) over the training set, Σ its unbiased covariance and h the bandwidth.

    λ samples from N(xᵢ, λh²Σ) (PROTOCOL, section 3; ours): at λ -> 0 the training set itself is drawn from. Each
    sample's variance is that of the training set, and the kernel's on top: a fully synthetic loop on n samples
    multiplies the expected covariance by 1 - 1/n + λh² in each generation. At λ = 1 it thus *gains* variance, by about
    1 + h², while the loops of families without a kernel lose it.

    Attributes:
      shape: of one sample; flattened to d numbers.
      capacity: of the largest training set.
      bandwidth: h, a positive number; or "scott" for n^(-1/(d+4)), "silverman" for (n(d+2)/4)^(-1/(d+4)).
    """

    shape: tuple[int, ...]
    capacity: int
    bandwidth: str | float = "scott"

    segments = 1
    steps = 0
    batch_size = 0
    min_samples = 2
    bias_refusal = ""
    bias_meaning = "λ multiplies each kernel's covariance (ours)"

    def __post_init__(self):
        if self.bandwidth in BANDWIDTHS:
            return
        if isinstance(self.bandwidth, str):
            names = " or ".join(map(repr, BANDWIDTHS))
            raise UserError(f"config.model.bandwidth must be {names} or a positive number, not {self.bandwidth!r}")
        check_number(self.bandwidth, "bandwidth", above=0)

    def init(self, key: jax.Array) -> KernelDensityState:
        """One kernel, of the standard normal's shape at 0; a fit overwrites it."""
        d = math.prod(self.shape)
        return KernelDensityState(KernelDensityParams(jnp.zeros((self.capacity, d)), jnp.eye(d)), jnp.int32(1))

    def fit(self, key, training_set, state: KernelDensityState) -> tuple[KernelDensityState, jax.Array]:
        """Keeps the samples and takes their covariance. The curve is empty: there is nothing to train."""
        samples, weight = training_set.everything()
        points = samples.x.reshape(weight.shape[0], -1)
        _, covariance = mean_and_covariance(points, weight)
        params = KernelDensityParams(points, covariance)
        return KernelDensityState(params, training_set.size.astype(jnp.int32)), jnp.zeros((0,))

    def sample(self, key: jax.Array, state: KernelDensityState, n: int, bias: jax.Array) -> Samples:
        """A uniform draw from the points, and the kernel's noise with its covariance times λ."""
        points, covariance = state.params
        point_key, noise_key = jax.random.split(key)
        index = jax.random.randint(point_key, (n,), 0, state.size)
        noise = jax.random.normal(noise_key, (n, points.shape[1]))
        deviation = jnp.sqrt(bias) * self.factor(state.size)
        x = points[index] + deviation * jnp.matmul(noise, symmetric_root(covariance), precision="highest")
        return Samples(x.reshape(n, *self.shape), jnp.zeros((n,), jnp.int32))

    def factor(self, size: jax.Array) -> jax.Array:
        """h for a training set of `size` samples."""
        if self.bandwidth not in BANDWIDTHS:
            return jnp.float32(self.bandwidth)
        d = math.prod(self.shape)
        effective = size * (1.0 if self.bandwidth == "scott" else (d + 2) / 4)
        return effective ** (-1 / (d + 4))


def build(given: Given, *, bandwidth: str | float = "scott") -> KernelDensity:
    """Settings of `config.model`: `bandwidth`. Labels and bounds are ignored."""
    return KernelDensity(shape=given.shape, capacity=given.capacity, bandwidth=bandwidth)
