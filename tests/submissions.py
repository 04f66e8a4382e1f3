"""A task that nobody trains, and workdirs of it made from formulas: what tests of the leaderboard pack, check and show.

    with a fixture:   task = submissions.install(monkeypatch, tmp_path / "tasks")
                      folder = submissions.workdir(tmp_path / "run")
                      packed = submissions.packed(tmp_path / "entry", folder)       # a submission that `check` accepts
                      submissions.edit(packed / "config.json", lambda c: c.update(sha256="0"))
                      submissions.redo_hashes(packed)                                # as somebody who forges would

The metrics are not those of the samples: for `verify`, run a config.
"""

import contextlib
import functools
import hashlib
import json
import pathlib
import shutil

import numpy as np

from madbench import __version__, results
from madbench.errors import UserError
from madbench.leaderboard import tasks

NAME = "tiny"
LOOPS = {
    "fully_synthetic": {"n_fixed": 0, "n_fresh": 0, "n_synthetic": 30},
    "fresh_data(n_fresh=10,n_synthetic=20)": {"n_fixed": 0, "n_fresh": 10, "n_synthetic": 20},
}
BIASES = (1.0, 0.8)
SEEDS = 3
GENERATIONS = 3
SAMPLES = 40  # behind the metrics
DIMENSION = 2
# What a generation of a run costs without a strategy, by loop; steps above 0 as if the Gaussian were trained.
BUDGET = {"steps": 50, "flops": {"fully_synthetic": 7000, "fresh_data(n_fresh=10,n_synthetic=20)": 6000}}
# What a strategy of the suite, and one of somebody else's, say of themselves in reference.json.
SIMS = {
    "name": "sims(weight=2.0)",
    "equal_cost": True,
    "reads_real": False,
    "settings": {"weight": 2.0, "extra_fit": 0.5, "extra_rate": 0.5},
    "consumes": ["a second fit, 0.5 of the first", "more network evaluations in each step of the sampler"],
    "cite": "Alemohammad et al. 2024, arXiv 2408.16333",
}
COPIER = {
    "name": "my_package.my_module:Copier",
    "equal_cost": True,
    "reads_real": True,
    "settings": {},
    "consumes": ["the real samples of generation 1"],
    "cite": "",
}
NONE = {"name": "none", "equal_cost": True, "reads_real": False, "settings": {}, "consumes": [], "cite": ""}
# Of generation 1 over reference runs, by λ: mean and standard deviation, of the logarithm where it is a distance.
BAND = {
    1.0: {"fd": (-1.0, 0.1), "precision": (0.85, 0.05), "recall": (0.8, 0.05)},
    0.8: {"fd": (-0.7, 0.1), "precision": (0.9, 0.03), "recall": (0.7, 0.05)},
}
_INFO = {
    "fd": ("FD", "lower", "distance", None),
    "precision": ("precision", "higher", "share", 1.0),
    "recall": ("recall", "higher", "share", 1.0),
}
_WORDS = ("version", "label", "direction", "kind", "note", "most")


def task_file() -> dict:
    """The content of `tasks/tiny.json`: exact Gaussians in a plane, two loops, two λ, three seeds, three generations.

    Its config is one that `madbench run` takes.
    """
    config = {
        "task": NAME,
        "data": {"source": "gaussian", "dimension": DIMENSION, "n_reference": SAMPLES, "reuse_fresh": False}
        | {"split_seed": 0},
        "model": {"family": "gaussian", "ddof": 1},
        "loops": list(LOOPS),
        "biases": list(BIASES),
        "seeds": list(range(SEEDS)),
        "generations": GENERATIONS,
        "n_initial": 30,
        "n_grid": 0,
        "metrics": {"names": list(_INFO), "features": "raw"},
    }
    rest = {"memory": 1, "accumulate": False, "budget": None, "start": "scratch"}
    cells = [
        {
            "loop": loop,
            "bias": bias,
            "settings": {"n_initial": 30, **settings, **rest},
            "composition": [[30, 0], *([[settings["n_fresh"], settings["n_synthetic"]]] * (GENERATIONS - 1))],
        }
        for loop, settings in LOOPS.items()
        for bias in BIASES
    ]
    band = [
        {
            "loop": cell["loop"],
            "bias": cell["bias"],
            "metrics": {
                metric: {"mean": mean, "sd": sd, "count": 24, "is_log": metric == "fd"}
                for metric, (mean, sd) in BAND[cell["bias"]].items()
            },
        }
        for cell in cells
    ]
    return {
        "name": NAME,
        "version": 1,
        "title": "Tiny Gaussians",
        "about": "Made up for tests.",
        "config": config,
        "sha256": results.config_hash(config),
        "cells": cells,
        "evaluator": {
            "features": "raw-1",
            "n_samples": SAMPLES,
            "samples": {"shape": [DIMENSION], "dtype": "float32"},
            "metric_versions": dict.fromkeys(_INFO, 1),
            "metrics": {
                name: dict(zip(_WORDS, (1, label, direction, kind, "", most), strict=True))
                for name, (label, direction, kind, most) in _INFO.items()
            },
            "floors": {
                "fd": {"mean": 0.2, "p5": 0.1, "p95": 0.3},
                "precision": {"mean": 0.9, "p5": 0.85, "p95": 0.95},
                "recall": {"mean": 0.9, "p5": 0.85, "p95": 0.95},
            },
        },
        "budget": BUDGET,
        "band": band,
        "command": "python benchmarks/reference_band.py tiny",
    }


