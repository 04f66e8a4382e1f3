"""Loops of one-dimensional Gaussians as one program, with the fit of every generation handed out; see `drive`."""

import numpy as np

from madbench import grid
from madbench.config import base
from madbench.fleet import Fleet
from madbench.generation import Shared
from madbench.metrics import features


def drive(generations, loops, n_initial, ddof, *, seeds=2000, strategy="none", biases=(1.0,)) -> dict[str, np.ndarray]:
    """Mean and variance of the model that each generation draws from: by loop, float64 `[seed, generation, 2]`."""
    config = base("gaussian", "gaussian")
    config.loops, config.seeds, config.generations, config.n_initial = loops, seeds, generations, n_initial
    config.biases, config.strategy = biases, strategy
    config.data.update({"dimension": 1, "n_reference": 8})
    config.model.ddof = ddof
    config.metrics.update(features="raw", names=("fd",))
    config.fleet.memory_fraction = 1.0
    job = grid.prepare(config)
    assert job.plan.waves == 1
    fleet, generation = Fleet(job.plan), job.generation
    extractor = features.build("raw", None, 0, "")
    shared = fleet.share(Shared(job.source, extractor, extractor(job.source.reference.x)))
    names = ("begin", "fit", "refine", "finish") if generation.refines else ("begin", "fit", "finish")
    programs = {name: fleet.program(getattr(generation, name)) for name in names}
    runs = len(job.runs)
    cells = fleet.spread(job.cells(job.runs))
    kept = fleet.spread(job.blank(runs))
    found = np.empty((runs, generations, 2))
    for t in map(np.int32, range(1, generations + 1)):
        work, _ = programs["fit"](shared, cells, (kept, programs["begin"](shared, cells, kept, t)), t)
        if generation.refines:
            work = programs["refine"](shared, cells, (kept, work), t)
        mean, covariance = fleet.gather(work.state.params, runs)
        found[:, t - 1] = np.stack([mean[:, 0], covariance[:, 0, 0]], axis=1)
        kept, _ = programs["finish"](shared, cells, (kept, work), t)
    assert {p.compilations for p in programs.values()} == {1}
    assert fleet.gather(kept.alive, runs).all()
    return {loop: found[i * seeds : (i + 1) * seeds] for i, loop in enumerate(loops)}


def check_mean(values, expected, sigmas=4):
    """Within four standard errors, these estimated from the runs; `values [seed]`."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - expected) < sigmas * error, (values.mean(), expected, error)
