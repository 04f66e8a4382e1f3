"""The main job, read top to bottom: config -> grid of runs -> fleet -> generations -> results."""

import dataclasses
import pathlib
import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench import checkpoints, data, display, environment, fleet, floors, grid, processes, rehearsal, results, resume
from madbench import config as configs
from madbench import rows as rows_of
from madbench.checkpoints import Checkpoints, Progress
from madbench.generation import Kept, Work
from madbench.metrics import features
from madbench.report import workdir as workdir_report
from madbench.resident import Resident
from madbench.stopping import Signals, Stopped
from madbench.streaming import stage as streaming
from madbench.tensorboard import Events, NoEvents
from madbench.watch import Watch


def run(
    config: Any,
    workdir: str,
    *,
    cache: str = grid.DEFAULT_CACHE,
    show: display.Display | None = None,
    shard: tuple[int, int] | None = None,
    events: bool = False,
    only: Collection[tuple[str, float, int]] = (),
    spread: int = 0,
) -> None:
    """Runs a job to its end, or goes on with one that was stopped.

    One of several processes (`processes.connected`) computes its part; the first alone reads and writes the workdir.

    Args:
      config: `ConfigDict` as a file under `configs/` makes it.
      workdir: where results go; see `results`.
      cache: directory of feature networks: trained ones are kept there, published weights looked for.
      show: where progress goes; what fits the terminal by default.
      shard: (i, n) to run share i, from 1, of n alone.
      events: whether to write event files for TensorBoard; see `tensorboard.py`.
      only: (loop, λ, seed) of the runs to do, where not all; in a new workdir, which gets rows and no tables.
      spread: generations over which a strategy pays for what it makes once; 0 for those of the config.

    Raises:
      UserError: the config or the workdir cannot be used; one line for the user.
      Stopped: on SIGTERM or Ctrl-C, after saving.
    """
    begin = time.monotonic()
    path = pathlib.Path(workdir)
    plain = processes.together(lambda: _checked(config, cache, shard))
    # What the first process prepares, the others find.
    source = processes.in_turn(lambda: grid.open_source(plain, cache, silent=not processes.is_first()))
    how = {"cache": cache, "shard": shard, "only": only, "spread": spread, "source": source}
    job = processes.together(lambda: grid.prepare(plain, **how))
    if job.generation.treatment is not None:
        processes.together(lambda: rehearsal.rehearse(job.generation.treatment, job.config["strategy"], source))
    processes.same(results.config_hash(job.config), "config")
    lock = processes.together(lambda: checkpoints.claim(path, job.config, shard), first_only=True)
    show = show or (display.make() if processes.is_first() else display.Nothing())
    try:
        wave_size, streamed = processes.from_first(lambda: resume.first_plan(path))
        job = processes.together(lambda: resume.as_begun(job, wave_size, streamed, cache))
        processes.same([str(job.plan), dict(job.source.fingerprint)], "plan or data")
        with Signals() as signals:
            listener = Events(job, path) if events and processes.is_first() else NoEvents()
            experiment = _Experiment(job, path, cache, show, signals, listener)
            experiment.run()
        if only or not processes.is_first():
            return
        show.busy("writing tables and pictures")
        workdir_report.write(results.load(path))
        show.say(f"wrote report.html, the tables (table.md, …) and pictures (curves.png, …) into {path}")
        show.say(f"{display.duration(time.monotonic() - begin)} in all")
        if job.family.steps:
            _say_speed(experiment.flops, time.monotonic() - begin, show)
    finally:
        show.close()
        if lock:
            lock.release()


def _checked(config: Any, cache: str, shard: tuple[int, int] | None) -> dict[str, Any]:
    """The config, resolved; where preparing the data may take an hour, with all of it refused that can be before."""
    plain = config if isinstance(config, dict) else configs.resolve(config)
    if data.prepares(plain["data"]["source"]):
        blank = grid.open_source(plain, cache, blank=True, silent=True)
        grid.prepare(plain, cache=cache, shard=shard, blank=True, source=blank)
    return plain


