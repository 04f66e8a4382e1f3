"""A Gaussian mixture with full covariances, fitted by expectation maximization, in any dimension.

Sources:
  EM         Dempster, Laird and Rubin 1977, "Maximum Likelihood from Incomplete Data via the EM Algorithm"; in the form
             of Bishop 2006, "Pattern Recognition and Machine Learning", section 9.2.2
  k-means++  Arthur and Vassilvitskii 2007, "k-means++: The Advantages of Careful Seeding"
  MAD        Alemohammad et al. 2023, arXiv 2307.01850: 25 modes on a grid
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from madbench.models.family import Given, check_number, check_whole
from madbench.models.minibatch import parts
from madbench.models.moments import symmetric_root
from madbench.samples import Samples


class MixtureParams(NamedTuple):
    """Weights float32 `[k]` that sum to 1, means `[k, d]`, covariances `[k, d, d]`."""

    weight: jax.Array
    mean: jax.Array
    covariance: jax.Array


class MixtureState(NamedTuple):
    """A frozen pytree; see `models.family.State`."""

    params: MixtureParams


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Σ πₖ N(μₖ, Σₖ) by EM, from scratch in each fit; λ samples from N(μₖ, λΣₖ) (PROTOCOL, section 3; ours).

    Each fit starts at k-means++ centres with every member given to the nearest. A component that has lost all its
    samples keeps its mean and covariance, and weight 0.

    Attributes:
      shape: of one sample; flattened to d numbers.
      components: k.
      iterations: of EM, in each fit.
      covariance_floor: added to the diagonals of the covariances in each iteration, as scikit-learn's `reg_covar`, but
        for the last: a loop would add it once a generation, and stop collapsing where it is reached.
    """

    shape: tuple[int, ...]
    components: int = 25
    iterations: int = 100
    covariance_floor: float = 1e-6

    segments = 1
    steps = 0
    batch_size = 0
    bias_refusal = ""
    bias_meaning = "λ multiplies each component's covariance (ours)"
    takes_weights = True

    def __post_init__(self):
        check_whole(1, components=self.components, iterations=self.iterations)
        check_number(self.covariance_floor, "covariance_floor", least=1e-12)

    @property
    def min_samples(self) -> int:
        return self.components

    def init(self, key: jax.Array) -> MixtureState:
        """Every component the standard normal; a fit overwrites them."""
        k, d = self.components, math.prod(self.shape)
        covariance = jnp.broadcast_to(jnp.eye(d), (k, d, d))
        return MixtureState(MixtureParams(jnp.full((k,), 1 / k), jnp.zeros((k, d)), covariance))

    def fit(self, key: jax.Array, training_set, state: MixtureState) -> tuple[MixtureState, jax.Array]:
        """`iterations` of EM. The curve is the mean negative log-likelihood per member before each of them."""
        samples, weight = training_set.everything()
        x = samples.x.reshape(weight.shape[0], -1)
        centres = plus_plus(key, x, weight, self.components)
        nearest = jnp.argmin(_squared_distances(x, centres), axis=0)
        first = MixtureParams(jnp.ones((self.components,)), centres, self._floor(x.shape[1]))
        params = maximize(x, (jnp.arange(self.components)[:, None] == nearest) * weight, first, self.covariance_floor)

        def iterate(params, floor):
            joint = log_joint(x, params)
            density = jax.nn.logsumexp(joint, axis=0)
            share = jnp.exp(joint - density) * weight
            loss = -jnp.sum(density * weight) / weight.sum()
            return maximize(x, share, params, floor), loss

        floors = jnp.full(self.iterations, self.covariance_floor).at[-1].set(0.0)
        params, losses = jax.lax.scan(iterate, params, floors)
        return MixtureState(params), losses.reshape(parts(self.iterations), -1).mean(axis=1)

    def sample(self, key: jax.Array, state: MixtureState, n: int, bias: jax.Array) -> Samples:
        """A component by its weight, then a sample of it with its covariance times λ."""
        weight, mean, covariance = state.params
        component_key, noise_key = jax.random.split(key)
        component = jax.random.categorical(component_key, jnp.log(weight), shape=(n,))
        noise = jax.random.normal(noise_key, (n, mean.shape[1]))

        def add(deviation, each):  # one component at a time: [n, d, d] roots side by side are too many for images
            index, root = each
            own = jnp.matmul(noise, root, precision="highest")
            return jnp.where(component[:, None] == index, own, deviation), None

        roots = jax.vmap(symmetric_root)(covariance)
        deviation, _ = jax.lax.scan(add, jnp.zeros_like(noise), (jnp.arange(self.components), roots))
        x = mean[component] + jnp.sqrt(bias) * deviation
        return Samples(x.reshape(n, *self.shape), jnp.zeros((n,), jnp.int32))

    def _floor(self, d: int) -> jax.Array:
        return jnp.broadcast_to(self.covariance_floor * jnp.eye(d), (self.components, d, d))


