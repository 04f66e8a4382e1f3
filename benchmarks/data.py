"""Streaming against data on the device: optimizer steps per second, and memory over the generations of a growing loop.

python benchmarks/data.py [--side=64] [--full]

Steps per second are of the diffusion step on 64x64 images, half of them from a pool on disk: a generation 2 whose
synthetic samples were written by the generation before. Resident and streamed segments take turns in one process, each
with batches of its own; the ratio is of medians. Memory is what the process holds (Linux) at the end of each
generation of an accumulating loop. With `--full`, for accelerators, the network is wide and computes in bfloat16.
"""

import pathlib
import re
import statistics
import sys
import tempfile
import time

import jax
import numpy as np
from absl import app, flags, logging

from madbench import experiment, fleet, grid
from madbench.config import base
from madbench.display import PlainLines
from madbench.metrics import features
from madbench.resident import Resident
from madbench.streaming.stage import Streamed

FLAGS = flags.FLAGS
flags.DEFINE_integer("side", 64, "Height, and width, of the images.", lower_bound=8)
flags.DEFINE_integer("runs", 2, "At the same time.", lower_bound=1)
flags.DEFINE_integer("images", 4096, "Real ones.", lower_bound=64)
flags.DEFINE_integer("repeats", 7, "Segments of either kind.", lower_bound=1)
flags.DEFINE_integer("generations", 8, "Of the loop whose memory is watched.", lower_bound=2)
flags.DEFINE_bool("full", False, "A wide network in bfloat16.")

SMALL = {"width": 64, "depth": 2, "heads": 2, "dtype": "float32", "batch_size": 16, "steps": 160}
FULL = {"width": 384, "depth": 6, "heads": 6, "dtype": "bfloat16", "batch_size": 256, "steps": 640}


def read_config(folder: str, streaming: str, **changes):
    x = np.random.default_rng(0).integers(0, 256, (FLAGS.images, FLAGS.side, FLAGS.side, 3), np.uint8)
    np.savez(f"{folder}/images.npz", x=x, y=np.arange(len(x)) % 10)
    config = base(f"npz:{folder}/images.npz", "diffusion")
    config.data.n_reference, config.n_initial, config.seeds = 16, FLAGS.images // 4, FLAGS.runs
    config.loops, config.generations = ("synthetic_augmentation",), 2
    config.metrics.update({"names": ("precision",), "features": "raw"})
    config.model.update({"network": "transformer", "patch": max(FLAGS.side // 16, 1)} | (FULL if FLAGS.full else SMALL))
    config.model.update({"sampler_steps": 3})  # what is sampled does not matter here
    config.fleet.streaming = streaming
    config.update(changes)
    return config


class Segments:
    """Segments of generation 2's fit, one at a time."""

    def __init__(self, streaming: str, folder: str):
        job = grid.prepare(read_config(folder, streaming))
        laid = fleet.Fleet(job.plan)
        self.runs = [job.runs[i] for i in job.plan.wave(0)]
        extractor = features.build("raw", job.source.pool, job.source.num_classes, folder)
        reference = extractor.extract(np.asarray(job.source.reference.x))
        if streaming == "always":
            self.stage = Streamed(job, laid, extractor, reference, pathlib.Path(folder, "pools"))
        else:
            self.stage = Resident(job, laid, extractor, reference)
        self.job, self.cells = job, laid.spread(job.cells(self.runs))
        kept = laid.spread(job.blank(len(self.runs)))
        work = self.stage.begin(self.cells, kept, np.int32(1))
        self.kept = self.stage.finish(self.cells, kept, work, np.int32(1), self.runs)[0]
        self.work = self.stage.begin(self.cells, self.kept, np.int32(2))

    def __call__(self) -> float:
        """Seconds of a segment. Its batches are the segment's; the state goes on."""
        begin = time.perf_counter()
        self.work, _ = self.stage.fit(self.cells, self.kept, self.work, np.int32(2), self.runs)
        jax.block_until_ready(self.work)
        return time.perf_counter() - begin


def compare(folder: str) -> None:
    both = {mode: Segments(mode, folder) for mode in ("never", "always")}
    seconds: dict[str, list[float]] = {mode: [] for mode in both}
    for segments in both.values():
        segments()  # compiles
    for _ in range(FLAGS.repeats):
        for mode, segments in both.items():
            seconds[mode].append(segments())
    job = both["always"].job
    steps = job.family.steps // job.family.segments * len(both["always"].runs)
    print("| training data | steps/s (min-max) | of resident |\n|---|--:|--:|")
    middle = {mode: statistics.median(times) for mode, times in seconds.items()}
    for mode, name in (("never", "on the device"), ("always", "streamed")):
        low, high = (steps / bound(seconds[mode]) for bound in (max, min))
        rate, share = steps / middle[mode], middle["never"] / middle[mode]
        print(f"| {name} | {rate:.1f} ({low:.1f}-{high:.1f}) | {share:.0%} |")
    print(
        f"\n{len(both['always'].runs)} runs, batches of {job.family.batch_size}, {job.plan.steps_per_call} steps a call"
    )


class Watched(PlainLines):
    """Notes what the process holds whenever a generation is over."""

    def __init__(self):
        super().__init__()
        self.held: list[int] = []

    def say(self, text: str) -> None:
        if text.startswith("generation "):
            status = pathlib.Path("/proc/self/status").read_text()
            self.held.append(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024)


def watch(folder: str) -> None:
    changes = {"loops": ("accumulate",), "generations": FLAGS.generations, "seeds": 1}
    config = read_config(folder, "always", **changes)
    config.model.steps = 20
    show = Watched()
    experiment.run(config, f"{folder}/work", cache=folder, show=show)
    record = FLAGS.side**2 * 3 + 4
    print("\n| generation | training set | synthetic, on disk | process holds |\n|--:|--:|--:|--:|")
    for t, held in enumerate(show.held, 1):
        synthetic = config.n_initial * (t - 1)
        whole, on_disk = config.n_initial + synthetic, synthetic * record / 2**20
        print(f"| {t} | {whole:,} | {on_disk:.0f} MiB | {held / 2**20:,.0f} MiB |")


def main(argv: list[str]) -> int:
    if argv[1:]:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    logging.set_verbosity(logging.ERROR)
    device = jax.local_devices()[0]
    print(f"{jax.local_device_count()} x {device.device_kind}, jax {jax.__version__}; {FLAGS.side}x{FLAGS.side}x3\n")
    with tempfile.TemporaryDirectory() as folder:
        compare(folder)
    with tempfile.TemporaryDirectory() as folder:
        watch(folder)
    return 0


if __name__ == "__main__":
    sys.exit(app.run(main))
