"""Speed of the fit: fleets of several sizes, the same model one run at a time, and the same work in plain PyTorch.

python benchmarks/fleet.py [--fleets=1,4,16,64] [--torch_python=PATH] [--verify]
"""

import dataclasses
import json
import os
import pathlib
import platform
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves GPU memory to PyTorch

import jax
import numpy as np
import torch_peer
from absl import app, flags, logging

from madbench import fleet, grid
from madbench.generation import Shared

HERE = pathlib.Path(__file__).resolve().parent
FLAGS = flags.FLAGS
flags.DEFINE_string("config", str(HERE.parent / "configs/quickstart.py"), "A file with get_config().")
flags.DEFINE_integer("steps", 30, "Optimizer steps of each run in one call of its fit.", lower_bound=1)
flags.DEFINE_list("fleets", ["1", "4", "16", "64"], "Runs in each fleet.")
flags.DEFINE_integer("repeats", 5, "Measurements of each row, of which the table shows the median.", lower_bound=1)
flags.DEFINE_float("seconds", 1.5, "Each measurement repeats its calls for about this long.", lower_bound=0)
flags.DEFINE_string("torch_python", None, "A Python that has torch; this one unless set.")
flags.DEFINE_bool("verify", False, "Measure nothing; check that the PyTorch loop does the same work.")
flags.DEFINE_enum("out", "table", ["table", "json"], "What to print.")


@dataclasses.dataclass
class Row:
    """A way to train, and how fast it was.

    Attributes:
      label: for the table.
      runs: trained together.
      call: trains them for `steps` steps each and waits for the end.
      steps: of one call, over all runs.
      calls: in one measurement.
      rates: steps per second of each measurement.
      compile_seconds: of `call`.
      plan: how the runs were laid on devices.
    """

    label: str
    runs: int
    call: Callable[[], None]
    steps: int
    compile_seconds: float
    plan: str = ""
    calls: int = 1
    rates: list[float] = dataclasses.field(default_factory=list)

    def warm_up(self, seconds: float) -> None:
        """One call, from which follows how many fill `seconds`."""
        self.calls = max(1, round(seconds / self._time(1)))

    def measure(self) -> None:
        self.rates.append(self.steps * self.calls / self._time(self.calls))

    def _time(self, calls: int) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            self.call()
        return time.perf_counter() - begin


def read_job(runs: int) -> grid.Job:
    """The model of `--config` under its first loop, with as many seeds as there are to be runs."""
    path = pathlib.Path(FLAGS.config)
    if not path.is_file():
        raise app.UsageError(f"config file {FLAGS.config!r} is not there")
    config = runpy.run_path(str(path))["get_config"]()
    config.loops = tuple(config.loops)[:1]
    config.biases = (1.0,)
    config.seeds = runs
    if "steps" not in config.model:
        raise app.UsageError(f"{FLAGS.config}: this family takes no optimizer steps, so there is nothing to compare")
    config.model.steps = 10 * FLAGS.steps  # of which a call makes a tenth, as in an experiment
    config.model.epochs = 0.0
    return grid.prepare(config)


def fleet_row(job: grid.Job) -> Row:
    """All runs of a job (of its first wave, where memory ends) as one program."""
    laid = fleet.Fleet(job.plan)
    runs = [job.runs[i] for i in job.plan.wave(0)]
    shared = laid.share(Shared(job.source, (), ()))
    cells = laid.spread(job.cells(runs))
    kept = laid.spread(job.blank(len(runs)))
    t = np.int32(1)
    work = laid.program(job.generation.begin)(shared, cells, kept, t)
    fit = laid.program(job.generation.fit)
    fit.compile(shared, cells, (kept, work), t)
    waves = f", the first of {job.plan.waves} waves" if job.plan.waves > 1 else ""
    return Row(
        label=f"a fleet of {len(runs)}{waves}",
        runs=len(runs),
        call=lambda: jax.block_until_ready(fit(shared, cells, (kept, work), t)),
        steps=FLAGS.steps * len(runs),
        compile_seconds=fit.compile_seconds,
        plan=str(job.plan),
    )


def single_row(job: grid.Job, runs: int = 4) -> Row:
    """The same fit of one run under `jit`, for one run after the other, over and over."""
    generation = dataclasses.replace(job.generation, family=torch_peer.alone(job.family))
    t = np.int32(1)
    shared, host_cells, host_kept = jax.device_put(
        (Shared(job.source, (), ()), job.cells(job.runs[:runs]), job.blank(runs)), jax.local_devices()[0]
    )
    begin = jax.jit(generation.begin)
    arguments = []
    for i in range(min(runs, len(job.runs))):
        cell, kept = jax.tree.map(lambda a, i=i: a[i], (host_cells, host_kept))
        arguments.append((cell, (kept, begin(shared, cell, kept, t))))
    started = time.perf_counter()
    fit = jax.jit(generation.fit).lower(shared, *arguments[0], t).compile()
    compile_seconds = time.perf_counter() - started
    turn = 0

    def call():
        nonlocal turn
        jax.block_until_ready(fit(shared, *arguments[turn % len(arguments)], t))
        turn += 1

    return Row("one run at a time", 1, call, FLAGS.steps, compile_seconds)


