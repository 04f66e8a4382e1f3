"""What `run` leaves beside its rows: the table in every format, the metric curves and the sample grid."""

import numpy as np

from madbench import results
from madbench.report import curves, grid, table
from madbench.results import Result


def write(result: Result) -> list[str]:
    """Writes all of it into the workdir.

    Returns:
      The names of the files.
    """
    written = table.write(result)
    curves.plot(result).savefig(result.path / "curves.png")
    written.append("curves.png")
    samples = load_samples(result)
    if samples:
        grid.plot(samples).savefig(result.path / "samples.png", dpi="figure")
        written.append("samples.png")
    return written


def load_samples(result: Result) -> dict[tuple[str, float], np.ndarray]:
    """The fixed-noise grids of each cell's first seed.

    Returns:
      (loop, λ) -> uint8 `[generation, n, height, width, channels]`.
    """
    seed = result.config["seeds"][0]
    found = {}
    for cell in result.reference["cells"]:
        folder = result.path / "samples" / results.slug(cell["loop"], cell["bias"], seed)
        files = sorted(folder.glob("generation-*.npz"))
        if files:
            found[cell["loop"], cell["bias"]] = np.stack([_read(file) for file in files])
    return found


def _read(path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        return file["x"]