def install(monkeypatch, folder: pathlib.Path, *contents: dict) -> tasks.Task:
    """Makes `contents` (by default `task_file()`) the only tasks there are, in `folder`; returns the first.

    `monkeypatch` undoes it; in fixtures of a module or session, `pytest.MonkeyPatch.context()`.
    """
    contents = contents or (task_file(),)
    folder.mkdir(parents=True, exist_ok=True)
    for content in contents:
        (folder / f"{content['name']}.json").write_text(json.dumps(content))
    monkeypatch.setattr(tasks, "FOLDER", folder)
    monkeypatch.setattr(tasks, "load", functools.cache(tasks.load.__wrapped__))  # remembers no other folder's
    return tasks.load(contents[0]["name"])


def rows(task: tasks.Task, strategy: dict = NONE) -> list[dict]:
    """What a run would have written, in its order: generation 1 near the band's centre, then a slow decline.

    Generation 1 is the same in both loops, as it is where they begin with as many samples. With a `strategy`, as one of
    the above, it costs a little less than the budget; that of `COPIER` copies 9 of 10 samples.
    """
    is_none, is_copier = strategy["name"] == "none", strategy["name"].startswith(COPIER["name"])
    reads_real = strategy["reads_real"]
    found = []
    for generation in range(1, task.config["generations"] + 1):
        for cell in task.cells:
            for seed in task.config["seeds"]:
                shift = np.random.default_rng((seed, int(10 * cell["bias"]))).normal(size=3) * 0.3
                band = task.bands[cell["loop"], cell["bias"]]
                fd = band["fd"].mean + shift[0] * band["fd"].sd + 0.25 * (generation - 1)
                shares = {
                    name: band[name].mean + shift[i] * band[name].sd - 0.05 * i * (generation - 1)
                    for i, name in enumerate(("precision", "recall"), start=1)
                }
                n_real, n_synthetic = cell["composition"][generation - 1]
                found.append(
                    results.row(
                        task=task.name,
                        model=task.config["model"]["family"],
                        loop=cell["loop"],
                        bias=cell["bias"],
                        seed=seed,
                        generation=generation,
                        n_real=n_real,
                        n_synthetic=n_synthetic,
                        n_samples=task.evaluator["n_samples"],
                        status="ok",
                        account={
                            "strategy": strategy["name"],
                            "equal_cost": strategy["equal_cost"],
                            "flops": BUDGET["flops"][cell["loop"]] - (0 if is_none else 100),
                            "n_real_seen": 30 + n_real * (generation > 1) if reads_real else n_real,
                            "extra_parameters": 0 if is_none else 17,
                            "pool_memorization": 0.9 if is_copier else None,
                        },
                        metrics={"fd": float(np.exp(fd))}
                        | {name: round(value * SAMPLES) / SAMPLES for name, value in shares.items()},
                        metric_versions=task.evaluator["metric_versions"],
                        features=task.evaluator["features"],
                    )
                )
    return found


def timing(task: tasks.Task, runs: int | None = None, steps: int = BUDGET["steps"]) -> list[dict]:
    """One wave of `runs` runs (by default all): 2 s of compilation, then 1 s of work a generation."""
    return [
        {
            "schema": results.SCHEMA, "wave": 0, "generation": t, "runs": runs or len(task.runs), "steps": steps,
            "compile_seconds": 2.0 * (t == 1), "fit_seconds": 0.5, "sample_seconds": 0.25, "evaluate_seconds": 0.25,
            "fit_flops": 1000, "sample_flops": 2000,
        }
        for t in range(1, task.config["generations"] + 1)
    ]  # fmt: skip


