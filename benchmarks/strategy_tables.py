"""The tables of docs/strategies_compared.md, from `benchmarks/reference/strategies-*.json` or the reference.json of a
run of `benchmarks/strategies.py`; that of what was searched, from `searched-*.json` or the search.json of a search:

    python benchmarks/strategy_tables.py benchmarks/reference/strategies-gan.json

A reference is plain values: effects over all blocks (`overall`) and by λ (`by_bias`), verdicts of blocks (`collapse`),
`costs`, and `claims`; of a search, `rows`. A test holds the page to what is printed here.
"""

import json
import math
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import claims
import numpy as np

from madbench import verdict
from madbench.report.text import probability

type Row = Mapping[str, Any]
NOTHING, MISSING = "—", "missing"
FINDINGS = ("MAD", "loses quality", "loses diversity")
_OUTCOMES = {  # of which Holm's correction is one family each; the first is read first
    "FD": ("fd", "mean"),
    "FD, last generation": ("fd", "last"),
    "precision": ("precision", "mean"),
    "recall": ("recall", "mean"),
}
_SEARCHED = {"ln FD": ("ln_fd", "{:+.2f}"), "precision": ("precision", "{:+.3f}"), "recall": ("recall", "{:+.3f}")}


def tables(reference: Mapping[str, Any]) -> dict[str, list[str]]:
    """Lines of Markdown, by what they show."""
    if "rows" in reference:
        return {"what was searched": list(searched(reference))}
    found = {
        "effects by λ": by_bias(reference["by_bias"]),
        "effects over all blocks": overall(reference["overall"]),
        "what still becomes of the loops": collapse(reference["collapse"]),
        "what it cost": costs(reference["costs"]),
    }
    budgets = dict.fromkeys(row["budget"] for row in reference["claims"])
    found |= {f"claims, {name}": table_of_claims(reference["claims"], name) for name in budgets}
    return {title: list(lines) for title, lines in found.items()}


def by_bias(rows: Sequence[Row]) -> Iterator[str]:
    """A row for each strategy and budget; columns are metrics, for each λ."""
    columns = sorted(dict.fromkeys((row["bias"], row["metric"]) for row in rows), key=lambda column: -column[0])
    names = [f"{'FD' if metric == 'fd' else metric}, λ = {bias:g}" for bias, metric in columns]
    yield from _head(["strategy", "budget"], names)
    for strategy, mine in _by_run(rows):
        of = {(row["bias"], row["metric"]): row for row in mine}
        yield _line(f"`{strategy}`", _budget(mine[0]), *(_range(of[column]) for column in columns))


def overall(rows: Sequence[Row]) -> Iterator[str]:
    """Effects over all blocks, with corrected p, by strategy and budget; the smallest FD at equal cost first."""
    runs = list(_by_run(row for row in rows if row["strategy"] != "none"))
    by_outcome = {(name, mine[0]["equal_cost"]): {_outcome(row): row for row in mine} for name, mine in runs}
    size = lambda run: math.inf if (x := by_outcome[run].get(("fd", "mean"), {}).get("difference")) is None else x
    first = lambda run: (size((run[0], True)) if (run[0], True) in by_outcome else size(run), run[0], not run[1])
    yield from _head(["strategy", "budget"], list(_OUTCOMES))
    for run in sorted(by_outcome, key=first):
        cells = [_with_p(by_outcome[run].get(outcome)) for outcome in _OUTCOMES.values()]
        yield _line(f"`{run[0]}`", verdict.budget_name(run[1]), *cells)


def _outcome(row: Row) -> tuple[str, str]:
    return row["metric"], row["statistic"]


def _with_p(row: Row | None) -> str:
    """ "0.90 (0.82 to 0.97), p = 0.214"."""
    if row is None or row["low"] is None:
        return MISSING
    is_log = row["scale"] == "log"
    told = {"is_log": is_log, "mean": row["difference"], "interval": (row["low"], row["high"])}
    return f"{_range(told)}, p = {probability(row['p_holm'])}"


def collapse(rows: Sequence[Row]) -> Iterator[str]:
    """How many blocks get each verdict; FD of each loop at the largest λ, first and last."""
    largest = max(block["bias"] for block in rows[0]["blocks"])
    loops = [block["loop"] for block in rows[0]["blocks"] if block["bias"] == largest]
    yield from _head(["strategy", "budget"], [*FINDINGS, *loops])
    for row in rows:
        blocks = row["blocks"]
        counts = [f"{sum(name in block['findings'] for block in blocks)}/{len(blocks)}" for name in FINDINGS]
        fd = [" → ".join(map(_digits, block["fd"])) for block in blocks if block["bias"] == largest]
        yield _line(f"`{row['strategy']}`", _budget(row) if row["strategy"] != "none" else "", *counts, *fd)


