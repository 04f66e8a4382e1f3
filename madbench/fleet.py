"""Many runs as one program: `vmap` over the runs on a device, `pmap` over devices, waves where memory ends.

Where runs are fewer than devices, a group of consecutive devices shares a run: each computes an equal part of its
batch and the group averages gradients (`models.family.Group`). The devices may be those of several processes, each of
which holds and computes its own part; see `processes`.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench import processes
from madbench.errors import UserError
from madbench.units import format_bytes

AXIS = "devices"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the runs of a grid are laid on devices.

    Attributes:
      runs: of the grid.
      devices: that are used.
      group_size: devices that share a run.
      runs_per_device: of one wave; mapped by `vmap`.
      wave_size: runs of a wave; waves go one after the other, each through all generations.
      stepwise: the host calls each optimizer step, instead of a compiled loop over them.
      streamed_steps: optimizer steps whose batches the host hands over at once; 0 where all data are on the device.
      bytes_per_run, bytes_shared, bytes_limit: estimated device memory of a run, of what all runs share, and what a
        device has; 0 for an unknown limit.
    """

    runs: int
    devices: int
    group_size: int
    runs_per_device: int
    wave_size: int
    bytes_per_run: int
    bytes_shared: int
    bytes_limit: int
    stepwise: bool = False
    streamed_steps: int = 0

    @property
    def steps_per_call(self) -> int:
        """Of the fit program; 0 for a whole segment of the fit."""
        return 1 if self.stepwise else self.streamed_steps

    @property
    def groups(self) -> int:
        return self.devices // self.group_size

    @property
    def waves(self) -> int:
        return -(-self.runs // self.wave_size)

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The device indices of each group; empty where each device has its own runs."""
        if self.group_size == 1:
            return ()
        return tuple(tuple(range(g * self.group_size, (g + 1) * self.group_size)) for g in range(self.groups))

    def wave(self, index: int) -> range:
        """Which runs wave `index` holds."""
        return range(index * self.wave_size, min((index + 1) * self.wave_size, self.runs))

    def __str__(self) -> str:
        share = f", {self.group_size} devices share a run" if self.group_size > 1 else ""
        limit = f" of {format_bytes(self.bytes_limit)}" if self.bytes_limit else ""
        used = self.bytes_shared + self.bytes_per_run * self.runs_per_device
        count = lambda n, what: f"{n} {what}{'s'[: n > 1]}"
        return (
            f"{count(self.runs, 'run')}: pmap over {count(self.devices, 'device')}{share}, vmap over "
            f"{count(self.runs_per_device, 'run')} each, {count(self.waves, 'wave')}"
            f"{', step by step' if self.stepwise else ''}{', data streamed' if self.streamed_steps else ''}; "
            f"about {format_bytes(used)}{limit} a device"
        )


def make_plan(
    runs: int,
    devices: int,
    *,
    batch_size: int = 0,
    bytes_per_run: int = 0,
    bytes_shared: int = 0,
    bytes_limit: int = 0,
    max_runs_per_device: int = 0,
    wave_size: int = 0,
    convolves: bool = False,
    platform: str = "",
    streamed_steps: int = 0,
    use_all: bool = False,
) -> Plan:
    """Lays `runs` on `devices`.

    Networks of matrix products are mapped by `vmap` and stepped in a compiled loop. Those with convolutions are not:
    under `vmap` they become grouped ones, which are slow, and on a CPU their gradients inside a compiled loop are 60
    times slower than outside (BUILD_NOTES, Measured). Each of their runs has a device of its own, and on a CPU the host
    calls each step.

    Args:
      runs: of the grid.
      devices: at hand.
      batch_size: of one optimizer step; a group's size divides it. 0: a run cannot be shared.
      bytes_per_run, bytes_shared, bytes_limit: as in `Plan`; a limit of 0 means none is known.
      max_runs_per_device: 0 for as many as memory holds.
      wave_size: runs of a wave where an earlier start has fixed it, so that checkpoints fit; 0 to choose.
      convolves: whether the fit contains convolutions.
      platform: of the devices, as JAX names it.
      streamed_steps: as in `Plan`.
      use_all: no device stays out, even if it only computes copies: where the devices are those of several processes,
        each process needs its part of every program.

    Raises:
      UserError: a run, or a wave that was fixed, exceeds the memory of the devices; one line.
    """
    fit = runs
    if bytes_limit and bytes_per_run:
        fit = (bytes_limit - bytes_shared) // bytes_per_run
        if fit < 1:
            needed = format_bytes(bytes_shared + bytes_per_run)
            raise UserError(
                f"one run needs about {needed} and a device has {format_bytes(bytes_limit)} to give "
                "(config.fleet.memory_fraction); make the model, the batch or the training sets smaller, or plan for "
                "other devices: --dry_run --on='1x8 H100'"
            )
    if convolves:
        fit = 1
    if max_runs_per_device:
        fit = min(fit, max_runs_per_device)

    group_size = 1
    if batch_size:
        sizes = range(max(devices // (wave_size or runs), 1), 0, -1)
        group_size = next(g for g in sizes if batch_size % g == 0 and not (use_all and devices % g))
    groups = min(wave_size or runs, devices // group_size)
    if not wave_size:
        waves = -(-runs // (groups * fit))
        wave_size = -(-runs // waves)
    runs_per_device = -(-wave_size // groups)
    if runs_per_device > fit:
        raise UserError(
            f"this job runs {wave_size} runs at a time since its first start, and the devices here hold "
            f"{groups * fit}; resume it where it began, or begin anew in another --workdir"
        )
    # A device that would only hold padding stays out, where it can.
    groups = devices // group_size if use_all else -(-wave_size // runs_per_device)
    return Plan(
        runs=runs,
        devices=groups * group_size,
        group_size=group_size,
        runs_per_device=runs_per_device,
        wave_size=wave_size,
        bytes_per_run=bytes_per_run,
        bytes_shared=bytes_shared,
        bytes_limit=bytes_limit,
        stepwise=convolves and platform == "cpu",
        streamed_steps=streamed_steps,
    )


class Fleet:
    """Lays arrays out for a plan and maps functions of one run over all of its runs.

    Among several processes each makes the same fleet and calls the same methods in the same order. Arrays on devices
    are then global ones, of which a process holds what lies on its own devices.
    """

    def __init__(self, plan: Plan, devices: Sequence[jax.Device] | None = None):
        self.plan = plan
        self.devices = list(devices or all_devices())[: plan.devices]
        mesh = jax.sharding.Mesh(np.asarray(self.devices), (AXIS,))
        self._sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))

    def spread(self, runs: Any) -> Any:
        """Host arrays `[run, ...]` of one wave -> device arrays `[device, run, ...]`.

        A wave that is not full is padded with copies of its last run; `gather` drops them.
        """

        def lay(array):
            array = np.asarray(array)
            index = self._runs(len(array))
            return self._put((*index.shape, *array.shape[1:]), lambda device: array[index[device]])

        return jax.tree.map(lay, runs)

    def share(self, tree: Any) -> Any:
        """One copy for each device: `[device, ...]`."""
        return jax.tree.map(lambda a: self._put((self.plan.devices, *np.shape(a)), lambda _: np.asarray(a)), tree)

    def stand_in(self, shapes: Any) -> Any:
        """What `Program.compile` takes for arrays `[device, ...]` of these shapes: among several processes, zeros."""
        if jax.process_count() == 1:
            return shapes
        return jax.tree.map(lambda s: self._put(s.shape, lambda _: np.zeros(s.shape[1:], s.dtype)), shapes)

    def gather(self, tree: Any, runs: int) -> Any:
        """Device arrays `[device, run, ...]` -> host arrays `[runs, ...]`, the first device of each group speaking.

        Among several processes the first gets them, one leaf after the other, and the others get None for each leaf.
        """
        plan = self.plan
        # The first devices of groups are among these of each process, in equal numbers, wherever a group begins.
        step = math.gcd(plan.group_size, len(self._mine))

        def pick(array):
            found = processes.collect(self._local(array)[::step])
            return found if found is None else found[:: plan.group_size // step].reshape(-1, *array.shape[2:])[:runs]

        return jax.tree.map(pick, tree)

    def on_host(self, function: Callable[[Any], Any], tree: Any, runs: int) -> Any:
        """`function`, which takes and gives host arrays `[run, ...]`, of device arrays `[device, run, ...]`.

        Each process calls it once, with those of the `runs` that lie on its devices.
        """
        return self.place(function(self.take(tree, runs)), runs)

    def own_runs(self, runs: int) -> list[int]:
        """Which of the wave's runs lie on this process's devices."""
        return [int(i) for i in np.unique(self._runs(runs)[self._mine])]

    def leads(self, run: int, runs: int) -> bool:
        """Whether the first device of a run is this process's: of the processes that share it, one writes for it."""
        device = int(np.argmax((self._runs(runs) == run).any(axis=1)))
        return self.devices[device].process_index == jax.process_index()

    def take(self, tree: Any, runs: int) -> Any:
        """Device arrays `[device, run, ...]` -> host arrays `[run, ...]` of this process's own runs."""
        _, first = np.unique(self._runs(runs)[self._mine], return_index=True)
        return jax.tree.map(lambda a: self._local(a).reshape(-1, *a.shape[2:])[first], tree)

    def place(self, tree: Any, runs: int) -> Any:
        """The way back."""
        index = self._runs(runs)[self._mine]  # [device, run]
        back = np.unique(index, return_inverse=True)[1].reshape(index.shape)
        of_device = dict(zip(self._mine, back, strict=True))
        shape = lambda a: (self.plan.devices, index.shape[1], *a.shape[1:])
        return jax.tree.map(lambda a: self._put(shape(a), lambda device: a[of_device[device]]), tree)

    def program(self, function: Callable, *, x64: bool = False) -> "Program":
        """`function(shared, cell, carry, t)` of one run, mapped over all.

        `shared` is one for all runs, `cell` and `carry` are each run's own, `t` is one number.
        """
        over_runs = jax.vmap(function, in_axes=(None, 0, 0, None))
        mapped = jax.pmap(over_runs, axis_name=AXIS, in_axes=(0, 0, 0, None), devices=self.devices)
        return Program(mapped, x64)

    @property
    def _mine(self) -> list[int]:
        """Which of the plan's devices are this process's."""
        return [i for i, device in enumerate(self.devices) if device.process_index == jax.process_index()]

    def _runs(self, runs: int) -> np.ndarray:
        """Which run of a wave of `runs` each place holds: `[device, run]`."""
        plan = self.plan
        index = np.minimum(np.arange(plan.groups * plan.runs_per_device), runs - 1)
        return np.repeat(index.reshape(plan.groups, -1), plan.group_size, axis=0)

    def _put(self, shape: tuple[int, ...], part: Callable[[int], np.ndarray]) -> jax.Array:
        """A device array `[device, ...]`; `part(device)` is called for this process's devices alone."""
        begin = lambda index: index[0].indices(self.plan.devices)[0]
        return jax.make_array_from_callback(shape, self._sharding, lambda index: part(begin(index))[None])

    def _local(self, array: jax.Array) -> np.ndarray:
        """This process's part of a device array, in the order of the devices."""
        if array.is_fully_addressable:
            return np.asarray(array)
        shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return np.concatenate([np.asarray(shard.data) for shard in shards])


def all_devices() -> list[jax.Device]:
    """Of all processes, those of one process together."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


class Program:
    """A mapped function that is compiled once, ahead of its first call, and counts the seconds that took."""

    def __init__(self, mapped: Any, x64: bool):
        self._mapped = mapped
        self._x64 = x64
        self._lowered = None
        self._compiled = None
        self.compilations = 0
        self.compile_seconds = 0.0

    def shapes(self, *args: Any) -> Any:
        """`jax.ShapeDtypeStruct`s of what it returns.

        Not by `jax.eval_shape`, under which `pmap` sees this process's devices alone. `compile` is then for these.
        """
        with jax.enable_x64(self._x64):
            self._lowered = self._mapped.lower(*args)
        return jax.tree.map(lambda out: jax.ShapeDtypeStruct(out.shape, out.dtype), self._lowered.out_info)

    def compile(self, *args: Any) -> None:
        """Compiles for the shapes of `args`, which may be `jax.ShapeDtypeStruct` where there is one process."""
        begin = time.perf_counter()
        with jax.enable_x64(self._x64):
            self._compiled = (self._lowered or self._mapped.lower(*args)).compile()
        self._lowered = None
        self.compilations += 1
        self.compile_seconds += time.perf_counter() - begin

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            self.compile(*args)
        return self._compiled(*args)


def memory_limit(device: jax.Device, fraction: float) -> int:
    """Bytes that a plan may use on `device`: `fraction` of what it has. On CPU the devices divide the free memory."""
    stats = device.memory_stats() or {} if device.platform != "cpu" else {}
    if "bytes_limit" in stats:
        return int(fraction * stats["bytes_limit"])
    if device.platform == "cpu":
        import psutil

        return int(fraction * psutil.virtual_memory().available / jax.local_device_count())
    return 0


def matmul_rate(size: int = 3072, repeats: int = 3, dtype: str = "float32") -> float:
    """FLOP/s of a large matrix product on this process's devices together, the best of `repeats`."""
    devices = jax.local_devices()
    product = jax.pmap(jnp.matmul, devices=devices)
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    a = jnp.broadcast_to(a, (len(devices), size, size))
    best = float("inf")
    for _ in range(repeats + 1):  # the first compiles
        begin = time.perf_counter()
        jax.block_until_ready(product(a, a))
        best = min(best, time.perf_counter() - begin)
    return len(devices) * 2 * size**3 / best
