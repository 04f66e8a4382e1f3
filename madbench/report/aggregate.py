"""The numbers behind the standard table, always computed anew from rows."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from madbench import verdict
from madbench.errors import UserError
from madbench.report import accounts, planned
from madbench.results import MetricInfo, Result
from madbench.verdict import DEFAULT, DEFINITIONS, Cell, Definition, Verdict

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
      cell: task, model, loop, λ, strategy and its budget.
      generations: T, as configured.
      n_real, n_synthetic: composition of the training set at generation T; None where no run got there.
      metrics: name -> values at generations 1 and T; None where there are none, or the metric was not asked for.
      floors: name -> floor, of the metrics that were asked for.
      verdict: over the configured seeds.
      expense: what it cost.
    """

    source: str
    cell: Cell
    generations: int
    n_real: int | None
    n_synthetic: int | None
    metrics: dict[str, tuple[Spread | None, Spread | None]]
    floors: dict[str, Floor]
    verdict: Verdict
    expense: accounts.Expense


@dataclasses.dataclass(frozen=True)
class Table:
    """Everything that every format shows.

    Attributes:
      definition: of collapse.
      notes: plain sentences.
      strategies: what is said of each but none, as `accounts.told`.
    """

    lines: list[Line]
    metrics: dict[str, MetricInfo]
    floors: list[Floor]
    definition: Definition
    notes: list[str]
    strategies: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def aggregate(results: list[Result], definition: str = DEFAULT) -> Table:
    """The table, computed from the rows: one line per planned cell, whether it has rows or not.

    Cells that several workdirs share are lines of their own: only their authors know whether the runs compare.

    Args:
      results: at least one.
      definition: of collapse, by which the verdicts are, among `verdict.DEFINITIONS`.

    Raises:
      UserError: no results, or no such definition; one line.
    """
    if not results:
        raise UserError("no results to show")
    if definition not in DEFINITIONS:
        raise UserError(f"unknown verdict {definition!r}; choose from {', '.join(DEFINITIONS)}")
    names = [r.path.name for r in results]
    sources = names if len(set(names)) == len(names) else [str(r.path) for r in results]
    metrics = {name: info for r in reversed(results) for name, info in r.metrics.items()}  # as the first says
    metrics = {name: metrics[name] for r in results for name in r.metrics}
    lines, notes = [], []
    for result, source in zip(results, sources, strict=True):
        cells = planned(result)
        seeds, generations = list(result.config["seeds"]), result.config["generations"]
        rows = verdict.group(r for r in result.rows if r["seed"] in seeds and 1 <= r["generation"] <= generations)
        lines += [_line(result, source, cell, rows.get(cell, []), list(metrics), definition) for cell in cells]
        outside = len(result.rows) - sum(len(rows.get(cell, [])) for cell in cells)
        if outside:
            notes.append(f"{source}: {outside} rows lie outside the configured grid and are not counted.")
    lines = accounts.relate(lines)
    floors = list(dict.fromkeys(floor for line in lines for floor in line.floors.values()))
    notes = far_notes(lines) + notes
    notes += [_share_note(r, source) for r, source in zip(results, sources, strict=True) if len(r.shares) < r.split]
    notes += _notes(results, sources, metrics, DEFINITIONS[definition])
    return Table(lines, metrics, floors, DEFINITIONS[definition], notes, accounts.strategies(results))


# Generation 1 saw real data alone, so its FD is the model's own error. Trained models of this suite have one to three
# times the floor at λ = 1, and models that learned little a hundred. The floor falls with the samples behind it and the
# model's error does not, so with many samples a good model is ten floors away too; then half of its samples still lie
# among the real ones, and half of those among its own.
_FAR, _HALF = 10, 0.5


def far_notes(lines: list[Line]) -> list[str]:
    """A warning for each workdir in whose every cell generation 1 is far from the data: trends from there say little.

    The nearest cell decides: a λ below 1, or little real data, puts others far away on purpose.
    """
    notes = []
    for source in dict.fromkeys(line.source for line in lines):
        found = [(_above_floor(line, "fd"), line) for line in lines if line.source == source]
        found = [(ratio, line) for ratio, line in found if ratio is not None]
        ratio, line = min(found, key=lambda pair: pair[0], default=(0, None))
        shares = [_above_floor(line, name) for name in ("precision", "recall")] if line else []
        shares = [share for share in shares if share is not None]
        if ratio > _FAR and (not shares or min(shares) < _HALF):
            where = f"{source}: generation 1" if len({each.source for each in lines}) > 1 else "Generation 1"
            notes.append(
                f"{where} is already far from the data, its FD at least {ratio:.0f} times the floor: train longer "
                "(config.model.steps), or change the model, before reading trends."
            )
    return notes


