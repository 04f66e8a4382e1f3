"""Class-conditional diffusion in the EDM design, with guidance as the sampling bias λ.

Sources:
  EDM       Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv 2206.00364
  EDM2      Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696
  guidance  Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", arXiv 2207.12598
  MAD       Alemohammad et al. 2023, arXiv 2307.01850, section 2: λ = 1/(1+w)
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from madbench.errors import UserError
from madbench.models.family import Given, check_number, check_whole
from madbench.models.minibatch import Minibatch, descend
from madbench.networks import DiffusionTransformer, ResidualMLP
from madbench.samples import Samples


class DiffusionState(NamedTuple):
    """A frozen pytree; see `models.family.State`.

    Attributes:
      params: weights under training.
      ema: their average, which samples are drawn with.
      optimizer: Adam's moments.
      step: int32 scalar, optimizer steps taken in this generation.
    """

    params: Any
    ema: Any
    optimizer: Any
    step: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diffusion(Minibatch):
    """A denoiser D(x; σ, label) and its training and sampling. Within the bounds of the data, where there are any.

    Attributes:
      net: linen module `(x, noise, label) -> like x`.
      label_dropout: share of the labels hidden in training, so that the model also learns the unconditional density.
      sigma_data: standard deviation of the data.
      p_mean, p_std: ln σ ~ N(p_mean, p_std²) in training (EDM, table 1).
      sigma_min, sigma_max, rho, sampler_steps: noise levels of the sampler (EDM, equation 5).
    """

    net: nn.Module
    label_dropout: float = 0.1
    sigma_data: float = 0.5
    p_mean: float = -1.2
    p_std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    sampler_steps: int = 32

    def __post_init__(self):
        super().__post_init__()
        check_whole(2, sampler_steps=self.sampler_steps)
        for name in ("sigma_data", "p_std", "sigma_min", "rho"):
            check_number(getattr(self, name), name, above=0)
        check_number(self.label_dropout, "label_dropout", least=0, below=1)
        check_number(self.sigma_max, "sigma_max", above=self.sigma_min)
        check_number(self.p_mean, "p_mean")

    @property
    def bias_refusal(self) -> str:
        return "" if self.given.num_classes else "guidance needs class labels"

    def init(self, key: jax.Array) -> DiffusionState:
        x = jnp.zeros((1, *self.given.shape))
        params = self.net.init(key, x, jnp.zeros((1,)), jnp.zeros((1,), jnp.int32))["params"]
        return DiffusionState(params, params, self._optimizer.init(params), jnp.int32(0))

    def sample(self, key: jax.Array, state: DiffusionState, n: int, bias: jax.Array) -> Samples:
        """Heun's second-order sampler (EDM, algorithm 1, without its stochasticity), guided by w = 1/λ - 1."""
        label = jnp.arange(n, dtype=jnp.int32) % max(self.given.num_classes, 1)
        noise = jax.random.normal(key, (n, *self.given.shape))

        def solve(rows):  # ([m, *shape], [m]) -> [m, *shape]
            return self._heun(lambda x, sigma: self._guided(state.ema, x, sigma, rows[1], bias), rows[0])

        return Samples(self.map_rows(solve, (noise, label)), label)

    def step(self, key, batch, state, rate):
        """The loss is EDM's equation 8 with the weights of table 1."""
        label_key, sigma_key, noise_key = jax.random.split(key, 3)
        classes, n = self.given.num_classes, self.batch_size
        dropped = jax.random.bernoulli(label_key, self.label_dropout if classes else 0.0, (n,))
        label = jnp.where(dropped, classes, batch.y)
        sigma = jnp.exp(self.p_mean + self.p_std * jax.random.normal(sigma_key, (n,)))
        noise = jax.random.normal(noise_key, batch.x.shape)
        x, label, sigma, noise = self.given.group.part((batch.x, label, sigma, noise))

        def loss(params):
            weight = (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2
            error = self._denoise(params, x + _expand(sigma, x) * noise, sigma, label) - x
            return jnp.mean(weight * jnp.mean(jnp.square(error).reshape(x.shape[0], -1), axis=1))

        value, gradient = self.given.group.mean(jax.value_and_grad(loss)(state.params))
        update, optimizer = self._optimizer.update(gradient, state.optimizer)
        params = descend(state.params, update, rate)
        return DiffusionState(params, self.average(state.ema, params, state.step), optimizer, state.step), value

    def _denoise(self, params, x, sigma, label):
        """D(x; σ) by preconditioning F (EDM, equation 7 and table 1), within the bounds of the data.

        D is a mean of images, and no mean leaves their range. The bound is straight-through: where D overshoots a
        pixel that lies on the bound, the loss and its gradient are 0, so that F need not learn to be exact there; where
        it overshoots another, the gradient is that of the squared error and leads back.
        """
        variance = sigma**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / variance
        c_out = sigma * self.sigma_data * jax.lax.rsqrt(variance)
        c_in = jax.lax.rsqrt(variance)
        f = self.net.apply({"params": params}, _expand(c_in, x) * x, jnp.log(sigma) / 4, label)
        free = _expand(c_skip, x) * x + _expand(c_out, x) * f
        return free + jax.lax.stop_gradient(self._bounded(free) - free) if self.given.bounds else free

    def _bounded(self, x):
        return jnp.clip(x, *self.given.bounds) if self.given.bounds else x

    def _guided(self, params, x, sigma, label, bias):
        """D_u + (1+w)(D_c - D_u) with 1+w = 1/λ: Ho and Salimans, equation 6, for the denoiser.

        Within the bounds of the data, as is usual (static thresholding: Saharia et al. 2022, Imagen, section 2.3).
        """
        n = x.shape[0]
        sigma = jnp.full((n,), sigma)
        if not self.given.num_classes:
            return self._denoise(params, x, sigma, label)
        no_label = jnp.full_like(label, self.given.num_classes)
        twice = lambda a, b: jnp.concatenate([a, b])
        both = self._denoise(params, twice(x, x), twice(sigma, sigma), twice(label, no_label))
        conditional, unconditional = jnp.split(both, 2)
        return self._bounded(unconditional + (conditional - unconditional) / bias)

    def _heun(self, denoise, noise):
        """Heun's method on the probability-flow ODE, from σ_max to 0, at the noise levels of EDM's equation 5.

        EDM's algorithm 1 steps x over σ. Here the same ODE is stepped in the coordinates in which EDM's network sees
        it, y = x/√(σ²+σ_d²) over the angle θ = arctan(σ/σ_d), where dy/dθ = -F: those of TrigFlow (Lu and Song 2024,
        arXiv 2410.11081). For N(0, s²) data the step is exact at s = σ_d, and its error is smaller at every s: a
        loop multiplies a sampler's error in each generation, so a solver's own drift would pass for a model's.

        For the same reason the start is not N(0, σ_max²) but N(D(0; σ_max), σ_max²): the noised data's mean is that of
        the data, which D(0) at the largest σ tells, and a start at 0 would pull each generation towards 0 by |mean| /
        σ_max standard deviations (ours).
        """
        i = jnp.arange(self.sampler_steps)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigma = (high + i / (self.sampler_steps - 1) * (low - high)) ** self.rho
        theta = jnp.arctan(sigma / self.sigma_data)

        def denoised(y, angle):
            return denoise(self.sigma_data * y / jnp.cos(angle), self.sigma_data * jnp.tan(angle))

        def slope(y, angle):  # -F, from the denoiser by EDM's equation 7
            return jnp.cos(angle) / jnp.sin(angle) * y - denoised(y, angle) / (self.sigma_data * jnp.sin(angle))

        def step(y, angles):
            here, there = angles
            first = slope(y, here)
            second = slope(y + (there - here) * first, there)
            return y + (there - here) * (first + second) / 2, None

        centre = denoised(jnp.zeros_like(noise), theta[0]) / self.sigma_data
        start = jnp.cos(theta[0]) * centre + jnp.sin(theta[0]) * noise
        y, _ = jax.lax.scan(step, start, (theta[:-1], theta[1:]))
        return denoised(y, theta[-1])  # the last step, to σ = 0, is Euler's: it lands on the denoised image

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(b1=0.9, b2=0.99)


def _expand(scale: jax.Array, x: jax.Array) -> jax.Array:
    return scale.reshape(-1, *(1,) * (x.ndim - 1))


def build(
    given: Given,
    *,
    network: str = "mlp",
    width: int = 256,
    depth: int = 2,
    heads: int = 4,
    patch: int = 2,
    dtype: str = "float32",
    remat: bool = False,
    **settings,
) -> Diffusion:
    """Settings of `config.model`.

    Args:
      given: what the data and the plan say.
      network: `mlp` or `transformer`.
      width, depth: of either network.
      heads, patch, dtype, remat: of the transformer.
      **settings: fields of `Diffusion`.
    """
    check_whole(1, width=width, depth=depth, heads=heads, patch=patch)
    if dtype not in ("float32", "bfloat16", "float16"):
        raise UserError(f"config.model.dtype must be float32, bfloat16 or float16, not {dtype!r}")
    shape, num_classes = given.shape, given.num_classes
    if network == "transformer":
        if len(shape) != 3:
            raise UserError(f"config.model.network='transformer' needs images, not samples of shape {shape}")
        if shape[0] % patch or shape[1] % patch or width % heads:
            raise UserError(
                f"config.model: patch={patch} must divide the image's {shape[0]}x{shape[1]}, "
                f"and heads={heads} the width {width}"
            )
        net = DiffusionTransformer(num_classes + 1, width, depth, heads, patch, dtype, remat)
    elif network == "mlp":
        net = ResidualMLP(num_classes + 1, width, depth)
    else:
        raise UserError(f"unknown network {network!r}; config.model.network is mlp or transformer")
    return Diffusion(given=given, net=net, **settings)
