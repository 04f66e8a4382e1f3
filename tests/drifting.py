"""The smallest family that learns from minibatches: a mean for each class, and noise. Compiles in a moment."""

import dataclasses

import jax
import jax.numpy as jnp

from madbench.models.family import Given
from madbench.models.minibatch import OneLoss
from madbench.samples import Samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drifting(OneLoss):
    """Each step's noise, batch and labels move the means, so that no two ways of reading could pass for one another."""

    bias_refusal, bias_meaning = "", "λ multiplies the noise"

    def init(self, key):
        return self.begin({"mean": 0.1 * jax.random.normal(key, (max(self.given.num_classes, 1), *self.given.shape))})

    def step(self, key, batch, state, rate):
        noise = jax.random.normal(key, batch.x.shape)
        x, y, noise = self.given.group.part((batch.x, batch.y, noise))
        return self.descend(state, lambda p: jnp.mean((self._means(p, y) - x - 0.1 * noise) ** 2), rate)

    def sample(self, key, state, n, bias):
        label = self.given.labels(n)
        noise = jax.random.normal(key, (n, *self.given.shape))
        return Samples(self._means(state.ema, label) + 0.3 * bias * noise, label)

    def _means(self, params, label):
        return jnp.tensordot(jax.nn.one_hot(label, len(params["mean"])), params["mean"], axes=1)


def build(given: Given, **settings) -> Drifting:
    return Drifting(given=given, **settings)
