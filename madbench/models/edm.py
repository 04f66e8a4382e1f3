"""Diffusion in the EDM design.

Sources:
  EDM    Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv 2206.00364
"""

import dataclasses

import jax
import jax.numpy as jnp

from madbench.models.denoising import Denoising, expand
from madbench.models.family import check_number, check_whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edm(Denoising):
    """A denoiser D(x; σ, label) within the bounds of the data; a noise level is σ.

    Attributes:
      sigma_data: standard deviation of the data.
      p_mean, p_std: ln σ ~ N(p_mean, p_std²) in training (EDM, table 1).
      sigma_min, sigma_max, rho, sampler_steps: noise levels of the sampler (EDM, equation 5).
    """

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
        check_number(self.sigma_max, "sigma_max", above=self.sigma_min)
        check_number(self.p_mean, "p_mean")

    def levels(self, key, n):
        return jnp.exp(self.p_mean + self.p_std * jax.random.normal(key, (n,)))

    def loss(self, params, x, level, noise, label):
        """EDM's equation 8 with the weights of table 1."""
        weight = (level**2 + self.sigma_data**2) / (level * self.sigma_data) ** 2
        error = self.estimate(params, x + expand(level, x) * noise, level, label) - x
        return jnp.mean(weight * jnp.mean(jnp.square(error).reshape(x.shape[0], -1), axis=1))

    def estimate(self, params, x, level, label):
        """D(x; σ) by preconditioning F (EDM, equation 7 and table 1), within the bounds of the data.

        D is a mean of images, and no mean leaves their range. The bound is straight-through: where D overshoots a
        pixel that lies on the bound, the loss and its gradient are 0, so that F need not learn to be exact there; where
        it overshoots another, the gradient is that of the squared error and leads back.
        """
        variance = level**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / variance
        c_out = level * self.sigma_data * jax.lax.rsqrt(variance)
        c_in = jax.lax.rsqrt(variance)
        f = self.net.apply({"params": params}, expand(c_in, x) * x, jnp.log(level) / 4, label)
        free = expand(c_skip, x) * x + expand(c_out, x) * f
        return free + jax.lax.stop_gradient(self.given.clipped(free) - free)

    def solve(self, estimate, noise, draw):
        """Heun's method on the probability-flow ODE, from σ_max to 0, at the noise levels of EDM's equation 5.

        EDM's algorithm 1, without its stochasticity, steps x over σ. Here the same ODE is stepped in the coordinates
        in which EDM's network sees it, y = x/√(σ²+σ_d²) over the angle θ = arctan(σ/σ_d), where dy/dθ = -F: those of
        TrigFlow (Lu and Song 2024, arXiv 2410.11081). For N(0, s²) data the step is exact at s = σ_d, and its error is
        smaller at every s: a loop multiplies a sampler's error in each generation, so a solver's own drift would pass
        for a model's.

        For the same reason the start is not N(0, σ_max²) but N(D(0; σ_max), σ_max²): the noised data's mean is that of
        the data, which D(0) at the largest σ tells, and a start at 0 would pull each generation towards 0 by |mean| /
        σ_max standard deviations (ours).
        """
        i = jnp.arange(self.sampler_steps)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigma = (high + i / (self.sampler_steps - 1) * (low - high)) ** self.rho
        theta = jnp.arctan(sigma / self.sigma_data)

        def denoised(y, angle):
            x, level = self.sigma_data * y / jnp.cos(angle), self.sigma_data * jnp.tan(angle)
            return self.given.clipped(estimate(x, level))  # static thresholding: Saharia et al. 2022, section 2.3

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
