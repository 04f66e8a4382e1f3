"""Distances and scores on device. One class each, one line in the registry."""

from madbench.errors import UserError
from madbench.metrics.evaluator import Evaluator
from madbench.metrics.frechet import FrechetDistance
from madbench.metrics.manifold import Precision, Recall
from madbench.metrics.metric import Metric
from madbench.metrics.modes import CoveredModes
from madbench.samples import Modes

# config.metrics.names -> metric, of those that serve every source; "modes" is made for the modes of one.
METRICS: dict[str, Metric] = {m.name: m for m in (FrechetDistance(), Precision(), Recall())}


def select(names, modes: Modes | None = None) -> list[Metric]:
    """The metrics of `config.metrics.names`.

    Args:
      names: of metrics.
      modes: of the real distribution, in the space of the features; None where there are none to count.

    Raises:
      UserError: an unknown or repeated name, or none, or modes to count where there are none; one line.
    """
    known = (*METRICS, CoveredModes.name)
    if not names:
        raise UserError(f"config.metrics.names is empty; choose from {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UserError(f"unknown metric {name!r}; config.metrics.names are among {', '.join(known)}")
        if list(names).count(name) > 1:
            raise UserError(f"metric {name!r} is named twice in config.metrics.names")
        if name == CoveredModes.name and modes is None:
            raise UserError(
                "metric 'modes' counts the modes of a distribution that has them, in its own space; set "
                "config.data.source='mixture' and config.metrics.features='raw', or leave it out"
            )
    return [METRICS[name] if name in METRICS else CoveredModes(modes) for name in names]


__all__ = ["METRICS", "Evaluator", "Metric", "select"]
