"""What a line of the standard table cost, and what its strategy took: read off the rows, where the job counted it."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from madbench import verdict
from madbench.results import NO_STRATEGY, Result
from madbench.verdict import Cell


@dataclasses.dataclass(frozen=True)
class Expense:
    """Of one cell; None where its rows do not say, or a generation is missing.

    Attributes:
      flops: of matrix products, per generation of a run: the mean over generations.
      flops_ratio: that over the line's of strategy none with the same task, model, loop and λ.
      n_real_seen: different real samples behind the last generation: in its training set, or read by the strategy.
      extra_parameters: numbers that the strategy holds beside the model.
      pool_memorization: the largest over generations of the mean over seeds.
    """

    flops: float | None
    flops_ratio: float | None
    n_real_seen: float | None
    extra_parameters: int | None
    pool_memorization: float | None


class Line(Protocol):
    """What `relate` needs of a line of a table."""

    cell: Cell
    expense: Expense


def expense(rows: Sequence[dict[str, Any]], seeds: Sequence[int], generations: int) -> Expense:
    """Of the rows of one cell; `flops_ratio` is left to `relate`.

    A generation's FLOPs are the same in all runs of a cell, so that one of them says enough. A run that diverged was
    paid for, too.
    """
    rows = [row for row in rows if row["seed"] in seeds and 1 <= row["generation"] <= generations]
    by_generation = [_known(r.get("flops") for r in rows if r["generation"] == t) for t in range(1, generations + 1)]
    whole = all(found.size for found in by_generation)
    seen = _known(r.get("n_real_seen") for r in rows if r["generation"] == generations)
    extra = _known(r.get("extra_parameters") for r in rows)
    pool = [_known(r.get("pool_memorization") for r in rows if r["generation"] == t) for t in range(1, generations + 1)]
    pool = [float(found.mean()) for found in pool if found.size]
    return Expense(
        flops=float(np.mean([found.mean() for found in by_generation])) if whole and by_generation else None,
        flops_ratio=None,
        n_real_seen=float(seen.mean()) if seen.size else None,
        extra_parameters=int(extra.max()) if extra.size else None,
        pool_memorization=max(pool, default=None),
    )


def _known(values: Iterable[Any]) -> np.ndarray:
    """The numbers among `values`, sorted, so that the rows' order shows nowhere."""
    return np.sort([float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)])


def block(cell: Cell) -> Cell:
    """The cell without its strategy: what strategies are compared within."""
    return cell._replace(strategy=NO_STRATEGY, equal_cost=True)


def relate(lines: Sequence[Line]) -> list[Line]:
    """The lines, dataclasses, with `flops_ratio` where the line of strategy none is among them."""
    plain = {line.cell: line.expense.flops for line in reversed(lines) if line.cell.strategy == NO_STRATEGY}
    related = []
    for line in lines:
        flops, of_none = line.expense.flops, plain.get(block(line.cell))
        ratio = flops / of_none if flops is not None and of_none else None
        related.append(dataclasses.replace(line, expense=dataclasses.replace(line.expense, flops_ratio=ratio)))
    return related


def has_strategy(cells: Iterable[Cell]) -> bool:
    """Whether anything is done against collapse in any of them."""
    return any(cell.strategy != NO_STRATEGY for cell in cells)


# ------------------------------------------------------------------------------------------------------------ in words

EQUAL_COST = (
    "Equal cost: a strategy pays in optimizer steps, so that a generation costs no more FLOPs than one without; all "
    "steps: it trains as long as without, and costs more (config.equal_cost)."
)
_NOTES = (
    EQUAL_COST,
    "FLOPs: of matrix products, of fits, samples and what the strategy computes, per generation of a run; × none: over "
    "the line's without a strategy, of the same task, model, loop and λ.",
    "Real samples seen: different ones behind the last generation, in its training set or read by the strategy.",
    "Extra parameters: numbers that the strategy holds beside the model.",
    "Pool memorization: share of what enters the pool that is as near to a real sample of generation 1 as the closest "
    "5 % of these are to another; the largest over generations of the mean over the seeds; missing where the strategy "
    "leaves the pool as it is. Of fresh real samples it is about 5 %; much more is copies.",
)


def told(result: Result) -> dict[str, Any]:
    """What `reference.json` says of the strategy: name, settings, consumes, cite; of any other form, nothing."""
    found = result.reference.get("strategy")
    found = found if isinstance(found, dict) else {}
    settings, consumes = found.get("settings"), found.get("consumes")
    return {
        "name": verdict.strategy_of(result.config)[0],
        "settings": settings if isinstance(settings, dict) else {},
        "consumes": [str(what) for what in consumes] if isinstance(consumes, list) else [],
        "cite": str(found.get("cite") or ""),
    }


def strategies(results: Iterable[Result]) -> list[dict[str, Any]]:
    """`told` of each strategy but none, once."""
    found = {said["name"]: said for said in map(told, results) if said["name"] != NO_STRATEGY}
    return list(found.values())


def consumes(said: dict[str, Any]) -> str:
    """ "sims(weight=1) consumes …; source: …", without a full stop."""
    what = "; ".join(said["consumes"]) or "nothing more than training takes"
    return f"{said['name']} consumes {what}; source: {said['cite'] or 'not named'}"


def notes(results: Sequence[Result]) -> list[str]:
    """Each column in one sentence, then each strategy; none where there is no strategy."""
    found = strategies(results)
    return [*_NOTES, *(f"{consumes(said)}." for said in found)] if found else []
