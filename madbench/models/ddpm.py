"""Diffusion as the paper's own experiments have it: DDPM with a linear schedule and ancestral sampling.

Sources:
  DDPM   Ho et al. 2020, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239
  MAD    Alemohammad et al. 2023, arXiv 2307.01850: T = 500
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from madbench.errors import UserError
from madbench.models.denoising import Denoising, expand
from madbench.models.family import check_number, check_whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ddpm(Denoising):
    """A predictor ε(x_t, t, label) of the noise in x_t = √ᾱ_t x + √(1-ᾱ_t) ε; a noise level is t, from 0.

    Samples start from N(0, I), and the paper's process is not exact: the schedule ends at √ᾱ_T = 0.08, not 0, which
    draws each generation a little towards 0 and unit variance, and the steps' variance β_t widens narrow directions
    (with a perfect ε, N(0, s²) comes back 0.2 % wider at s = 0.5, and 1.8 % at 0.05). Loops multiply that; EDM's
    sampler here does not.

    Attributes:
      timesteps: T.
      beta_min, beta_max: of the linear schedule β_1 … β_T (DDPM, section 4).
    """

    timesteps: int = 500
    beta_min: float = 1e-4
    beta_max: float = 0.02

    level_dtype = jnp.int32

    def __post_init__(self):
        super().__post_init__()
        check_whole(2, timesteps=self.timesteps)
        check_number(self.beta_min, "beta_min", above=0)
        check_number(self.beta_max, "beta_max", least=self.beta_min, below=1)
        left = math.exp(0.5 * np.log1p(-self._beta).sum())
        if not 1e-5 < left < 0.15:
            schedule = f"timesteps={self.timesteps} from beta_min={self.beta_min:g} to beta_max={self.beta_max:g}"
            raise UserError(
                f"config.model: {schedule} leave {left:.2g} of an image in the last step's noise; "
                f"{'raise' if left > 0.1 else 'lower'} beta_max until that is about 0.08, as 500 steps up to 0.02 do"
            )

    def levels(self, key, n):
        return jax.random.randint(key, (n,), 0, self.timesteps)

    def loss(self, params, x, level, noise, label):
        """DDPM's equation 14, per dimension."""
        signal = jnp.asarray(self._signal, jnp.float32)[level]
        noisy = expand(jnp.sqrt(signal), x) * x + expand(jnp.sqrt(1 - signal), x) * noise
        return jnp.mean(jnp.square(self.estimate(params, noisy, level, label) - noise))

    def estimate(self, params, x, level, label):
        """ε(x_t, t). The network is told t as it is told EDM's noise level: ln(σ)/4, here with σ² = (1-ᾱ)/ᾱ."""
        noise = np.log((1 - self._signal) / self._signal) / 8
        return self.net.apply({"params": params}, x, jnp.asarray(noise, jnp.float32)[level], label)

    def solve(self, estimate, noise, draw):
        """Ancestral sampling (DDPM, algorithm 2) with σ_t² = β_t, through x̂_0 within the bounds of the data.

        x̂_0 is what ε says of x; x_{t-1} is drawn around the posterior's mean (equation 7). Without bounds this is
        algorithm 2 to the letter.
        """
        signal, beta = self._signal, self._beta
        before = np.append(1.0, signal[:-1])  # ᾱ_{t-1}
        weight_image = np.sqrt(before) * beta / (1 - signal)
        weight_here = np.sqrt(1 - beta) * (1 - before) / (1 - signal)
        spread = np.sqrt(beta) * (np.arange(self.timesteps) > 0)  # the last step adds none
        table = jnp.asarray(np.stack([signal, weight_image, weight_here, spread], axis=1), jnp.float32)

        def step(x, t):
            signal, weight_image, weight_here, spread = table[t]
            image = self.given.clipped((x - jnp.sqrt(1 - signal) * estimate(x, t)) / jnp.sqrt(signal))
            return weight_image * image + weight_here * x + spread * draw(t), None

        x, _ = jax.lax.scan(step, noise, jnp.arange(self.timesteps - 1, -1, -1))
        return x

    @property
    def _beta(self) -> np.ndarray:  # [T], float64
        return np.linspace(self.beta_min, self.beta_max, self.timesteps)

    @property
    def _signal(self) -> np.ndarray:
        """ᾱ_t, float64 `[T]`."""
        return np.cumprod(1 - self._beta)
