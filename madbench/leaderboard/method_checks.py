"""Checks of what a submission says of its method against collapse: one name everywhere, and equal cost. See `checks`.

That a method is what its name says, no check can tell: `madbench verify` runs it again.
"""

import math
from typing import Any

from madbench import results
from madbench.calls import read_call
from madbench.errors import UserError
from madbench.leaderboard import costs, forms
from madbench.leaderboard.files import shown
from madbench.leaderboard.form_checks import fail_if, place_of
from madbench.leaderboard.submission import Submission, refusal

# Relative: whole steps and whole FLOPs. Far less than one step of a fit.
_ROUNDING = 1e-4


def method(s: Submission) -> None:
    """Manifest, config, reference.json and all rows name one strategy, run at equal cost."""
    strategy = s.strategy
    if (named := forms.method_of(strategy)) != s.manifest["method"]:
        raise UserError(f"submission.json: method is {s.manifest['method']!r}, and its strategy is of {shown(named)}")
    found = s.config.get("strategy", results.NO_STRATEGY)
    if found != strategy:
        raise UserError(f"config.strategy is {shown(found)}, and the manifest's is {shown(strategy)}")
    if problem := refusal(s.config):
        raise UserError(problem)
    told = s.result.reference.get("strategy", costs.UNTOLD)
    for where, each in {"reference.json: strategy": told, **_of_rows(s)}.items():
        if each["name"] != strategy:
            raise UserError(f"{where} is {shown(each['name'])}, and the manifest's is {shown(strategy)}")
        if each["equal_cost"] is not True:
            raise UserError(f"{where}: equal_cost is false, and the leaderboard compares at equal cost")
    if not s.has_strategy and told != costs.UNTOLD:
        raise UserError("reference.json: it says of the strategy none that it has settings, or consumes something")
    for name, value in read_call(strategy)[1].items():
        value = list(value) if isinstance(value, tuple) else value
        if name not in told["settings"] or told["settings"][name] != value:
            raise UserError(f"reference.json: the setting {shown(name)} of {shown(strategy)} is another there, or none")


def _of_rows(s: Submission) -> dict[str, dict[str, Any]]:
    """Each strategy that rows name, once, by the place of its first row."""
    found: dict[tuple, dict[str, Any]] = {}
    for row in s.rows:
        found.setdefault((row["strategy"], row["equal_cost"]), row)
    pairs = found.items()
    return {f"{place_of(row)}: strategy": {"name": name, "equal_cost": equal} for (name, equal), row in pairs}


def cost(s: Submission) -> str:
    """A loop's generations cost the same in all runs and, on average over T, no more than without a strategy. No fit
    has more optimizer steps than the task's, and no more real samples were seen than there can be."""
    if s.has_strategy and not s.task.budget:
        raise UserError(f"what {s.task.id} costs without a strategy has not been measured: it takes no method yet")
    counted = [row for row in s.rows if row["flops"] is not None]
    if len(counted) < len(s.rows) and (counted or s.has_strategy):
        lacking = next(row for row in s.rows if row["flops"] is None)
        raise UserError(f"{place_of(lacking)}: its row does not say what it cost")
    if not s.task.budget:
        return ""
    _check_steps(s)
    _check_same(counted)
    for row in counted:
        _check_row(s, row)
    fail_if(_beyond(s, counted))
    if s.has_strategy and not s.task.budget["steps"]:
        return "its fits are exact: no optimizer steps could be given up, so that its cost is not bounded, but shown"
    return ""


def _check_steps(s: Submission) -> None:
    planned = s.task.budget["steps"]
    for row in s.timing:
        if row["steps"] > planned or (not s.has_strategy and row["steps"] < planned):
            raise UserError(
                f"timing.jsonl, wave {row['wave']}, generation {row['generation']}: {row['steps']} optimizer steps, "
                f"and the task has {planned}"
            )
    if len(steps := {row["steps"] for row in s.timing}) > 1:
        raise UserError(f"timing.jsonl: fits of {min(steps)} and of {max(steps)} optimizer steps in one job")


def _check_same(rows: list[dict[str, Any]]) -> None:
    """Nothing of what a generation costs depends on the seed or on λ; nor what a strategy holds, on anything."""
    flops: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        first = flops.setdefault((row["loop"], row["generation"]), row)
        if row["flops"] != first["flops"]:
            raise UserError(
                f"{place_of(row)}: it cost {row['flops']:,} FLOPs, and {first['flops']:,} in λ = {first['bias']:g}, "
                f"seed {first['seed']}: runs of one loop cost the same"
            )
        if row["extra_parameters"] != rows[0]["extra_parameters"]:
            raise UserError(
                f"{place_of(row)}: {row['extra_parameters']:,} extra parameters, and {rows[0]['extra_parameters']:,} "
                f"in {place_of(rows[0])}"
            )
    alive = [row for row in rows if row["status"] == "ok"]
    for row in alive:
        if (row["pool_memorization"] is None) != (alive[0]["pool_memorization"] is None):
            raise UserError(f"{place_of(row)}: pool_memorization is there in some rows, and null in others")


def _check_row(s: Submission, row: dict[str, Any]) -> None:
    begun = next(c["settings"]["n_initial"] for c in s.task.cells if c["loop"] == row["loop"])
    reads = s.result.reference.get("strategy", costs.UNTOLD)["reads_real"]
    low, high = (max(row["n_real"], begun), row["n_real"] + begun) if reads else (row["n_real"], row["n_real"])
    if not low <= row["n_real_seen"] <= high:
        most = f"{low:,} to {high:,}" if reads else f"the {high:,} of its training set"
        raise UserError(f"{place_of(row)}: {row['n_real_seen']:,} real samples seen, and it can be {most}")
    if not s.has_strategy and (row["extra_parameters"] or row["pool_memorization"] is not None):
        raise UserError(f"{place_of(row)}: extra parameters, or a pool that was measured, without a strategy")


def _beyond(s: Submission, rows: list[dict[str, Any]]) -> list[str]:
    """The loops whose generations cost more than the budget, or without a strategy anything else, as sentences."""
    found = []
    for loop, budget in s.task.budget["flops"].items():
        spent = [row["flops"] for row in rows if row["loop"] == loop]
        if not spent:
            continue
        ratio = math.fsum(spent) / (budget * len(spent))
        if not s.has_strategy and abs(ratio - 1) > _ROUNDING:
            found.append(f"{loop}: a generation cost {ratio:.3g} times what it costs without a strategy, and has none")
        elif s.task.budget["steps"] and ratio > 1 + _ROUNDING:
            found.append(
                f"{loop}: a generation cost {ratio:.4g} times what it costs without a strategy ({budget:,} FLOPs), and "
                "the leaderboard compares at equal cost"
            )
    return found
