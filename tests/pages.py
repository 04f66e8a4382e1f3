"""Workdirs for the tests of pages, written without a model: any names, any samples."""

import json
import pathlib

import numpy as np
from tables import entries

from madbench import results

LOOPS = ("fully_synthetic", "fresh_data(n_fresh=10,n_synthetic=30)")
HOSTILE = "<script>document.title='broken'</script>\"'><img src=x onerror=document.title='broken'>&amp;{{ 7 * 7 }}"


def write(
    path: pathlib.Path, *, task="toy", loops=LOOPS, biases=(1.0, 0.5), seeds=(0, 1, 2), generations=4, metrics=None,
    family="vae", features="raw-1", diverged=None, until=None, kind="images", label="FD", note="", environment=None,
    meaning="λ = the noise's share",
) -> pathlib.Path:  # fmt: skip
    """A workdir at `path`.

    Args:
      path: is made.
      diverged: the (loop, seed, generation) from which a run at λ = 1 diverges.
      until: the last generation of the first cell's rows; None: all.
      kind: of samples: "images", "plane", "line" or "".
      label, note: of the first metric.
      task, loops, biases, seeds, generations, metrics, family, features, environment, meaning: what they are called.
    """
    names = metrics or ("fd", "precision", "recall")
    path.mkdir(parents=True)
    rows, cells = [], [(loop, bias) for loop in loops for bias in biases]
    for i, (loop, bias) in enumerate(cells):
        for seed in seeds:
            for t in range(1, generations + 1):
                if i == 0 and until is not None and t > until:
                    continue
                dead = diverged is not None and (loop, seed) == diverged[:2] and bias == 1 and t >= diverged[2]
                growth = min(20, (0.6 if loop == loops[0] else 0.02) * (t - 1) / bias)
                values = {
                    "fd": 2 * np.exp(growth + 0.1 * seed),
                    "precision": 0.95,
                    "recall": max(0.0, 0.9 - growth / 4),
                }
                rows.append(
                    results.row(
                        task=task, model=family, loop=loop, bias=bias, seed=seed, generation=t,
                        n_real=40 if t == 1 else 0, n_synthetic=0 if t == 1 else 40, n_samples=50,
                        status="diverged" if dead else "ok",
                        metrics={m: None if dead else float(values.get(m, t + seed / 10)) for m in names},
                        metric_versions=dict.fromkeys(names, 1), features=features,
                    )
                )  # fmt: skip
    config = {
        "task": task, "data": {"source": "digits", "reuse_fresh": False}, "model": {"family": family}, "n_initial": 40,
        "loops": list(loops), "biases": list(biases), "seeds": list(seeds), "generations": generations,
        "metrics": {"names": list(names), "features": "raw"},
    }  # fmt: skip
    known = entries(*names)
    known[names[0]] |= {"label": label, "note": note}
    floors = {"fd": {"mean": 1.5, "p5": 1.0, "p95": 1.8}, "recall": {"mean": 0.97, "p5": 0.95, "p95": 0.98}}
    reference = {
        "schema": 1, "features": features, "n_samples": 50, "metrics": known, "bias_meaning": meaning,
        "floors": {name: floor for name, floor in floors.items() if name in names},
        "cells": [{"loop": loop, "bias": bias} for loop, bias in cells],
    }  # fmt: skip
    environment = environment or {"schema": 1, "versions": {"jax": "0.12"}, "device": {"kind": "cpu", "count": 1}}
    results.write_object(path / "config.json", {"sha256": results.config_hash(config), "config": config})
    results.write_object(path / "reference.json", reference)
    results.write_object(path / "environment.json", environment)
    results.write_rows(path / "metrics.jsonl", rows)
    _samples(path / "samples", kind, cells, seeds[0], generations)
    return path


def _samples(folder: pathlib.Path, kind: str, cells, seed: int, generations: int) -> None:
    rng = np.random.default_rng(0)
    for loop, bias in cells if kind else ():
        (folder / results.slug(loop, bias, seed)).mkdir(parents=True)
        for t in range(1, generations + 1):
            if kind == "images":
                x = rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
            else:
                x = (rng.normal(size=(60, 2 if kind == "plane" else 1)) / t).astype(np.float32)
            np.savez(folder / results.slug(loop, bias, seed) / f"generation-{t:04}.npz", x=x)
    if kind in ("plane", "line"):
        axis = np.linspace(-4, 4, 65)
        density = np.exp(-(axis**2) / 2) / np.sqrt(2 * np.pi)
        if kind == "plane":
            np.savez(folder / "density.npz", axes=np.stack([axis, axis]), density=np.outer(density, density))
        else:
            np.savez(folder / "density.npz", axes=axis[None], density=density)


def hostile(path: pathlib.Path) -> pathlib.Path:
    """A workdir in which every text that a page shows is a script."""
    environment = {
        "schema": 1,
        HOSTILE: HOSTILE,
        "versions": {HOSTILE: [HOSTILE]},
        "device": HOSTILE,
        "plan": [HOSTILE],
    }
    write(
        path, task=HOSTILE, loops=(HOSTILE, "fully_synthetic"), family=HOSTILE, features=HOSTILE, label=HOSTILE,
        note=HOSTILE, meaning=HOSTILE, environment=environment,
    )  # fmt: skip
    config = json.loads((path / "config.json").read_text())
    config["config"]["data"]["source"] = HOSTILE
    config["config"][HOSTILE] = HOSTILE
    results.write_object(path / "config.json", config)
    return path
