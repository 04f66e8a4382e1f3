"""Strategies against collapse, all of them, and against none: the reference results of `configs/strategies.py`.

    python benchmarks/strategies.py --out=runs/strategies                     5m a strategy and budget on two idle cores
    python benchmarks/strategies.py --out=runs/strategies-gan --family=gan
    python benchmarks/strategies.py --out=runs/search --search                how the settings were chosen

Every strategy runs at equal cost, and those that cost something also with all optimizer steps. A job that is stopped
goes on where it was; a job that is done is not done again. `--only=sims,neon` runs some of them.

`--search` runs the settings in `SEARCHED` at equal cost on other seeds, one λ and four generations, and prints for each
the mean difference to none in ln FD, precision and recall over generations 2 to 4, three loops and the seeds. Of each
strategy those with the smallest ln FD are in `CHOSEN`, beside the golden ratio itself; nothing was chosen on the seeds
that are reported. At the end comes what papers claim, tried on these runs (`claims.py`).
"""

import json
import pathlib
import sys

import claims
import numpy as np
from absl import app, flags

from madbench import __version__, commands, experiment, grid, results, stopping
from madbench.errors import UserError, told
from madbench.job_config import read_config

HERE = pathlib.Path(__file__).resolve().parent
CONFIG = HERE.parent / "configs" / "strategies.py"

_OF_ANY = {
    "golden_ratio": "golden_ratio",
    "real_weight": "golden_ratio(weight=0.8)",
    "neon": "neon(weight=1.0,extra_fit=0.1,extra_rate=0.1)",
    "verifier": "verifier(candidates=2)",
    "verifier_by_distance": "verifier(by='distance',candidates=2)",
    "projection": "projection(strength=2.0,clusters=32)",
    "random_subsample": "random_subsample(candidates=2)",
    "k_choice": "k_choice(candidates=2,scale=4.0)",
    "entropy_selection": "entropy_selection(candidates=2)",
}
CHOSEN = {"diffusion": _OF_ANY | {"sims": "sims(weight=1.0,extra_fit=0.1)"}, "gan": _OF_ANY}
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
_TOLD = (  # of the comparison, what is kept as reference results
    "strategy", "equal_cost", "metric", "statistic", "scale", "difference", "low", "high", "p_value", "p_holm", "rank",
    "flops_ratio",
)  # fmt: skip

_FAMILY = flags.DEFINE_enum("family", "diffusion", list(CHOSEN), "Of the models.")
_OUT = flags.DEFINE_string("out", None, "Where the workdirs go.", required=True)
_SEARCH = flags.DEFINE_bool("search", False, "Search for settings instead.")
_ONLY = flags.DEFINE_list("only", [], "Names of strategies.")
_EQUAL_COST = flags.DEFINE_bool("equal_cost_only", False, "Leave out the runs with all optimizer steps.")


def run(strategy: str, equal_cost: bool, folder: pathlib.Path) -> pathlib.Path:
    """One job, to its end; its workdir."""
    config = read_config(f"{CONFIG}:{_FAMILY.value}")
    config.strategy, config.equal_cost = strategy, equal_cost
    config.keep_samples = not _SEARCH.value  # by which claims of rewards are judged
    if _SEARCH.value:
        config.update(biases=(1.0,), generations=4, n_grid=0)
        config.seeds = SEARCH_SEEDS
    slug = results.slug(strategy, 1.0, 0).removesuffix("-bias1-seed0")
    workdir = folder / (slug if equal_cost else f"{slug}-all-steps")
    if not (workdir / "report.html").exists():
        print(f"== {strategy}{'' if equal_cost else ', all steps'}", flush=True)
        experiment.run(config, str(workdir))
    return workdir


def search(folder: pathlib.Path) -> None:
    """Prints a line for each of the settings, and writes them as JSON."""
    plain = _values(run("none", True, folder))
    found = []
    for strategy in SEARCHED[_FAMILY.value]:
        if _ONLY.value and strategy.partition("(")[0] not in _ONLY.value:
            continue
        change = (_values(run(strategy, True, folder)) - plain).mean(axis=(0, 1))
        found.append(
            {"strategy": strategy, **dict(zip(("ln_fd", "precision", "recall"), map(float, change), strict=True))}
        )
        print("SEARCH", strategy, *(f"{value:+.3f}" for value in change), flush=True)
    (folder / "search.json").write_text(json.dumps(found, indent=1) + "\n")


def _values(workdir: pathlib.Path) -> np.ndarray:
    """(ln FD, precision, recall) of generations 2 to T, `[run, generation, 3]`."""
    rows = [row for row in results.load(workdir).rows if row["generation"] > 1]
    rows.sort(key=lambda row: (row["loop"], row["bias"], row["seed"], row["generation"]))
    generations = len({row["generation"] for row in rows})
    number = lambda value: np.nan if value is None else value  # of runs that diverged
    each = [[np.log(number(row["fd"])), number(row["precision"]), number(row["recall"])] for row in rows]
    return np.array(each).reshape(-1, generations, 3)


def pays(strategy: str) -> bool:
    """Whether a strategy gives up optimizer steps at equal cost."""
    config = read_config(f"{CONFIG}:{_FAMILY.value}")
    config.strategy = strategy
    return grid.prepare(config).paced


def main(argv) -> None:
    folder = pathlib.Path(_OUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    if _SEARCH.value:
        search(folder)
        return
    chosen = CHOSEN[_FAMILY.value]
    mine = [strategy for strategy in chosen.values() if not _ONLY.value or strategy.partition("(")[0] in _ONLY.value]
    workdirs = {(strategy, True): run(strategy, True, folder) for strategy in ("none", *mine)}
    if not _EQUAL_COST.value:
        workdirs |= {(strategy, False): run(strategy, False, folder) for strategy in mine if pays(strategy)}
    compared = folder / "comparison"
    commands.compare(["compare", *map(str, workdirs.values()), f"--out={compared}"])
    budgets = {"all steps": False, "equal cost": True} if len(set(workdirs)) > len(mine) + 1 else {"equal cost": True}
    tried = {name: claims.try_all(workdirs, chosen, equal_cost=budget) for name, budget in budgets.items()}
    lines = [
        line for budget, found in tried.items() for line in (f"Claims, {budget}:", "", *claims.markdown(found), "")
    ]
    (compared / "claims.md").write_text("\n".join(lines))
    print("\n".join(lines))
    overall = json.loads((compared / "comparison.json").read_text())["overall"]
    reference = {
        "command": f"python benchmarks/strategies.py --family={_FAMILY.value}",
        "benchmark": __version__,
        "overall": [{field: row[field] for field in _TOLD} for row in overall],
        "claims": claims.plain(tried),
    }
    (compared / "reference.json").write_text(json.dumps(reference, indent=None, ensure_ascii=False) + "\n")


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
