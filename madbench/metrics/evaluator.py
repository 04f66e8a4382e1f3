"""The metrics of a config against one reference: what the device computes, and what the host makes of it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench.metrics.comparison import Comparison
from madbench.metrics.metric import Metric


class Evaluator:
    """Several metrics behind one call on device and one on the host."""

    def __init__(self, metrics: Sequence[Metric]):
        self.metrics = tuple(metrics)

    @property
    def needs_training(self) -> bool:
        """Whether any metric reads `Comparison.training`."""
        return any(metric.needs_training for metric in self.metrics)

    def states(self, comparison: Comparison) -> dict[str, Any]:
        """Each metric's state by name, and whether all features are finite. Traceable, with 64-bit types on."""
        features = [comparison.generated, comparison.reference]
        if self.needs_training:
            features.append(comparison.training.features)
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in features]))
        return {"finite": finite, "states": {metric.name: metric.state(comparison) for metric in self.metrics}}

    def compute(self, states: dict[str, Any]) -> dict[str, float | None]:
        """The values by name; None for all where a feature is not finite."""
        states = jax.tree.map(np.asarray, states)
        if not states["finite"]:
            return {metric.name: None for metric in self.metrics}
        return {metric.name: metric.compute(states["states"][metric.name]) for metric in self.metrics}

    @property
    def versions(self) -> dict[str, int]:
        """Each metric's version, as every row carries them."""
        return {metric.name: metric.version for metric in self.metrics}

    def describe(self) -> dict[str, dict[str, Any]]:
        """What readers of results are told of each metric: plain JSON values by name."""
        return {metric.name: metric.describe() for metric in self.metrics}
