"""Speed of the fit: fleets of several sizes, the same model one run at a time, and the same work in plain PyTorch.

python benchmarks/fleet.py [--fleets=1,4,16,64] [--torch_python=PATH] [--verify]
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves GPU memory to PyTorch

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from madbench import fleet, grid
from madbench.generation import Kept, Shared
from madbench.loops import GatheredSet
from madbench.models import Group
from madbench.networks import ResidualMLP
from madbench.samples import Samples

HERE = pathlib.Path(__file__).resolve().parent
VERIFY_STEPS = 11  # a prime beyond 10: the family then makes all of them in one call of its fit
TOLERANCE = 1e-5  # of the network's output, relative to its largest value where that exceeds 1
TOLERANCE_TRAINED = 1e-3  # of what training changed, relative, in the Euclidean norm
HOW_TO_GET_TORCH = (
    "not measured: no torch in this Python; pip install torch, or --torch_python=PATH of a Python with it"
)

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
    kept = laid.spread(blank(job, len(runs)))
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
    generation = dataclasses.replace(job.generation, family=dataclasses.replace(job.family, group=Group()))
    t = np.int32(1)
    shared, host_cells, host_kept = jax.device_put(
        (Shared(job.source, (), ()), job.cells(job.runs[:runs]), blank(job, runs)), jax.local_devices()[0]
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


def blank(job: grid.Job, runs: int) -> Kept:
    """`Kept` of `runs` runs before generation 1, on the host."""
    kept = jax.tree.map(lambda s: np.zeros((runs, *s.shape), s.dtype), job.generation.blank(job.source.shape))
    return kept._replace(alive=np.ones_like(kept.alive))


def torch_python() -> str:
    """The Python for the PyTorch loop, or "" where this one is to be used and has no torch."""
    return FLAGS.torch_python or (sys.executable if importlib.util.find_spec("torch") else "")


def torch_spec(job: grid.Job, folder: pathlib.Path) -> dict[str, Any]:
    """What `torch_loop.py` needs to know of a job."""
    family = job.family
    names = "batch_size learning_rate warmup label_dropout ema_exponent sigma_data p_mean p_std num_classes"
    return {
        **{name: getattr(family, name) for name in names.split()},
        "dimension": int(np.prod(family.shape)),
        "width": family.net.width,
        "depth": family.net.depth,
        "total_steps": family.steps,
        "steps": FLAGS.steps,
        "repeats": FLAGS.repeats,
        "seconds": FLAGS.seconds,
        "platform": jax.default_backend(),
        "verify": FLAGS.verify,
        "data": str(folder / "data.npz"),
        "answer": str(folder / "answer.npz"),
    }


def run_torch(python: str, spec: dict[str, Any], folder: pathlib.Path, arrays: dict[str, Any]) -> dict[str, Any]:
    """Runs `torch_loop.py` to its end, while this process waits.

    Raises:
      RuntimeError: it failed; with its last line.
    """
    np.savez(folder / "data.npz", **arrays)
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [python, str(HERE / "torch_loop.py"), str(folder / "spec.json")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(f"{python} did not start: {error.strerror}") from error
    if done.returncode:
        raise RuntimeError(f"{python} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout)


def real_samples(job: grid.Job) -> Samples:
    """The training set of generation 1, on the host, flat."""
    source = job.source
    real = source.at(source.order(jax.random.key(0)), jnp.arange(job.config["n_initial"]))
    return Samples(np.asarray(real.x).reshape(len(real.y), -1), np.asarray(real.y))


def measure_torch(job: grid.Job) -> dict[str, Any]:
    """The report of `torch_loop.py`, or {"note": why there is none}."""
    python = torch_python()
    if not python:
        return {"note": HOW_TO_GET_TORCH}
    if not isinstance(job.family.net, ResidualMLP):
        return {"note": "not measured: the PyTorch loop knows config.model.network=mlp alone"}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        try:
            return run_torch(python, torch_spec(job, folder), folder, real_samples(job)._asdict())
        except RuntimeError as error:
            return {"note": f"not measured: {error}"}


def verify(job: grid.Job) -> bool:
    """Same weights, inputs and draws for both: compares outputs, then a short training in every part of the state."""
    python = torch_python()
    if not python or not isinstance(job.family.net, ResidualMLP):
        print(HOW_TO_GET_TORCH if not python else "the PyTorch loop knows config.model.network=mlp alone")
        return False
    family = dataclasses.replace(job.family, group=Group(), steps=VERIFY_STEPS)
    n, shape = family.batch_size, family.shape
    state = family.init(jax.random.key(1))
    leaves, tree = jax.tree.flatten(state.params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    # Added noise: no layer is all zeros, as some are at first.
    params = tree.unflatten([p + 0.03 * jax.random.normal(k, p.shape) for k, p in zip(keys, leaves, strict=True)])
    state = state._replace(params=params, ema=params)
    x_key, noise_key, label_key, fit_key = jax.random.split(jax.random.key(3), 4)
    x, noise = jax.random.normal(x_key, (n, *shape)), jax.random.normal(noise_key, (n,))
    label = jax.random.randint(label_key, (n,), 0, family.num_classes + 1)
    real = real_samples(job)
    samples = Samples(real.x.reshape(-1, *shape), real.y)
    training_set = GatheredSet(jax.tree.map(jnp.asarray, samples), jnp.int32(len(real.y)))

    with jax.default_matmul_precision("highest"):
        out = jax.jit(family.net.apply)({"params": params}, x, noise, label)
        trained, curve = jax.jit(family.fit)(fit_key, training_set, state)
    draws = [draw(family, jax.random.fold_in(fit_key, step), training_set) for step in range(VERIFY_STEPS)]
    given = {
        **by_name("params", params),
        **{"x": np.asarray(x).reshape(n, -1), "noise": noise, "label": label},
        **{f"draw/{name}": np.stack([d[name] for d in draws]) for name in draws[0]},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        spec = torch_spec(job, folder) | {"total_steps": VERIFY_STEPS}
        try:
            report = run_torch(python, spec, folder, given)
        except RuntimeError as error:
            print(error)
            return False
        answer = dict(np.load(folder / "answer.npz"))

    out = np.asarray(out).reshape(n, -1)
    checks = [("output of the network", np.abs(answer["out"] - out).max() / max(1, np.abs(out).max()), TOLERANCE)]
    before = by_name("", params)
    for part, ours in (("params", trained.params), ("ema", trained.ema)):
        ours = by_name("", ours)
        size = sum(np.square(ours[k] - before[k]).sum() for k in ours)
        error = sum(np.square(answer[part + k] - ours[k]).sum() for k in ours)
        checks.append((f"{part} after {VERIFY_STEPS} steps", np.sqrt(error / size), TOLERANCE_TRAINED))
    loss = float(curve.mean())
    checks.append((f"loss over {VERIFY_STEPS} steps", abs(answer["losses"].mean() / loss - 1), TOLERANCE_TRAINED))
    print(f"jax {jax.__version__} on {jax.default_backend()}, torch {report['torch']} on {report['device']}")
    for what, error, limit in checks:
        print(f"{what:24} relative difference {error:.1e}, at most {limit:.0e}: {'ok' if error <= limit else 'WRONG'}")
    return all(error <= limit for _, error, limit in checks)


def draw(family: Any, key: jax.Array, training_set: GatheredSet) -> dict[str, np.ndarray]:
    """The random numbers of one step, as `Diffusion` draws them."""
    data_key, label_key, sigma_key, noise_key = jax.random.split(key, 4)
    n = family.batch_size
    batch = training_set.batch(data_key, n)
    hidden = jax.random.bernoulli(label_key, family.label_dropout if family.num_classes else 0.0, (n,))
    found = {
        "x": batch.x.reshape(n, -1),
        "label": jnp.where(hidden, family.num_classes, batch.y),
        "sigma": jnp.exp(family.p_mean + family.p_std * jax.random.normal(sigma_key, (n,))),
        "noise": jax.random.normal(noise_key, batch.x.shape).reshape(n, -1),
    }
    return {name: np.asarray(value) for name, value in found.items()}


def by_name(prefix: str, params: Any) -> dict[str, np.ndarray]:
    """`{"params/Dense_0/kernel": …}`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {prefix + "/" + "/".join(k.key for k in path): np.asarray(leaf) for path, leaf in leaves}


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
    torch = measure_torch(jobs[-1])
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
        return 0 if verify(read_job(1)) else 1
    result = measure(sizes)
    print(json.dumps(result, indent=1) if FLAGS.out == "json" else render(result))
    return 0


if __name__ == "__main__":
    app.run(main)
