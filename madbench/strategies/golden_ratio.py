"""Weights of real against synthetic samples that forget neither: the golden ratio where there are as many of both.

Source: He, Xu and Cheng 2025, "Golden Ratio Weighting Prevents Model Collapse", arXiv 2502.18049.

Each generation is fitted to n_r new real samples, whose mean has the weight w, and to n_s samples of the generation
before, whose mean has 1 - w. The variance of the fitted mean has the fixed point

  V = σ² [w²/n_r + (1-w)²/n_s] / (1 - (1-w)²),

which is least (the paper's optimal weight for the mean of a Gaussian) at

  w* = (√(k² + 4k) - k)/2,  k = n_r/n_s;  w* = (√5 - 1)/2 = 0.618 at n_r = n_s.

Setting: the paper's loop is `fresh_data`; in others the weight is applied all the same, though nothing says there that
it is best. Weights enter through the draw of each batch, so the objective's expectation is the weighted one.
"""

import dataclasses

import jax.numpy as jnp

from madbench.checks import check_number
from madbench.strategies.strategy import Strategy


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoldenRatio(Strategy):
    """All real samples together have the weight w, all synthetic ones 1 - w.

    Attributes:
      weight: w in (0, 1); 0 for the optimal one at the sizes of each training set.
    """

    weight: float = 0.0

    cite = "He et al. 2025, arXiv 2502.18049"

    def __post_init__(self):
        check_number("golden_ratio", self.weight, "weight", least=0, below=1)

    def weigh(self, is_real, n_real, n_synthetic):
        real, synthetic = (jnp.maximum(n, 1).astype(jnp.float32) for n in (n_real, n_synthetic))
        k = real / synthetic
        w = self.weight or (jnp.sqrt(k**2 + 4 * k) - k) / 2
        return jnp.where(is_real, w / real, (1 - w) / synthetic)
