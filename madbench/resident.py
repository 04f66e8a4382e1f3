"""A generation with all its data on the device, where the compiled program indexes it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from madbench import fleet, grid
from madbench.generation import Kept, Seen, Shared, Work, see
from madbench.metrics.features import Extractor


class Resident:
    """The programs of a job, and how a wave's generation goes through them.

    `cells`, `kept` and `work` are laid on the devices, `[device, run, ...]`; what is for the host is `[run, ...]`.

    Attributes:
      programs: by name; each is compiled once, whatever the grid.
    """

    def __init__(self, job: grid.Job, mapped: fleet.Fleet, extractor: Extractor, reference: Any):
        """`reference`: float32 features `[n_samples, feature]`."""
        self.job, self.fleet, self.extractor = job, mapped, extractor
        on_device = None if job.generation.features_on_host else extractor
        self.shared = mapped.share(Shared(self._source(), on_device, reference))
        generation = job.generation
        self.programs = {name: mapped.program(getattr(generation, name)) for name in self._functions()}
        self.programs["evaluate"] = mapped.program(generation.evaluate, x64=True)

    def compile(self) -> None:
        """Every program of the job, before its first wave."""
        job = self.job
        cells = self.fleet.spread(job.cells([job.runs[i] for i in job.plan.wave(0)]))
        kept = self.fleet.spread(job.blank(job.plan.wave_size))
        arguments = self._arguments(cells, kept)
        with ThreadPoolExecutor(max_workers=2) as pool:
            t = np.int32(1)
            jobs = [pool.submit(self.programs[k].compile, self.shared, cells, a, t) for k, a in arguments.items()]
            for each in jobs:
                each.result()

    def begin(self, cells: Any, kept: Kept, t: np.int32) -> Work:
        """See `Generation.begin`."""
        return self.programs["begin"](self.shared, cells, kept, t)

    def fit(self, cells: Any, kept: Kept, work: Work, t: np.int32, runs: list[grid.Run]) -> tuple[Work, list[Any]]:
        """One segment of the fit, and its curves, `[device, run, point]`."""
        curves = []
        for _ in range(self.job.calls):
            work, curve = jax.block_until_ready(self.programs["fit"](self.shared, cells, (kept, work), t))
            curves.append(curve)
        return work, curves

    def refine(self, cells: Any, kept: Kept, work: Work, t: np.int32) -> Work:
        """The strategy's second fit, where it has one."""
        if "refine" not in self.programs:
            return work
        return jax.block_until_ready(self.programs["refine"](self.shared, cells, (kept, work), t))

    def finish(
        self, cells: Any, kept: Kept, work: Work, t: np.int32, runs: list[grid.Run]
    ) -> tuple[Kept, Seen, dict[str, Any]]:
        """(kept, what the metrics see, what rows and pictures show: for the host); see `Generation.finish`."""
        kept, out = jax.block_until_ready(self.programs["finish"](self.shared, cells, (kept, work), t))
        seen = out.pop("seen")
        if self.job.generation.features_on_host:
            seen = self.fleet.on_host(lambda samples: see(samples, self.features), seen, len(runs))
        return kept, seen, self.fleet.gather(out, len(runs))

    def evaluate(self, cells: Any, seen: Seen, t: np.int32, runs: list[grid.Run]) -> Any:
        """The metrics' states, for the host."""
        return self.fleet.gather(self.programs["evaluate"](self.shared, cells, seen, t), len(runs))

    def saved(self, t: np.int32, runs: list[grid.Run]) -> None:
        """Is told that generation `t` is in a checkpoint."""

    def features(self, x: np.ndarray) -> np.ndarray:
        """Of samples `[run, n, *shape]`, for networks that the host calls."""
        return self.extractor.extract(x.reshape(-1, *x.shape[2:])).reshape(*x.shape[:2], -1)

    def _source(self) -> Any:
        return self.job.source

    def _functions(self) -> tuple[str, ...]:
        """Of `Generation`, that are mapped."""
        return "begin", "fit", *(["refine"] if self.job.generation.refines else []), "finish"

    def _arguments(self, cells: Any, kept: Kept) -> dict[str, Any]:
        """What each program is called with between cells and generation: shapes."""
        t = np.int32(1)
        shapes = self.programs["begin"].shapes(self.shared, cells, kept, t)
        carry = fitted = (kept, self.fleet.stand_in(shapes))
        if "refine" in self.programs:
            fitted = (kept, self.fleet.stand_in(self.programs["refine"].shapes(self.shared, cells, carry, t)))
        seen = self.programs["finish"].shapes(self.shared, cells, fitted, t)[1]["seen"]
        dim = self.job.feature_dim
        seen = see(seen, lambda x: jax.ShapeDtypeStruct((*x.shape[:3], dim), np.float32))
        arguments = {"begin": kept, "fit": carry, "refine": carry, "finish": fitted}
        return {name: arguments.get(name, self.fleet.stand_in(seen)) for name in self.programs}
