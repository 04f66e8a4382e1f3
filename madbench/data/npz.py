"""Images of one's own, from a NumPy archive: `np.savez("mine.npz", x=images, y=labels)`."""

import pathlib

import numpy as np

from madbench.data.source import FiniteSource, split
from madbench.errors import UserError


def load(path: str = "", n_reference: int = 1000, split_seed: int = 0) -> FiniteSource:
    """Images from `x`, uint8 `[n, height, width, channels]`, and classes from `y` `[n]`, where there is one.

    Args:
      path: of the archive; what stands behind the colon of "npz:PATH".
      n_reference: images kept for the metrics; the others are the training pool.
      split_seed: of the one permutation that separates the two.

    Raises:
      UserError: the archive is not there, or not of this form; one line.
    """
    if not path:
        raise UserError("config.data.source=npz:PATH needs the path of an archive")
    if not pathlib.Path(path).is_file():
        raise UserError(f"config.data.source: {path} is not there")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files if name in ("x", "y")}
    except Exception as error:  # whatever a damaged file makes of its readers, see `files`
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"config.data.source: {path} cannot be read as a NumPy archive (.npz): {detail}") from None
    found = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}  # others are no .npy
    x, y = found.get("x"), found.get("y")
    if x is None or x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] not in (1, 3) or 0 in x.shape:
        held = "no x" if x is None else f"x of {x.dtype} {list(x.shape)}"
        raise UserError(f"{path} must hold x, uint8 [n, height, width, 1 or 3], and holds {held}")
    if y is not None and (not np.issubdtype(y.dtype, np.integer) or y.shape != x.shape[:1] or y.min() < 0):
        raise UserError(f"{path}: y must hold a class from 0 on for each of the {len(x)} images")
    if y is not None and len(np.unique(y)) != int(y.max()) + 1:
        raise UserError(f"{path}: y names classes up to {y.max()}, and {len(np.unique(y))} of them have images")
    return split(
        x,
        np.zeros(len(x), np.int32) if y is None else y.astype(np.int32),
        name=pathlib.Path(path).stem,
        version="1",
        num_classes=0 if y is None else int(y.max()) + 1,
        n_reference=n_reference,
        split_seed=split_seed,
    )
