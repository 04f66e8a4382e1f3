"""Two sets of features, and what several metrics read of them, each computed once."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from madbench.metrics import moments, neighbours

K = 5  # neighbours, not counting the point itself


class Engine(NamedTuple):
    """What looks at all samples, or at all pairs of them; see `moments.moments` and `neighbours`."""

    moments: Callable
    within: Callable
    nearest: Callable
    cross: Callable


TRACED = Engine(moments.moments, neighbours.within, neighbours.nearest, neighbours.cross)


class Training(NamedTuple):
    """Features of the set that the generator was trained on.

    Attributes:
      features: float32 `[capacity, feature]`.
      size: int32 `[]`; what lies beyond is padding.
    """

    features: jax.Array
    size: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Generated against reference features; what it computes is kept for the next metric that asks.

    Traceable with `TRACED` as the engine; then it lives within one trace. Everything runs with 64-bit types on.

    Attributes:
      generated: float32 `[n, feature]`.
      reference: float32 `[m, feature]`.
      labels: int32 `[m]`, classes of the reference; None where there are none.
      training: what the generator was trained on; None where nobody says.
      engine: who looks at pairs: `TRACED` within a program, a `screened.Engine` on the host.
    """

    generated: jax.Array
    reference: jax.Array
    labels: jax.Array | None = None
    training: Training | None = None
    engine: Any = TRACED

    def against(self, generated: jax.Array) -> "Comparison":
        """Other generated features against the same reference, of which nothing is computed twice."""
        other = dataclasses.replace(self, generated=generated)
        for name in ("reference_moments", "reference_radii", "training_radii"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    @cached_property
    def generated_moments(self) -> moments.Moments:
        return self.engine.moments(self.generated)

    @cached_property
    def reference_moments(self) -> moments.Moments:
        return self.engine.moments(self.reference)

    @cached_property
    def generated_radii(self) -> jax.Array:
        """Squared distance of each generated sample to its K-th other, float64 `[n]`."""
        return self.engine.within(self.generated, K)

    @cached_property
    def reference_radii(self) -> jax.Array:
        """Squared distance of each reference sample to its K-th other, float64 `[m]`."""
        return self.engine.within(self.reference, K)

    @cached_property
    def cross(self) -> neighbours.Cross:
        """Generated samples (queries) and reference samples (points) in each other's balls."""
        return self.engine.cross(self.generated, self.reference, self.generated_radii, self.reference_radii)

    @cached_property
    def nearest_labels(self) -> jax.Array:
        """Class of each generated sample: that of the nearest reference sample, int32 `[n]`."""
        return jnp.asarray(self.labels)[self.engine.nearest(self.generated, self.reference)[0]]

    @cached_property
    def nearest_training(self) -> tuple[jax.Array, jax.Array]:
        """Each generated sample's nearest training sample, int32 `[n]`, and its squared distance, float64 `[n]`."""
        return self.engine.nearest(self.generated, self.training.features, self.training.size)

    @cached_property
    def training_radii(self) -> jax.Array:
        """Squared distance of each training sample to the nearest other, float64 `[capacity]`, ∞ for padding."""
        radii = self.engine.within(self.training.features, 1, self.training.size)
        return jnp.where(jnp.arange(radii.shape[0]) < self.training.size, radii, jnp.inf)

    @cached_property
    def pair_sums(self) -> tuple[moments.PairSums, moments.PairSums, moments.PairSums]:
        """Kernels over the pairs within the generated set, within the reference, and across.

        The Gaussian kernel's width is twice the total variance of the reference: the mean squared distance between two
        of its samples.
        """
        spread = self.reference_moments
        width = 2 * jnp.trace(spread.scatter) / jnp.maximum(spread.count - 1, 1)
        width = jnp.maximum(width, jnp.finfo(jnp.float32).tiny)  # a reference that is one point
        generated, reference = self.generated, self.reference
        return (
            moments.pair_sums(generated, generated, width, same=True),
            moments.pair_sums(reference, reference, width, same=True),
            moments.pair_sums(generated, reference, width),
        )
