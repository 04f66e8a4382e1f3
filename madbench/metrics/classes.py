"""Which classes are generated, and how evenly: a sample is of the class of its nearest reference sample (ours)."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from madbench.metrics.comparison import Comparison
from madbench.metrics.metric import Known, Metric


@dataclasses.dataclass(frozen=True)
class _OfClasses(Metric):
    """State: float64 `[2, class]`, how many generated and how many reference samples. Chunks: generated.

    Attributes:
      num_classes: of the reference's labels.
    """

    num_classes: int

    direction = "higher"

    @classmethod
    def refusal(cls, known: Known) -> str:
        if known.num_classes < 2:
            return "counts classes, and the real data have no labels; choose data with labels, or leave it out"
        return ""

    @classmethod
    def of(cls, known: Known):
        return cls(known.num_classes)

    def state(self, comparison: Comparison):
        found = (comparison.nearest_labels, jnp.asarray(comparison.labels))
        classes = jnp.arange(self.num_classes)
        return jnp.stack([jnp.sum(y[:, None] == classes, axis=0, dtype=jnp.float64) for y in found])

    def merge(self, a, b):
        return np.stack([a[0] + b[0], a[1]])


class ClassBalance(_OfClasses):
    """Overlap of the class frequencies, Σ_c min(p_c, q_c): 1 less their total variation distance."""

    name = "class_balance"
    label = "class balance"
    kind = "share"
    most = 1.0
    cite = "ours: total variation of class frequencies, by the nearest reference sample"
    note = (
        "Class balance (ours): overlap of generated and reference class frequencies; a generated sample is of the "
        "class of its nearest reference sample."
    )

    def compute(self, state) -> float:
        frequencies = np.asarray(state, np.float64)
        frequencies = frequencies / frequencies.sum(axis=1, keepdims=True)
        return float(frequencies.min(axis=0).sum())


class CoveredClasses(_OfClasses):
    """How many classes have at least one generated sample: the modes of labelled data."""

    name = "classes"
    label = "classes"
    kind = "count"
    cite = "Srivastava et al. 2017, arXiv 1705.07761, with the nearest reference sample as the classifier (ours)"
    note = "Classes: those with at least one generated sample, by the nearest reference sample."

    @property
    def most(self) -> float:
        return float(self.num_classes)

    def compute(self, state) -> float:
        return float(np.sum(np.asarray(state)[0] > 0))