def environment(runs: int) -> dict:
    packages = ("python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "scikit-learn")
    plan = dict.fromkeys(("runs", "runs_per_device", "wave_size"), runs)
    return {
        "schema": results.SCHEMA,
        "versions": {"madbench": __version__, **dict.fromkeys(packages, "1.2.3")},
        "platform": "Linux-x86_64-glibc-2.36",
        "processor": "2 cores of Abacus 9",
        "device": {"kind": "Abacus 9", "platform": "cpu", "count": 2},
        "processes": 1,
        "plan": plan | {"devices": 2, "group_size": 1, "waves": 1, "stepwise": False, "streamed_steps": 0},
        "source_sha256": "5" * 64,
        "dataset": {"name": "gaussian[2]", "version": "1", "count": None, "sha256": "a" * 64},
    }


def workdir(
    path: pathlib.Path,
    *,
    change=None,
    shard: tuple[int, int] | None = None,
    samples: bool = True,
    strategy: dict = NONE,
):
    """A finished workdir of the task "tiny", as `madbench run --task=tiny` would leave it.

    Args:
      path: is made.
      change: gets the list of rows before it is written, and may edit it in place.
      shard: (i, n) for share i alone.
      samples: whether `config.keep_samples` was on.
      strategy: `NONE`, `SIMS`, `COPIER`, or the like.

    Returns:
      `path`.
    """
    task = tasks.load(NAME)
    runs = task.runs if shard is None else task.runs[shard[0] - 1 :: shard[1]]
    kept = [r for r in rows(task, strategy) if (r["loop"], r["bias"], r["seed"]) in runs]
    if change:
        change(kept)
    path.mkdir(parents=True)
    fleet = {"max_runs_per_device": 0, "memory_fraction": 0.7, "streaming": "auto"}
    config = {**task.config, "fleet": fleet, "keep_checkpoints": 2, "keep_samples": samples}
    config |= {"strategy": strategy["name"], "equal_cost": strategy["equal_cost"]}
    share = {} if shard is None else {"shard": list(shard)}
    results.write_object(path / "config.json", {"sha256": results.config_hash(config), "config": config, **share})
    results.write_object(path / "environment.json", environment(len(runs)))
    reference = {
        "schema": results.SCHEMA,
        **{name: task.evaluator[name] for name in ("features", "n_samples", "metrics", "floors")},
        "bias_meaning": "λ multiplies the covariance",
        "strategy": strategy,
        "cells": [{name: cell[name] for name in ("loop", "bias", "settings")} for cell in task.cells],
    }
    results.write_object(path / "reference.json", reference)
    results.write_rows(path / "metrics.jsonl", kept)
    steps = BUDGET["steps"] if strategy["name"] == "none" else BUDGET["steps"] // 2
    results.write_rows(path / "timing.jsonl", timing(task, len(runs), steps))
    for number, (loop, bias, seed) in enumerate(runs if samples else ()):
        folder = path / "samples" / results.slug(loop, bias, seed)
        folder.mkdir(parents=True)
        for t in results.measured_generations(task.config["generations"]):
            x = np.random.default_rng((number, t)).normal(size=(SAMPLES, DIMENSION)).astype(np.float32)
            np.savez_compressed(folder / f"measured-{t:04d}.npz", x=x)
    return path


def packed(path: pathlib.Path, *workdirs: pathlib.Path, name: str = "honest", **texts) -> pathlib.Path:
    """The submission `path`, made of `workdirs`; of a new one beside it where none is given."""
    from madbench.leaderboard import packing

    if not workdirs:
        workdirs = (path.with_name(f"{path.name}-workdir"),)
        workdir(*workdirs)
    packing.pack(list(workdirs), path, name=name, **texts)
    return path


def without_samples(path: pathlib.Path) -> pathlib.Path:
    """A submission as it is kept in git."""
    shutil.rmtree(path / "samples")
    return path


def edit(path: pathlib.Path, change) -> None:
    """`change` gets the content of a JSON file (of a .jsonl file, the list of its rows) and edits it in place.

    With submission.json, README.md is made anew, where it still can be.
    """
    if path.suffix == ".jsonl":
        content = [json.loads(line) for line in path.read_text().splitlines()]
        change(content)
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content, indent=2) + "\n")
    if path.name == "submission.json":
        redo_readme(path.parent)


def redo_hashes(path: pathlib.Path) -> None:
    """Sizes and hashes of the manifest, of the files as they are now; which files it names stays as it is."""

    def change(manifest):
        for name in manifest["files"]:
            if (path / name).is_file():
                data = (path / name).read_bytes()
                manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    edit(path / "submission.json", change)


def redo_readme(path: pathlib.Path) -> None:
    """README.md of the manifest and the rows as they are now, if they can be read."""
    from madbench.leaderboard import rewrite, submission

    with contextlib.suppress(UserError, RuntimeWarning):  # numbers beyond arithmetic, in a test of these
        text = rewrite.text(submission.load(path))
        (path / "README.md").write_text(text)
