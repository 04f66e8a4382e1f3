"""Measures how far rows of one run lie apart where something else computes them: what `madbench verify` may tolerate.

    python benchmarks/agreement.py digits-diffusion --runs=2 --until=3
    python benchmarks/agreement.py digits-diffusion --samples=SUBMISSION

A few runs of a task are computed in processes that differ in one thing:
  again       nothing: the same bytes
  4 devices   four virtual devices instead of one
  alone       each run by itself instead of beside the others, in the shapes of the task's grid
  restricted  each run as a config of its own, whose shapes are only as large as that run needs
  AVX2, SSE4  without newer instructions (`--xla_cpu_max_isa`): products and sums are rounded elsewhere
  bfloat16    networks multiply numbers rounded to bfloat16, as a TPU does unless told otherwise: another kind of device
The table holds, by generation, the largest |difference| of ln FD, and of precision and recall in points of n, and in
brackets the root of the mean square. Training is chaotic, so that a difference of rounding grows by generations, until
runs of one seed are as far apart as runs of two seeds, which is the last line ("seeds": the standard deviation of the
difference of two). The second command computes the metrics of packed samples twice, with exact features and with such
whose network multiplies in bfloat16.
"""

import argparse
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

from madbench import results
from madbench.leaderboard import tasks

FLAG = "--xla_force_host_platform_device_count=4", "--xla_cpu_max_isa=AVX2", "--xla_cpu_max_isa=SSE4_2"
ENVIRONMENT = {"together": "", "again": "", "4 devices": FLAG[0], "alone": "", "restricted": "", "AVX2": FLAG[1]}
ENVIRONMENT |= {"SSE4": FLAG[2], "bfloat16": ""}
METRICS = ("fd", "precision", "recall")


def work(task: str, variant: str, runs: list, until: int) -> list[dict]:
    """The rows of one process."""
    from absl import logging

    from madbench import config as configs
    from madbench import display, experiment

    logging.set_verbosity(logging.ERROR)
    plain = tasks.load(task).config | {"generations": until}
    if variant == "bfloat16":
        round_products()
    rows = []
    parts = [[tuple(run)] for run in runs] if variant in ("alone", "restricted") else [[tuple(run) for run in runs]]
    for only in parts:
        config = configs.from_plain(plain)
        if variant == "restricted":
            ((loop, bias, seed),), only = only, []
            config.update({"loops": (loop,), "biases": (bias,), "seeds": (seed,)})
        with tempfile.TemporaryDirectory() as folder:
            experiment.run(config, folder, only=only, show=display.Nothing())
            rows += results.read_rows(pathlib.Path(folder) / "metrics.jsonl")
    return rows


def round_products() -> None:
    """From now on, layers of networks multiply float32 as bfloat16, forward and backward; sums stay float32."""
    import jax

    exact = jax.lax.dot_general

    def rounded(lhs, rhs, *rest, **settings):
        if lhs.dtype == jax.numpy.float32:
            lhs, rhs = (jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7) for x in (lhs, rhs))
        return exact(lhs, rhs, *rest, **settings)

    jax.lax.dot_general = rounded


def measure(task: tasks.Task, variant: str, runs: list, until: int) -> dict:
    """(loop, λ, seed, generation) -> row, computed in another process."""
    what = json.dumps([task.name, variant, runs, until])
    environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {ENVIRONMENT[variant]}".strip()}
    command = [sys.executable, __file__, task.name, f"--worker={what}"]
    with tempfile.TemporaryFile("w+") as file:
        subprocess.run(command, env=environment, stdout=file, check=True)
        file.seek(0)
        rows = json.loads(file.read().splitlines()[-1])
    return {results.place(row): row for row in rows}


def of_samples(path: str) -> None:
    """Metrics of the packed samples again, by another rounding of the feature network."""
    import jax

    from madbench import verify
    from madbench.leaderboard import submission

    given = submission.load(path)
    size = {"n_samples": given.task.evaluator["n_samples"]}
    found = []
    for change in (lambda: None, round_products):
        change()
        jax.clear_caches()
        found.append([values | size for _, values in verify.measured(given, sorted(given.samples))])
    print("| packed samples | fd | precision | recall |")
    pairs = list(zip(*found, strict=True))
    show("bfloat16", {(1, m): [apart(one, other, m) for one, other in pairs] for m in METRICS}, [1])


def apart(one: dict, other: dict, metric: str) -> float:
    """Of a distance the difference of logarithms, of a share in points of n; infinite where one has no value."""
    pair = [row[metric] for row in (one, other)]
    if None in pair:
        return 0.0 if pair == [None, None] else math.inf
    return math.log(pair[0] / pair[1]) if metric == "fd" else (pair[0] - pair[1]) * one["n_samples"]


def show(name: str, differences: dict[tuple[int, str], list[float]], shown: list[int]) -> None:
    """One line of the table: by generation, each metric's largest difference and root mean square."""
    cells = []
    for t in shown:
        for metric in METRICS:
            values = differences[t, metric]
            form = ".1e" if metric == "fd" else ".3g"
            rms = math.sqrt(sum(v * v for v in values) / len(values))
            cells.append(f"{max(map(abs, values)):{form}} ({rms:{form}})")
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task")
    parser.add_argument("--runs", type=int, default=2, help="of each loop and λ that is run")
    parser.add_argument("--cells", type=int, default=1, help="loops and λ, evenly among the task's")
    parser.add_argument("--until", type=int, default=3, help="generations")
    parser.add_argument("--variants", default=",".join(v for v in ENVIRONMENT if v != "together"))
    parser.add_argument("--out", help="JSON file for all rows")
    parser.add_argument("--samples", help="a submission whose packed samples are measured in two ways")
    parser.add_argument("--worker", help="for this script's own use: what one process computes")
    given = parser.parse_args()
    if given.worker:
        print("\n" + json.dumps(work(*json.loads(given.worker))))
        return
    if given.samples:
        of_samples(given.samples)
        return
    task, until = tasks.load(given.task), given.until
    cells = list(itertools.product(task.config["loops"], task.config["biases"]))
    cells = [cells[i * len(cells) // given.cells] for i in range(given.cells)]
    runs = [(*cell, seed) for cell in cells for seed in task.config["seeds"][: given.runs]]
    shown = results.sampled_generations(until, 6)
    keys = list(itertools.product(range(1, until + 1), METRICS))
    print(f"{task.id}, {len(runs)} runs: {', '.join(f'{loop} λ={bias:g}' for loop, bias in cells)}")
    print("| differs in | " + " | ".join(f"{m} {t}" for t in shown for m in METRICS) + " |", flush=True)
    base = measure(task, "together", runs, until)
    found = {"together": list(base.values())}
    for variant in given.variants.split(","):
        if variant == "bfloat16" and "steps" not in task.config["model"]:
            continue  # no network
        rows = measure(task, variant, runs, until)
        found[variant] = list(rows.values())
        show(variant, {(t, m): [apart(rows[*run, t], base[*run, t], m) for run in runs] for t, m in keys}, shown)
        if given.out:
            pathlib.Path(given.out).write_text(json.dumps(found))
    pairs = [(a, b) for a, b in itertools.combinations(runs, 2) if a[:2] == b[:2]]
    if pairs:
        show("seeds", {(t, m): [apart(base[*a, t], base[*b, t], m) for a, b in pairs] for t, m in keys}, shown)


if __name__ == "__main__":
    main()
