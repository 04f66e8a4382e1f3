"""Feature extractors: what a metric sees of a sample. One file each, one line in the registry."""

import importlib
import pathlib
from types import ModuleType

from madbench.errors import UserError
from madbench.metrics.features import weights
from madbench.metrics.features.extractor import Extractor

# config.metrics.features, or what stands before its colon -> module with `check(shape, num_classes)`,
# `dim(shape, cache) -> int` and `build(pool, num_classes, cache) -> Extractor`. A module that reads published weights
# names their FILES, their SOURCE for people, and the DIM of the usual ones; the last two functions then take the `path`
# behind the colon as well.
FEATURES = {
    "dinov2": "madbench.metrics.features.dinov2",
    "inception": "madbench.metrics.features.inception",
    "lenet": "madbench.metrics.features.lenet",
    "raw": "madbench.metrics.features.raw",
}


def check(features: str, shape: tuple[int, ...], num_classes: int) -> None:
    """Raises UserError (one line) where `features` is unknown or cannot see samples of this `shape`."""
    _find(features)[0].check(shape, num_classes)


def missing(features: str, cache: str) -> str:
    """What `build` refuses where the file of published weights is not there, one line; else ""."""
    module, path = _find(features)
    if not hasattr(module, "FILES"):
        return ""
    try:
        name = str(features).partition(":")[0]
        weights.locate(name, path.get("path", ""), _expanded(cache), module.FILES, module.SOURCE)
    except UserError as error:
        return str(error)
    return ""


def dim(features: str, shape: tuple[int, ...], cache: str, *, blank: bool = False) -> int:
    """How many numbers the features of a sample of `shape` are; nothing is trained or computed for it.

    With `blank`, of the usual network where the file that says it is missing.

    Raises:
      UserError: the file of published weights says it, and is missing or no such file.
    """
    module, path = _find(features)
    if blank and missing(features, cache):
        return module.DIM
    return module.dim(shape, _expanded(cache), **path)


def on_host(features: str) -> bool:
    """Whether the network is too large to be a part of a fleet's program: the host calls it, a batch at a time."""
    return hasattr(_find(features)[0], "FILES")


def trained(features: str) -> bool:
    """Whether the network is trained on real data, which `build` then needs."""
    return hasattr(_find(features)[0], "train")


def build(features: str, pool, num_classes: int, cache: str) -> Extractor:
    """Makes an extractor.

    Args:
      features: `lenet`, `raw`, `inception` or `dinov2`; for published weights outside the cache `inception:PATH`.
      pool: real training data (`Samples`), for extractors that are trained; others take None.
      num_classes: of that data.
      cache: directory of trained extractors, and of the files of published weights; may begin with "~".

    Raises:
      UserError: weights are missing, or are not those that they should be.
    """
    module, path = _find(features)
    return module.build(pool, num_classes, _expanded(cache), **path)


def _expanded(cache: str) -> str:
    """With the home directory for "~": here, so that no command can forget it and make a folder of that name."""
    return str(pathlib.Path(cache).expanduser())


def _find(features: str) -> tuple[ModuleType, dict[str, str]]:
    """The module, and the path of weights where one is given, as keyword arguments."""
    name, colon, path = str(features).partition(":")
    if name not in FEATURES:
        raise UserError(f"unknown features {features!r}; choose from {', '.join(FEATURES)}")
    module = importlib.import_module(FEATURES[name])
    if colon and not (path and hasattr(module, "FILES")):
        needs = "needs a path behind the colon" if hasattr(module, "FILES") else "reads no file of weights"
        raise UserError(f"features {features!r}: {name!r} {needs}")
    return module, {"path": path} if path else {}


__all__ = ["FEATURES", "Extractor", "build", "check", "dim", "on_host", "trained"]
