"""A normalizing flow, RealNVP, with the variance of its latent as the sampling bias λ.

Sources:
  RealNVP         Dinh et al. 2017, "Density Estimation Using Real NVP", arXiv 1605.08803
  Glow            Kingma and Dhariwal 2018, "Glow", arXiv 1807.03039: a scale and shift between couplings
  dequantization  Theis et al. 2016, "A Note on the Evaluation of Generative Models", arXiv 1511.01844, section 3.1
  MAD             Alemohammad et al. 2023, arXiv 2307.01850: λ scales the latent's covariance
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from madbench.errors import UserError
from madbench.models.family import Given, check_number, check_whole
from madbench.models.minibatch import OneLoss, Trained
from madbench.networks import RealNVP
from madbench.samples import Samples

EDGE = 0.05  # α of RealNVP, section 4.1: keeps the logit of a pixel away from infinity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flow(OneLoss):
    """An invertible network from samples to N(0, I), trained by maximum likelihood.

    Vectors enter as they are. Images (samples with bounds) are spread over their grey levels by uniform noise and taken
    to the real line by a logit; samples come back to the grid of grey levels, within the bounds.

    Attributes:
      net: linen module, `x, label -> (z, logdet)` with a method `inverse`, on flattened samples.
      dequantization: distance of neighbouring grey levels in the data's units, for images only: 2/255 for 8-bit images
        in [-1, 1], 1/8 for the 17 levels of the digits.
    """

    net: nn.Module
    dequantization: float = 2 / 255

    bias_refusal = ""
    bias_meaning = "λ is the variance of the latent, N(0, λI)"

    def __post_init__(self):
        super().__post_init__()
        check_number(self.dequantization, "dequantization", above=0)
        if self.given.bounds:
            low, high = self.given.bounds
            steps = (high - low) / self.dequantization
            if round(steps) < 1 or abs(steps - round(steps)) > 1e-3:
                raise UserError(
                    f"config.model.dequantization={self.dequantization:g} must be the distance of grey levels from "
                    f"{low:g} to {high:g}: that range divided by a whole number"
                )

    def init(self, key: jax.Array) -> Trained:
        x = jnp.zeros((1, math.prod(self.given.shape)))
        params = self.net.init(key, x, jnp.zeros((1,), jnp.int32))["params"]
        return self.begin(params)

    def sample(self, key: jax.Array, state: Trained, n: int, bias: jax.Array) -> Samples:
        """Latents from N(0, λI), through the inverse."""
        label = self.given.labels(n)
        z = jnp.sqrt(bias) * jax.random.normal(key, (n, math.prod(self.given.shape)))

        def invert(rows):
            x = self.net.apply({"params": state.ema}, *rows, method="inverse")
            return self._to_levels(x).reshape(-1, *self.given.shape)

        return Samples(self.map_rows(invert, (z, label)), label)

    def step(self, key, batch, state, rate):
        """The loss is the negative log-likelihood in nats per dimension, of the data in its own units."""
        noise = jax.random.uniform(key, batch.x.shape)
        x, label, noise = self.given.group.part((batch.x, batch.y, noise))

        def loss(params):
            return -jnp.mean(self.log_likelihood(params, x, label, noise)) / math.prod(self.given.shape)

        return self.descend(state, loss, rate)

    def log_likelihood(self, params: Any, x: jax.Array, label: jax.Array, noise: jax.Array) -> jax.Array:
        """ln p(x) of each sample (RealNVP, equations 2 and 3).

        Args:
          params: of the network.
          x: `[n, *shape]`.
          label: int32 `[n]`.
          noise: `[n, *shape]` in [0, 1): where within its grey level a pixel is taken to lie; unused for vectors.

        Returns:
          float32 `[n]`. For images, the density at the dequantized image in the data's units: plus
          d ln(dequantization) it is a lower bound, on average over the noise, of the image's log-probability.
        """
        y, to_line = self._from_levels(x.reshape(x.shape[0], -1), noise.reshape(x.shape[0], -1))
        z, through = self.net.apply({"params": params}, y, label)
        return to_line + through - 0.5 * jnp.sum(z**2 + math.log(2 * math.pi), axis=1)

    def _from_levels(self, x, noise):
        """Images to the real line, `[n, d]`, and the log-determinant `[n]` of that."""
        if not self.given.bounds:
            return x, jnp.zeros(x.shape[0])
        low, high = self.given.bounds
        span = high - low + self.dequantization
        p = EDGE + (1 - 2 * EDGE) * (x - low + self.dequantization * noise) / span
        slope = math.log((1 - 2 * EDGE) / span) - jnp.log(p) - jnp.log1p(-p)
        return jnp.log(p) - jnp.log1p(-p), jnp.sum(slope, axis=1)

    def _to_levels(self, y):
        """The real line to grey levels; what lies beyond the outer levels becomes those."""
        if not self.given.bounds:
            return y
        low, high = self.given.bounds
        steps = round((high - low) / self.dequantization)
        u = (jax.nn.sigmoid(y) - EDGE) / (1 - 2 * EDGE)
        level = jnp.clip(jnp.floor(u * (steps + 1)), 0, steps)
        return low + (high - low) * (level / steps)


def build(given: Given, *, couplings: int = 8, width: int = 64, depth: int = 2, **settings) -> Flow:
    """Settings of `config.model`.

    Args:
      given: what the data and the plan say.
      couplings: affine couplings.
      width, depth: of the hidden layers of each coupling's conditioner.
      **settings: fields of `Flow`.

    Raises:
      UserError: bad settings, or samples of one number, which a coupling cannot split; one line.
    """
    check_whole(1, couplings=couplings, width=width, depth=depth)
    dimension = math.prod(given.shape)
    if dimension < 2:
        raise UserError(
            "config.model.family='flow' splits each sample in two, and this data has one number per sample; "
            "take 'gaussian' or 'vae'"
        )
    return Flow(given=given, net=RealNVP(dimension, given.num_classes, couplings, width, depth), **settings)
