"""The method of a submission, as `verify` runs it again: which code that is, at what cost, and what its rows say of it.

The suite's own strategies run by their names and settings. "package.module:Class" is its author's code: importing it
executes whatever its module says, so that nothing here does unless whoever verifies has allowed it.
"""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

from madbench import __version__, grid
from madbench import config as configs
from madbench.errors import UserError
from madbench.leaderboard import agreement, forms, submission
from madbench.pool_copies import MEASURED

# Of a row: what is counted must be the same number.
_COUNTED = ("flops", "n_real_seen", "extra_parameters")
_POOL = "pool_memorization"


def barred(given: submission.Submission, allow_code: bool, cache: str = grid.DEFAULT_CACHE) -> str:
    """Why the runs of a submission cannot be computed again here, as a sentence; "" where they can.

    Args:
      given: passes its checks.
      allow_code: whether a class of somebody else's is imported.
      cache: directory of feature networks and prepared data.
    """
    if not forms.is_class(given.manifest["method"]):
        return ""
    if not allow_code:
        return (
            f"runs of {given.strategy} are computed by its author's code, which --allow_code would import and execute"
        )
    try:
        _prepared(given, cache)
    except UserError as error:
        return f"runs of {given.strategy} cannot be computed here: {error}"
    return ""


def config(given: submission.Submission) -> dict[str, Any]:
    """The resolved config of the submission's runs."""
    return given.task.config | ({"strategy": given.strategy, "equal_cost": True} if given.has_strategy else {})


def accounts(
    where: dict[str, Any],
    given: submission.Submission,
    rule: str,
    claimed: dict[str, Any] | None,
    found: dict[str, Any],
    rows: Iterable[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Lines of `agreement.judge` for what a row says of its cost; none of a row from before that was counted.

    Args:
      where: "loop", "bias", "seed" and "generation" of the row.
      given: whose row it is.
      rule: `agreement.SAME` or `agreement.OTHER`.
      claimed: its row, or None.
      found: the same row, computed again.
      rows: of the submission, all.
    """
    if claimed is None or claimed["flops"] is None:
        return []
    cell = (where["loop"], where["bias"])
    sizes = {(c["loop"], c["bias"]): c["settings"]["n_synthetic"] for c in given.task.cells}
    own = [row[_POOL] for row in rows if (row["loop"], row["bias"], row["generation"]) == (*cell, where["generation"])]
    n = max(min(sizes[cell], MEASURED), 1)
    limits = dict.fromkeys(_COUNTED, 0.0)
    limits[_POOL] = agreement.pool(given.task, rule, where["generation"], own, n)
    kinds = dict.fromkeys(_COUNTED, "number") | {_POOL: "share"}
    return agreement.judge({"what": "account"} | where, kinds, claimed, found, limits)


def misdescribed(given: submission.Submission, workdir: pathlib.Path) -> str:
    """In which point reference.json describes the strategy otherwise than a re-run in `workdir`, as a sentence; or "".

    Settings are compared, and of the same version of madbench also the words for what it consumes, and its source.
    """
    claimed = given.result.reference.get("strategy")
    found = json.loads((workdir / "reference.json").read_text())["strategy"]
    alike = ("settings", "consumes", "cite") if given.manifest["benchmark"] == __version__ else ("settings",)
    wrong = [name for name in alike if claimed is not None and claimed[name] != found[name]]
    return f"reference.json: what it says of the strategy's {wrong[0]} is not so" if wrong else ""


def _prepared(given: submission.Submission, cache: str) -> grid.Job:
    """The job that the submission ran, of its strategy; with a class of somebody else's, this imports it."""
    return grid.prepare(configs.from_plain(config(given)), cache=cache, only=given.task.runs[:1])
