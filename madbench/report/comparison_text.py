"""The comparison of strategies as markdown, CSV and JSON; all numbers are those of `comparison`."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

from madbench import __version__, verdict
from madbench.report import accounts
from madbench.report.aggregate import MISSING
from madbench.report.comparison import ALL, LAST, Comparison, Effect, Outcome, Rank, Standing, Trial
from madbench.report.text import Grid, escape_markdown, markdown_table, probability, style
from madbench.results import NO_STRATEGY, SCHEMA, bias_text, write_text
from madbench.tabular import to_csv
from madbench.verdict import Cell

NAME = "comparison"
FORMATS = ("md", "csv", "json")
SAME = "costs nothing"  # of a strategy that has one budget, in the column of the other


def render(found: Comparison, format: str) -> str:
    """In one of FORMATS, ending in a newline."""
    return {"md": _markdown, "csv": _csv, "json": _json}[format](found)


def write(found: Comparison, folder: pathlib.Path) -> list[str]:
    """Writes it in every format; returns the files' names."""
    for format in FORMATS:
        write_text(folder / f"{NAME}.{format}", render(found, format))
    return [f"{NAME}.{format}" for format in FORMATS]


# -------------------------------------------------------------------------------------------------------------- words


def budgets(found: Comparison) -> list[bool]:
    """`equal_cost` of what is shown beside each other."""
    return list(dict.fromkeys(standing.equal_cost for standing in found.standings))


def group_name(group: tuple[str, str]) -> str:
    """ "digits, diffusion"; "all"."""
    return group[0] if group[0] == ALL and not group[1] else ", ".join(group)


def when(found: Comparison, statistic: str) -> str:
    """ "mean over generations 2 to 8", "generation 8"."""
    lasts = sorted({trial.generations for trial in found.trials})
    last = str(lasts[0]) if len(lasts) == 1 else "T"
    return f"generation {last}" if statistic == LAST else f"mean over generations 2 to {last}"


def kind(found: Comparison, metric: str) -> str:
    """ "FD, ratio to none", "recall, difference from none"."""
    info = found.metrics[metric]
    return f"{info.label}, {'ratio to none' if info.kind == 'distance' else 'difference from none'}"


def findings(found: Comparison) -> Iterator[str]:
    """What the first outcome says overall, then of each group at each budget, in sentences."""
    outcome = found.outcomes[0]
    yield f"Overall, by {kind(found, outcome.metric)}, {when(found, outcome.statistic)}, after Holm's correction:"
    for group in dict.fromkeys(standing.group for standing in found.standings):
        for equal_cost in budgets(found):
            mine = [s for s in found.standings if s.group == group and s.equal_cost == equal_cost and s.effects]
            if not mine:
                continue
            said: dict[str, list[str]] = {"better than none": [], "worse": [], "no difference found": []}
            for standing in mine:
                effect = standing.effects[outcome]
                name = {"better": "better than none", "worse": "worse", "": "no difference found"}[effect.finding]
                if effect.p_value is None:
                    name = f"undecided ({effect.undecided})"
                told = [_number(effect, effect.mean)] if effect.finding else []
                told += _against_it(found, standing, outcome)
                said.setdefault(name, []).append(
                    f"{standing.strategy} ({'; '.join(told)})" if told else standing.strategy
                )
            parts = "; ".join(f"{name}: {', '.join(who)}" for name, who in said.items() if who)
            yield f"{group_name(group)}, {verdict.budget_name(equal_cost)}: {parts}."


def _against_it(found: Comparison, standing: Standing, outcome: Outcome) -> Iterator[str]:
    """In how many blocks the corrected tests say otherwise than the mean over all: it may hide that they differ."""
    mine = [
        trial.effects[outcome].finding
        for trial in found.trials
        if (trial.cell.strategy, trial.cell.equal_cost) == (standing.strategy, standing.equal_cost)
        and standing.group in ((trial.cell.task, trial.cell.model), (ALL, ""))
    ]
    for finding in ("better", "worse"):
        if (n := mine.count(finding)) and standing.effects[outcome].finding != finding:
            yield f"{finding} in {n} of {len(mine)} blocks"


def notes(found: Comparison) -> list[str]:
    """How to read it."""
    level = f"{verdict.CONFIDENCE:.0%}"
    first = f"{found.metrics[found.outcomes[0].metric].label}, {when(found, found.outcomes[0].statistic)}"
    return [
        *found.notes,
        f"Read first: {first}. The other outcomes say more of it, and are no further chances to find something.",
        "Each effect is a strategy less none, in pairs of runs of one seed, which share real data and noise. Of a "
        f"distance it is a ratio, exp of the mean difference of logarithms. In brackets, {level} intervals of the mean "
        "over the seeds by Student's t, two-sided; p: of the two-sided paired t-test.",
        "Holm: p after Holm's correction over all tests of its table, both budgets included. Each table is a family of "
        f"its own: it holds a difference that is none with {verdict.SIGNIFICANCE:.0%} probability at most.",
        "Overall: of each seed the mean over the blocks (loop, λ) comes first, for blocks share seeds and data and are "
        "no independent trials. It speaks of these blocks, not of others.",
        "Rank: among none and all strategies at that budget, 1 the best, the mean over blocks and seeds. A run without "
        "a value ranks last, as does a strategy in a block where it was not run.",
        f"{MISSING}: not run, or missing: no mean is taken over pairs that are left. {SAME.capitalize()}: the strategy "
        "has one budget, and its effect is in the other column.",
        "Seeds share the reference and the feature network: what is judged are strategies on these data.",
        *accounts.notes(found.results),
    ]


