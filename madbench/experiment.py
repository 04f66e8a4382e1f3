"""The main job, read top to bottom: config -> grid of runs -> fleet -> generations -> results."""

import contextlib
import os
import pathlib
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench import checkpoints, data, display, environment, fleet, floors, grid, results, resume
from madbench.checkpoints import Checkpoints, Progress
from madbench.generation import Kept, Shared, Work, see
from madbench.metrics import features
from madbench.report import workdir as workdir_report
from madbench.watch import Watch


class Stopped(Exception):
    """SIGTERM or Ctrl-C: everything is saved, and the same command goes on from here."""

    def __init__(self, signal_number: int):
        super().__init__(signal_number)
        self.signal = signal_number


def run(config: Any, workdir: str, *, cache: str = grid.DEFAULT_CACHE, show: display.Display | None = None) -> None:
    """Runs a job to its end, or goes on with one that was stopped.

    Args:
      config: `ConfigDict` as a file under `configs/` makes it.
      workdir: where results go; see `results`.
      cache: directory of feature networks: trained ones are kept there, published weights looked for.
      show: where progress goes; what fits the terminal by default.

    Raises:
      UserError: the config or the workdir cannot be used; one line for the user.
      Stopped: on SIGTERM or Ctrl-C, after saving.
    """
    begin = time.monotonic()
    job = grid.prepare(config, cache=cache)
    path = pathlib.Path(workdir)
    lock = checkpoints.claim(path, job.config)
    show = show or display.make()
    try:
        job = resume.as_begun(job, path, cache)
        with _Signals() as signals:
            experiment = _Experiment(job, path, cache, show, signals)
            experiment.run()
        workdir_report.write(results.load(path))
        show.say(f"wrote the tables (table.md, …) and pictures (curves.png, …) into {path}")
        show.say(f"{display.duration(time.monotonic() - begin)} in all")
        if job.family.steps:
            _say_speed(experiment.flops, time.monotonic() - begin, show)
    finally:
        show.close()
        lock.release()


class _Signals:
    """Turns SIGTERM and Ctrl-C into a flag that is looked at between segments; a second one ends the process."""

    def __init__(self):
        self.received: int | None = None

    def __enter__(self):
        self._before = {}
        with contextlib.suppress(ValueError):  # outside the main thread signals cannot be set
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, frame):
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        # print() would fail where the signal has interrupted another print()
        os.write(2, b"\nstopping as soon as what runs now can be saved; once more to leave at once\n")


