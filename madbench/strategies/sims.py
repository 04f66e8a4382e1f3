"""SIMS: a sampler guided away from a diffusion model of the model's own samples.

Source: Alemohammad et al. 2024, "Self-Improving Diffusion Models with Synthetic Data", arXiv 2408.16333, algorithm 1:
the score s = (1+ω) s_r - ω s_s, s_s being that of the model after a fine-tuning on its own samples.

Setting: the paper's synthetic augmentation loop trains s_r on real data and what earlier generations synthesized, with
an auxiliary model a generation, as here. The estimates that are extrapolated (an image or a noise) are affine in the
score. λ's guidance, which the paper does not combine with it, is applied to both models first. The auxiliary model is
trained on as many samples as the loop has initial ones, drawn from the model itself at the run's λ, without SIMS.
"""

import dataclasses

from madbench.checks import check_number
from madbench.strategies.strategy import Strategy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sims(Strategy):
    """Negative guidance by ω.

    Attributes:
      weight: ω, from 0 on.
      extra_fit: optimizer steps of the auxiliary model, as a share of the fit's.
      extra_rate: its learning rate, as a share of the fit's.
    """

    weight: float = 1.0
    extra_fit: float = 0.5
    extra_rate: float = 0.5

    cite = "Alemohammad et al. 2024, arXiv 2408.16333"

    def __post_init__(self):
        check_number("sims", self.weight, "weight", least=0)
        for name in ("extra_fit", "extra_rate"):
            check_number("sims", getattr(self, name), name, above=0)

    def guide(self, fitted, tuned, x, level, state):
        return (1 + self.weight) * fitted - self.weight * tuned
