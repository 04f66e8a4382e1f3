"""Distances and scores on device. One class each, one line in the registry."""

from collections.abc import Iterable

from madbench.errors import UserError
from madbench.metrics.classes import ClassBalance, CoveredClasses
from madbench.metrics.comparison import Comparison, Training
from madbench.metrics.copies import Authenticity, Memorization
from madbench.metrics.entropy import Entropy
from madbench.metrics.evaluator import Evaluator
from madbench.metrics.frechet import FrechetDistance, FrechetInfinity, GaussianDistance
from madbench.metrics.kernel import GaussianDiscrepancy, KernelDistance
from madbench.metrics.manifold import Coverage, Density, Precision, Recall
from madbench.metrics.metric import Known, Metric
from madbench.metrics.modes import CoveredModes
from madbench.metrics.sliced import SlicedWasserstein
from madbench.metrics.spectrum import EffectiveRank, Variance, VendiScore

# config.metrics.names -> metric
METRICS: dict[str, type[Metric]] = {
    kind.name: kind
    for kind in (
        *(FrechetDistance, FrechetInfinity, GaussianDistance, KernelDistance, GaussianDiscrepancy, SlicedWasserstein),
        *(Precision, Recall, Density, Coverage),
        *(Memorization, Authenticity),
        *(VendiScore, EffectiveRank, Variance, Entropy),
        *(ClassBalance, CoveredClasses, CoveredModes),
    )
}


def select(names: Iterable[str], known: Known, field: str = "config.metrics.names") -> list[Metric]:
    """The metrics of these names.

    Args:
      names: of metrics.
      known: of the real distribution, in the space of the features.
      field: where the names come from, for messages.

    Raises:
      UserError: an unknown or repeated name, or none, or a metric that has no meaning for such data; one line.
    """
    names = list(names)
    if not names:
        raise UserError(f"{field} is empty; choose from {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            hint = "; FID is 'fd' with Inception's features" if name == "fid" else ""
            raise UserError(f"unknown metric {name!r}{hint}; {field} are among {', '.join(METRICS)}")
        if names.count(name) > 1:
            raise UserError(f"metric {name!r} is named twice in {field}")
        if refusal := METRICS[name].refusal(known):
            raise UserError(f"metric {name!r} {refusal}")
    return [METRICS[name].of(known) for name in names]


__all__ = ["METRICS", "Comparison", "Evaluator", "Known", "Metric", "Training", "select"]
