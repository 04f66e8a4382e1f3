"""What a submission's method cost, beside what the task costs without one: plain numbers, from its rows.

"Equal cost" is a rule of the leaderboard, not a correction of its scores: a strategy's generations may cost, on average
over T, what those of `none` do (`method_checks.cost`), so that a score is one at equal cost as it stands. FLOPs are
those of matrix products, of the fits and the pool and whatever a strategy adds; what metrics need is nobody's cost.

A model whose fit is exact has no optimizer steps that a strategy could give up. There its cost is what it is: it is not
bounded, and its ratio to `none` stands beside the score.
"""

import math
from typing import Any, NamedTuple

from madbench.leaderboard.tasks import Task

# Of the pool, as near to real samples as the closest 5 % of these are to each other: new real samples are so in 5 %,
# copies in 100 %. From here on it is said on the boards, of generation 1 at the largest λ. (In later generations, and
# where λ is smaller, samples draw together near a few real ones: on the Gaussian task those of a choice by chance end
# at 100 % and begin at 5 %. Of the quarter that is nearest to real samples, 22 % are so in generation 1.)
COPIES = 0.5
UNTOLD = {  # of an older reference.json
    "name": "none",
    "equal_cost": True,
    "reads_real": False,
    "settings": {},
    "consumes": [],
    "cite": "",
}
COPIED = (
    f"{COPIES:.0%} or more of what it let into its pool in generation 1 lies as near to the real samples that it began "
    "with as the closest 5 % of these lie to each other, as copies do."
)


class Costs(NamedTuple):
    """Of one submission.

    Attributes:
      ratio: FLOPs of its generations to those without a strategy, in the mean over all rows; None where the task does
        not say what these are.
      is_bounded: whether its task holds it to that: False where fits are exact.
      real_seen: the most different real samples behind a generation; None in rows from before they were counted.
      extra_parameters: numbers that the strategy holds beside the model.
      pool_memorization: the largest share of a pool that is as near as copies; None where pools are left alone.
      first_pool: the same in generation 1 at the largest λ, in the mean over seeds, the largest of all loops; or None.
    """

    ratio: float | None
    is_bounded: bool
    real_seen: int | None
    extra_parameters: int
    pool_memorization: float | None
    first_pool: float | None

    @property
    def is_copying(self) -> bool:
        """Whether what it lets into its pool looks like copies of real samples."""
        return self.first_pool is not None and self.first_pool >= COPIES


def of(task: Task, rows: list[dict[str, Any]]) -> Costs:
    """The costs that rows state.

    Args:
      task: with its budget, where it has been measured.
      rows: with all columns of `results.ACCOUNT`. Those without FLOPs are from before there were strategies, and cost
        the budget.
    """
    largest = lambda name: max((row[name] for row in rows if row[name] is not None), default=None)
    ratio = None
    budget = task.budget.get("flops", {})
    if of_task := [row for row in rows if row["loop"] in budget]:
        spent = sum(budget[row["loop"]] if row["flops"] is None else row["flops"] for row in of_task)
        ratio = spent / sum(budget[row["loop"]] for row in of_task)
    return Costs(
        ratio=ratio,
        is_bounded=bool(task.budget.get("steps")),
        real_seen=largest("n_real_seen"),
        extra_parameters=largest("extra_parameters") or 0,
        pool_memorization=largest("pool_memorization"),
        first_pool=_first_pool(task, rows),
    )


def _first_pool(task: Task, rows: list[dict[str, Any]]) -> float | None:
    plain = max(cell["bias"] for cell in task.cells)
    by_loop: dict[str, list[float]] = {}
    for row in rows:
        if row["generation"] == 1 and row["bias"] == plain and row["pool_memorization"] is not None:
            by_loop.setdefault(row["loop"], []).append(row["pool_memorization"])
    return max((math.fsum(values) / len(values) for values in by_loop.values()), default=None)


def facts(found: Costs, told: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is to say of them and of the strategy, as names and texts that whoever shows them escapes.

    Args:
      found: of `of`.
      told: "strategy" of reference.json.
    """
    settings = ", ".join(f"{name} = {_text(value)}" for name, value in told["settings"].items())
    lines = [
        ("settings", settings),
        ("what it consumes", ", ".join(told["consumes"]) or "nothing that the loop does not"),
        ("source", told["cite"]),
        ("cost of a generation", ratio_text(found)),
        ("real samples seen, at most", "" if found.real_seen is None else f"{found.real_seen:,}"),
        ("extra parameters", f"{found.extra_parameters:,}"),
    ]
    if found.pool_memorization is not None:
        first = "—" if found.first_pool is None else f"{found.first_pool:.1%}"
        text = f"{first} in generation 1, at most {found.pool_memorization:.1%} in any"
        lines.append(("pool as near to real samples as copies", text))
    if found.is_copying:
        lines.append(("warning", COPIED))
    return [(name, text) for name, text in lines if text]


def ratio_text(found: Costs) -> str:
    """ "0.98 times that without a strategy"."""
    if found.ratio is None:
        return "not known"
    text = f"{found.ratio:.3g} times that without a strategy"
    return text if found.is_bounded else f"{text}, not bounded: fits are exact, with no optimizer steps to give up"


def _text(value: Any) -> str:
    return f"[{', '.join(map(_text, value))}]" if isinstance(value, list) else f"{value}"
