"""What `run` leaves beside its rows: the table in every format, curves, pictures of the samples, and the page."""

import pathlib

import numpy as np

from madbench import results
from madbench.report import curves, drift, frames, grid, named, page, pictures, planned, table
from madbench.results import Result

PAGE = "report.html"
Samples = dict[tuple[str, float], dict[int, np.ndarray]]  # (loop, λ) -> generation -> the saved array


def write(result: Result) -> list[str]:
    """Writes all of it into the workdir.

    Returns:
      The names of the files.
    """
    written = table.write(result) + pictures.save(curves.plot(result), result.path, "curves")
    samples = load_samples(result)
    truth, real = load_truth(result), load_real(result)
    if frames.is_images(samples):
        longest = max(samples.values(), key=len)
        stacked = {cell: np.stack(list(arrays.values())) for cell, arrays in samples.items()}
        written += pictures.save(grid.plot(stacked, real=real, generations=list(longest)), result.path, "samples")
    if frames.is_points(samples) and truth:
        cell, seed = planned(result)[0], result.config["seeds"][0]
        title = f"{named(cell)}: samples of seed {seed}"
        written += pictures.save(drift.plot(samples, *truth, title=title), result.path, "drift")
    results.write_text(result.path / PAGE, page.render(result, samples, truth, real))
    return [*written, PAGE]


def render_page(result: Result) -> str:
    """The page by itself; writes nothing."""
    return page.render(result, load_samples(result), load_truth(result), load_real(result))


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


def load_real(result: Result) -> np.ndarray | None:
    """Images of the data, `[n, height, width, channels]`, to stand beside those of `load_samples`; None for none."""
    path = result.path / "samples" / "real.npz"
    return _read(path, "x") if path.is_file() else None


def load_truth(result: Result) -> tuple[np.ndarray, np.ndarray] | None:
    """The true density of points on a line or in a plane, where it is known: (axes, density)."""
    path = result.path / "samples" / "density.npz"
    return (_read(path, "axes"), _read(path, "density")) if path.is_file() else None


def _read(path: pathlib.Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        return file[name]