def _digits(value: float | None) -> str:
    return MISSING if value is None else f"{value:#.3g}".rstrip(".")


def costs(rows: Sequence[Row]) -> Iterator[str]:
    """The largest of all blocks."""
    columns = {
        "FLOPs, × none": ("flops_ratio", "{:.3f}"),
        "real samples seen": ("n_real_seen", "{:.0f}"),
        "extra parameters": ("extra_parameters", "{}"),
        "pool memorization": ("pool_memorization", "{:.3f}"),
    }
    yield from _head(["strategy", "budget"], list(columns))
    for row in rows:
        cells = [NOTHING if row[field] is None else text.format(row[field]) for field, text in columns.values()]
        yield _line(f"`{row['strategy']}`", _budget(row), *cells)


def table_of_claims(rows: Iterable[Row], budget: str) -> Iterator[str]:
    """A row for each claim; columns are λ."""
    mine = [row for row in rows if row["budget"] == budget]
    biases = list(dict.fromkeys(row["bias"] for row in mine))
    yield _line("claim", "tried as", *(f"λ = {bias:g}" for bias in biases))
    yield "|---|---|" + "---|" * len(biases)
    by_claim: dict[tuple[Any, ...], list[Row]] = {}
    for row in mine:
        by_claim.setdefault((row["paper"], row["says"]), []).append(row)
    for (paper, says), each in by_claim.items():
        yield _line(f"{says} ({paper})", _tried_as(each[0]), *map(_told, each))


def searched(reference: Mapping[str, Any]) -> Iterator[str]:
    """A row for each setting of a search, columns for each budget; those that were chosen in bold.

    Args:
      reference: search.json, as `benchmarks/strategies.py --search` writes it.
    """
    of: dict[str, dict[bool, Row]] = {}
    for row in reference["rows"]:
        of.setdefault(row["strategy"], {})[row["equal_cost"]] = row
    yield from _head(["setting"], [f"{verdict.budget_name(b)}: {name}" for b in (True, False) for name in _SEARCHED])
    for strategy, mine in of.items():
        cells = []
        for row in (mine.get(True), mine.get(False)):
            values = [(row and row[field], text) for field, text in _SEARCHED.values()]
            cells += [NOTHING if value is None else text.format(value) for value, text in values]
        bold = "**" if strategy in reference["chosen"] else ""
        yield _line(f"{bold}`{strategy}`{bold}", *cells)


def _tried_as(row: Row) -> str:
    """ "FD, generation 1, fresh_data: `neon` against `none` < 1"."""
    of_fd = row["metric"] == "fd"
    when = {
        claims.FIRST: "generation 1",
        claims.MEAN: "mean from generation 2 on",
        claims.LAST: "the last generation",
        claims.CHANGE: "the last generation over the first" if of_fd else "last less first",
    }[row["when"]]
    name = {"fd": "FD", "spread": "spread of the reward"}.get(row["metric"], row["metric"])
    where = "all loops" if tuple(row["loops"]) == claims.LOOPS else ", ".join(row["loops"])
    sign = f"{'>' if row['sign'] > 0 else '<'} {1 if of_fd else 0}"
    return f"{name}, {when}, {where}: `{row['of'][0]}` against `{row['of'][1]}` {sign}"


def _told(row: Row) -> str:
    """ "**holds**: 0.83 (0.75 to 0.92), p = 0.02"."""
    if row["interval"] is None:
        return f"{row['verdict']}: {row['undecided']}"
    return f"**{row['verdict']}**: {_range(row)}, p = {probability(row['p_holm'])}"


def _range(row: Row) -> str:
    """ "0.83 (0.75 to 0.92)" of a ratio, "+0.012 (+0.003 to +0.021)" of a difference."""
    if row["interval"] is None:
        return MISSING
    change = (lambda x: f"{np.exp(x):.2f}") if row["is_log"] else (lambda x: f"{x:+.3f}")
    low, high = map(change, row["interval"])
    return f"{change(row['mean'])} ({low} to {high})"


def _by_run(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    of: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        of.setdefault((row["strategy"], row["equal_cost"]), []).append(row)
    for (strategy, _), mine in of.items():
        yield strategy, mine


def _budget(row: Row) -> str:
    return verdict.budget_name(row["equal_cost"])


def _head(names: Sequence[str], numbers: Sequence[str]) -> Iterator[str]:
    yield _line(*names, *numbers)
    yield "|" + "---|" * len(names) + "--:|" * len(numbers)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def whole(reference: Mapping[str, Any]) -> str:
    return "\n\n".join("\n".join([f"**{title}**", "", *lines]) for title, lines in tables(reference).items()) + "\n"


if __name__ == "__main__":
    print(whole(json.loads(pathlib.Path(sys.argv[1]).read_text())), end="")
