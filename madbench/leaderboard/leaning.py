"""Whether a submission is better than its re-run a little everywhere, where each value is within its tolerance.

Rounding and luck fall on either side; who invents rows errs to the good one. A one-sided test, of each metric and of
all together, over the generations after the first:

  z = how much better the claimed value is / (tolerance / 4)         a value
  u = mean of z over the generations of a run                        a run and metric; ū = mean of u over the metrics
  fails where the mean of u over R runs exceeds q / √R, or that of ū exceeds q / (2 √R)

Tolerances are at least four standard deviations of what honest re-runs differ by (`agreement`), so that z has at most
the standard deviation 1, and so has u, however alike the generations of a run are: runs are what is independent. For ū
0.5 is taken, as metrics only partly fall together: 0.36 and 0.39 were measured over pairs of seeds. q is Student's
quantile, with the degrees of freedom of a reference band, for the false-alarm rate `FALSE_ALARMS` shared out over all
means that are tested (Bonferroni). docs/verify.md has what is known of its power.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from scipy.special import stdtrit

from madbench.results import PLACE

FALSE_ALARMS = 0.005  # at most, of honest verifications
DEVIATIONS = 4  # standard deviations that a tolerance is, at least
TOGETHER = 0.5  # standard deviation of ū, at most
ALL = "all metrics"
_FREEDOM = 23  # of the standard deviation of 24 reference runs


def limit(runs: int, metrics: int, *, together: bool) -> float:
    """The largest mean over `runs` that passes, in standard deviations of a value.

    Args:
      runs: that were computed again, at least 1.
      metrics: that are tested.
      together: of the mean over all metrics, not of one.
    """
    quantile = float(stdtrit(_FREEDOM, 1 - FALSE_ALARMS / (metrics + 1)))
    return quantile * (TOGETHER if together else 1) / math.sqrt(runs)


def judge(lines: Iterable[Mapping[str, Any]], metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The test, of lines as `agreement.judge` makes them.

    Args:
      lines: those of a re-run's generations after the first count; others, and values that do not exist, do not.
      metrics: {"direction": "lower" or "higher", …} by name.

    Returns:
      A dict for each metric, and for `ALL`: "metric", "runs", "mean" (positive: the submission is better), "limit",
      "ok". Empty where nothing counts.
    """
    by_run: dict[tuple, dict[str, list[float]]] = {}
    for line in lines:
        if line["what"] == "re-run" and line["generation"] > 1 and line["metric"] in metrics:
            gap, tolerance = line["difference"], line["tolerance"]
            if gap is not None and line["found"] is not None and tolerance > 0:
                side = -1 if metrics[line["metric"]]["direction"] == "lower" else 1
                run = by_run.setdefault(tuple(line[name] for name in PLACE[:-1]), {})
                run.setdefault(line["metric"], []).append(side * gap * DEVIATIONS / tolerance)
    means = [{name: _mean(values) for name, values in run.items()} for run in by_run.values()]
    of = {name: [run[name] for run in means if name in run] for name in metrics}
    of[ALL] = [_mean(run.values()) for run in means]
    found = []
    for name, values in of.items():
        if values:
            mean, most = _mean(values), limit(len(values), len(metrics), together=name == ALL)
            found.append({"metric": name, "runs": len(values), "mean": mean, "limit": most, "ok": mean <= most})
    return found


def sentence(found: Mapping[str, Any]) -> str:
    """What one of them says."""
    mean, most = (f"{found[name] / DEVIATIONS:.0%}" for name in ("mean", "limit"))
    return (
        f"{found['metric']}, after generation 1 and over {found['runs']} runs: better than the re-run by {mean} of the "
        f"tolerance in the mean, where at most {most} is chance"
    )


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values)
