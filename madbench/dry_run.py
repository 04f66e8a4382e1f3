"""What `madbench run` would do, without doing it."""

import inspect
import json
import math
import pathlib
from collections.abc import Iterable

import jax
import numpy as np

from madbench import cost, data, display, fleet, grid
from madbench.loops import Loop
from madbench.metrics import features
from madbench.streaming import stage
from madbench.units import format_bytes

# Share of a large matrix product's FLOP/s that whole jobs reach: measured on CPUs (BUILD_NOTES). Of what makers publish
# it is a guess.
REACHED, GUESSED = 0.55, 0.25
LISTED = 6  # seeds, or λ of a loop, that are all named


def describe(job: grid.Job, cache: str = grid.DEFAULT_CACHE) -> str:
    """Grid, plan, memory, time, and last the resolved config, as text. Trains and writes nothing.

    Args:
      job: as `grid.prepare` makes it; `blank`, so that nothing is prepared for it.
      cache: directory of feature networks and prepared data.
    """
    shapes = job.generation.shapes
    state = jax.eval_shape(job.family.init, jax.random.key(0))
    n_params = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state.params))
    per_run = (job.fit_flops() + job.extra_fit_flops() + job.sample_flops()) * job.generations
    extra = f" + {job.extra_fit_flops():.3g} second fit" if job.extra_fit_flops() else ""
    missing = features.missing(job.config["metrics"]["features"], cache)
    lines = [
        f"grid        {_share(job)}{len(job.runs)} run{'s'[: len(job.runs) != 1]} x {job.generations} generations, "
        f"seed{'s'[: len(job.config['seeds']) != 1]} {_listed(job.config['seeds'])}",
        *(f"              {line}" for line in _loops(job)),
        f"plan        {job.plan}",
        f"memory      {format_bytes(job.plan.bytes_per_run)} per run, "
        f"{format_bytes(job.plan.bytes_shared)} shared by all, on each device",
        *_time(job, per_run * len(job.runs)),
        *_disk(job),
        *_prepared(job, cache),
        f"model       {job.config['model']['family']}: {n_params:,} parameters, "
        + (
            f"{job.family.steps} steps of {job.family.batch_size} a generation"
            if job.family.steps
            else "fitted to the whole set"
        ),
        *_strategy(job),
        f"data        {job.source.name}: samples of shape {job.source.shape}, "
        f"{job.source.num_classes or 'no'} classes, "
        f"{'endless' if job.source.available is None else job.source.available} to train on, "
        f"{job.generation.n_samples} for the metrics",
        f"shapes      training set [{shapes.capacity}], synthetic memory [{shapes.slots}, {shapes.rows}] per run",
        f"FLOPs       {job.fit_flops():.3g} fit{extra} + {job.sample_flops():.3g} sampling per run and generation, "
        f"{per_run * len(job.runs):.3g} in all",
        *(f"note        {note}" for note in job.notes),
        *([f"note        a run would be refused: {missing}"] if missing else []),
        "",
        json.dumps(job.config, indent=2),
    ]
    return "\n".join(lines)


def _strategy(job: grid.Job) -> list[str]:
    """What is done against collapse, and what it consumes; nothing where nothing is."""
    told = job.strategy
    if job.generation.treatment is None:
        return []
    consumes = "; ".join(told["consumes"]) or "nothing more"
    return [f"strategy    {told['name']} ({told['cite']}): {consumes}"]


def _prepared(job: grid.Job, cache: str) -> list[str]:
    """What the decoded images of a set take in the cache, of sources that keep them there."""
    source = job.source
    load = data.SOURCES.find(job.config["data"]["source"])
    if "cache" not in inspect.signature(load).parameters:
        return []
    size = (source.available + len(source.reference.x)) * math.prod(source.shape)  # uint8
    place = pathlib.Path(cache).expanduser() / "data"
    there = "there already" if source.fingerprint["sha256"] else "which the first run prepares, once"
    return [f"cache       {format_bytes(size)} of decoded images in {place}, {there}"]


def _disk(job: grid.Job) -> list[str]:
    """What the workdir will hold: checkpoints, and the synthetic samples of streamed jobs."""
    state = cost.tree_bytes(job.shapes(job.plan.wave_size, within_fit=True))
    checkpoints = f"{format_bytes(state * job.config['keep_checkpoints'])} of checkpoints"
    if not job.plan.streamed_steps:
        return [f"disk        at most {checkpoints}; synthetic samples stay on the devices"]
    return [
        f"disk        at most {checkpoints}, {format_bytes(stage.disk_bytes(job))} of synthetic samples (pools/); "
        f"batches of {job.plan.steps_per_call} steps are read ahead"
    ]


def _time(job: grid.Job, flops: int) -> list[str]:
    """How long it may take; nothing where the fits are too small for their matrix products to tell."""
    if not job.family.steps:
        return []
    each, used = job.machine.flops, job.plan.devices
    if each:
        text = _besides_compilation(flops / (GUESSED * each * used))
        basis = f"{job.machine.name}, {GUESSED:.0%} of the published {each / 1e12:.0f} TFLOP/s of each: not measured"
        return [f"time        {text}, on {used} device{'s'[: used > 1]} ({basis})"]
    rate = fleet.matmul_rate(2048, repeats=2) / jax.local_device_count() * used
    basis = f"{REACHED:.0%} of the {rate / 1e9:.0f} GFLOP/s of a large matrix product, measured now"
    return [f"time        {_besides_compilation(flops / (REACHED * rate))} ({basis})"]


def _besides_compilation(seconds: float) -> str:
    about = f"about {display.duration(seconds)}" if seconds >= 60 else "under a minute"
    return f"{about} besides compilation"


def _share(job: grid.Job) -> str:
    return "" if job.shard is None else "share {} of {} of {} runs: ".format(*job.shard, len(job.whole))


def _loops(job: grid.Job) -> list[str]:
    """A line for each loop: its λ, and what its generations eat."""
    loops = {run.loop.name: run.loop for run in job.whole}
    biases = {name: dict.fromkeys(run.bias for run in job.whole if run.loop.name == name) for name in loops}
    return [f"{name}, λ = {_listed(biases[name])}: {_composition(job, loop)}" for name, loop in loops.items()]


def _listed(values: Iterable[float]) -> str:
    """ "1, 0.5"; of many only the first and the last."""
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(texts if len(texts) <= LISTED else [*texts[:2], "…", texts[-1]])


def _composition(job: grid.Job, loop: Loop) -> str:
    at = [_union(loop, t) for t in sorted({1, min(2, job.generations), job.generations})]
    text = at[0]
    if len(at) > 1:
        text += f", then {at[1]}"
    if len(at) > 2 and at[2] != at[1]:
        text += f" … {at[2]}"
    if loop.memory != 1 and loop.n_synthetic:
        text += f", from {loop.memory} generations"
    if loop.budget:
        text += f", subsampled to {loop.budget}"
    return text + (", fine-tuned" if loop.start == "finetune" else "")


def _union(loop: Loop, t: int) -> str:
    """Of generation `t`, before any subsampling: "600 real + 600 synthetic"."""
    parts = zip(loop.union(t), ("real", "synthetic"), strict=True)
    return " + ".join(f"{n:,} {kind}" for n, kind in parts if n)
