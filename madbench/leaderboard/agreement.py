"""How far a published row and the same row computed again may lie apart. Imports no JAX.

Training is chaotic: a difference in the last bit, which another order of the same sums makes, grows with the steps and
with the generations. So the tolerance of a re-run depends on the family and on the generation. `RERUN` is measured by
benchmarks/agreement.py and given with room; docs/verify.md has the figures. Where rounding alone makes another run of
the same distribution, only the distribution can be compared: `apart`.

Differences are those of natural logarithms for distances (0.05 is about 5 %), of the values for shares, and relative to
what was found for any other metric.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy.special import stdtrit

from madbench.leaderboard import tasks

SAME, OTHER = "same kind of device", "another kind of device"


@dataclasses.dataclass(frozen=True)
class Limit:
    """first * growth**(t - 1), but at most `most`: by then runs are as far apart as rounding brings them."""

    first: float
    growth: float = 1.0
    most: float = math.inf

    def at(self, generation: int) -> float:
        """For a generation, from 1."""
        steps = (generation - 1) * math.log(self.growth)
        return self.most if steps > math.log(self.most / self.first) else self.first * math.exp(steps)


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What may lie between a row and itself computed again.

    Attributes:
      distance: of ln FD, and relative of other numbers.
      points: of a share, in samples of n: a sample at the boundary of a ball counts or not.
    """

    distance: Limit
    points: Limit

    def at(self, kind: str, generation: int, n: int) -> float:
        """The largest difference that is tolerated.

        Args:
          kind: of the metric, as `results.MetricInfo.kind`.
          generation: from 1.
          n: samples behind the metric.
        """
        return self.points.at(generation) / n if kind == "share" else self.distance.at(generation)


# Of metrics computed again from the same samples: only features and sums are rounded otherwise.
SAMPLES = {SAME: Tolerance(Limit(1e-4), Limit(1)), OTHER: Tolerance(Limit(1e-2), Limit(5))}
# Of runs computed again, by family; at least four standard deviations of what was measured, which `leaning` relies on.
# A family that is not here is judged by `apart`: the GAN, of which another rounding makes another run, and what nobody
# has measured.
RERUN = {
    "gaussian": {SAME: Tolerance(Limit(1e-4), Limit(2)), OTHER: Tolerance(Limit(1e-2), Limit(10))},
    "diffusion": {
        SAME: Tolerance(Limit(1e-4, 4, 0.15), Limit(2, 1.5, 20)),
        OTHER: Tolerance(Limit(0.3), Limit(40)),
    },
}
_WIDEST = 3  # times the band's standard deviation: what a submission's own spread may add
_FREEDOM = 23  # of the standard deviation of 24 reference runs
_CHANCE = 3e-4  # that a value of an independent run lies beyond `apart`


def rule(claimed: Any, here: Mapping[str, Any]) -> str:
    """Which tolerance applies: `SAME` where every start of the submission names the kind of device that is here.

    Args:
      claimed: content of the submission's environment.json; anything.
      here: {"kind", "platform"} of the device that computes again.
    """
    later = claimed.get("resumed_with", []) if isinstance(claimed, dict) else []
    starts = [claimed, *later] if isinstance(later, list) else [None]
    devices = [start.get("device") if isinstance(start, dict) else None for start in starts]
    named = [(d.get("kind"), d.get("platform")) if isinstance(d, dict) else None for d in devices]
    return SAME if all(each == (here["kind"], here["platform"]) for each in named) else OTHER


def rerun(
    task: tasks.Task, which: str, cell: tuple[str, float], generation: int, rows: Iterable[Mapping[str, Any]]
) -> dict[str, float]:
    """The largest difference that is tolerated between a row and the same run computed again, by metric.

    Args:
      task: what was run.
      which: `SAME` or `OTHER`.
      cell: (loop, λ).
      generation: from 1.
      rows: the submission's, of all seeds and generations.
    """
    n, kinds = task.evaluator["n_samples"], {m: info["kind"] for m, info in task.evaluator["metrics"].items()}
    family = task.config["model"]["family"]
    if family in RERUN:
        return {metric: RERUN[family][which].at(kind, generation, n) for metric, kind in kinds.items()}
    own = [row for row in rows if (row["loop"], row["bias"], row["generation"]) == (*cell, generation)]
    return {m: apart(task.bands[cell][m], kind, [row.get(m) for row in own], n) for m, kind in kinds.items()}


