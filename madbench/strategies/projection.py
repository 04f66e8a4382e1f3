"""Self-correction: each sample is moved towards the nearest cluster centre of the real samples of its class.

Source: Gillman et al. 2024, "Self-Correcting Self-Consuming Loops for Generative Model Training", arXiv 2402.07087:
a correction maps each synthetic sample to one that is likelier under the true distribution, with a strength γ: 0 leaves
the model's distribution, and with γ -> ∞ it is the corrected one. Their MNIST experiment corrects a digit by the
nearest centre of K-means clusters of real digits.

Setting: the paper mixes the two *distributions* with weights 1/(1+γ) and γ/(1+γ) (its definition of π_γ). That is done
here: a sample is corrected with the probability γ/(1+γ). Centres are found once for a run, by k-means++ and Lloyd's
iterations on the real samples of generation 1, in each class by itself. Where a class has fewer samples than there are
clusters, centres are samples: the column of memorization shows it.
"""

import dataclasses

import jax
import jax.numpy as jnp

from madbench.checks import check_number, check_whole
from madbench.models.mixture import plus_plus
from madbench.samples import Samples
from madbench.strategies.distances import squared_distances
from madbench.strategies.strategy import Strategy

_ITERATIONS = 20  # of Lloyd


@dataclasses.dataclass(frozen=True, kw_only=True)
class Projection(Strategy):
    """Onto cluster centres.

    Attributes:
      strength: γ, from 0 on.
      clusters: of each class.
    """

    strength: float = 1.0
    clusters: int = 16

    reads_real = True
    cite = "Gillman et al. 2024, arXiv 2402.07087"

    def __post_init__(self):
        check_number("projection", self.strength, "strength", least=0)
        check_whole("projection", 1, clusters=self.clusters)

    def init(self, key, real, member):
        """Centres, float32 `[classes, clusters, d]`, and which classes there are real samples of, bool `[classes]`."""
        x = real.x.reshape(real.x.shape[0], -1)
        labels = jnp.arange(max(self.given.num_classes, 1))
        of_class = lambda label: (member & (real.y == label)).astype(jnp.float32)
        centres = jax.lax.map(lambda label: self._centres(jax.random.fold_in(key, label), x, of_class(label)), labels)
        return centres, jax.vmap(lambda label: jnp.any(of_class(label) > 0))(labels)

    def select(self, key, candidates, member, state):
        x, y = candidates.x[0], candidates.y
        centres, known = state

        def nearest(sample, label):
            own = centres[label]
            return own[jnp.argmin(squared_distances(sample[None], own)[0])]

        corrected = jax.vmap(nearest)(x.reshape(x.shape[0], -1), y).reshape(x.shape)
        is_corrected = known[y] & (jax.random.uniform(key, y.shape) < self.strength / (1 + self.strength))
        return Samples(jnp.where(is_corrected.reshape(-1, *(1,) * (x.ndim - 1)), corrected, x), y)

    def _centres(self, key: jax.Array, x: jax.Array, weight: jax.Array) -> jax.Array:
        """K-means centres of the samples with weight 1, `[clusters, d]`; an empty cluster keeps its centre.

        Members come first, for where there are fewer than clusters `plus_plus` takes the first sample again.
        """
        order = jnp.argsort(-weight, stable=True)
        x, weight = x[order], weight[order]

        def iterate(centres, _):
            owner = jnp.argmin(squared_distances(x, centres), axis=1)
            share = jax.nn.one_hot(owner, self.clusters) * weight[:, None]
            count = share.sum(axis=0)[:, None]
            return jnp.where(count > 0, share.T @ x / jnp.maximum(count, 1), centres), None

        centres, _ = jax.lax.scan(iterate, plus_plus(key, x, weight, self.clusters), length=_ITERATIONS)
        return centres