def peer() -> torch_peer.Peer:
    return torch_peer.Peer(FLAGS.torch_python or "", FLAGS.steps, FLAGS.repeats, FLAGS.seconds)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(sizes: list[int]) -> dict[str, Any]:
    """Everything that the table shows."""
    begin = time.perf_counter()
    jobs = [read_job(size) for size in sizes]
    # FLOPs of one run's step, by count. The same in all jobs: costs are those of one run.
    flops = jobs[0].costs["fit"].flops / FLAGS.steps
    say("a large matrix product")
    matmul = [fleet.matmul_rate()]
    rows = []
    for make, job in [(single_row, jobs[-1]), *((fleet_row, job) for job in jobs)]:
        rows.append(make(job))
        say(f"{rows[-1].label}: compiled in {rows[-1].compile_seconds:.1f} s")
        rows[-1].warm_up(FLAGS.seconds)
    for repeat in range(FLAGS.repeats):  # in turns, so that a slow minute of the machine falls on all of them
        say(f"measurement {repeat + 1} of {FLAGS.repeats}")
        for row in rows:
            row.measure()
    say("PyTorch")
    torch = torch_peer.measure(jobs[-1], peer())
    say("the matrix product again")
    matmul.append(fleet.matmul_rate())

    peak = max(matmul)
    base = statistics.median(rows[0].rates)
    fields = ("label", "runs", "compile_seconds", "plan", "rates")
    table = [{name: getattr(row, name) for name in fields} for row in rows]
    table.append({"label": "PyTorch, one run at a time", "runs": 1, "rates": torch.pop("steps_per_second", [])} | torch)
    for row in table:
        if row["rates"]:
            rate = statistics.median(row["rates"])
            row |= {"steps_per_second": rate, "flops_per_second": rate * flops}
            row |= {"share_of_matmul": rate * flops / peak, "ratio_to_one_at_a_time": rate / base}
    device = jax.local_devices()[0]
    return {
        "config": os.path.relpath(FLAGS.config),
        "batch_size": jobs[0].family.batch_size,
        "steps_per_call": FLAGS.steps,
        "repeats": FLAGS.repeats,
        "flops_per_step": flops,
        "matmul_flops_per_second": matmul,
        "device": {"kind": device.device_kind, "platform": device.platform, "count": jax.local_device_count()},
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "platform": platform.platform()},
        "seconds": time.perf_counter() - begin,
        "rows": table,
    }


def render(result: dict[str, Any]) -> str:
    """The table and the conditions under which it came about."""
    lines = [["", "steps/s", "(min–max)", "GFLOP/s", "of matmul", "ratio"]]
    notes = []
    for row in result["rows"]:
        if "note" in row:
            notes.append(f"{row['label']}: {row['note']}")
            continue
        spread = f"({min(row['rates']):,.0f}–{max(row['rates']):,.0f})"
        rate, gigaflops = f"{row['steps_per_second']:,.0f}", f"{row['flops_per_second'] / 1e9:,.1f}"
        share, ratio = f"{row['share_of_matmul']:.0%}", f"{row['ratio_to_one_at_a_time']:.2f}"
        lines.append([row["label"], rate, spread, gigaflops, share, ratio])
        if "torch" in row:
            notes.append(f"PyTorch {row['torch']}, Python {row['python']}, on {row['device']}, float32, eager")
            if row["flops_per_step"] != result["flops_per_step"]:
                notes.append(f"PyTorch counts {row['flops_per_step']:,} FLOPs per step; GFLOP/s above are by ours")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = []
    for label, *numbers in lines:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        table.append("  ".join([label.ljust(widths[0]), *cells]))
    device, versions = result["device"], result["versions"]
    before, after = (rate / 1e9 for rate in result["matmul_flops_per_second"])
    conditions = [
        f"{device['count']} device(s) of kind {device['kind']}, {result['cores']} cores; "
        f"jax {versions['jax']}, Python {versions['python']}, {versions['platform']}",
        f"{result['config']}, batch {result['batch_size']}, {result['flops_per_step'] / 1e6:,.1f} MFLOP per step "
        f"(matrix products, by count); a large matrix product: {before:,.1f} GFLOP/s before, {after:,.1f} after",
        f"steps/s over all runs, median of {result['repeats']}; ratio to one run at a time; "
        f"{result['seconds']:.0f} s in all",
    ]
    return "\n".join([*table, "", *notes, *conditions])


def main(argv: list[str]) -> int:
    if argv[1:]:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    try:
        sizes = sorted({int(size) for size in FLAGS.fleets})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1:
        raise app.UsageError("--fleets takes whole numbers of at least 1: --fleets=1,4,16,64")
    logging.set_verbosity(logging.ERROR)  # JAX tells which backends it did not find
    if FLAGS.verify:
        return 0 if torch_peer.verify(read_job(1), peer()) else 1
    result = measure(sizes)
    print(json.dumps(result, indent=1) if FLAGS.out == "json" else render(result))
    return 0


if __name__ == "__main__":
    app.run(main)