def plus_plus(key: jax.Array, x: jax.Array, weight: jax.Array, k: int) -> jax.Array:
    """k-means++ centres `[k, d]`: members, each drawn in proportion to its squared distance from those before.

    Of 2 + ln k candidates, the one that leaves the smallest sum of squared distances is taken: the greedy variant of
    the paper's section 7.

    Args:
      key: of the draws.
      x: float32 `[n, d]`.
      weight: float32 `[n]`, 0 for padding, which comes last; members are drawn in proportion.
      k: centres.
    """
    n, trials = x.shape[0], 2 + int(math.log(k))
    first_key, rest_key = jax.random.split(key)
    # the largest of log p plus Gumbel noise is a draw from p; noise is drawn per row, so that padding changes nothing
    first = x[jnp.argmax(jnp.log(weight) + jax.random.gumbel(first_key, (n,)))]

    def choose(squared, key):
        noise = jax.random.gumbel(key, (n, trials))
        candidates = x[jnp.argmax(jnp.log(squared)[:, None] + noise, axis=0)]
        left = jnp.minimum(squared, _squared_distances(x, candidates))
        best = jnp.argmin(left.sum(axis=1))
        return left[best], candidates[best]

    squared = weight * _squared_distances(x, first[None])[0]
    _, rest = jax.lax.scan(choose, squared, jax.random.split(rest_key, k - 1))
    return jnp.concatenate([first[None], rest])


def _squared_distances(x: jax.Array, centres: jax.Array) -> jax.Array:
    """`[k, n]`, by differences: a product of matrices would leave rounding where the truth is 0."""
    return jax.lax.map(lambda centre: jnp.sum((x - centre) ** 2, axis=1), centres)


def log_joint(x: jax.Array, params: MixtureParams) -> jax.Array:
    """log πₖ + log N(x; μₖ, Σₖ) for `x [n, d]`: `[k, n]`, -inf for components of weight 0. By Cholesky factors.

    Samples come last in every array: with few dimensions, that makes an iteration four times faster on a CPU.
    """
    d = x.shape[1]
    factor = jnp.linalg.cholesky(params.covariance)
    whiten = jax.vmap(lambda f: solve_triangular(f, jnp.eye(d), lower=True))(factor)
    log_determinant = 2 * jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    white = jnp.matmul(whiten, x.T - params.mean[:, :, None], precision="highest")
    constant = jnp.log(params.weight) - 0.5 * (d * math.log(2 * math.pi) + log_determinant)
    return constant[:, None] - 0.5 * jnp.sum(white**2, axis=1)


def maximize(x: jax.Array, share: jax.Array, params: MixtureParams, floor: float | jax.Array) -> MixtureParams:
    """The M-step (Bishop 2006, equations 9.24 to 9.27).

    Args:
      x: `[n, d]`.
      share: of each component in each sample, `[k, n]`; 0 for padding.
      params: before the step; what a component that has lost its samples keeps.
      floor: added to the diagonals of the covariances, beside what rounding may have taken from their eigenvalues.
    """
    d = x.shape[1]
    count = share.sum(axis=1)
    lost = count < jnp.finfo(count.dtype).eps
    divisor = jnp.where(lost, 1.0, count)
    mean = jnp.matmul(share, x, precision="highest") / divisor[:, None]
    centred = x.T - mean[:, :, None]
    scatter = jnp.matmul(centred * share[:, None], centred.swapaxes(1, 2), precision="highest")
    covariance = scatter / divisor[:, None, None]
    # two samples, or any on a line, have a singular covariance: a floor far below the other eigenvalues is lost in it
    rounding = 8 * d * jnp.finfo(covariance.dtype).eps
    covariance += jnp.eye(d) * (floor + rounding * jnp.diagonal(covariance, axis1=1, axis2=2)[:, None])
    return MixtureParams(
        jnp.where(lost, 0.0, count) / count.sum(),
        jnp.where(lost[:, None], params.mean, mean),
        jnp.where(lost[:, None, None], params.covariance, covariance),
    )


def build(given: Given, **settings) -> Mixture:
    """Settings of `config.model`: fields of `Mixture`. Labels and bounds are ignored."""
    return Mixture(shape=given.shape, **settings)
