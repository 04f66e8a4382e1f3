"""Strategies against collapse, all of them, and against none: the reference results of `configs/strategies.py`.

    python benchmarks/strategies.py --out=runs/strategies                     6 minutes a strategy and budget
    python benchmarks/strategies.py --out=runs/strategies-gan --family=gan
    python benchmarks/strategies.py --out=runs/search --search                how the settings were chosen

Every strategy runs at equal cost, and those that give up 3 % of their optimizer steps or more for it also with all. A
job that is stopped goes on where it was; a job that is done is not done again. `--only=sims,neon` runs some of them,
in as many processes as you like; once all are there, the comparison is written, what papers claim is tried
(`claims.py`), and all is printed as tables (`strategy_tables.py`).

`--search` runs the settings in `SEARCHED`, at both budgets likewise, on other seeds, λ = 1 and four generations, and
prints for each the mean difference to none in ln FD, precision and recall over generations 2 to 4, three loops and the
seeds. Of each strategy the setting with the smallest ln FD at equal cost is in `claims.CHOSEN`, beside the golden ratio
itself, and of `projection` one with half as many copies. Nothing was chosen on the seeds that are reported.
"""

import json
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import claims
import numpy as np
import strategy_tables
from absl import app, flags
from ml_collections import ConfigDict

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
    "golden_ratio",
    *(f"golden_ratio(weight={w})" for w in (0.6, 0.8)),
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
_ONLY = flags.DEFINE_list("only", [], "Names of strategies.")
_EQUAL_COST = flags.DEFINE_bool("equal_cost_only", False, "Leave out the runs with all optimizer steps.")


def workdir_of(strategy: str, equal_cost: bool, folder: pathlib.Path) -> pathlib.Path:
    slug = results.slug(strategy, 1.0, 0).removesuffix("-bias1-seed0")
    return folder / (slug if equal_cost else f"{slug}-all-steps")


def _is_done(workdir: pathlib.Path) -> bool:
    return (workdir / "report.html").exists()


def _is_meant(strategy: str, equal_cost: bool) -> bool:
    return (equal_cost or not _EQUAL_COST.value) and (not _ONLY.value or strategy.partition("(")[0] in _ONLY.value)


def _jobs(strategies: Iterable[str]) -> list[tuple[str, bool]]:
    """Each strategy at equal cost, then those that pay with all steps."""
    strategies = list(strategies)
    return [(each, True) for each in strategies] + [(each, False) for each in strategies if pays(each)]


def run(strategy: str, equal_cost: bool, folder: pathlib.Path) -> pathlib.Path:
    """One job, to its end; its workdir. One that is done is left as it is, and one of another config refused."""
    config = read_config(f"{CONFIG}:{_FAMILY.value}")
    config.strategy, config.equal_cost = strategy, equal_cost
    config.keep_samples = not _SEARCH.value  # by which claims of rewards are judged
    if _SEARCH.value:
        config.update(biases=(1.0,), generations=4, n_grid=0)
        config.seeds = SEARCH_SEEDS
    workdir = workdir_of(strategy, equal_cost, folder)
    if _is_done(workdir):
        _check_same(workdir, config)
    else:
        print(f"== {_told((strategy, equal_cost))}", flush=True)
        experiment.run(config, str(workdir))
    return workdir


def _check_same(workdir: pathlib.Path, config: ConfigDict) -> None:
    found, meant = results.load(workdir).config, grid.prepare(config, blank=True).config
    if results.config_hash(found) != results.config_hash(meant):
        raise UserError(f"{workdir} is of another job ({found['task']}, seeds {found['seeds']}): choose another --out")


def _told(job: tuple[str, bool]) -> str:
    return f"{job[0]}{'' if job[1] else ', all steps'}"


