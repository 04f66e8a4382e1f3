"""Strategies against collapse, all of them, and against none: the reference results of `configs/strategies.py`.

    python benchmarks/strategies.py --out=runs/strategies                     5m a strategy and budget on two idle cores
    python benchmarks/strategies.py --out=runs/strategies-gan --family=gan
    python benchmarks/strategies.py --out=runs/search --search                how the settings were chosen
    python benchmarks/strategies.py --out=runs/search --search --all_steps    the same of those that pay

Every strategy runs at equal cost, and those that give up 3 % of their optimizer steps or more for it also with all. A
job that is stopped goes on where it was; a job that is done is not done again. `--only=sims,neon` runs some of them,
in as many processes as you like; once all are there, the comparison is written, and what papers claim is tried
(`claims.py`).

`--search` runs the settings in `SEARCHED` at equal cost, or with all steps, on other seeds, λ = 1 and four generations,
and prints for each the mean difference to none in ln FD, precision and recall over generations 2 to 4, three loops and
the seeds. Of each strategy the setting with the smallest ln FD at equal cost is in `claims.CHOSEN`, beside the golden
ratio itself, and of `projection` one with half as many copies. Nothing was chosen on the seeds that are reported.
"""

import json
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import claims
import numpy as np
from absl import app, flags

from madbench import __version__, commands, experiment, grid, results, stopping, verdict
from madbench.errors import UserError, told
from madbench.job_config import read_config

HERE = pathlib.Path(__file__).resolve().parent
CONFIG = HERE.parent / "configs" / "strategies.py"

_NEON = tuple(
    f"neon(weight={w},extra_fit=0.1,extra_rate={r})"
    for w, r in ((0.25, 0.1), (1.0, 0.1), (2.0, 0.1), (3.0, 0.1), (0.25, 0.5), (0.5, 0.5))
)
_SIMS = tuple(
    f"sims(weight={w},extra_fit={f})"
    for w, f in ((0.25, 0.1), (0.5, 0.1), (1.0, 0.1), (2.0, 0.1), (0.5, 0.3), (1.0, 0.3))
)
_OTHERS = (
    "random_subsample(candidates=2)",
    *(f"verifier(candidates={k})" for k in (2, 4)),
    *(f"verifier(by='distance',candidates={k})" for k in (2, 4)),
    *(f"k_choice(candidates={k},scale={s})" for k, s in ((2, 1.0), (2, 4.0), (4, 1.0))),
    *(f"projection(strength={g},clusters={c})" for g, c in ((0.1, 16), (0.5, 16), (0.5, 32), (2.0, 32))),
    *(f"entropy_selection(candidates={k})" for k in (2, 4)),
    *(f"golden_ratio(weight={w})" for w in (0.0, 0.6, 0.8)),
)
SEARCHED = {"diffusion": (*_OTHERS, *_SIMS, *_NEON), "gan": (*_OTHERS, *_NEON)}
SEARCH_SEEDS = (100, 101)
FREE = 0.03  # of the steps: who gives up less is run at equal cost alone
_TOLD = (  # of the comparison, what is kept as reference results
    "strategy", "equal_cost", "metric", "statistic", "scale", "difference", "low", "high", "p_value", "p_holm", "rank",
    "flops_ratio",
)  # fmt: skip

_FAMILY = flags.DEFINE_enum("family", "diffusion", list(claims.CHOSEN), "Of the models.")
_OUT = flags.DEFINE_string("out", None, "Where the workdirs go.", required=True)
_SEARCH = flags.DEFINE_bool("search", False, "Search for settings instead.")
_ALL_STEPS = flags.DEFINE_bool("all_steps", False, "Search with all optimizer steps instead of at equal cost.")
_ONLY = flags.DEFINE_list("only", [], "Names of strategies.")
_EQUAL_COST = flags.DEFINE_bool("equal_cost_only", False, "Leave out the runs with all optimizer steps.")


def workdir_of(strategy: str, equal_cost: bool, folder: pathlib.Path) -> pathlib.Path:
    slug = results.slug(strategy, 1.0, 0).removesuffix("-bias1-seed0")
    return folder / (slug if equal_cost else f"{slug}-all-steps")


def _is_done(workdir: pathlib.Path) -> bool:
    return (workdir / "report.html").exists()


def _is_meant(strategy: str) -> bool:
    return not _ONLY.value or strategy.partition("(")[0] in _ONLY.value


def run(strategy: str, equal_cost: bool, folder: pathlib.Path) -> pathlib.Path:
    """One job, to its end; its workdir."""
    workdir = workdir_of(strategy, equal_cost, folder)
    if not _is_done(workdir):
        config = read_config(f"{CONFIG}:{_FAMILY.value}")
        config.strategy, config.equal_cost = strategy, equal_cost
        config.keep_samples = not _SEARCH.value  # by which claims of rewards are judged
        if _SEARCH.value:
            config.update(biases=(1.0,), generations=4, n_grid=0)
            config.seeds = SEARCH_SEEDS
        print(f"== {strategy}{'' if equal_cost else ', all steps'}", flush=True)
        experiment.run(config, str(workdir))
    return workdir


def search(folder: pathlib.Path) -> None:
    """Prints a line for each of the settings, and writes all that are there as JSON."""
    plain = _values(run("none", True, folder))
    equal_cost = not _ALL_STEPS.value
    found = []
    for strategy in SEARCHED[_FAMILY.value]:
        if not equal_cost and not pays(strategy):
            continue  # its search at equal cost is the same but for less than 3 % of its steps
        if _is_meant(strategy) or _is_done(workdir_of(strategy, equal_cost, folder)):
            change = (_values(run(strategy, equal_cost, folder)) - plain).mean(axis=(0, 1))
            numbers = [None if np.isnan(value) else float(value) for value in change]
            found.append({"strategy": strategy, **dict(zip(("ln_fd", "precision", "recall"), numbers, strict=True))})
            print("SEARCH", strategy, *(f"{value:+.3f}" for value in change), flush=True)
    (folder / f"search{'' if equal_cost else '-all-steps'}.json").write_text(json.dumps(found, indent=1) + "\n")


