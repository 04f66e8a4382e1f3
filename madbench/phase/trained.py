"""The map of a family that is trained: its loops, and purely real fits of several sizes, as jobs of `madbench run`.

WORKDIR/loops and WORKDIR/real are workdirs like any other, with rows, checkpoints and pictures; a start that was
stopped goes on in them. Distances are those of rows, so of samples drawn with λ: each λ has a real-only curve of its
own, drawn with the same λ, and without synthetic data n_e is n_r at every λ.

For λ < 1 that is another question than the distance of the fit (PROTOCOL, section 7), and a harder test: samples are
too narrow already, so that a fit which has lost variance costs at first order. For Gaussians with d = 2, λ = 0.8,
n_r = 80, synthetic data hurts from n_s = 10 on by this distance, and from about 100 on by the fit's. The map's title
says which it is of.
"""

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from madbench import config as configs
from madbench import data, experiment, grid, results, verdict
from madbench.errors import UserError
from madbench.phase.real_only import ladder
from madbench.phase.settings import Cell, burn_in, cells

_SIZES_PER_DECADE = 6


@dataclasses.dataclass(frozen=True)
class Plan:
    """Two configs of `madbench run`, resolved; and how their rows are read.

    Attributes:
      loops: the map; its first generations only approach where a loop converges.
      real: loops without synthetic data; each generation is a new real-only fit.
      sizes: of the real-only fits.
    """

    loops: dict[str, Any]
    real: dict[str, Any]
    sizes: list[int]


def plan(config: dict[str, Any], cache: str) -> Plan:
    """The jobs of a resolved config.

    Raises:
      UserError: one of them cannot be run; one line.
    """
    every = cells(config)
    sizes = config["real_only"] or _sizes(config, every)
    # a finite set may not hold new samples for more than one fit of each size
    settings = {k: v for k, v in config["data"].items() if k != "reuse_fresh"}
    endless = data.load(**settings, cache=cache).available is None
    burn = max(burn_in(cell, config["forget"]) for cell in every)
    return Plan(
        loops=_job(config, dict.fromkeys(_name(c.n_real, c.n_synthetic) for c in every), burn + config["averaged"]),
        real=_job(config, [_name(n, 0) for n in sizes], config["averaged"] if endless else 1),
        sizes=sizes,
    )


def _sizes(config: dict[str, Any], every: list[Cell]) -> list[int]:
    """From a quarter of the smallest n_r to twice the largest training set: real data are the best of all data."""
    least = max(2, min(config["n_real"]) // 4, config["model"].get("batch_size", 0))
    return ladder(least, max(2 * max(c.n_real + c.n_synthetic for c in every), 4 * least), _SIZES_PER_DECADE)


def _name(n_real: int, n_synthetic: int) -> str:
    return f"fresh_data(n_initial={n_real},n_fresh={n_real},n_synthetic={n_synthetic})"


def _job(config: dict[str, Any], loops, generations: int) -> dict[str, Any]:
    run = configs.base().to_dict()
    run |= {name: config[name] for name in run if name in config}
    return run | {"loops": list(loops), "generations": generations, "n_grid": 0}


def prepare(config: dict[str, Any], cache: str) -> tuple[grid.Job, grid.Job]:
    """Both jobs, checked; nothing is written or trained."""
    found = plan(config, cache)
    try:
        return grid.prepare(found.loops, cache=cache), grid.prepare(found.real, cache=cache)
    except UserError as error:
        raise UserError(
            f"{error} (config.n_real, n_synthetic, ratios, real_only and forget decide the sizes)"
        ) from None


def run(config: dict[str, Any], path: pathlib.Path, cache: str, show) -> dict[float, tuple[list[int], np.ndarray]]:
    """Both jobs to their end.

    Returns:
      λ -> sizes and distances `[size, seed, generation]` of the real-only fits.
    """
    found = plan(config, cache)
    for name, job in (("real", found.real), ("loops", found.loops)):
        show.say(f"{name}: {len(job['loops'])} loops, {job['generations']} generations, in {path / name}")
        experiment.run(job, str(path / name), cache=cache)
    rows = _Rows(config, path / "real", found.real["generations"])
    return {b: (found.sizes, np.stack([rows.values(Cell(n, 0, b)) for n in found.sizes])) for b in config["biases"]}


def distances(config: dict[str, Any], path: pathlib.Path, cache: str) -> np.ndarray:
    """`[cell, seed, averaged]` of the last generations of each cell; NaN where a run diverged."""
    generations = plan(config, cache).loops["generations"]
    rows = _Rows(config, path / "loops", generations)
    return np.stack([rows.values(cell)[:, generations - config["averaged"] :] for cell in cells(config)])


class _Rows:
    """The distances of a workdir."""

    def __init__(self, config: dict[str, Any], path: pathlib.Path, generations: int):
        self._config, self._generations = config, generations
        self._rows: dict[tuple[str, float], list[dict[str, Any]]] = {}
        for row in results.load(path).rows:
            self._rows.setdefault((row["loop"], row["bias"]), []).append(row)

    def values(self, cell: Cell) -> np.ndarray:
        """`[seed, generation]`."""
        rows = self._rows.get((_name(cell.n_real, cell.n_synthetic), cell.bias), [])
        values = verdict.matrix(rows, self._config["metric"], self._config["seeds"], self._generations)
        return np.where(values > 0, values, math.nan)
