"""The versioned list of what counts for the leaderboard: `tasks/NAME.json`, one file a task.

A file holds
  name, version, title, about
  config            what is run, resolved: without the fields that say only how
  sha256            of that (`results.config_hash`)
  cells             of the grid, with the composition of their training sets: [[n_real, n_synthetic], …], by generation
  evaluator         features (label, with the hash of the weights), n_samples, samples (shape and dtype of one, as it is
                    stored), metric_versions, metrics, floors
  flops             matrix-product FLOPs of one run in one generation, by phase; less than all that it computes
  budget            what a generation of one run costs without a strategy, and a strategy may spend: "flops" of matrix
                    products by loop, and optimizer "steps" of a fit, 0 where it is exact; see `costs`
  band              generation 1 of reference runs under other seeds, by cell: see `Band`; null until measured
  command           that measured all but the config

A changed file is another version: rows of two versions are never on one board.
"""

import dataclasses
import functools
import json
import math
import pathlib
from typing import Any

import numpy as np
from scipy.special import stdtrit

from madbench import results
from madbench.errors import UserError

FOLDER = pathlib.Path(__file__).parent / "tasks"
# Of each interval of a band. A submission meets about a hundred, many of them of the same numbers: at 0.999, several in
# a hundred honest ones would be refused.
CONFIDENCE = 0.9999


@dataclasses.dataclass(frozen=True)
class Band:
    """One metric of generation 1, over reference runs that differ in their seed.

    Attributes:
      mean, sd: of the values, or of their logarithms (ddof = 1).
      count: of reference runs.
      is_log: for distances, as in the verdict.
    """

    mean: float
    sd: float
    count: int
    is_log: bool

    def interval(self, n: int) -> tuple[float, float]:
        """Where the mean over `n` further runs lies (the geometric mean, of a distance) with 99.99 % confidence.

        A two-sided prediction interval by Student's t distribution, its ends in the units of the metric.
        """
        reach = stdtrit(self.count - 1, (1 + CONFIDENCE) / 2) * self.sd * math.sqrt(1 / n + 1 / self.count)
        ends = self.mean - reach, self.mean + reach
        return tuple(math.exp(end) if self.is_log else float(end) for end in ends)

    @property
    def centre(self) -> float:
        """The mean, or the geometric mean, in the units of the metric."""
        return math.exp(self.mean) if self.is_log else self.mean

    def average(self, values: list[float]) -> float:
        """What `interval` bounds, of these values; of a distance that is 0, 0."""
        if not self.is_log:
            return float(np.mean(values))
        return float(np.exp(np.mean(np.log(values)))) if min(values) > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class Task:
    """One task; see the module's text for what its attributes hold. `bands` is by (loop, λ) and metric."""

    name: str
    version: int
    title: str
    about: str
    config: dict[str, Any]
    sha256: str
    cells: list[dict[str, Any]]
    evaluator: dict[str, Any]
    bands: dict[tuple[str, float], dict[str, Band]]
    command: str
    flops: dict[str, int] = dataclasses.field(default_factory=dict)
    budget: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def id(self) -> str:
        """ "digits-diffusion-v1"."""
        return f"{self.name}-v{self.version}"

    @property
    def runs(self) -> list[tuple[str, float, int]]:
        """The grid, (loop, λ, seed), in its order."""
        return [(cell["loop"], cell["bias"], seed) for cell in self.cells for seed in self.config["seeds"]]


def names() -> list[str]:
    """Of all tasks, in the order of the boards."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@functools.cache
def load(name: str) -> Task:
    """The task of this name.

    Raises:
      UserError: there is none; one line.
    """
    if name not in names():
        raise UserError(f"unknown task {name!r}; choose from {', '.join(names())}")
    found = json.loads((FOLDER / f"{name}.json").read_text())
    if results.config_hash(found["config"]) != found["sha256"]:
        raise UserError(f"{FOLDER / name}.json was changed: its config does not have the hash it names")
    bands = {
        (cell["loop"], cell["bias"]): {metric: Band(**values) for metric, values in cell["metrics"].items()}
        for cell in found.pop("band") or []
    }
    return Task(**found, bands=bands)
