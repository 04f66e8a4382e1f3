"""Feature extractors: what a metric sees of a sample. One file each, one line in the registry."""

import importlib

from madbench.errors import UserError
from madbench.metrics.features.extractor import Extractor

# config.metrics.features -> module with `build(pool, num_classes, cache) -> Extractor`.
FEATURES = {
    "lenet": "madbench.metrics.features.lenet",
    "raw": "madbench.metrics.features.raw",
}


def check(features: str, shape: tuple[int, ...], num_classes: int) -> None:
    """Raises UserError (one line) where `features` is unknown or cannot see samples of this `shape`."""
    if features not in FEATURES:
        raise UserError(f"unknown features {features!r}; config.metrics.features is one of {', '.join(FEATURES)}")
    importlib.import_module(FEATURES[features]).check(shape, num_classes)


def build(features: str, pool, num_classes: int, cache: str) -> Extractor:
    """Makes an extractor.

    Args:
      features: `lenet` or `raw`.
      pool: real training data (`Samples`), for extractors that are trained.
      num_classes: of that data.
      cache: directory for trained extractors.
    """
    return importlib.import_module(FEATURES[features]).build(pool, num_classes, cache)


__all__ = ["FEATURES", "Extractor", "build", "check"]
