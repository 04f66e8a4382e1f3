"""Training at image scale: samples per second and share of the chip's peak, of both trainers, alone and in fleets.

python benchmarks/images.py [--sides=32,64] [--fleets=1,4] [--small]

The images are random: what they show changes no time. With `--small`, for machines without an accelerator, networks
are narrow and compute in float32.
"""

import dataclasses
import itertools
import statistics
import sys
import tempfile
import time

import jax
import numpy as np
from absl import app, flags, logging

from madbench import fleet, grid
from madbench.config import base
from madbench.generation import Shared

FLAGS = flags.FLAGS
flags.DEFINE_list("sides", ["32", "64"], "Heights, and widths, of the images.")
flags.DEFINE_list("fleets", ["1", "4"], "Runs in each fleet.")
flags.DEFINE_list("trainers", ["diffusion", "gan"], "Which ones.")
flags.DEFINE_integer("batch_size", 0, "Of each run; 0 for 256, or 16 with --small.", lower_bound=0)
flags.DEFINE_integer("steps", 0, "Optimizer steps of one call; 0 for 20, or 2 with --small.", lower_bound=0)
flags.DEFINE_integer("repeats", 5, "Measurements of each row, of which the table shows the median.", lower_bound=1)
flags.DEFINE_bool("small", False, "Narrow networks in float32.")
flags.DEFINE_bool("remat", False, "Recompute activations in the backward pass.")
flags.DEFINE_bool("map_convolutions", False, "Also map runs with convolutions by vmap, which the plan does not.")

FULL = {
    "diffusion": {"network": "transformer", "width": 384, "depth": 6, "heads": 6, "dtype": "bfloat16"},
    "gan": {"network": "image", "width": 64, "widest": 512, "depth": 2, "style": 256, "discriminator_width": 64,
            "discriminator_depth": 1, "dtype": "bfloat16"},
}  # fmt: skip
SMALL = {
    "diffusion": {"width": 64, "depth": 2, "heads": 2, "dtype": "float32"},
    "gan": {"width": 8, "widest": 32, "style": 32, "discriminator_width": 8, "dtype": "float32"},
}
PATCHES_A_SIDE = 16
# Dense bfloat16 TFLOP/s as their makers publish them, by a part of the device's kind.
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "TPU v6 lite": 918, "TPU v5 lite": 197, "TPU v5": 459, "TPU v4": 275}


def read_job(trainer: str, side: int, runs: int, path: str) -> grid.Job:
    """So many runs of `trainer` on random images, planned as an experiment would plan them."""
    np.savez(path, x=np.random.default_rng(0).integers(0, 256, (2048, side, side, 3), np.uint8), y=np.arange(2048) % 10)
    config = base(f"npz:{path}", trainer)
    config.data.n_reference, config.n_initial, config.seeds = 16, 1024, runs
    config.metrics.update({"names": ("precision",), "features": "raw"})
    config.model.update(FULL[trainer] | (SMALL[trainer] if FLAGS.small else {}))
    if trainer == "diffusion":
        config.model.patch = max(side // PATCHES_A_SIDE, 1)
    config.model.batch_size = FLAGS.batch_size or (16 if FLAGS.small else 256)
    config.model.steps = 10 * steps()  # of which a segment is a tenth
    config.model.remat = FLAGS.remat
    return grid.prepare(config)


def steps() -> int:
    return FLAGS.steps or (2 if FLAGS.small else 20)


def mapped(job: grid.Job) -> grid.Job:
    """The same job, with all its runs mapped by vmap and stepped in a compiled loop."""
    plan = fleet.make_plan(len(job.runs), 1, batch_size=job.family.batch_size)
    family = dataclasses.replace(job.family, given=dataclasses.replace(job.family.given, steps_per_call=0))
    generation = dataclasses.replace(job.generation, family=family, stepwise=False)
    return dataclasses.replace(job, plan=plan, family=family, generation=generation)


def measure(job: grid.Job) -> tuple[float, float]:
    """Samples per second of the first wave, median over the repeats; seconds of compilation."""
    laid = fleet.Fleet(job.plan)
    runs = [job.runs[i] for i in job.plan.wave(0)]
    shared = laid.share(Shared(job.source, (), ()))
    cells, kept, t = laid.spread(job.cells(runs)), laid.spread(job.blank(len(runs))), np.int32(1)
    work = laid.program(job.generation.begin)(shared, cells, kept, t)
    fit = laid.program(job.generation.fit)
    rates = []
    for _ in range(FLAGS.repeats + 1):  # the first compiles
        begin = time.perf_counter()
        for _ in range(job.calls):
            work, _ = jax.block_until_ready(fit(shared, cells, (kept, work), t))
        rates.append(steps() * job.family.batch_size * len(runs) / (time.perf_counter() - begin))
    return statistics.median(rates[1:]), fit.compile_seconds


def main(argv: list[str]) -> int:
    if argv[1:]:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    logging.set_verbosity(logging.ERROR)
    device = jax.local_devices()[0]
    count = jax.local_device_count()
    peak = next((1e12 * v for name, v in PEAKS.items() if name in device.device_kind), None)
    dtype = "float32" if FLAGS.small else "bfloat16"
    rate = fleet.matmul_rate(3072 if FLAGS.small else 8192, dtype=dtype)
    of_peak = f"; {count * peak / 1e9:,.0f} published" if peak else ""
    print(f"{count} x {device.device_kind}, jax {jax.__version__}; a large {dtype} matrix product: "
          f"{rate / 1e9:,.0f} GFLOP/s{of_peak}; batch {FLAGS.batch_size or (16 if FLAGS.small else 256)}")  # fmt: skip
    print(f"\n| trainer | image | runs | plan | samples/s | GFLOP/s | of {'peak' if peak else 'matmul'} | compile |")
    print("|---|---|--:|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for trainer, side, runs in itertools.product(FLAGS.trainers, FLAGS.sides, FLAGS.fleets):
            job = read_job(trainer, int(side), int(runs), f"{folder}/images.npz")
            jobs = [job]
            if job.costs["fit"].convolves and FLAGS.map_convolutions:
                jobs.append(mapped(job))
            for each in jobs:
                samples, seconds = measure(each)
                flops = samples * job.fit_flops() / (job.family.steps * job.family.batch_size)
                share = flops / (count * peak if peak else rate)
                plan = str(each.plan).partition(": ")[2].partition(";")[0]
                print(f"| {trainer} | {side}x{side}x3 | {runs} | {plan} | {samples:,.0f} | {flops / 1e9:,.0f} | "
                      f"{share:.0%} | {seconds:.0f} s |", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(app.run(main))
