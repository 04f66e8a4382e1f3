"""What `madbench run` would do, without doing it."""

import json
from typing import Any

import jax
import numpy as np

from madbench import cost, display, fleet, grid
from madbench.cost import format_bytes
from madbench.streaming import stage

# Share of a large matrix product's FLOP/s that whole jobs reach: measured on CPUs (BUILD_NOTES). Of what makers publish
# it is a guess.
REACHED, GUESSED = 0.55, 0.25


def describe(config: Any, cache: str = grid.DEFAULT_CACHE, shard: tuple[int, int] | None = None, on: str = "") -> str:
    """The resolved config, grid (or a share), plan, shapes, FLOPs, memory and time, as text. Trains and writes nothing.

    Args:
      config, cache, shard: as `experiment.run` takes them.
      on: devices to plan for, as "4x8 H100"; those that are here by default.

    Raises:
      UserError: whatever is wrong with the config; one line.
    """
    job = grid.prepare(config, cache=cache, shard=shard, blank=True, on=on)
    shapes = job.generation.shapes
    state = jax.eval_shape(job.family.init, jax.random.key(0))
    n_params = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state.params))
    per_run = (job.fit_flops() + job.sample_flops()) * job.generations
    lines = [
        json.dumps(job.config, indent=2),
        "",
        f"grid        {_share(job)}{len(job.runs)} run{'s'[: len(job.runs) != 1]} x {job.generations} generations",
        *(f"              {c['loop']}, λ = {c['bias']:g}, {_composition(job, c)}" for c in job.planned),
        f"plan        {job.plan}",
        f"model       {job.config['model']['family']}: {n_params:,} parameters, "
        + (
            f"{job.family.steps} steps of {job.family.batch_size} a generation"
            if job.family.steps
            else "fitted to the whole set"
        ),
        f"data        {job.source.name}: samples of shape {job.source.shape}, "
        f"{'endless' if job.source.available is None else job.source.available} to train on, "
        f"{job.generation.n_samples} for the metrics",
        f"shapes      training set [{shapes.capacity}], synthetic memory [{shapes.slots}, {shapes.rows}] per run",
        f"FLOPs       {job.fit_flops():.3g} fit + {job.sample_flops():.3g} sampling per run and generation, "
        f"{per_run * len(job.runs):.3g} in all",
        f"memory      {format_bytes(job.plan.bytes_per_run)} per run, "
        f"{format_bytes(job.plan.bytes_shared)} shared by all, on each device",
        *_disk(job),
        *_time(job, per_run * len(job.runs)),
        *(f"note        {note}" for note in job.notes),
    ]
    return "\n".join(lines)


def _disk(job: grid.Job) -> list[str]:
    """What the workdir will hold: checkpoints, and the synthetic samples of streamed jobs."""
    state = cost.tree_bytes(job.shapes(job.plan.wave_size, within_fit=True))
    checkpoints = f"{format_bytes(state * job.config['keep_checkpoints'])} of checkpoints"
    if not job.plan.streamed_steps:
        return [f"disk        at most {checkpoints}; no pools, synthetic samples stay on the devices"]
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
        basis = f"{job.machine.name}, {GUESSED:.0%} of the published {each / 1e12:.0f} TFLOP/s of each: not measured"
        return [f"time        about {display.duration(flops / (GUESSED * each * used))} on {used} devices ({basis})"]
    rate = fleet.matmul_rate(2048, repeats=2) / jax.local_device_count() * used
    basis = f"{REACHED:.0%} of the {rate / 1e9:.0f} GFLOP/s of a large matrix product, measured now"
    return [f"time        about {display.duration(flops / (REACHED * rate))} ({basis}), and compilation"]


def _share(job: grid.Job) -> str:
    return "" if job.shard is None else "share {} of {} of {} runs: ".format(*job.shard, len(job.whole))


def _composition(job: grid.Job, cell: dict[str, Any]) -> str:
    loop = next(r.loop for r in job.runs if r.loop.name == cell["loop"])
    at = lambda t: "{} real + {} synthetic".format(*loop.union(t))
    text = f"{at(1)}, then {at(min(2, job.generations))} … {at(job.generations)}"
    if loop.memory != 1 and loop.n_synthetic:
        text += f", from {loop.memory} generations"
    if loop.budget:
        text += f", subsampled to {loop.budget}"
    return text + (", fine-tuned" if loop.start == "finetune" else "")
