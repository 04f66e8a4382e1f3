"""What a strategy against collapse is: an object with hooks, each of which leaves everything as it is by default.

A strategy works on one run, inside the compiled program; it does not know that `fleet` maps it over hundreds. What it
consumes it declares, gets nothing else, and pays for it: see `accounting`.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from madbench.models.family import Given
from madbench.samples import Samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strategy:
    """The identity: a subclass, a frozen dataclass too, overrides some of the hooks, and its fields are its settings.

    Arrays are JAX's, traced; everything is a pure function of its arguments and the fields. Methods that are no hooks
    begin with an underscore.

    Attributes:
      given: what the data are: `shape` of a sample, `num_classes` (0 where there are no labels), `bounds`.

    What it consumes is said by class attributes, fields or properties:
      candidates: samples that are drawn for each one that enters the pool.
      reads_real: whether `init` gets the real samples of generation 1.
      needs_labels: whether it means nothing for data without classes.
      extra_fit: a second fit in each generation, on samples of the first: its optimizer steps, as a share of those of
        the first; 0 for none. Where the family's fit is exact, any other share is one more fit.
      extra_rate: its learning rate, as a share of the model's.
      cite: the paper.
    """

    given: Given

    candidates: ClassVar[int] = 1
    reads_real: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    extra_fit: ClassVar[float] = 0.0
    extra_rate: ClassVar[float] = 1.0
    cite: ClassVar[str] = ""

    def init(self, key: jax.Array, real: Samples | None, member: jax.Array | None) -> Any:
        """What the run keeps for the other hooks, once, before its first fit: a verifier, clusters.

        Args:
          key: of this run.
          real: where `reads_real`, those of generation 1: x float32 `[n, *shape]`, y int32 `[n]`; else None.
          member: bool `[n]`, False for padding, which is zeros; None without `real`.

        Returns:
          A pytree of arrays; `()` for nothing.
        """
        return ()

    def weigh(self, is_real: jax.Array, n_real: jax.Array, n_synthetic: jax.Array) -> jax.Array:
        """Weights of the training set in the training objective.

        Args:
          is_real: bool `[capacity]`, of each sample.
          n_real, n_synthetic: int32 scalars, how many of each there are; in generation 1 all are real.

        Returns:
          float32 `[capacity]`, at least 0, up to a common factor. Those of padding are not looked at.
        """
        return jnp.ones(is_real.shape)

    def select(
        self, key: jax.Array, candidates: Samples, member: jax.Array, state: Any
    ) -> Samples | tuple[Samples, jax.Array]:
        """What enters the pool of a generation's fresh samples: some of them, or others made from them.

        Args:
          key: of this run and generation.
          candidates: x float32 `[candidates, n, *shape]`, within the bounds; y int32 `[n]`, the label of all that are
            drawn for a place. `candidates.x[0]` is what would enter without a strategy.
          member: bool `[n]`: the first places are the run's; the others are there for loops with larger pools, are
            zeros, and must change nothing.
          state: as `init` made it.

        Returns:
          x float32 `[n, *shape]`, y int32 `[n]`; or these and weights float32 `[n]`, at least 0, with which they enter
          the training objective of later generations (1: as without).
        """
        return Samples(candidates.x[0], candidates.y)

    def extrapolate(self, fitted: Any, tuned: Any) -> Any:
        """Weights to draw samples with, in place of `fitted`.

        Args:
          fitted: what the model draws samples with, a pytree of float32 arrays: an average of its weights.
          tuned: the same after the extra fit.
        """
        return fitted

    def guide(self, fitted: jax.Array, tuned: Any, x: jax.Array, level: jax.Array, state: Any) -> jax.Array:
        """The estimate that a diffusion model's sampler goes on with, in place of `fitted`.

        Args:
          fitted: float32 `[n, *shape]`, the model's estimate of the image (EDM) or of the noise (DDPM), with λ's
            guidance: affine in the score.
          tuned: the same of the model after the extra fit; None where there is none.
          x: noisy samples, float32 `[n, *shape]`.
          level: scalar, the noise level in the model's own measure.
          state: as `init` made it.
        """
        return fitted


HOOKS = ("init", "weigh", "select", "extrapolate", "guide")


def has(strategy: Strategy, hook: str) -> bool:
    """Whether the strategy changes what a hook does; one that it does not is no part of the program."""
    return getattr(type(strategy), hook) is not getattr(Strategy, hook)
