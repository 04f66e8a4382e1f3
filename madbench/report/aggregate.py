"""The numbers behind the standard table, always computed anew from rows."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from madbench import verdict
from madbench.errors import UserError
from madbench.report import planned
from madbench.results import Result
from madbench.verdict import Cell, Verdict

MISSING = "—"


@dataclasses.dataclass(frozen=True)
class Spread:
    """A metric at one generation: mean and standard deviation (ddof = 1; None under two) over all configured runs.

    Both are None where a run lacks the value: a mean over survivors would be of another set of runs. `seeds` is how
    many have it.
    """

    mean: float | None
    sd: float | None
    seeds: int


@dataclasses.dataclass(frozen=True)
class Floor:
    """A metric between disjoint real samples of the same size; None where unknown."""

    task: str
    metric: str
    mean: float | None
    p5: float | None
    p95: float | None
    n_samples: int | None
    features: str | None


@dataclasses.dataclass(frozen=True)
class Line:
    """One cell of one workdir.

    Attributes:
      source: name of the workdir.
      cell: task, model, loop, λ.
      generations: T, as configured.
      n_real, n_synthetic: composition of the training set at generation T; None where no run got there.
      metrics: name -> values at generations 1 and T; None where there are none, or the metric was not asked for.
      floors: name -> floor, of the metrics that were asked for.
      verdict: over the configured seeds.
    """

    source: str
    cell: Cell
    generations: int
    n_real: int | None
    n_synthetic: int | None
    metrics: dict[str, tuple[Spread | None, Spread | None]]
    floors: dict[str, Floor]
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Table:
    """Everything that every format shows. `notes` are plain sentences."""

    lines: list[Line]
    metrics: list[str]
    floors: list[Floor]
    notes: list[str]


def aggregate(results: list[Result]) -> Table:
    """The table, computed from the rows: one line per planned cell, whether it has rows or not.

    Cells that several workdirs share are lines of their own: only their authors know whether the runs compare.
    """
    if not results:
        raise UserError("no results to show")
    names = [r.path.name for r in results]
    sources = names if len(set(names)) == len(names) else [str(r.path) for r in results]
    metrics = list(dict.fromkeys(name for r in results for name in r.metrics))
    lines, notes = [], []
    for result, source in zip(results, sources, strict=True):
        cells = planned(result)
        seeds, generations = list(result.config["seeds"]), result.config["generations"]
        rows = verdict.group(r for r in result.rows if r["seed"] in seeds and 1 <= r["generation"] <= generations)
        lines += [_line(result, source, cell, rows.get(cell, []), metrics) for cell in cells]
        outside = len(result.rows) - sum(len(rows.get(cell, [])) for cell in cells)
        if outside:
            notes.append(f"{source}: {outside} rows lie outside the configured grid and are not counted.")
    floors = list(dict.fromkeys(floor for line in lines for floor in line.floors.values()))
    return Table(lines, metrics, floors, notes + _notes(results, sources, metrics))


def _line(result: Result, source: str, cell: Cell, rows: list[dict[str, Any]], metrics: Sequence[str]) -> Line:
    seeds, generations = list(result.config["seeds"]), result.config["generations"]
    plan = {"seeds": seeds, "generations": generations}
    last = next((r for r in rows if r["generation"] == generations), {})
    spreads = {}
    for name in metrics:
        values = verdict.matrix(rows, name, **plan)
        spreads[name] = (_spread(values[:, 0]), _spread(values[:, -1])) if name in result.metrics else (None, None)
    judged = verdict.judge_cell(rows, result.reference.get("floors", {}), result.metrics, **plan)
    floors = {name: _floor(result, name) for name in result.metrics}
    return Line(source, cell, generations, last.get("n_real"), last.get("n_synthetic"), spreads, floors, judged)


def _spread(values: np.ndarray) -> Spread | None:
    """Of `values [seed]`, NaN where missing."""
    present = int(np.sum(~np.isnan(values)))
    if not present:
        return None
    if present < values.size:
        return Spread(None, None, present)
    return Spread(float(values.mean()), float(values.std(ddof=1)) if present > 1 else None, present)


def _floor(result: Result, metric: str) -> Floor:
    known = result.reference.get("floors", {}).get(metric, {})
    n_samples, features = result.reference.get("n_samples"), result.reference.get("features")
    bounds = (known.get("mean"), known.get("p5"), known.get("p95"))
    return Floor(result.config["task"], metric, *bounds, n_samples, features)


# What a metric's name does not say.
_METRIC_NOTES = {
    "modes": "Modes: of the real distribution, those that have a generated sample within three standard deviations.",
}


def _notes(results: list[Result], sources: list[str], metrics: list[str]) -> list[str]:
    """What a reader needs to compare the table with another."""
    pairs = list(zip(results, sources, strict=True))
    facts = {
        "samples behind each metric": lambda row: row["n_samples"],
        "feature network": lambda row: row["features"],
        **{f"{name} version": lambda row, name=name: row["metric_versions"].get(name) for name in metrics},
        "madbench": lambda row: row["benchmark"],
    }
    notes = _provenance(facts, pairs)
    notes += [
        f"Mean ± standard deviation over the seeds; seeds: finished / configured. {MISSING}: missing; (2/3): two of "
        "three seeds have a value, and no mean is taken over those that are left.",
        "Real + synthetic: training set of the last generation, T.",
        f"Verdict (ours): MAD: over the seeds, the slope of log FD against t is positive with "
        f"{1 - verdict.SIGNIFICANCE:.0%} confidence (one-sided t-test, at least {verdict.MIN_SEEDS} seeds) and the "
        "last FD exceeds its floor's 95th percentile; loses quality, loses diversity: the same test on falling "
        "precision, recall; stable: none of these in finished runs. Each test stands by itself at that confidence, "
        "without a correction for the number of tests; seeds share reference and features.",
        "Half-life: generations after the first until recall, in the mean over seeds, is half of generation 1's.",
        *(_METRIC_NOTES[name] for name in metrics if name in _METRIC_NOTES),
        *_budget_notes(results),
        "Labels (ours): a conditional model synthesizes equal numbers per class.",
    ]
    meanings = {(r.config["model"]["family"], r.reference.get("bias_meaning")) for r in results}
    notes += [f"{family}: {meaning}." for family, meaning in sorted(meanings, key=str) if meaning]
    reused = [source for r, source in pairs if r.config["data"].get("reuse_fresh") is True]
    if reused:
        where = f" ({', '.join(reused)})" if len(results) > 1 else ""
        notes.append(f"Fresh real samples are reused once the training pool is used up{where}.")
    return notes


def _budget_notes(results: list[Result]) -> list[str]:
    models = [r.config["model"] for r in results if "steps" in r.config["model"]]
    if not models:
        return []  # every model is fitted to the whole of its set
    if not any(model.get("epochs") for model in models):
        return ["Budget (ours): every generation of every loop trains for the same number of optimizer steps."]
    return ["Budget: where config.model.epochs is set, as many passes over each training set, whatever its size."]


def _provenance(facts: dict[str, Callable], pairs: list[tuple[Result, str]]) -> list[str]:
    """How the rows were measured, in one sentence, after a warning for each fact in which they differ."""
    agreed, warnings = [], []
    for name, read in facts.items():
        found: dict[Any, list[str]] = {}
        for result, source in pairs:
            for value in dict.fromkeys(read(row) for row in result.rows):
                found.setdefault(value, []).append(source)
        found.pop(None, None)  # rows of a workdir that was not asked for this metric
        if len(found) == 1:
            agreed.append(f"{name} {next(iter(found))}")
        elif found:
            values = "; ".join(f"{value} in {', '.join(where)}" for value, where in found.items())
            warnings.append(f"These lines do not compare: {name} differs: {values}.")
    return [*warnings, f"Measured with: {', '.join(agreed)}."]


# ---- markdown and LaTeX: the same cells of text ----------------------------------------------------------------------
