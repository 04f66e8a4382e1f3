"""What diffusion models have in common: a denoising network, labels that are hidden at times, and guidance as λ.

Sources:
  guidance  Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", arXiv 2207.12598
  MAD       Alemohammad et al. 2023, arXiv 2307.01850, section 2: λ = 1/(1+w)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from madbench.models.family import Guide, check_number
from madbench.models.minibatch import OneLoss, Trained
from madbench.samples import Samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoising(OneLoss):
    """A diffusion model, but for what a subclass says: noise levels, the loss, and the way back from noise.

    Attributes:
      net: linen module `(x, noise, label) -> like x`.
      label_dropout: share of the labels hidden in training, so that the model also learns the unconditional density.
    """

    net: nn.Module
    label_dropout: float = 0.1

    guidable = True
    level_dtype = jnp.float32
    bias_meaning = "λ = 1/(1+w), w the weight of classifier-free guidance"

    def __post_init__(self):
        super().__post_init__()
        check_number(self.label_dropout, "label_dropout", least=0, below=1)

    def levels(self, key: jax.Array, n: int) -> jax.Array:
        """Noise levels of a training batch, `[n]`, in the parameterization's own measure."""
        raise NotImplementedError

    def loss(self, params: Any, x: jax.Array, level: jax.Array, noise: jax.Array, label: jax.Array) -> jax.Array:
        """The training loss of `x [n, *shape]` under standard normal `noise` at `level [n]`."""
        raise NotImplementedError

    def estimate(self, params: Any, x: jax.Array, level: jax.Array, label: jax.Array) -> jax.Array:
        """What the model says of noisy `x [n, *shape]`, and guidance extrapolates: its image, or its noise."""
        raise NotImplementedError

    def solve(self, estimate: Callable, noise: jax.Array, draw: Callable) -> jax.Array:
        """Samples from standard normal noise.

        Args:
          estimate: `(x [n, *shape], level scalar) -> like x`, guided.
          noise: `[n, *shape]`.
          draw: `i -> [n, *shape]`, fresh noise for step i.
        """
        raise NotImplementedError

    @property
    def bias_refusal(self) -> str:
        return "" if self.given.num_classes else "guidance needs class labels"

    def init(self, key: jax.Array) -> Trained:
        x = jnp.zeros((1, *self.given.shape))
        params = self.net.init(key, x, jnp.zeros((1,)), jnp.zeros((1,), jnp.int32))["params"]
        return self.begin(params)

    def sample(self, key: jax.Array, state: Trained, n: int, bias: jax.Array, guide: Guide | None = None) -> Samples:
        """Guided by w = 1/λ - 1, and then by `guide`, where there is one."""
        row = jnp.arange(n, dtype=jnp.int32)
        label = self.given.labels(n)
        noise = jax.random.normal(key, (n, *self.given.shape))
        later = jax.random.fold_in(key, 1)

        def solve(rows):  # ([m, *shape], [m], [m]) -> [m, *shape]
            noise, label, row = rows

            def draw(i):  # a key for each row: chunks and groups of devices change nothing
                each = jax.vmap(lambda r: jax.random.fold_in(jax.random.fold_in(later, r), i))(row)
                return jax.vmap(lambda k: jax.random.normal(k, self.given.shape))(each)

            def estimate(x, level):
                fitted = self._guided(state.ema, x, level, label, bias)
                if guide is None:
                    return fitted
                tuned = None if guide.tuned is None else self._guided(*guide.tuned, x, level, label, bias)
                return guide.change(fitted, tuned, x, level)

            return self.solve(estimate, noise, draw)

        return Samples(self.map_rows(solve, (noise, label, row)), label)

    def step(self, key, batch, state, rate):
        label_key, level_key, noise_key = jax.random.split(key, 3)
        classes, n = self.given.num_classes, self.batch_size
        dropped = jax.random.bernoulli(label_key, self.label_dropout if classes else 0.0, (n,))
        label = jnp.where(dropped, classes, batch.y)
        level = self.levels(level_key, n)
        noise = jax.random.normal(noise_key, batch.x.shape)
        x, label, level, noise = self.given.group.part((batch.x, label, level, noise))
        return self.descend(state, lambda params: self.loss(params, x, level, noise, label), rate)

    def _guided(self, params, x, level, label, bias):
        """E_u + (1+w)(E_c - E_u) with 1+w = 1/λ: Ho and Salimans, equation 6, for the estimate E."""
        level = jnp.full((x.shape[0],), level)
        if not self.given.num_classes:
            return self.estimate(params, x, level, label)
        no_label = jnp.full_like(label, self.given.num_classes)
        twice = lambda a, b: jnp.concatenate([a, b])
        both = self.estimate(params, twice(x, x), twice(level, level), twice(label, no_label))
        conditional, unconditional = jnp.split(both, 2)
        return unconditional + (conditional - unconditional) / bias


def expand(scale: jax.Array, x: jax.Array) -> jax.Array:
    """`scale [n]` with axes of length 1, to multiply `x [n, ...]` with."""
    return scale.reshape(-1, *(1,) * (x.ndim - 1))
