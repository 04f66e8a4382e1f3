"""Which runs of a strategy stand beside which of none: the same block, the same seeds, and nothing else that differs.

A block is (task, model, loop, λ). Runs of one seed draw the same real data and the same noise, whatever the strategy
(`randomness`), so that they are pairs by design, and what both have in common leaves their difference.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from madbench import verdict
from madbench.errors import UserError
from madbench.report import accounts, planned
from madbench.results import NO_STRATEGY, STRATEGY, Result, bias_text, what
from madbench.verdict import Cell

METRICS = ("fd", "precision", "recall")  # what is compared, where it was measured
# Fields of a config that may differ between workdirs whose blocks are compared one by one.
_GRID = (*STRATEGY, "loops", "biases", "seeds")


@dataclasses.dataclass(frozen=True)
class Line:
    """A cell of a workdir, with its rows and what it cost."""

    source: str
    result: Result
    cell: Cell
    rows: list[dict[str, Any]]
    expense: accounts.Expense

    @property
    def seeds(self) -> list[int]:
        return sorted(self.result.config["seeds"])

    @property
    def generations(self) -> int:
        return self.result.config["generations"]

    def values(self, metric: str) -> np.ndarray:
        """`[seed, generation]`, NaN where missing."""
        return verdict.matrix(self.rows, metric, self.seeds, self.generations)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The runs of a strategy and those of none in one block, in pairs by seed."""

    treated: Line
    plain: Line

    @property
    def block(self) -> Cell:
        return self.plain.cell


def pair(results: Sequence[Result]) -> tuple[list[Pairs], list[str]]:
    """Every line of a strategy beside the line of none in its block, in the order of the workdirs, and notes.

    Args:
      results: of workdirs, shares united.

    Raises:
      UserError: nothing to compare, or runs that do not compare; one line.
    """
    lines = list(_lines(results))
    sources = ", ".join(dict.fromkeys(line.source for line in lines)) or "no workdir"
    plain = {line.cell: line for line in lines if line.cell.strategy == NO_STRATEGY}
    treated = [line for line in lines if line.cell.strategy != NO_STRATEGY]
    if not treated:
        raise UserError(f"nothing to compare: no strategy but none in {sources}; name workdirs of strategies, too")
    if not plain:
        raise UserError(
            f"no workdir of strategy none among {sources}: run the same config with --config.strategy=none, and name it"
        )
    _check_twice(lines)
    found = [Pairs(line, plain[at]) for line in treated if (at := accounts.block(line.cell)) in plain]
    if not found:
        raise UserError("nothing to compare: workdirs of none and of strategies share no task, model, loop and λ")
    for pairs in found:
        _check(pairs)
    alone = [line for line in treated if accounts.block(line.cell) not in plain]
    notes = [f"Left out, for no line of none is in their block: {_listed(alone)}."] if alone else []
    releases = {row["benchmark"] for pairs in found for line in (pairs.treated, pairs.plain) for row in line.rows}
    if len(releases) > 1:
        notes.append(f"Releases of madbench differ, and rows may for that alone: {', '.join(sorted(releases))}.")
    return found, notes


def _lines(results: Sequence[Result]) -> Iterator[Line]:
    names = [result.path.name for result in results]
    lines = []
    for result, name in zip(results, names, strict=True):
        rows = verdict.group(result.rows)
        seeds, generations = list(result.config["seeds"]), result.config["generations"]
        for cell in planned(result):
            mine = rows.get(cell, [])
            source = name if names.count(name) == 1 else str(result.path)
            lines.append(Line(source, result, cell, mine, accounts.expense(mine, seeds, generations)))
    yield from accounts.relate(lines)


def _check_twice(lines: Sequence[Line]) -> None:
    seen: dict[Cell, Line] = {}
    for line in lines:
        before = seen.setdefault(line.cell, line)
        if before is not line:
            raise UserError(f"{before.source} and {line.source} both hold {_named(line.cell)}: leave one out")


def _check(pairs: Pairs) -> None:
    """Refuses pairs that differ in more than the strategy."""
    a, b = pairs.treated, pairs.plain
    where = f"{a.source} and {b.source} do not compare"
    for name, read in {
        "seeds": lambda line: line.seeds,
        "generations": lambda line: line.generations,
        "features": lambda line: line.result.reference.get("features"),
        "samples behind each metric": lambda line: line.result.reference.get("n_samples"),
        "data": lambda line: line.result.environment.get("dataset"),
    }.items():
        _same(where, name, read(a), read(b))
    if a.generations < 2:
        raise UserError(f"nothing to compare: {a.source} has one generation, before which no loop was closed")
    shared = [name for name in METRICS if name in a.result.metrics and name in b.result.metrics]
    if not shared:
        raise UserError(f"nothing to compare: {a.source} and {b.source} share none of {', '.join(METRICS)}")
    for name in shared:
        _same(where, f"version of {name}", *(line.result.metrics[name].version for line in (a, b)))
        _same(where, f"version of {name} in rows", *(_said(line, "metric_versions", name) for line in (a, b)))
    _same(where, "features of rows", *(_said(line, "features") for line in (a, b)))
    flat = [dict(_flat({k: v for k, v in what(line.result.config).items() if k not in _GRID})) for line in (a, b)]
    for name in flat[0]:
        if name in flat[1] and name != "metrics.names":  # a field that one release has and another has not says nothing
            _same(where, f"config.{name}", flat[0][name], flat[1][name])


def _same(where: str, name: str, a: Any, b: Any) -> None:
    if a != b and a not in (None, set()) and b not in (None, set()):
        texts = [_short(value) for value in (a, b)]
        raise UserError(f"{where}: {name} differ{'' if name.endswith('s') else 's'}: {texts[0]} and {texts[1]}")


def _short(value: Any) -> str:
    if isinstance(value, set):
        value = sorted(value, key=str)
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return " ".join(text.split())[:80]


def _said(line: Line, field: str, key: str = "") -> set[Any]:
    """What the rows say, apart from those that do not."""
    found = {row[field].get(key) if key else row[field] for row in line.rows}
    return found - {None}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(each, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _named(cell: Cell) -> str:
    budget = f", {cell.budget}" if cell.budget else ""
    return f"{cell.strategy}{budget} ({cell.task}, {cell.model}, {cell.loop}, λ = {bias_text(cell.bias)})"


def _listed(lines: Sequence[Line]) -> str:
    named = [_named(line.cell) for line in lines]
    return ", ".join(named if len(named) <= 3 else [*named[:2], f"and {len(named) - 2} more"])
