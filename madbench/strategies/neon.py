"""Neon: weights extrapolated away from where a fit on the model's own samples takes them.

Source: Alemohammad et al. 2025, "Neon: Negative Extrapolation From Self-Training Improves Image Generation",
arXiv 2510.03597, algorithm 1: θ_Neon = (1+w) θ_r - w θ_s, θ_s being θ_r after a short fine-tuning on its own samples.

Setting: the paper's θ_r is trained on real data alone, once. Here every generation is extrapolated, whatever it was
trained on, and its samples feed the next; where a loop fine-tunes, the next generation goes on from weights that were
not extrapolated. The paper has diffusion, flow-matching, autoregressive and moment-matching models; VAE, GAN and
Gaussian are ours. θ is what samples are drawn with: of diffusion, VAE and flow the average of the weights, of the GAN
the generator's average and w̄, of a Gaussian mean and covariance, whose negative eigenvalues count as 0. The fine-tuning
begins there and sees as many samples as the loop has initial ones, drawn at the run's λ.
"""

import dataclasses

import jax

from madbench.checks import check_number
from madbench.strategies.strategy import Strategy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neon(Strategy):
    """Extrapolation by w.

    Attributes:
      weight: w, from 0 on.
      extra_fit: optimizer steps of the fine-tuning, as a share of the fit's.
      extra_rate: its learning rate, as a share of the fit's.
    """

    weight: float = 1.0
    extra_fit: float = 0.1
    extra_rate: float = 0.1

    cite = "Alemohammad et al. 2025, arXiv 2510.03597"

    def __post_init__(self):
        check_number("neon", self.weight, "weight", least=0)
        for name in ("extra_fit", "extra_rate"):
            check_number("neon", getattr(self, name), name, above=0)

    def extrapolate(self, fitted, tuned):
        return jax.tree.map(lambda r, s: (1 + self.weight) * r - self.weight * s, fitted, tuned)
