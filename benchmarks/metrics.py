"""Metrics at full size beside prdc, SciPy and, where it is installed, torch-fidelity: times, memory and values.

python benchmarks/metrics.py [--samples=10000] [--dimension=2048] [--torch_python=PYTHON]

Each contender gets the same two float32 feature files in a process of its own. Time is of one call, compilation
included, after imports and after the features are in memory, the median over `--repeats` processes, which take turns;
memory is the peak over what the process held before the call (Linux). prdc and SciPy are what most published numbers
were made with; FD by SciPy is the matrix square root of the usual script, on NumPy's covariances.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np
from absl import app, flags
from metrics_contenders import CONTENDERS

FLAGS = flags.FLAGS
flags.DEFINE_integer("samples", 10_000, "On either side.", lower_bound=100)
flags.DEFINE_integer("dimension", 2048, "Of the features.", lower_bound=1)
flags.DEFINE_integer("repeats", 3, "Processes of each contender.", lower_bound=1)
flags.DEFINE_list("contenders", [], "Which ones; all by default.")
flags.DEFINE_string("torch_python", "", "A Python that has torch-fidelity.")


def main(_):
    names = FLAGS.contenders or [n for n, (_, _, torch) in CONTENDERS.items() if FLAGS.torch_python or not torch]
    found = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for i, side in enumerate(("generated", "reference")):
            shape = (FLAGS.samples, FLAGS.dimension)
            np.save(f"{folder}/{side}.npy", np.random.default_rng(i).standard_normal(shape, np.float32))
        for _ in range(FLAGS.repeats):
            for name in names:
                python = FLAGS.torch_python if CONTENDERS[name][2] else sys.executable
                code = f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r}); "
                code += f"import metrics_contenders; metrics_contenders.measure({name!r}, {folder!r})"
                done = subprocess.run([python, "-c", code], capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
    report(found)


def report(found: dict[str, list[dict]]) -> None:
    """A markdown table, and the values to be compared."""
    middle = {name: statistics.median(one["seconds"] for one in runs) for name, runs in found.items()}
    memory = {name: max(one["gib"] for one in runs) for name, runs in found.items()}
    ours = {what: name for name, (_, what, _) in CONTENDERS.items() if name.startswith("madbench") and name in found}
    print(f"{FLAGS.samples:,} x {FLAGS.samples:,} x {FLAGS.dimension:,}\n")
    print("| | seconds (min-max) | of madbench's time | peak GiB | of madbench's memory | values |")
    print("|---|--:|--:|--:|--:|---|")
    for name, runs in found.items():
        times = [one["seconds"] for one in runs]
        own = ours.get(CONTENDERS[name][1], name)
        values = ", ".join(f"{key} {value:.6g}" for key, value in runs[0]["values"].items())
        print(
            f"| {name} | {middle[name]:.1f} ({min(times):.1f}-{max(times):.1f}) | {middle[name] / middle[own]:.1f} | "
            f"{memory[name]:.2f} | {memory[name] / memory[own]:.1f} | {values} |"
        )
    peers = ("prdc", "SciPy's sqrtm")
    if {"madbench: all five", *peers} <= found.keys():
        both = sum(middle[name] for name in peers)
        print(
            f"\nAll five: prdc and SciPy together take {both / middle['madbench: all five']:.1f} times madbench's time "
            f"and {max(memory[name] for name in peers) / memory['madbench: all five']:.1f} times its memory."
        )


if __name__ == "__main__":
    app.run(main)
