"""What a metric is: a small state computed on device, merged over chunks, and finished on the host in float64."""

from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp

from madbench.metrics.comparison import Comparison
from madbench.samples import ExactMoments, Modes


class Known(NamedTuple):
    """What is known of the real distribution, in the space of the features, beside samples of it.

    Attributes:
      modes: None where there are none to count.
      moments: of the distribution itself; None where they are not known.
      num_classes: of the reference's labels; below 2 there are none.
      training: whether the generator's training set is at hand.
    """

    modes: Modes | None = None
    moments: ExactMoments | None = None
    num_classes: int = 0
    training: bool = False


class Metric:
    """One distance or score between generated and reference features. Subclasses are stateless, or frozen.

    Attributes:
      name: of its column.
      version: changes with any change of convention.
      label: for people.
      direction: "lower" or "higher" is better.
      kind: how its numbers are read: "distance" (from 0, by its logarithm), "share" (in [0, 1]), "count" (whole, from
        0), "positive" (from 0) or "number" (of any sign).
      most: the largest value that there can be: infinity, or 1 for shares.
      min_samples: on either side, for the metric to be defined.
      needs_training: whether it reads `Comparison.training`.
      cite: where the definition comes from.
      note: one sentence under the table on what the name does not say, or "".
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    label: ClassVar[str]
    direction: ClassVar[str]
    kind: ClassVar[str]
    most: float = float("inf")
    min_samples: ClassVar[int] = 1
    needs_training: ClassVar[bool] = False
    cite: ClassVar[str]
    note: ClassVar[str] = ""

    @classmethod
    def refusal(cls, known: Known) -> str:
        """Why the metric has no meaning for this real distribution and what to do, or ""."""
        if cls.needs_training and not known.training:
            return "compares with what the generator was trained on; name that (--training=PATH), or leave it out"
        return ""

    @classmethod
    def of(cls, known: Known) -> Self:
        """The metric for a real distribution that it does not refuse."""
        return cls()

    def state(self, comparison: Comparison) -> Any:
        """What the metric needs of one chunk: a pytree of arrays. Traceable; runs with 64-bit types on."""
        raise NotImplementedError

    def merge(self, a: Any, b: Any) -> Any:
        """The state of two chunks together; each metric says over which samples it may be chunked."""
        raise NotImplementedError

    def compute(self, state: Any) -> float | None:
        """The value, on the host, from NumPy arrays in float64; None where it does not exist."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What readers of results are told, as plain JSON values."""
        most = None if self.most == float("inf") else self.most
        names = ("version", "label", "direction", "kind", "note")
        return {name: getattr(self, name) for name in names} | {"most": most}


class Share(NamedTuple):
    """`hits` of `total`, float64."""

    hits: jax.Array
    total: jax.Array

    @classmethod
    def of(cls, hits: jax.Array, per_sample: float = 1.0) -> Self:
        """Of what was found for each sample, bool or a number `[n]`, where `per_sample` is the whole of one."""
        return cls(jnp.sum(hits, dtype=jnp.float64), jnp.asarray(hits.shape[0] * per_sample, jnp.float64))


class ShareMetric(Metric):
    """A mean over samples, whose state is a `Share`: chunks are of those that are counted."""

    kind = "share"
    most = 1.0

    def merge(self, a: Share, b: Share) -> Share:
        return Share(a.hits + b.hits, a.total + b.total)

    def compute(self, state: Share) -> float:
        return float(state.hits) / float(state.total)
