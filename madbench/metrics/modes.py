"""How many of the real distribution's modes the generated samples cover.

The convention of the experiment with 25 Gaussians: a mode is covered where at least one generated sample lies within
three standard deviations of its centre, and nearer to it than to any other, which matters where modes overlap (ours;
the rest: Srivastava et al. 2017, "VEEGAN", arXiv 1705.07761; Lin et al. 2018, "PacGAN",
arXiv 1712.04086).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from madbench.metrics.comparison import Comparison
from madbench.metrics.metric import Known, Metric
from madbench.samples import Modes


@dataclasses.dataclass(frozen=True)
class CoveredModes(Metric):
    """The number of covered modes. May be chunked over generated samples.

    Attributes:
      modes: of the real distribution, in the space of the features.
    """

    modes: Modes

    name = "modes"
    label = "modes"
    direction = "higher"
    kind = "count"
    cite = "Srivastava et al. 2017, arXiv 1705.07761; Lin et al. 2018, arXiv 1712.04086"
    note = "Modes: of the real distribution, those that have a generated sample within three standard deviations."

    @classmethod
    def refusal(cls, known: Known) -> str:
        if known.modes is None:
            return (
                "counts the modes of a distribution that has them, in its own space: those of `madbench run` with "
                "config.data.source='mixture' and config.metrics.features='raw'; leave it out elsewhere"
            )
        return ""

    @classmethod
    def of(cls, known: Known):
        return cls(known.modes)

    @property
    def most(self) -> float:
        return float(len(self.modes.centres))

    def state(self, comparison: Comparison) -> jax.Array:
        """Whether each mode is covered: float64 `[modes]` of 0 and 1."""
        x, centres = comparison.generated.astype(jnp.float64), jnp.asarray(self.modes.centres, jnp.float64)
        squared = jax.lax.map(lambda centre: jnp.sum((x - centre) ** 2, axis=1), centres)  # [mode, n]
        own = jnp.argmin(squared, axis=0) == jnp.arange(len(centres))[:, None]
        return jnp.any(own & (squared <= self.modes.radius**2), axis=1).astype(jnp.float64)

    def merge(self, a, b):
        return np.maximum(a, b)

    def compute(self, state) -> float:
        return float(np.asarray(state).sum())