# ------------------------------------------------------------------------------------------------------------ markdown


def _markdown(found: Comparison) -> str:
    tasks = dict.fromkeys(trial.cell.task for trial in found.trials)
    parts = [f"**{escape_markdown(', '.join(tasks))}: strategies against none**"]
    heading, *said = map(escape_markdown, findings(found))
    parts += [heading, "\n".join(f"- {text}" for text in said)]
    for grid in _grids(found):
        parts += [escape_markdown(grid.caption), markdown_table(grid)]
    parts.append("\n".join(f"- {escape_markdown(note)}" for note in notes(found)))
    return "\n\n".join(parts) + "\n"


def _grids(found: Comparison) -> Iterator[Grid]:
    yield _costs(found)
    for title, make in (("Overall", _overall), ("By block", _blocks)):
        for outcome in found.outcomes:
            caption = f"{title}: {kind(found, outcome.metric)}, {when(found, outcome.statistic)}."
            yield make(found, outcome, caption)


def _costs(found: Comparison) -> Grid:
    """The largest over the blocks of each task and model: what tells a strategy that copies, or that spends."""
    several = len({(t.cell.task, t.cell.model) for t in found.trials}) > 1
    rows, keys = [], [(t.cell.task, t.cell.model, t.cell.strategy, t.cell.equal_cost) for t in found.trials]
    for key in dict.fromkeys(keys):
        mine = [trial.expense for trial, each in zip(found.trials, keys, strict=True) if each == key]
        texts = []
        for field, pattern in (
            ("flops_ratio", "{:.3f}"),
            ("n_real_seen", "{:.0f}"),
            ("extra_parameters", "{}"),
            ("pool_memorization", "{:.3f}"),
        ):
            values = [value for each in mine if (value := getattr(each, field)) is not None]
            texts.append(pattern.format(max(values)) if values else MISSING)
        rows.append([*key[: 2 * several], key[2], verdict.budget_name(key[3]), *texts])
    header = ["task", "model"] * several + ["strategy", "budget", "FLOPs, × none", "real samples seen"]
    header += ["extra parameters", "pool memorization"]
    return Grid("What they cost: the largest of all blocks.", header, rows, "ll" * several + "llrrrr")


def _overall(found: Comparison, outcome: Outcome, caption: str) -> Grid:
    """A row for each strategy of each group, the best mean rank first; budgets side by side."""
    shown, rows = budgets(found), []
    several = len({standing.group for standing in found.standings}) > 1
    table: dict[tuple[tuple[str, str], str], dict[bool, Standing]] = {}
    for standing in found.standings:
        table.setdefault((standing.group, standing.strategy), {})[standing.equal_cost] = standing
    groups = list(dict.fromkeys(group for group, _ in table))
    best = lambda item: (groups.index(item[0][0]), min(s.ranks[outcome].mean for s in item[1].values()))
    for (group, strategy), mine in sorted(table.items(), key=best):
        row = [group_name(group)] * several + [strategy, _blocks_text(mine)]
        for equal_cost in shown:
            standing = mine.get(equal_cost)
            effect = standing.effects.get(outcome) if standing else None
            free = strategy != NO_STRATEGY and any(s.flops_ratio == 1 for s in mine.values())
            row += [*_effect_texts(effect, free), _rank_text(standing.ranks[outcome] if standing else None)]
        rows.append(row)
    header = ["of"] * several + ["strategy", "blocks"]
    header += [f"{verdict.budget_name(b)}{name}" for b in shown for name in ("", ": p", ": Holm", ": rank")]
    return Grid(caption, header, rows, "l" * several + "lr" + "rrrr" * len(shown))


def _blocks_text(mine: dict[bool, Standing]) -> str:
    texts = dict.fromkeys(f"{s.blocks}/{s.of}" for s in mine.values())
    return ", ".join(texts)


