"""Workdirs of strategies and of none for the tests of accounts and comparisons: rows with a known effect, no model."""

import pathlib
import zlib

import numpy as np
from tables import entries

from madbench import results

LOOPS = ("fully_synthetic", "synthetic_augmentation")
METRICS = ("fd", "precision", "recall")


def make(
    name, strategy="none", equal_cost=True, *, effect=0.0, noise=0.1, shared=0.3, task="toy", family="diffusion",
    loops=LOOPS, biases=(1.0, 0.5), seeds=(0, 1, 2, 3, 4), generations=4, metrics=METRICS, flops=1000, extra=0,
    seen=False, memorized=None, features="raw-1", version=1, diverged=None, said=None, key=0, **config,
):  # fmt: skip
    """A workdir, in memory.

    Args:
      effect: on ln FD, from generation 2 on; precision and recall lose a tenth of it.
      noise: standard deviation of a run's own, by generation; `shared`: of what all runs of a seed and block have in
        common, whatever the strategy.
      diverged: the seed whose runs diverge in generation 2.
      said: what reference.json says of the strategy.
      key: of the noise, with all that names a run.
    """
    cells = [(loop, bias) for loop in loops for bias in biases]
    rows = []
    for loop, bias in cells:
        for seed in seeds:
            common = shared * _draw("common", task, family, loop, bias, seed, key).normal(size=3)
            own = _draw(strategy, equal_cost, task, family, loop, bias, seed, key)
            for t in range(1, generations + 1):
                shift = effect if t > 1 else 0.0
                fd = np.exp(0.3 * t / bias + common[0] + noise * own.normal() + shift)
                precision = 0.8 - shift / 10 + 0.02 * common[1] + noise * own.normal() / 10
                recall = 0.7 - shift / 10 + 0.02 * common[2] + noise * own.normal() / 10
                values = {"fd": float(fd), "precision": float(precision), "recall": float(recall)}
                dead = seed == diverged and t > 1
                account = {
                    "strategy": strategy, "equal_cost": equal_cost, "flops": flops + 10 * (t == 1),
                    "n_real_seen": 40 if seen or t == 1 else 0, "extra_parameters": extra,
                    "pool_memorization": None if memorized is None else memorized + t / 100,
                }  # fmt: skip
                rows.append(
                    results.row(
                        task=task, model=family, loop=loop, bias=bias, seed=seed, generation=t, n_real=40 * (t == 1),
                        n_synthetic=40 * (t > 1), n_samples=50, status="diverged" if dead else "ok",
                        metrics={m: None if dead else values[m] for m in metrics},
                        metric_versions=dict.fromkeys(metrics, version), features=features,
                    )
                    | account
                )  # fmt: skip
    config = {
        "task": task, "data": {"source": "digits"}, "model": {"family": family, "steps": 300}, "n_initial": 40,
        "loops": list(loops), "biases": list(biases), "seeds": list(seeds), "generations": generations,
        "metrics": {"names": list(metrics), "features": "raw"}, "strategy": strategy, "equal_cost": equal_cost,
        **config,
    }  # fmt: skip
    known = entries(*metrics)
    for each in known.values():
        each["version"] = version
    reference = {
        "schema": 2, "features": features, "n_samples": 50, "metrics": known, "floors": {}, "bias_meaning": "",
        "cells": [{"loop": loop, "bias": bias} for loop, bias in cells],
        "strategy": {"settings": {}, "consumes": [], "cite": ""} | (said or {}),
    }  # fmt: skip
    return results.Result(pathlib.Path(name), config, reference, {"dataset": {"sha256": "0"}}, rows)


def _draw(*words):
    """A generator of numbers that belongs to these words."""
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def save(result, folder):
    """Writes a workdir below `folder`; returns its path as text."""
    path = folder / result.path
    path.mkdir(parents=True)
    results.write_object(path / "config.json", {"sha256": results.config_hash(result.config), "config": result.config})
    results.write_object(path / "reference.json", result.reference)
    results.write_object(path / "environment.json", result.environment)
    results.write_rows(path / "metrics.jsonl", result.rows)
    return str(path)