class _Experiment:
    """One start of a job."""

    def __init__(
        self,
        job: grid.Job,
        path: pathlib.Path,
        cache: str,
        show: display.Display,
        signals: Signals,
        events: NoEvents,
    ):
        self.job = job
        self.path = path
        self.show = show
        self.signals = signals
        self.checkpoints = Checkpoints(path / "checkpoints", job.config["keep_checkpoints"])
        self.fleet = fleet.Fleet(job.plan)
        self.events = events
        self.cache = cache
        self.flops = 0  # of matrix products, in this start

    def run(self) -> None:
        """All waves through all generations, from the newest checkpoint that can be used."""
        for note in self.job.notes:
            self.show.say(f"note: {note}")
        self.show.say(str(self.job.plan))
        self.restored = None  # a checkpoint's state, in the first process
        progress = Progress(*processes.from_first(self._find))
        if progress.wave < self.job.plan.waves:
            self._set_up()  # may refuse the workdir, which must then be as it was
        processes.together(lambda: resume.cut(self.job, self.path, progress), first_only=True)
        processes.together(lambda: self.events.begin(progress), first_only=True)
        for wave in range(progress.wave, self.job.plan.waves):
            self._run_wave(wave, progress if wave == progress.wave else Progress(wave, 1, 0))

    def _find(self) -> tuple[int, int, int]:
        resume.check_data(self.path, dict(self.job.source.fingerprint))
        progress, self.restored = resume.find(self.job, self.path, self.checkpoints, self.show.say)
        return dataclasses.astuple(progress)

    def _state(self, progress: Progress, runs: int) -> tuple[Kept, Work | None]:
        """The first process's checkpoint, or the state before generation 1, on all devices; leaf by leaf."""
        if not processes.from_first(lambda: self.restored is not None):
            return self.fleet.spread((self.job.blank(runs), None))
        shapes = self.job.shapes(runs, within_fit=progress.segment > 0)
        leaves = jax.tree.leaves(self.restored) or [None] * len(jax.tree.leaves(shapes))
        self.restored = None
        like, structure = jax.tree.flatten(shapes)
        spread = [self.fleet.spread(processes.broadcast(*pair)) for pair in zip(leaves, like, strict=True)]
        return jax.tree.unflatten(structure, spread)

    def _set_up(self) -> None:
        """The feature network, the reference, the floors; then the programs, compiled side by side."""
        job, generation = self.job, self.job.generation
        if job.plan.streamed_steps:
            processes.together(lambda: streaming.check_disk(job, self.path))
        begin = time.monotonic()
        name = job.config["metrics"]["features"]
        self.show.say(f"preparing: feature network ({name}), floors, compilation; this may take minutes")
        self.show.busy("preparing: feature network")
        examples = job.source.examples if features.trained(name) else None
        extractor = processes.in_turn(lambda: features.build(name, examples, job.source.num_classes, self.cache))
        label = processes.from_first(lambda: extractor.label)
        params = jax.tree.map(lambda leaf: processes.broadcast(leaf, leaf), extractor.params)
        extractor = dataclasses.replace(extractor, params=params, label=label)
        processes.together(lambda: resume.check_features(self.path, extractor.label), first_only=True)
        reference = jnp.asarray(extractor.extract(np.asarray(job.source.reference.x)))
        self.extractor = extractor
        if job.plan.streamed_steps:
            self.stage = streaming.Streamed(job, self.fleet, extractor, reference, self.path / resume.POOLS)
        else:
            self.stage = Resident(job, self.fleet, extractor, reference)
        with ThreadPoolExecutor(max_workers=1) as helper:
            compiling = helper.submit(self.stage.compile)
            self.show.busy("preparing: floors, compilation")
            if processes.is_first():
                values = floors.measure(job.source, extractor, reference, generation.evaluator)
            self._wait(compiling, begin)
        self.show.say(f"prepared in {display.duration(time.monotonic() - begin)}; a line follows for each generation")
        if processes.is_first():
            self._describe(values)

    def _wait(self, compiling: Future, begin: float) -> None:
        """Until the programs are compiled, saying now and then how many are; `begin`: of the preparations."""
        while not wait([compiling], timeout=1).done:
            programs = self.stage.programs.values()
            done, spent = sum(p.compilations for p in programs), display.duration(time.monotonic() - begin)
            self.show.busy(f"compiling: {done} of {len(programs)} programs done after {spent}")
        compiling.result()

    def _describe(self, values: dict[str, dict[str, float]]) -> None:
        """Writes what readers of the rows need beside them; `values` are the floors."""
        job, generation = self.job, self.job.generation
        results.write_object(
            self.path / "reference.json",
            {
                "schema": results.SCHEMA,
                "features": self.extractor.label,
                "n_samples": generation.n_samples,
                "metrics": generation.evaluator.describe(),
                "floors": values,
                "bias_meaning": job.family.bias_meaning,
                "strategy": job.strategy,
                "cells": job.planned,
            },
        )
        environment.write(self.path / "environment.json", job, self.show.say)
        if job.generation.n_grid or job.drifts:
            (self.path / "samples").mkdir(exist_ok=True)
        if job.generation.n_grid:
            real = np.asarray(job.source.reference.x[: job.generation.n_grid])
            np.savez(self.path / "samples" / "real.npz", x=_levels(real, job.source.bounds))
        if job.drifts:
            axes, density = data.density_grid(job.source)
            np.savez(self.path / "samples" / "density.npz", axes=axes, density=density)

    def _run_wave(self, wave: int, progress: Progress) -> None:
        runs = [self.job.runs[i] for i in self.job.plan.wave(wave)]
        cells = self.fleet.spread(self.job.cells(runs))
        kept, work = self._state(progress, len(runs))
        for generation in range(progress.generation, self.job.generations + 1):
            segment = progress.segment if generation == progress.generation else 0
            kept = self._run_generation(wave, generation, segment, runs, cells, kept, work)
            work = None

    def _run_generation(self, wave, generation, segment, runs, cells, kept, work) -> Any:
        job, n = self.job, len(runs)
        t = np.int32(generation)
        watch = Watch()
        self._phase(wave, generation, "fit")
        if work is None:
            work = self.stage.begin(cells, kept, t)
        steps = job.family.steps // job.family.segments * n
        first, loss, curves = segment, "", []
        while segment < job.family.segments:
            self._stop_if_asked(Progress(wave, generation, segment), kept, work, n)
            work, new = self.stage.fit(cells, kept, work, t, runs)
            new = [self.fleet.gather(curve, n) for curve in new if curve.shape[-1]]
            curves += new
            segment += 1
            seconds = watch.lap("fit")
            if new and processes.is_first():
                self.events.fitted(runs, generation, segment, new)
            self._advance(wave, generation, segment, steps * (segment - first) / seconds if steps else None)
        work = self.stage.refine(cells, kept, work, t)
        watch.lap("fit")

        if processes.is_first() and curves:
            points = np.concatenate(curves, axis=1)  # [run, point]
            loss = f", loss {points[:, -max(points.shape[1] // 10, 1) :].mean():.3g}"
        self._phase(wave, generation, "sample")
        kept, seen, out = self.stage.finish(cells, kept, work, t, runs)
        watch.lap("sample")
        processes.together(lambda: rows_of.check_pools(job, runs, generation, out), first_only=True)
        self._phase(wave, generation, "evaluate")
        states = self.stage.evaluate(cells, seen, t, runs)
        label = self.extractor.label
        made = rows_of.make(job, label, runs, generation, states, out) if processes.is_first() else []
        watch.lap("evaluate")

        if processes.is_first():
            self._save_samples(runs, generation, out)
            results.append_rows(self.path / "metrics.jsonl", made)
            timing = self._timing(wave, generation, n, watch, (job.family.segments - first) / job.family.segments)
            results.append_rows(self.path / "timing.jsonl", [timing])
            self.events.measured(runs, made, timing)
            self.flops += timing["fit_flops"] + timing["sample_flops"]
        self._save(Progress(wave, generation + 1, 0), kept, None, n)
        self.stage.saved(t, runs)
        fd = [r["fd"] for r in made if r.get("fd") is not None]
        mean = f", FD {f'{np.mean(fd):#.3g}'.rstrip('.')}" if fd else ""
        done = steps * (segment - first)  # of a generation that was resumed, what was left of it
        rate = f", {display.speed(done / watch.seconds['fit'])}" if done else ""
        self.show.say(
            f"generation {generation}/{job.generations}"
            + (f" of wave {wave + 1}/{job.plan.waves}" if job.plan.waves > 1 else "")
            + f": fit {watch.seconds['fit']:.1f} s{rate}{loss}, sample {watch.seconds['sample']:.1f} s, "
            + f"eval {watch.seconds['evaluate']:.1f} s{mean}"
        )
        self._advance(wave, generation, job.family.segments + 1, None)
        if generation < job.generations or wave + 1 < job.plan.waves:
            self._stop_if_asked(None, kept, None, n)
        return kept

    def _timing(self, wave, generation, n, watch, share) -> dict[str, Any]:
        """Seconds by phase and matrix-product FLOPs; compilation counts in the generation that waited for it."""
        job = self.job
        compiled = sum(p.compile_seconds for p in self.stage.programs.values())
        for program in self.stage.programs.values():
            program.compile_seconds = 0.0
        return {
            "schema": results.SCHEMA,
            "wave": wave,
            "generation": generation,
            "runs": n,
            "steps": job.family.steps,
            "compile_seconds": compiled,
            **{f"{phase}_seconds": watch.seconds.get(phase, 0.0) for phase in ("fit", "sample", "evaluate")},
            "fit_flops": round((job.fit_flops() * share + job.extra_fit_flops()) * n),
            "sample_flops": job.sample_flops() * n,
        }

    def _save_samples(self, runs, generation, out) -> None:
        """What pictures show, images as bytes and points as they are; and what the metrics saw, where that is kept."""
        job, arrays = self.job, {}
        if generation in results.sampled_generations(job.generations):
            if "grid" in out:
                arrays["generation"] = _levels(out["grid"], job.source.bounds)
            elif job.drifts:
                arrays["generation"] = out["samples"]
        if job.config["keep_samples"] and generation in results.measured_generations(job.generations):
            arrays["measured"] = out["samples"]
        for kind, array in arrays.items():
            for each, x in zip(runs, array, strict=True):
                folder = self.path / "samples" / each.slug
                folder.mkdir(parents=True, exist_ok=True)
                np.savez_compressed(folder / f"{kind}-{generation:04d}.npz", x=x)

    def _save(self, progress: Progress, kept, work, n: int) -> None:
        tree = (self.fleet.gather(kept, n), None if work is None else self.fleet.gather(work, n))
        if processes.is_first():
            self.checkpoints.save(progress, tree)

    def _stop_if_asked(self, progress: Progress | None, kept, work, n: int) -> None:
        """Saves within a generation where `progress` says so; between generations all is saved already."""
        asked = next((number for number in processes.exchange(self.signals.received) if number), None)
        if asked is None:
            return
        if progress is not None and progress.segment:
            self._save(progress, kept, work, n)
        raise Stopped(asked)

    def _phase(self, wave: int, generation: int, phase: str) -> None:
        self.show.phase(wave, self.job.plan.waves, generation, self.job.generations, phase)

    def _advance(self, wave: int, generation: int, segment: int, rate: float | None) -> None:
        """A generation is as many parts as its fit has segments, and one more for the rest."""
        within = (generation - 1 + segment / (self.job.family.segments + 1)) / self.job.generations
        self.show.advance((wave + within) / self.job.plan.waves, rate)


def _levels(images: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Images within `bounds` as bytes; what is no number is black."""
    low, high = bounds
    unit = (np.nan_to_num(images, nan=low) - low) / (high - low)
    return np.round(255 * unit).astype(np.uint8)


def _say_speed(flops: int, seconds: float, show: display.Display) -> None:
    """Matrix-product FLOPs of this start over its wall time, beside a large matrix product in the same process."""
    if flops and seconds > 60:  # below, the measurement would be a good part of the job
        rate = jax.process_count() * fleet.matmul_rate()  # the others are taken to be like this one
        if flops / seconds < 0.05 * rate:
            return  # it was compilation, or steps too small to tell
        show.say(
            f"{flops / seconds / 1e9:.0f} GFLOP/s over wall time, {flops / seconds / rate:.0%} of the "
            f"{rate / 1e9:.0f} of a large matrix product"
        )
