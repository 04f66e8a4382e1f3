"""Resistance and speed of a submission, from its rows and its timing: plain numbers, computed wherever they are shown.

Resistance of a task, in [0, 100] (ours). For each cell (loop, λ), with the centre of the reference band's generation 1
as the baseline (not the submission's own: a method that begins badly must not look resistant), and over t = 2 … T and
seeds:

  r_FD = mean of min(1, FD_ref / FD_t),  r_P = mean of min(1, P_t / P_ref),  r_R = mean of min(1, R_t / R_ref)
  cell = 100 (r_FD r_P r_R)^(1/3)        task = mean over its cells        overall = mean over all tasks

It is a resistance at equal cost as it stands: what a method spends, it takes from the fits, and what spends more than
the task does without one is refused (`method_checks`). That a method's first model differs changes nothing.

Missing, diverged and null values count 0, and so does a task that was not submitted. The geometric mean lets none of
the three be bought with the others: a generator of one good picture has no recall, and 0.

Intervals: 95 %, by the jackknife over seeds (leave one out, in all cells at once) and Student's t; with five seeds,
percentiles of the bootstrap would hold the truth in 85 % of cases.

Speed: loop-generations (run x generation) per hour of everything in `timing.jsonl`, with and without compilation.
"""

import math
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.special import stdtrit

from madbench import results, verdict
from madbench.errors import UserError
from madbench.leaderboard.tasks import Band, Task

METRICS = ("fd", "precision", "recall")
CONFIDENCE = 0.95


def summary(task: Task, rows: list[dict[str, Any]], timing: list[dict[str, Any]]) -> dict[str, Any]:
    """All scores of a submission to `task`, as plain JSON.

    Args:
      task: with its band.
      rows: of metrics.jsonl; those outside the task's grid are not counted.
      timing: of timing.jsonl.

    Returns:
      task          its id
      planned       loop-generations of the task
      finished      those with a row that is "ok" and has a number for every metric
      resistance    {score, low, high}
      cells         [{loop, bias, score, low, high, retention: {fd, precision, recall}, last: {fd, precision, recall},
                    finished, planned}, …]
      last          {fd, precision, recall} of generation T, over cells: geometric mean of FD, mean of the others; null
                    where a value is missing
      speed         {per_hour, per_hour_compiled, seconds, compile_seconds}: the second without compilation; all null
                    where timing.jsonl does not hold every loop-generation once

    Raises:
      UserError: the task has no band yet; one line.
    """
    shares = retentions(task, rows)
    scores, left_out = _scores(shares)  # [cell], [seed, cell]
    cells = []
    for i, cell in enumerate(task.cells):
        values = _values(task, cell, rows)
        cells.append(
            {
                "loop": cell["loop"],
                "bias": cell["bias"],
                "score": float(scores[i]),
                **_interval(scores[i], [left_out[:, i]]),
                "retention": dict(zip(METRICS, map(float, shares[i].mean(axis=1)), strict=True)),
                "last": {name: _mean(name, values[name][:, -1]) for name in METRICS},
                "finished": _finished(values),
                "planned": len(task.config["seeds"]) * task.config["generations"],
            }
        )
    finished = sum(cell["finished"] for cell in cells)
    return {
        "task": task.id,
        "planned": len(task.runs) * task.config["generations"],
        "finished": finished,
        "resistance": {"score": float(scores.mean()), **_interval(scores.mean(), [left_out.mean(axis=1)])},
        "cells": cells,
        "last": {name: _mean(name, np.array([_float(cell["last"][name]) for cell in cells])) for name in METRICS},
        "speed": speed(task, finished, timing),
    }


def retentions(task: Task, rows: list[dict[str, Any]]) -> np.ndarray:
    """What is left of each metric, averaged over t = 2 … T: in [0, 1], float64 `[cell, metric, seed]`.

    Raises:
      UserError: the task has no band yet; one line.
    """
    if not task.bands:
        raise UserError(f"task {task.id} has no reference band yet, and so no score")
    found = np.empty((len(task.cells), len(METRICS), len(task.config["seeds"])))
    for i, cell in enumerate(task.cells):
        values = _values(task, cell, rows)
        for j, name in enumerate(METRICS):
            band = task.bands[cell["loop"], cell["bias"]][name]
            found[i, j] = retained(band, values[name][:, 1:]).mean(axis=1)
    return found


