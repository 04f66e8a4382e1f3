"""Measures what a task of the leaderboard takes for right, and writes it into the task's file.

    python benchmarks/reference_band.py digits-diffusion
    python benchmarks/reference_band.py --budget digits-diffusion        # the budget alone: nothing is run

Generation 1 never sees synthetic data, so that it is the same for every loop that begins with as many real samples:
one loop for each n_initial is run with `SEEDS`, seeds that no submission has. Beside their means and standard
deviations, the file gets the evaluator (the label of the features, the versions of the metrics, the floors, the shape
and dtype of samples), the composition of every training set, and the budget: what a generation costs without a strategy
against collapse. Run it again only for a new version of the task.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np

from madbench import config as configs
from madbench import experiment, grid, loops, results
from madbench.leaderboard import tasks

SEEDS = tuple(range(1000, 1024))


def measure(name: str) -> None:
    path = tasks.FOLDER / f"{name}.json"
    task = json.loads(path.read_text())
    plain = task["config"]
    job = grid.prepare(configs.from_plain(plain))
    by_size = {}  # n_initial -> the first loop that begins with so many
    for run in job.whole:
        by_size.setdefault(run.loop.n_initial, run.loop)
    with tempfile.TemporaryDirectory() as folder:
        first = plain | {"loops": [loop.name for loop in by_size.values()], "generations": 1, "seeds": list(SEEDS)}
        first["keep_samples"] = True
        experiment.run(configs.from_plain(first), folder)
        found = results.load(folder)
        x = np.load(next(pathlib.Path(folder).glob("samples/*/measured-0001.npz")))["x"]
    task |= described(job, found, x)
    task["command"] = f"python benchmarks/reference_band.py {name}"
    path.write_text(json.dumps(task, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {path}")


def add_budget(name: str) -> None:
    """Writes the budget into the task's file, for it has no part in its config, and leaves all else as it is."""
    path = tasks.FOLDER / f"{name}.json"
    task = json.loads(path.read_text())
    task["budget"] = budget(grid.prepare(configs.from_plain(task["config"])))
    path.write_text(json.dumps(task, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote the budget into {path}")


def budget(job: grid.Job) -> dict:
    """What a generation of one run costs, by loop, and the optimizer steps of a fit, of a job without a strategy."""
    (flops,) = {tuple(account.flops(t) for account in job.accounts.values()) for t in range(1, job.generations + 1)}
    return {"steps": job.family.steps, "flops": dict(zip(job.accounts, flops, strict=True))}


def described(job: grid.Job, found: results.Result, x: np.ndarray) -> dict:
    """What a task's file says beside its config.

    Args:
      job: of that config.
      found: generation 1 of reference runs, of one loop for each n_initial at least.
      x: samples as they are stored, `[n_samples, *shape]`.
    """
    loops_of = {run.loop.name: run.loop for run in job.whole}
    by_size = {loops_of[row["loop"]].n_initial: row["loop"] for row in reversed(found.rows)}  # the first of each
    first = [row for row in found.rows if row["generation"] == 1]
    task = {
        "cells": [_cell(cell, loops_of[cell["loop"]], job.generations) for cell in job.planned],
        "evaluator": {
            **{name: found.reference[name] for name in ("features", "n_samples")},
            "samples": {"shape": list(x.shape[1:]), "dtype": str(x.dtype)},
            "metric_versions": first[0]["metric_versions"],
            **{name: found.reference[name] for name in ("metrics", "floors")},
        },
        "flops": {"fit": job.fit_flops(), "sample": job.sample_flops(), "evaluate": job.costs["evaluate"].flops},
        "budget": budget(job),
        "band": [],
    }
    for cell in task["cells"]:
        loop = by_size[cell["settings"]["n_initial"]]
        rows = [row for row in first if (row["loop"], row["bias"]) == (loop, cell["bias"])]
        metrics = {m: _band([r[m] for r in rows], info.kind == "distance") for m, info in found.metrics.items()}
        task["band"].append({"loop": cell["loop"], "bias": cell["bias"], "metrics": metrics})
    return task


def _cell(cell: dict, loop: loops.Loop, generations: int) -> dict:
    """With [n_real, n_synthetic] of each generation; null where a budget leaves it to chance."""
    fixed = loop.budget is None
    return cell | {"composition": [list(loop.union(t)) for t in range(1, generations + 1)] if fixed else None}


def _band(values: list[float], is_log: bool) -> dict:
    x = np.log(values) if is_log else np.asarray(values)
    return {"mean": float(x.mean()), "sd": float(x.std(ddof=1)), "count": len(x), "is_log": is_log}


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if name != "--budget"]
    for each in names or [path.stem for path in sorted(pathlib.Path(tasks.FOLDER).glob("*.json"))]:
        (add_budget if "--budget" in sys.argv else measure)(each)