def apart(band: tasks.Band, kind: str, values: Iterable[float | None], n: int) -> float:
    """How far two independent runs of one cell may lie apart: a prediction interval for their difference.

    The spread is the band's, over reference runs in generation 1. The submission's own over its seeds counts where it
    is larger, as far as three times the band's: nobody widens the interval by rows that scatter. Of a share, it is at
    least the largest standard deviation of a share of n.

    Args:
      band: of the metric.
      kind: of the metric.
      values: of the submission's seeds, in one generation.
      n: samples behind the metric.
    """
    numbers = [value for value in values if _finite(value) and (value > 0 or not band.is_log)]
    own = float(np.std(np.log(numbers) if band.is_log else numbers, ddof=1)) if len(numbers) > 1 else 0.0
    spread = max(band.sd, min(own, _WIDEST * band.sd), 0.5 / math.sqrt(n) if kind == "share" else 0.0)
    return float(stdtrit(band.count - 1, 1 - _CHANCE / 2) * math.sqrt(2) * spread)


def pool(task: tasks.Task, which: str, generation: int, values: Iterable[float | None], n: int) -> float:
    """The largest difference that is tolerated in the share of a pool that is as near to real samples as copies.

    As in a share of samples that the metrics see. Nobody has measured how far two runs of another seed lie apart in it:
    of a family that is judged so, their spread is taken for a share's of n, or the submission's own where it is larger,
    up to three times that.

    Args:
      task: what was run.
      which: `SAME` or `OTHER`.
      generation: from 1.
      values: of the submission's seeds, in this generation.
      n: samples of the pool that were looked at.
    """
    family = task.config["model"]["family"]
    if family in RERUN:
        return RERUN[family][which].at("share", generation, n)
    numbers = [value for value in values if _finite(value)]
    own = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0
    least = 0.5 / math.sqrt(n)
    reach = float(stdtrit(_FREEDOM, 1 - _CHANCE / 2) * math.sqrt(2))
    return reach * max(least, min(own, _WIDEST * least))


def difference(kind: str, claimed: float | None, found: float | None) -> float | None:
    """Claimed against found, with its sign; None where the two cannot be compared: one is no finite number.

    Two values that do not exist agree: 0.
    """
    if claimed is None and found is None:
        return 0.0
    if not (_finite(claimed) and _finite(found)):
        return None
    if kind == "share" or claimed == found:
        return float(claimed - found)
    if kind == "distance":
        return math.log(claimed / found) if claimed > 0 and found > 0 else None
    return float((claimed - found) / max(abs(found), abs(claimed)))


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def judge(
    where: Mapping[str, Any], metrics: Mapping[str, str], claimed: Any, found: Any, limits: Mapping
) -> list[dict]:
    """Compares one row with itself computed again.

    Args:
      where: what the row is of: "what", "loop", "bias", "seed", "generation".
      metrics: the kind of each metric, by name.
      claimed, found: rows, or metrics by name; `claimed` may be None, or hold anything.
      limits: the largest difference, by metric.

    Returns:
      A dict for each metric: `where`, "metric", "claimed", "found", "difference", "tolerance", "ok", and "why" where a
      number does not say why not. Plain JSON, finite numbers or None.
    """
    claimed = claimed if isinstance(claimed, dict) else {}
    lines = []
    for metric, kind in metrics.items():
        ours, theirs = found.get(metric), claimed.get(metric)
        gap = difference(kind, theirs, ours)
        limit = limits[metric]
        why = ""
        if not claimed:
            why = "there is no such row"
        elif gap is None:
            why = "one of the two is no number" if ours is None or not _finite(theirs) else "one of the two is 0"
        elif abs(gap) > limit:
            why = "further apart than the tolerance"
        lines.append(
            {
                **where,
                "metric": metric,
                "claimed": theirs if _finite(theirs) else None,
                "found": ours,
                "difference": gap,
                "tolerance": limit,
                "ok": not why,
                "why": why,
            }
        )
    return lines