def _above_floor(line: Line, metric: str) -> float | None:
    """Generation 1's mean over that of two real samples; None where either is unknown."""
    spread, floor = line.metrics.get(metric, (None, None))[0], line.floors.get(metric)
    if spread is None or spread.mean is None or floor is None or not floor.mean or floor.mean < 0:
        return None
    return spread.mean / floor.mean


def _share_note(result: Result, source: str) -> str:
    missing = [i for i in range(1, result.split + 1) if i not in result.shares]
    return (
        f"{source}: without {', '.join(map(str, missing))} of the job's {result.split} shares, whose runs are missing."
    )


def _line(
    result: Result, source: str, cell: Cell, rows: list[dict[str, Any]], metrics: Sequence[str], definition: str
) -> Line:
    seeds, generations = list(result.config["seeds"]), result.config["generations"]
    plan = {"seeds": seeds, "generations": generations}
    last = next((r for r in rows if r["generation"] == generations), {})
    spreads = {}
    for name in metrics:
        values = verdict.matrix(rows, name, **plan)
        spreads[name] = (_spread(values[:, 0]), _spread(values[:, -1])) if name in result.metrics else (None, None)
    known = result.reference.get("floors", {})
    judged = verdict.judge_cell(rows, known, result.metrics, **plan, definition=definition)
    floors = {name: _floor(result, name) for name in result.metrics}
    sizes, cost = (last.get("n_real"), last.get("n_synthetic")), accounts.expense(rows, seeds, generations)
    return Line(source, cell, generations, *sizes, spreads, floors, judged, cost)


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


_HALF_LIFE = "Half-life: generations after the first until recall, in the mean over seeds, is half of generation 1's."


def _notes(
    results: list[Result], sources: list[str], metrics: dict[str, MetricInfo], definition: Definition
) -> list[str]:
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
        f"Verdict by the definition {definition.name} ({definition.title}): {definition.sentence}. Source: "
        f"{definition.source}.",
        f"Tests (ours): one-sided t-tests over the seeds, at least {verdict.MIN_SEEDS}, with "
        f"{1 - verdict.SIGNIFICANCE:.0%} confidence each, without a correction for their number: of loops in which "
        "nothing changes, three tests find something in one of six; seeds share reference and features.",
        f"Intervals: of the mean over the seeds, {verdict.CONFIDENCE:.0%}, two-sided; by Student's t, and by Owen's "
        "beta bootstrap t (arXiv 2508.10083), which leans with skewed seeds.",
        *_missing_notes(pairs, definition),
        *[_HALF_LIFE] * ("recall" in metrics),
        *dict.fromkeys(r.metrics[name].note for r in results for name in r.metrics if r.metrics[name].note),
        *_budget_notes(results),
        *accounts.notes(results),
        "Labels (ours): a conditional model synthesizes equal numbers per class.",
    ]
    meanings = {(r.config["model"]["family"], r.reference.get("bias_meaning")) for r in results}
    notes += [f"{family}: {meaning}." for family, meaning in sorted(meanings, key=str) if meaning]
    reused = [source for r, source in pairs if r.config["data"].get("reuse_fresh") is True]
    if reused:
        where = f" ({', '.join(reused)})" if len(results) > 1 else ""
        notes.append(f"Fresh real samples are reused once the training pool is used up{where}.")
    return notes


def _missing_notes(pairs: list[tuple[Result, str]], definition: Definition) -> list[str]:
    """What to do where the verdict needs a metric that was not measured."""
    notes = []
    for criterion in definition.criteria:
        where = [source for result, source in pairs if not set(criterion.metrics) & set(result.metrics)]
        if where and criterion.required:
            name = criterion.metrics[0]
            notes.append(f"Metric {name} was not measured in {', '.join(where)}: add it to config.metrics.names.")
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