def _blocks(found: Comparison, outcome: Outcome, caption: str) -> Grid:
    """A row for each strategy in each block, beside none's own value."""
    info, shown, rows = found.metrics[outcome.metric], budgets(found), []
    several = len({(t.cell.task, t.cell.model) for t in found.trials}) > 1
    table: dict[tuple[Cell, str], dict[bool, Trial]] = {}
    for trial in found.trials:
        table.setdefault((accounts.block(trial.cell), trial.cell.strategy), {})[trial.cell.equal_cost] = trial
    blocks = list(dict.fromkeys(block for block, _ in table))
    for (block, strategy), mine in sorted(table.items(), key=lambda item: blocks.index(item[0][0])):
        level = next(iter(mine.values())).plain[outcome]
        if level is not None and info.kind == "distance":
            level = math.exp(level)
        where = [block.task, block.model] * several + [block.loop, bias_text(block.bias)]
        row = [*where, MISSING if level is None else style(info, level).format(level), strategy]
        for equal_cost in shown:
            free = any(trial.expense.flops_ratio == 1 for trial in mine.values())
            row += _effect_texts(mine[equal_cost].effects[outcome] if equal_cost in mine else None, free)
        rows.append(row)
    header = ["task", "model"] * several + ["loop", "λ", NO_STRATEGY, "strategy"]
    header += [f"{verdict.budget_name(b)}{name}" for b in shown for name in ("", ": p", ": Holm")]
    return Grid(caption, header, rows, "ll" * several + "lrrl" + "rrr" * len(shown))


def _effect_texts(effect: Effect | None, is_free: bool = False) -> list[str]:
    """ "0.83 (0.75 to 0.92)", "0.003", "0.02"; `is_free`: the strategy costs nothing, so that budgets are one."""
    if effect is None and is_free:
        return [SAME, MISSING, MISSING]
    if effect is None or effect.mean is None:
        return [f"{MISSING} ({effect.undecided})" if effect else MISSING, MISSING, MISSING]
    mean, interval = _number(effect, effect.mean), effect.interval
    if interval is None:
        return [f"{mean} ({effect.undecided})", MISSING, MISSING]
    bounds = " to ".join(_number(effect, bound) for bound in interval)
    return [f"{mean} ({bounds})", probability(effect.p_value), probability(effect.p_holm)]


def _number(effect: Effect, value: float) -> str:
    """Three digits of a ratio, three decimals of a difference."""
    return f"{ratio(value):#.3g}".rstrip(".") if effect.is_log else f"{value:+.3f}"


def ratio(logarithm: float) -> float:
    """exp, kept among the numbers: intervals of few seeds may reach anywhere."""
    return math.exp(min(max(logarithm, -700.0), 700.0))


def _rank_text(rank: Rank | None) -> str:
    if rank is None:
        return MISSING
    bounds = f" ({max(rank.interval.low, 1):.1f} to {rank.interval.high:.1f})" if rank.interval else ""
    return f"{rank.mean:.1f}{bounds}"


# --------------------------------------------------------------------------------------------------------- CSV and JSON


def _record(effect: Effect | None) -> dict[str, Any]:
    """The numbers of an effect; all None for none's own."""
    if effect is None:
        effect = Effect(is_log=False, better=1)
    low, high = effect.interval or (None, None)
    return {
        "scale": "log" if effect.is_log else "linear",
        "difference": effect.mean,
        "low": low,
        "high": high,
        "ratio": ratio(effect.mean) if effect.is_log and effect.mean is not None else None,
        "p_value": effect.p_value,
        "p_holm": effect.p_holm,
        "family": effect.family,
        "pairs": effect.seeds,
        "finding": effect.finding,
        "undecided": effect.undecided,
    }


def _trial_rows(found: Comparison) -> Iterator[dict[str, Any]]:
    for trial in found.trials:
        for outcome, effect in trial.effects.items():
            yield {
                "level": "block",
                **trial.cell._asdict(),
                "workdir": trial.source,
                "generations": trial.generations,
                **outcome._asdict(),
                "none": trial.plain[outcome],
                **_record(effect),
                **dataclasses.asdict(trial.expense),
            }


def _standing_rows(found: Comparison) -> Iterator[dict[str, Any]]:
    for standing in found.standings:
        task, model = standing.group
        for outcome, rank in standing.ranks.items():
            low, high = rank.interval or (None, None)
            yield {
                "level": "overall",
                "task": task,
                "model": model,
                "strategy": standing.strategy,
                "equal_cost": standing.equal_cost,
                "blocks": standing.blocks,
                "blocks_of": standing.of,
                **outcome._asdict(),
                **_record(standing.effects.get(outcome)),
                "flops_ratio": standing.flops_ratio,
                "rank": rank.mean,
                "rank_low": low,
                "rank_high": high,
            }


def _csv(found: Comparison) -> str:
    """A line for each effect: of a block, or overall. Differences of distances are of natural logarithms."""
    return to_csv([*_trial_rows(found), *_standing_rows(found)])


def _json(found: Comparison) -> str:
    value = {
        "schema": SCHEMA,
        "benchmark": __version__,
        "first": found.outcomes[0]._asdict(),
        "findings": list(findings(found)),
        "blocks": list(_trial_rows(found)),
        "overall": list(_standing_rows(found)),
        "metrics": {name: dataclasses.asdict(info) for name, info in found.metrics.items()},
        "strategies": accounts.strategies(found.results),
        "notes": notes(found),
    }
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