def _values(workdir: pathlib.Path) -> np.ndarray:
    """(ln FD, precision, recall) of generations 2 to T, `[run, generation, 3]`."""
    rows = [row for row in results.load(workdir).rows if row["generation"] > 1]
    rows.sort(key=lambda row: (row["loop"], row["bias"], row["seed"], row["generation"]))
    generations = len({row["generation"] for row in rows})
    number = lambda value: np.nan if value is None else value  # of runs that diverged
    each = [[np.log(number(row["fd"])), number(row["precision"]), number(row["recall"])] for row in rows]
    return np.array(each).reshape(-1, generations, 3)


def pays(strategy: str) -> bool:
    """Whether a strategy gives up so many optimizer steps at equal cost that all of them are worth a run."""
    config = read_config(f"{CONFIG}:{_FAMILY.value}")
    config.strategy = strategy
    job = grid.prepare(config)
    return min(account.steps for account in job.accounts.values()) < (1 - FREE) * job.family.steps


def main(argv) -> None:
    folder = pathlib.Path(_OUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    if _SEARCH.value:
        search(folder)
        return
    chosen = claims.CHOSEN[_FAMILY.value]
    jobs = [("none", True), *((strategy, True) for strategy in chosen.values())]
    free = [strategy for strategy in chosen.values() if not pays(strategy)]
    jobs += [(strategy, False) for strategy in chosen.values() if strategy not in free]
    for strategy, equal_cost in jobs:
        if _is_meant(strategy) and (equal_cost or not _EQUAL_COST.value):
            run(strategy, equal_cost, folder)
    if missing := [strategy for strategy, budget in jobs if not _is_done(workdir_of(strategy, budget, folder))]:
        print(f"nothing is compared before all have been run; still to come: {', '.join(missing)}")
        return
    workdirs = {job: workdir_of(*job, folder) for job in jobs}
    compared = folder / "comparison"
    commands.compare(["compare", *map(str, workdirs.values()), f"--out={compared}"])
    tried = {
        verdict.budget_name(budget): claims.try_all(workdirs, chosen, equal_cost=budget, free=free)
        for budget in (False, True)
    }
    (compared / "collapse.md").write_text("\n".join(_collapse(workdirs)) + "\n")
    lines = []
    for budget, found in tried.items():
        lines += [f"Claims, {budget}:", "", *claims.markdown(found), ""]
    (compared / "claims.md").write_text("\n".join(lines))
    print((compared / "collapse.md").read_text(), *lines, sep="\n")
    by_bias = claims.by_bias(workdirs)
    (compared / "by_bias.md").write_text("\n".join(claims.markdown_by_bias(by_bias)) + "\n")
    whole = json.loads((compared / "comparison.json").read_text())
    reference = {
        "command": f"python benchmarks/strategies.py --family={_FAMILY.value}",
        "benchmark": __version__,
        "overall": [{field: row[field] for field in _TOLD} for row in whole["overall"]],
        "by_bias": by_bias,
        "costs": _costs(whole["blocks"]),
        "claims": claims.plain(tried),
    }
    (compared / "reference.json").write_text(json.dumps(reference, ensure_ascii=False) + "\n")


def _costs(blocks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By strategy and budget, the largest of all blocks."""
    fields = ("flops_ratio", "n_real_seen", "extra_parameters", "pool_memorization")
    rows: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
    for row in blocks:
        rows.setdefault((row["strategy"], row["equal_cost"]), []).append(row)
    most = lambda mine, field: max((row[field] for row in mine if row[field] is not None), default=None)
    return [
        {"strategy": strategy, "equal_cost": equal_cost, **{field: most(mine, field) for field in fields}}
        for (strategy, equal_cost), mine in rows.items()
    ]


def _collapse(workdirs: Mapping[tuple[str, bool], pathlib.Path]) -> Iterable[str]:
    """The lines of a table: what still becomes of the loops, by the verdicts of the standard table."""
    findings = ("MAD", "loses quality", "loses diversity")
    header = False
    for (strategy, equal_cost), path in workdirs.items():
        lines = json.loads((path / "table.json").read_text())["lines"]
        largest = [line for line in lines if line["bias"] == max(each["bias"] for each in lines)]
        if not header:
            loops = " | ".join(line["loop"].partition("(")[0] for line in largest)
            yield f"| strategy | budget | {' | '.join(findings)} | {loops} |"
            yield "|---|---|" + "--:|" * (len(findings) + len(largest))
            header = True
        counts = [f"{sum(name in line['findings'] for line in lines)}/{len(lines)}" for name in findings]
        ends = [[line["metrics"]["fd"][end]["mean"] for end in ("first", "last")] for line in largest]
        fd = [f"{first:#.3g} → {last:#.3g}" for first, last in ends]
        budget = verdict.budget_name(equal_cost) if strategy != "none" else ""
        yield f"| `{strategy}` | {budget} | {' | '.join([*counts, *fd])} |"


def guarded(argv) -> int:
    """What a person sees of a stop or of a wrong setting is one line."""
    try:
        main(argv)
    except stopping.Stopped as stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + stopped.signal
    except UserError as error:
        print(f"strategies.py: {told(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # the second time
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(app.run(guarded))
