"""The metrics of a config against one reference: what the device computes, and what the host makes of it."""

from collections.abc import Sequence

import jax
import numpy as np

from madbench.metrics.metric import Metric


class Evaluator:
    """Several metrics behind one call on device and one on the host."""

    def __init__(self, metrics: Sequence[Metric]):
        self.metrics = tuple(metrics)

    def states(self, generated: jax.Array, reference: jax.Array) -> dict:
        """Each metric's state. Traceable.

        Args:
          generated: float32 features `[n, feature]`.
          reference: float32 features `[n, feature]`, as many.
        """
        return {metric.name: metric.state(generated, reference) for metric in self.metrics}

    def compute(self, states: dict) -> dict[str, float | None]:
        """The values by name; None for all where a state is not finite."""
        states = jax.tree.map(np.asarray, states)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states)):
            return {metric.name: None for metric in self.metrics}
        return {metric.name: metric.compute(states[metric.name]) for metric in self.metrics}

    @property
    def versions(self) -> dict[str, int]:
        """Each metric's version, as every row carries them."""
        return {metric.name: metric.version for metric in self.metrics}