class _Experiment:
    """One start of a job."""

    def __init__(self, job: grid.Job, path: pathlib.Path, cache: str, show: display.Display, signals: _Signals):
        self.job = job
        self.path = path
        self.show = show
        self.signals = signals
        self.checkpoints = Checkpoints(path / "checkpoints", job.config["keep_checkpoints"])
        self.fleet = fleet.Fleet(job.plan)
        self.cache = cache
        self.flops = 0  # of matrix products, in this start

    def run(self) -> None:
        """All waves through all generations, from the newest checkpoint that can be used."""
        for note in self.job.notes:
            self.show.say(f"note: {note}")
        self.show.say(str(self.job.plan))
        resume.check_data(self.path, dict(self.job.source.fingerprint))
        progress, restored = resume.find(self.job, self.path, self.checkpoints, self.show.say)
        if progress.wave < self.job.plan.waves:
            self._set_up()  # may refuse the workdir, which must then be as it was
        resume.cut(self.job, self.path, progress)
        if progress.wave < self.job.plan.waves:
            for wave in range(progress.wave, self.job.plan.waves):
                self._run_wave(wave, progress if wave == progress.wave else Progress(wave, 1, 0), restored)
                restored = None

    def _set_up(self) -> None:
        """The feature network, the reference, the floors; then the programs, compiled side by side."""
        job, generation = self.job, self.job.generation
        self.show.say("preparing: feature network, floors, compilation")
        name = job.config["metrics"]["features"]
        examples = job.source.examples if features.trained(name) else None
        extractor = features.build(name, examples, job.source.num_classes, self.cache)
        resume.check_features(self.path, extractor.label)
        reference = jnp.asarray(extractor.extract(np.asarray(job.source.reference.x)))
        mapped = None if generation.features_on_host else extractor
        self.shared = self.fleet.share(Shared(job.source, mapped, reference))
        self.extractor = extractor
        self.programs = {
            "begin": self.fleet.program(generation.begin),
            "fit": self.fleet.program(generation.fit),
            "finish": self.fleet.program(generation.finish),
            "evaluate": self.fleet.program(generation.evaluate, x64=True),
        }
        with ThreadPoolExecutor(max_workers=2) as pool_of_two:
            compiling = pool_of_two.submit(self._compile)
            values = floors.measure(job.source, extractor, reference, generation.evaluator)
            compiling.result()
        results.write_object(
            self.path / "reference.json",
            {
                "schema": results.SCHEMA,
                "features": extractor.label,
                "n_samples": generation.n_samples,
                "metrics": generation.evaluator.describe(),
                "floors": values,
                "bias_meaning": job.family.bias_meaning,
                "cells": job.planned,
            },
        )
        environment.write(self.path / "environment.json", job, self.show.say)
        if job.generation.keeps_points:
            (self.path / "samples").mkdir(exist_ok=True)
            axes, density = data.density_grid(job.source)
            np.savez(self.path / "samples" / "density.npz", axes=axes, density=density)

    def _compile(self) -> None:
        """Every program of the job, before its first wave; each is compiled once, whatever the grid."""
        cells = self.fleet.spread(self.job.cells([self.job.runs[i] for i in self.job.plan.wave(0)]))
        kept = self.fleet.spread(self.job.blank(self.job.plan.wave_size))
        t = np.int32(1)
        programs = self.programs
        shapes = jax.eval_shape(programs["begin"].mapped, self.shared, cells, kept, t)
        carry = (kept, shapes)
        out = jax.eval_shape(programs["finish"].mapped, self.shared, cells, carry, t)[1]
        dim = self.job.feature_dim
        seen = see(out["seen"], lambda x: jax.ShapeDtypeStruct((*x.shape[:3], dim), np.float32))
        arguments = {"begin": kept, "fit": carry, "finish": carry, "evaluate": seen}
        with ThreadPoolExecutor(max_workers=2) as pool:
            jobs = [pool.submit(programs[k].compile, self.shared, cells, a, t) for k, a in arguments.items()]
            for each in jobs:
                each.result()

    def _run_wave(self, wave: int, progress: Progress, restored: tuple[Kept, Work | None] | None) -> None:
        runs = [self.job.runs[i] for i in self.job.plan.wave(wave)]
        cells = self.fleet.spread(self.job.cells(runs))
        kept, work = restored or (self.job.blank(len(runs)), None)
        kept = self.fleet.spread(kept)
        work = None if work is None else self.fleet.spread(work)
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
            work = self.programs["begin"](self.shared, cells, kept, t)
        steps = job.family.steps // job.family.segments * n
        first, loss, curves = segment, "", []
        while segment < job.family.segments:
            self._stop_if_asked(Progress(wave, generation, segment), kept, work, n)
            for _ in range(job.calls):
                work, curve = jax.block_until_ready(self.programs["fit"](self.shared, cells, (kept, work), t))
                curves.append(curve)
            segment += 1
            seconds = watch.lap("fit")
            self._advance(wave, generation, segment, steps * (segment - first) / seconds if steps else None)

        if curves and curves[-1].shape[-1]:
            points = np.concatenate([self.fleet.gather(curve, n) for curve in curves], axis=1)  # [run, point]
            loss = f", loss {points[:, -max(points.shape[1] // 10, 1) :].mean():.3g}"
        self._phase(wave, generation, "sample")
        kept, out = jax.block_until_ready(self.programs["finish"](self.shared, cells, (kept, work), t))
        watch.lap("sample")
        self._phase(wave, generation, "evaluate")
        seen = out.pop("seen")
        if job.generation.features_on_host:
            seen = self.fleet.spread(see(self.fleet.gather(seen, n), self._features))
        states = self.programs["evaluate"](self.shared, cells, seen, t)
        states, out = self.fleet.gather(states, n), self.fleet.gather(out, n)
        rows = self._rows(runs, generation, states, out)
        watch.lap("evaluate")

        self._save_samples(runs, generation, out)
        results.append_rows(self.path / "metrics.jsonl", rows)
        timing = self._timing(wave, generation, n, watch, (job.family.segments - first) / job.family.segments)
        results.append_rows(self.path / "timing.jsonl", [timing])
        self.flops += timing["fit_flops"] + timing["sample_flops"]
        self._save(Progress(wave, generation + 1, 0), kept, None, n)
        fd = [r["fd"] for r in rows if r.get("fd") is not None]
        mean = f", FD {np.mean(fd):#.3g}" if fd else ""
        rate = f", {job.family.steps * n / watch.seconds['fit']:,.0f} steps/s" if steps and not first else ""
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

    def _features(self, x: np.ndarray) -> np.ndarray:
        """Of samples `[run, n, *shape]`, for networks that the host calls."""
        return self.extractor.extract(x.reshape(-1, *x.shape[2:])).reshape(*x.shape[:2], -1)

    def _rows(self, runs, generation, states, out) -> list[dict[str, Any]]:
        evaluator = self.job.generation.evaluator
        rows = []
        for i, each in enumerate(runs):
            alive = bool(out["alive"][i])
            values = evaluator.compute(jax.tree.map(lambda a, i=i: a[i], states))
            rows.append(
                results.row(
                    task=self.job.config["task"],
                    model=self.job.config["model"]["family"],
                    loop=each.loop.name,
                    bias=each.bias,
                    seed=each.seed,
                    generation=generation,
                    n_real=int(out["n_real"][i]),
                    n_synthetic=int(out["n_synthetic"][i]),
                    n_samples=self.job.generation.n_samples,
                    status="ok" if alive else "diverged",
                    metrics=values if alive else dict.fromkeys(values),
                    metric_versions=evaluator.versions,
                    features=self.extractor.label,
                )
            )
        return rows

    def _timing(self, wave, generation, n, watch, share) -> dict[str, Any]:
        """Seconds by phase and matrix-product FLOPs; compilation counts in the generation that waited for it."""
        job = self.job
        compiled = sum(p.compile_seconds for p in self.programs.values())
        for program in self.programs.values():
            program.compile_seconds = 0.0
        return {
            "schema": results.SCHEMA,
            "wave": wave,
            "generation": generation,
            "runs": n,
            "steps": job.family.steps,
            "compile_seconds": compiled,
            **{f"{phase}_seconds": watch.seconds.get(phase, 0.0) for phase in ("fit", "sample", "evaluate")},
            "fit_flops": round(job.fit_flops() * n * share),
            "sample_flops": job.sample_flops() * n,
        }

    def _save_samples(self, runs, generation, out) -> None:
        """What pictures show: images as bytes, points as they are."""
        if generation not in results.sampled_generations(self.job.generations):
            return
        arrays = out.get("samples")
        if "grid" in out:
            low, high = self.job.source.bounds
            unit = (np.nan_to_num(out["grid"], nan=low) - low) / (high - low)
            arrays = np.round(255 * unit).astype(np.uint8)
        if arrays is None:
            return
        for each, x in zip(runs, arrays, strict=True):
            folder = self.path / "samples" / results.slug(each.loop.name, each.bias, each.seed)
            folder.mkdir(parents=True, exist_ok=True)
            np.savez(folder / f"generation-{generation:04d}.npz", x=x)

    def _save(self, progress: Progress, kept, work, n: int) -> None:
        tree = (self.fleet.gather(kept, n), None if work is None else self.fleet.gather(work, n))
        self.checkpoints.save(progress, tree)

    def _stop_if_asked(self, progress: Progress | None, kept, work, n: int) -> None:
        """Saves within a generation where `progress` says so; between generations all is saved already."""
        if self.signals.received is None:
            return
        if progress is not None and progress.segment:
            self._save(progress, kept, work, n)
        raise Stopped(self.signals.received)

    def _phase(self, wave: int, generation: int, phase: str) -> None:
        self.show.phase(wave, self.job.plan.waves, generation, self.job.generations, phase)

    def _advance(self, wave: int, generation: int, segment: int, rate: float | None) -> None:
        """A generation is as many parts as its fit has segments, and one more for the rest."""
        within = (generation - 1 + segment / (self.job.family.segments + 1)) / self.job.generations
        self.show.advance((wave + within) / self.job.plan.waves, rate)


def _say_speed(flops: int, seconds: float, show: display.Display) -> None:
    """Matrix-product FLOPs of this start over its wall time, beside a large matrix product in the same process."""
    if flops and seconds > 10:  # below, the measurement would cost more than the job
        rate = fleet.matmul_rate()
        show.say(
            f"{flops / seconds / 1e9:.0f} GFLOP/s over wall time, {flops / seconds / rate:.0%} of the "
            f"{rate / 1e9:.0f} of a large matrix product"
        )
