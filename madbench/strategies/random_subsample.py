"""The control of every selection: as many candidates are drawn, and one of each is taken at random.

What a method gains over this it gains by choosing, and not by the samples or the time that choosing takes.
"""

import dataclasses

import jax
import jax.numpy as jnp

from madbench.checks import check_whole
from madbench.samples import Samples
from madbench.strategies.strategy import Strategy


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomSubsample(Strategy):
    """A uniform choice among the candidates for each place: the distribution of the pool is what it was.

    Attributes:
      candidates: drawn for each place.
    """

    candidates: int = 4

    cite = "the control"

    def __post_init__(self):
        check_whole("random_subsample", 1, candidates=self.candidates)

    def select(self, key, candidates, member, state):
        n = candidates.y.shape[0]
        chosen = jax.random.randint(key, (n,), 0, self.candidates)
        return Samples(candidates.x[chosen, jnp.arange(n)], candidates.y)