def search(folder: pathlib.Path) -> None:
    """Prints a line for each of the settings, and writes all that are there as JSON."""
    plain = _outcomes(run("none", True, folder))
    rows = []
    for strategy, equal_cost in _jobs(SEARCHED[_FAMILY.value]):
        if _is_meant(strategy, equal_cost) or _is_done(workdir_of(strategy, equal_cost, folder)):
            change = (_outcomes(run(strategy, equal_cost, folder)) - plain).mean(axis=(0, 1))
            numbers = [None if np.isnan(value) else float(value) for value in change]
            row = dict(zip(("ln_fd", "precision", "recall"), numbers, strict=True))
            rows.append({"strategy": strategy, "equal_cost": equal_cost, **row})
            print("SEARCH", strategy, verdict.budget_name(equal_cost), *(f"{v:+.3f}" for v in change), flush=True)
    searched = {
        "command": f"python benchmarks/strategies.py --search --family={_FAMILY.value}",
        "benchmark": __version__,
        "seeds": SEARCH_SEEDS,
        "chosen": list(claims.CHOSEN[_FAMILY.value].values()),
        "rows": rows,
    }
    (folder / "search.json").write_text(json.dumps(searched, ensure_ascii=False) + "\n")


def _outcomes(workdir: pathlib.Path) -> np.ndarray:
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
    return min(account.steps for account in job.accounts.values()) < (1 - FREE) * config.model.steps


def main(argv) -> None:
    folder = pathlib.Path(_OUT.value)
    known = {"none", *(strategy.partition("(")[0] for strategy in SEARCHED[_FAMILY.value])}
    if unknown := set(_ONLY.value) - known:
        raise UserError(f"--only={','.join(sorted(unknown))}: choose from {', '.join(sorted(known))}")
    folder.mkdir(parents=True, exist_ok=True)
    if _SEARCH.value:
        search(folder)
        return
    chosen = claims.CHOSEN[_FAMILY.value]
    for strategy in ("none", *chosen.values()):
        if _is_meant(strategy, True):
            run(strategy, True, folder)
    jobs = [("none", True), *_jobs(chosen.values())]
    for strategy, equal_cost in jobs:
        if not equal_cost and _is_meant(strategy, equal_cost):
            run(strategy, equal_cost, folder)
    free = [strategy for strategy in chosen.values() if (strategy, False) not in jobs]
    if missing := [_told(job) for job in jobs if not _is_done(workdir_of(*job, folder))]:
        print(f"nothing is compared before all have been run; still to come: {'; '.join(missing)}")
        return
    reference = _reference({job: workdir_of(*job, folder) for job in jobs}, folder / "comparison", chosen, free)
    (folder / "comparison" / "reference.json").write_text(json.dumps(reference, ensure_ascii=False) + "\n")
    (folder / "comparison" / "tables.md").write_text(strategy_tables.whole(reference))
    print(strategy_tables.whole(reference), end="")


def _reference(
    workdirs: Mapping[tuple[str, bool], pathlib.Path],
    compared: pathlib.Path,
    chosen: Mapping[str, str],
    free: list[str],
) -> dict[str, Any]:
    """What is kept of all runs, and of their comparison, which is written into `compared`."""
    commands.compare(["compare", *map(str, workdirs.values()), f"--out={compared}"])
    tried = {
        verdict.budget_name(budget): claims.try_all(workdirs, chosen, equal_cost=budget, free=free)
        for budget in (False, True)
    }
    whole = json.loads((compared / "comparison.json").read_text())
    return {
        "command": f"python benchmarks/strategies.py --family={_FAMILY.value}",
        "benchmark": __version__,
        "overall": [{field: row[field] for field in _TOLD} for row in whole["overall"]],
        "by_bias": claims.by_bias(workdirs),
        "collapse": _collapse(workdirs),
        "costs": _costs(whole["blocks"]),
        "claims": claims.plain(tried),
    }


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


def _collapse(workdirs: Mapping[tuple[str, bool], pathlib.Path]) -> list[dict[str, Any]]:
    """What still becomes of the loops: by block the verdicts of the standard table, and FD, first and last."""
    found = []
    for (strategy, equal_cost), path in workdirs.items():
        blocks = [
            {
                "loop": line["loop"].partition("(")[0],
                "bias": line["bias"],
                "findings": line["findings"],
                "fd": [line["metrics"]["fd"][end]["mean"] for end in ("first", "last")],
            }
            for line in json.loads((path / "table.json").read_text())["lines"]
        ]
        found.append({"strategy": strategy, "equal_cost": equal_cost, "blocks": blocks})
    return found


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
