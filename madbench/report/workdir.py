"""What `run` leaves beside its rows: the table in every format, the metric curves, and pictures of the samples."""

import pathlib

import numpy as np

from madbench import results
from madbench.report import curves, drift, grid, planned, table
from madbench.results import Result

Samples = dict[tuple[str, float], dict[int, np.ndarray]]  # (loop, λ) -> generation -> the saved array


def write(result: Result) -> list[str]:
    """Writes all of it into the workdir.

    Returns:
      The names of the files.
    """
    written = table.write(result)
    curves.plot(result).savefig(result.path / "curves.png")
    written.append("curves.png")
    samples = load_samples(result)
    truth = result.path / "samples" / "density.npz"
    if _of_dimensions(samples, 4):
        longest = max(samples.values(), key=len)
        stacked = {cell: np.stack(list(arrays.values())) for cell, arrays in samples.items()}
        file = result.path / "samples" / "real.npz"
        real = _read(file, "x") if file.is_file() else None
        grid.plot(stacked, real=real, generations=list(longest)).savefig(result.path / "samples.png", dpi="figure")
        written.append("samples.png")
    if _of_dimensions(samples, 2) and truth.is_file():
        cell, seed = planned(result)[0], result.config["seeds"][0]
        title = f"{cell.task}, {cell.model}: samples of seed {seed}"
        figure = drift.plot(samples, _read(truth, "axes"), _read(truth, "density"), title=title)
        figure.savefig(result.path / "drift.png", dpi="figure")
        written.append("drift.png")
    return written


def load_samples(result: Result) -> Samples:
    """The saved samples of each cell's first seed.

    Returns:
      (loop, λ) -> generation -> images uint8 `[n, height, width, channels]` or points float32 `[n, d]`, without the
      cells that have none.
    """
    seed = result.config["seeds"][0]
    found: Samples = {}
    for cell in result.reference["cells"]:
        folder = result.path / "samples" / results.slug(cell["loop"], cell["bias"], seed)
        files = {int(file.stem.rpartition("-")[2]): file for file in folder.glob("generation-*.npz")}
        if files:
            found[cell["loop"], cell["bias"]] = {t: _read(files[t], "x") for t in sorted(files)}
    return found


def _of_dimensions(samples: Samples, dimensions: int) -> bool:
    """Whether there are samples, and arrays of so many dimensions; those of a workdir are all of one kind."""
    return any(array.ndim == dimensions for arrays in samples.values() for array in arrays.values())


def _read(path: pathlib.Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        return file[name]
