"""Distances and scores on device. One class each, one line in the registry."""

from madbench.errors import UserError
from madbench.metrics.evaluator import Evaluator
from madbench.metrics.frechet import FrechetDistance
from madbench.metrics.manifold import Precision, Recall
from madbench.metrics.metric import Metric

# config.metrics.names -> metric.
METRICS: dict[str, Metric] = {m.name: m for m in (FrechetDistance(), Precision(), Recall())}


def select(names) -> list[Metric]:
    """The metrics of `config.metrics.names`.

    Raises:
      UserError: an unknown or repeated name, or none; one line.
    """
    if not names:
        raise UserError(f"config.metrics.names is empty; choose from {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            raise UserError(f"unknown metric {name!r}; config.metrics.names are among {', '.join(METRICS)}")
        if list(names).count(name) > 1:
            raise UserError(f"metric {name!r} is named twice in config.metrics.names")
    return [METRICS[name] for name in names]


__all__ = ["METRICS", "Evaluator", "Metric", "select"]
