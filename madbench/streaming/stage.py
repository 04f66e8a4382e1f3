"""A generation whose training data do not fit a device: the host reads ahead, and writes what is synthesized."""

import contextlib
import math
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from madbench import fleet, grid, processes
from madbench.errors import UserError
from madbench.generation import Kept, Seen, Work
from madbench.metrics import Training
from madbench.metrics.features import Extractor
from madbench.resident import Resident
from madbench.samples import Samples, decode
from madbench.streaming import plan
from madbench.streaming.pools import Pool, Reader
from madbench.streaming.programs import Batches
from madbench.units import format_bytes

READERS = 2  # threads that read
AHEAD = 2  # calls whose batches wait
OF_A_RECORD, OF_A_FILE = 72, 2**17  # bytes beside those of a sample: the label, and what the format adds


class Streamed(Resident):
    """As `Resident`, with real samples on the host and synthetic ones on disk.

    What a call reads follows from keys and addresses alone, so that it can be read ahead, and a job that was stopped
    goes on with the same batches; they are those that a resident job would draw, and its rows to rounding.
    """

    def __init__(self, job: grid.Job, mapped: fleet.Fleet, extractor: Extractor, reference: Any, folder: pathlib.Path):
        """`folder`: of the pools."""
        super().__init__(job, mapped, extractor, reference)
        self._folder = folder
        self._readers: tuple[Any, list[Reader]] = (None, [])

    def fit(self, cells: Any, kept: Kept, work: Work, t: np.int32, runs: list[grid.Run]) -> tuple[Work, list[Any]]:
        addresses = self.fleet.take(self.programs["addresses"](self.shared, cells, work, t), len(runs))
        self._open(runs, int(t))
        curves: list[Any] = []
        for batches in self._read_ahead(addresses):
            if curves:
                jax.block_until_ready(curves[-1])  # no more than one call waits on the device
            carry = (work, self.fleet.place(batches, len(runs)))
            work, curve = self.programs["fit"](self.shared, cells, carry, t)
            curves.append(curve)
        return jax.block_until_ready((work, curves))

    def finish(
        self, cells: Any, kept: Kept, work: Work, t: np.int32, runs: list[grid.Run]
    ) -> tuple[Kept, Seen, dict[str, Any]]:
        n, generation = len(runs), self.job.generation
        own = self.fleet.own_runs(n)
        size = generation.sampled_at_once(self.job.source)
        good = np.ones(len(own), bool)
        seen: list[list[np.ndarray]] = [[] for _ in own]
        # Of processes that share a run one writes; nobody reads the last generation's samples.
        writers = [self._pool(runs[i]).writer(int(t)) if self.fleet.leads(i, n) else None for i in own]
        kept_rows = [runs[i].loop.n_synthetic if t < self.job.generations else 0 for i in own]
        for start in range(0, generation.n_drawn, size):
            carry = (work, self.fleet.spread(np.full(n, start // size, np.int32)))
            samples, finite = self.fleet.take(self.programs["sample"](self.shared, cells, carry, t), n)
            good &= finite
            for i, writer in enumerate(writers):
                rows = np.clip(kept_rows[i] - start, 0, size)
                if writer and rows:
                    writer.write(Samples(samples.x[i, :rows], samples.y[i, :rows]))
                seen[i].append(samples.x[i, : max(generation.n_samples - start, 0)].copy())
        digests = np.stack([writer.close() if writer else np.zeros(32, np.uint8) for writer in writers])
        carry = (kept, work, self.fleet.place(good, n))
        kept, out = self.programs["close"](self.shared, cells, carry, t)
        memory = self.fleet.take(kept.memory, n).copy()
        memory[:, (int(t) - 1) % memory.shape[1]] = digests
        kept = kept._replace(memory=self.fleet.place(memory, n))
        x = [np.concatenate(parts) for parts in seen]
        if generation.keeps_samples:
            out["samples"] = self.fleet.place(np.stack(x), n)
        training = self._training(cells, work, t, runs) if generation.evaluator.needs_training else None
        features = Seen(np.stack([self.extractor.extract(each) for each in x]), training)
        # What follows the gathering may read what any process has written before it.
        return kept, self.fleet.place(features, n), self.fleet.gather(out, n)

    def saved(self, t: np.int32, runs: list[grid.Run]) -> None:
        """Deletes what neither the next generation remembers nor that of any checkpoint that is kept."""
        oldest = int(t) + 2 - self.job.config["keep_checkpoints"]
        self._readers = (None, [])  # a file that is open cannot go from every file system
        for run in runs if processes.is_first() else []:
            own = self._pool(run)
            own.drop() if t == self.job.generations else own.drop(oldest - self.job.generation.shapes.slots)
        if t == self.job.generations and processes.is_first():
            with contextlib.suppress(OSError):  # another wave's may follow
                self._folder.rmdir()

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _read_ahead(self, addresses: np.ndarray) -> Iterator[Batches]:
        """`Batches` of this process's runs, x `[run, step, n, *shape]`, of each call of a segment.

        `addresses`: int32 `[run, step, n]`.
        """
        import grain

        calls = np.split(addresses, self.job.calls, axis=1)
        options = grain.ReadOptions(num_threads=READERS, prefetch_buffer_size=AHEAD)
        read = lambda call: self._batches(calls[call])
        return iter(grain.MapDataset.range(len(calls)).map(read).to_iter_dataset(read_options=options))

    def _batches(self, address: np.ndarray) -> Batches:
        rows = [self._rows(i, each.reshape(-1)) for i, each in enumerate(address)]
        whole = [np.stack(leaves).reshape(*address.shape, *leaves[0].shape[1:]) for leaves in zip(*rows, strict=True)]
        return Batches(Samples(*whole), address)

    def _rows(self, run: int, address: np.ndarray) -> Samples:
        """What lies at `address [n]`, as it is kept; zeros for the real samples of an endless source."""
        source, rows = self.job.source, self.job.generation.shapes.rows
        x = np.zeros((len(address), *source.shape), source.stored)
        y = np.zeros(len(address), np.int32)
        real = address >= 0
        if source.available is not None:
            x[real], y[real] = (np.asarray(leaf)[address[real]] for leaf in source.pool)
        if not real.all():
            slot, row = np.divmod(-1 - address[~real], rows)
            x[~real], y[~real] = self._readers[1][run].rows(self._begin[run, slot] + row)
        return Samples(x, y)

    def _open(self, runs: list[grid.Run], t: int) -> None:
        """Readers of what this process's runs remember in generation `t`, and where each slot begins in them."""
        own = [runs[i] for i in self.fleet.own_runs(len(runs))]
        names = (t, [run.slug for run in own])
        if self._readers[0] == names:
            return
        slots = self.job.generation.shapes.slots
        remembered = range(max(1, t - slots), t)
        self._readers = (None, [])  # their files are closed before others are opened
        self._readers = (names, [self._pool(run).read(remembered) for run in own])
        for run, reader in zip(own, self._readers[1], strict=True):
            if len(reader) != len(remembered) * run.loop.n_synthetic:
                raise UserError(
                    f"{self._folder / run.slug} does not hold the samples that were written there; see that every "
                    "process sees the same --workdir, and run the same command again"
                )
        self._begin = np.zeros((len(own), slots), np.int64)
        for i, run in enumerate(own):
            for place, g in enumerate(remembered):
                self._begin[i, (g - 1) % slots] = place * run.loop.n_synthetic

    def _pool(self, run: grid.Run) -> Pool:
        return pool(self.job, self._folder, run)

    def _training(self, cells: Any, work: Work, t: np.int32, runs: list[grid.Run]) -> Training:
        """Features of the training sets, `[run, capacity, feature]`, a block at a time."""
        address = self.fleet.take(self.programs["members"](self.shared, cells, work, t), len(runs))
        order, sizes = self.fleet.take((work.order, work.size), len(runs))
        self._open(runs, int(t))
        block = min(self.extractor.batch or 4096, address.shape[1])

        def parts(i):
            for start in range(0, address.shape[1], block):
                part = address[i, start : min(start + block, int(sizes[i]))]
                x = decode(self._rows(i, part).x)
                if self.job.source.available is None:
                    padded = np.pad(np.maximum(part, 0), (0, block - len(part)))  # one program
                    real = np.asarray(_at(self.job.source, order[i], padded))[: len(part)]
                    x = np.where((part >= 0).reshape(-1, *(1,) * (x.ndim - 1)), real, x)
                members = min(block, address.shape[1] - start)
                yield np.concatenate([x, np.zeros((members - len(x), *x.shape[1:]), x.dtype)])

        features = [self.extractor.extract_parts(parts(i), block) for i in range(len(address))]
        return Training(np.stack(features), np.asarray(sizes, np.int32))

    # ---- programs --------------------------------------------------------------------------------------------------

    def _source(self) -> Any:
        return self.job.source.without_images()

    def _functions(self) -> tuple[str, ...]:
        needed = ("members",) if self.job.generation.evaluator.needs_training else ()
        return "begin", "addresses", "fit", "sample", "close", *needed

    def _arguments(self, cells: Any, kept: Kept) -> dict[str, Any]:
        t, generation = np.int32(1), self.job.generation
        work = self.fleet.stand_in(self.programs["begin"].shapes(self.shared, cells, kept, t))
        lead = kept.alive.shape
        of_each = lambda s: jax.ShapeDtypeStruct((*lead, *s.shape), s.dtype)
        each = lambda tree: self.fleet.stand_in(jax.tree.map(of_each, tree))
        number, flag = each(jax.ShapeDtypeStruct((), np.int32)), each(jax.ShapeDtypeStruct((), np.bool))
        seen = lambda n: each(jax.ShapeDtypeStruct((n, self.job.feature_dim), np.float32))
        training = Training(seen(generation.shapes.capacity), number) if generation.evaluator.needs_training else None
        arguments = {
            "begin": kept,
            "addresses": work,
            "members": work,
            "fit": (work, each(batches(self.job))),
            "sample": (work, number),
            "close": (kept, work, flag),
            "evaluate": Seen(seen(generation.n_samples), training),
        }
        return {name: arguments[name] for name in self.programs}


@jax.jit
def _at(source: Any, order: Any, positions: Any) -> Any:
    return source.at(order, positions).x


def batches(job: grid.Job) -> Batches:
    """Shapes of one run's batches in one call."""
    return plan.batches(job.family, job.source, job.plan.steps_per_call)


def pool(job: grid.Job, folder: pathlib.Path, run: grid.Run) -> Pool:
    """Where a run's synthetic samples lie."""
    return Pool(folder / run.slug, job.source.shape, job.source.stored)


def disk_bytes(job: grid.Job) -> int:
    """What the pools take at most: one wave's runs, with what their checkpoints need."""
    record = math.prod(job.source.shape) * job.source.stored.itemsize + OF_A_RECORD
    held = min(job.generation.shapes.slots + job.config["keep_checkpoints"], job.generations - 1)
    waves = (job.plan.wave(i) for i in range(job.plan.waves))
    a_wave = lambda wave: sum(OF_A_FILE + record * job.runs[i].loop.n_synthetic for i in wave)
    return held * max(map(a_wave, waves))


def check_disk(job: grid.Job, workdir: pathlib.Path) -> None:
    """Raises UserError where the pools would not fit beside what is there, or not every process sees them."""
    if not workdir.is_dir():
        raise UserError(
            f"streamed jobs keep synthetic samples in --workdir, and {workdir} is not seen by every process"
        )
    _allow_files(job)
    have = sum(file.stat().st_size for file in workdir.glob("pools/*/*"))
    free = shutil.disk_usage(workdir).free + have
    if disk_bytes(job) > free:
        raise UserError(
            f"synthetic samples need about {format_bytes(disk_bytes(job))} of disk, and {workdir} has "
            f"{format_bytes(free)}; choose another --workdir, fewer runs per wave (config.fleet.max_runs_per_device), "
            "or a shorter memory"
        )


def _allow_files(job: grid.Job) -> None:
    """Raises this process's limit on open files to what the readers need; UserError where that is not to be had."""
    import resource

    needed = 256 + 2 * job.generation.shapes.slots * job.plan.wave_size
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f"streaming this job opens about {needed:,} files at once, and this process may open {hard:,}; raise that "
            "(ulimit -n), or have fewer runs per wave (config.fleet.max_runs_per_device), or a shorter memory"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def intact(job: grid.Job, folder: pathlib.Path, runs: list[grid.Run], generation: int, kept: Kept) -> bool:
    """Whether the pools are those that a checkpoint, from which `generation` goes on, was saved with."""
    slots = job.generation.shapes.slots
    for i, run in enumerate(runs):
        for g in range(max(1, generation - slots), generation):
            if not np.array_equal(pool(job, folder, run).digest(g), kept.memory[i, (g - 1) % slots]):
                return False
    return True