def retained(band: Band, values: np.ndarray) -> np.ndarray:
    """The share of the band's centre that is left at `values`, of any shape: 1 where they are as good or better.

    What is missing (NaN), or no value that the metric can have, is 0. A distance of 0 is as good as can be.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = band.centre / values if band.is_log else values / band.centre
    share = np.where(values == 0, 1.0 if band.is_log or band.centre == 0 else 0.0, share)
    possible = (values >= 0) & (values <= (np.inf if band.is_log else 1))
    return np.where(possible, np.minimum(1.0, share), 0.0)


def overall(found: dict[str, tuple[Task, list[dict[str, Any]]]], tasks: Iterable[str]) -> dict[str, float]:
    """The mean of resistance over all `tasks`: {score, low, high}; a task that is not in `found` counts 0.

    Args:
      found: name of a task -> the task and the rows of the submission to it.
      tasks: names of all tasks that there are.
    """
    names = list(tasks)
    score, left_out = 0.0, []
    for name in names:
        if name in found:
            task, rows = found[name]
            scores, without = _scores(retentions(task, rows))
            score += scores.mean() / len(names)
            left_out.append(without.mean(axis=1) / len(names))
    return {"score": float(score), **_interval(score, left_out)}


def speed(task: Task, finished: int, timing: list[dict[str, Any]]) -> dict[str, float | None]:
    """Loop-generations per hour; all null where `timing` leaves any of them out, names one twice, or has no seconds.

    Args:
      finished: loop-generations that count.
      timing: rows of timing.jsonl, one per (wave, generation).
    """
    nothing = dict.fromkeys(("per_hour", "per_hour_compiled", "seconds", "compile_seconds"))
    seconds = [[_float(row.get(f"{phase}_seconds")) for phase in results.PHASES] for row in timing]
    runs = dict.fromkeys(range(1, task.config["generations"] + 1), 0.0)
    places = [(_float(row.get("wave")), _float(row.get("generation"))) for row in timing]
    for (_, generation), row in zip(places, timing, strict=True):
        runs[generation] = runs.get(generation, 0.0) + _float(row.get("runs"))
    complete = set(runs.values()) == {len(task.runs)} and len(runs) == task.config["generations"]
    if not complete or len(set(places)) < len(places) or not np.all(np.array(places) >= 0):
        return nothing
    if not np.all(np.array(seconds) >= 0):
        return nothing
    total, compiled = math.fsum(map(math.fsum, seconds)), math.fsum(each[0] for each in seconds)
    if not total > compiled:
        return nothing
    return {
        "per_hour": 3600 * finished / total,
        "per_hour_compiled": 3600 * finished / (total - compiled),
        "seconds": total,
        "compile_seconds": compiled,
    }


def _values(task: Task, cell: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """By metric `[seed, generation]` of one cell; NaN where missing."""
    plan = {"seeds": task.config["seeds"], "generations": task.config["generations"]}
    mine = [row for row in rows if row["loop"] == cell["loop"] and row["bias"] == cell["bias"]]
    return {name: verdict.matrix(mine, name, **plan) for name in METRICS}


def _finished(values: dict[str, np.ndarray]) -> int:
    """Rows that have every metric."""
    return int(np.sum(~np.isnan(np.stack(list(values.values()))).any(axis=0)))


def _percent(shares: np.ndarray) -> np.ndarray:
    """Scores of cells from shares `[…, cell, metric]`: 100 times the geometric mean."""
    return 100 * np.cbrt(np.prod(shares, axis=-1))


def _scores(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of cells `[cell]`, and without each seed `[seed, cell]`, from `[cell, metric, seed]`."""
    n = shares.shape[-1]
    rest = (shares.sum(axis=-1, keepdims=True) - shares) / max(n - 1, 1)
    return _percent(shares.mean(axis=-1)), _percent(np.moveaxis(rest, -1, 0))


def _interval(score: float, left_out: list[np.ndarray]) -> dict[str, float]:
    """{low, high} around a score within [0, 100]; under two seeds, all of that.

    The jackknife's variance (Tukey 1958): (n-1)/n times the sum of squares of the scores with one seed left out each,
    around their mean. Of a sum of independent parts the variances add up, with Welch and Satterthwaite's degrees of
    freedom.

    Args:
      score: of all seeds.
      left_out: of each independent part, its scores with one seed left out, `[seed]`.
    """
    if any(len(part) < 2 for part in left_out):
        return {"low": 0.0, "high": 100.0}
    variances = [(len(part) - 1) * float(np.var(part)) for part in left_out]
    total = sum(variances)
    if total == 0:
        return {"low": float(score), "high": float(score)}
    shares = [v / total for v in variances]  # first, for squares of tiny variances would be 0
    freedom = 1 / sum(v**2 / (len(part) - 1) for v, part in zip(shares, left_out, strict=True))
    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(total)
    return {"low": max(0.0, float(score) - reach), "high": min(100.0, float(score) + reach)}


def _mean(name: str, values: np.ndarray) -> float | None:
    """Over seeds or cells; of a distance the geometric mean, 0 where one is 0; None where one is missing."""
    if np.isnan(values).any():
        return None
    if name != "fd":
        return float(values.mean())
    return float(np.exp(np.log(values).mean())) if values.min() > 0 else 0.0


def _float(value: Any) -> float:
    """NaN for whatever is no finite number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= sys.float_info.max else math.nan
