"""What a metric is: a small state computed on device, merged over chunks, and finished on the host in float64."""

from typing import Any, Protocol

import jax


class Metric(Protocol):
    """One distance or score between generated and reference features.

    Attributes:
      name: of its column.
      version: changes with any change of convention.
      direction: "lower" or "higher" is better.
      most: the largest value that there can be: infinity for distances, 1 for shares.
      min_samples: on either side, for the metric to be defined.
      cite: where the definition comes from.
    """

    name: str
    version: int
    direction: str
    most: float
    min_samples: int
    cite: str

    def state(self, generated: jax.Array, reference: jax.Array) -> Any:
        """What the metric needs of one chunk. Traceable; run with 64-bit types enabled.

        Args:
          generated: float32 `[n, feature]`.
          reference: float32 `[m, feature]`.
        """

    def merge(self, a: Any, b: Any) -> Any:
        """The state of two chunks together; each metric says over which samples it may be chunked."""

    def compute(self, state: Any) -> float:
        """The value, on the host, from NumPy arrays in float64."""
