"""Sets of images or features in the files of other programs: folders of images, NumPy archives, arrays of features."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from madbench.data.pictures import look
from madbench.errors import UserError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
# Names under which archives hold what is looked for; "arr_0" and "arr_1" are what np.savez(FILE, x, y) writes, as the
# sample batches of guided diffusion do.
_X, _Y, _FEATURES = ("x", "images", "arr_0"), ("y", "labels", "arr_1"), ("features", "arr_0")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size, which may lie on disk until they are read.

    Attributes:
      path: where they come from.
      count: how many.
      shape: `(height, width, channels)`, 1 or 3 channels.
      labels: int32 `[count]`, classes numbered 0, 1, … without a gap: {0, 7} are two; None where there are none.
      read: int64 indices `[b]` -> uint8 `[b, *shape]`.
    """

    path: str
    count: int
    shape: tuple[int, ...]
    labels: np.ndarray | None
    read: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features that another program has computed: float32 `[n, d]`, all finite."""

    path: str
    features: np.ndarray
    labels: np.ndarray | None


def open_set(path: str) -> ImageSet | FeatureSet:
    """Opens what lies at `path`.

    A folder is one of images, at any depth; where all lie in folders of their own, those name the classes. An archive
    (.npz) holds images (`x`, `images` or `arr_0`: uint8 `[n, height, width, 1 or 3]`, or grey `[n, height, width]`) or
    features (`features` or `arr_0`: float `[n, d]`), and may hold classes (`y`, `labels` or `arr_1`). An array (.npy)
    is either.

    Raises:
      UserError: there is nothing, or nothing of this kind; one line.
    """
    place = pathlib.Path(path)
    if path and place.is_dir():
        return _folder(place)
    if not place.is_file():
        raise UserError(f"{path or repr(path)} is not there; name a folder of images, or an .npz or .npy file")
    if place.suffix not in (".npz", ".npy"):
        raise UserError(f"{path} is no folder of images, and no .npz or .npy file")
    arrays = _arrays(place)
    labels = _labels(path, arrays)
    for name in _X:
        x = arrays.get(name)
        if x is not None and x.dtype == np.uint8 and x.ndim == 3:
            x = x[..., None]  # grey
        if x is not None and x.dtype == np.uint8 and x.ndim == 4 and x.shape[-1] in (1, 3) and 0 not in x.shape:
            return ImageSet(path, len(x), x.shape[1:], _checked(path, labels, len(x)), x.__getitem__)
    for name in _FEATURES:
        x = arrays.get(name)
        if x is not None and np.issubdtype(x.dtype, np.floating) and x.ndim == 2 and 0 not in x.shape:
            return FeatureSet(path, _finite(path, x), _checked(path, labels, len(x)))
    for x in arrays.values():
        if x.ndim == 4 and x.dtype == np.uint8 and x.shape[1] in (1, 3):
            raise UserError(f"{path} holds images with their channels first; store x.transpose(0, 2, 3, 1)")
        if x.ndim in (3, 4) and np.issubdtype(x.dtype, np.floating):
            raise UserError(f"{path} holds images of {x.dtype}; store them as uint8, from 0 to 255")
    held = ", ".join(f"{name} {a.dtype} {list(a.shape)}" for name, a in arrays.items()) or "nothing"
    raise UserError(
        f"{path} must hold images (x: uint8 [n, height, width, 1 or 3]) or features (features: float [n, d]), "
        f"and holds {held}"
    )


def _arrays(place: pathlib.Path) -> dict[str, np.ndarray]:
    """By name; of an .npy file, the one array under the name that savez would give it. Nothing is unpickled."""
    try:
        found = np.load(place, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"arr_0": found}
        with found:
            arrays = {name: found[name] for name in found.files}
    # Whatever a damaged file makes of its readers: besides NumPy's errors those of zipfile, of every way to compress,
    # of the tokenizer that reads headers; and no memory for a shape that only a header has.
    except Exception as error:
        raise UserError(f"{place} cannot be read as NumPy's: {' '.join(str(error).split())[:200]}") from None
    return {name: a for name, a in arrays.items() if isinstance(a, np.ndarray)}  # others are no .npy: bytes


def _labels(path: str, arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    for name in _Y:
        y = arrays.get(name)
        if y is not None and y.ndim == 1:
            if not np.issubdtype(y.dtype, np.integer) or y.size == 0 or y.min() < 0 or y.max() > 2**20:
                raise UserError(f"{path}: {name} must hold classes, whole numbers from 0 on, and holds {y.dtype}")
            return np.unique(y, return_inverse=True)[1].astype(np.int32)
    return None


def _checked(path: str, labels: np.ndarray | None, count: int) -> np.ndarray | None:
    if labels is not None and len(labels) != count:
        raise UserError(f"{path} holds {count} samples and {len(labels)} classes; there must be one each")
    return labels


def _finite(path: str, x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # becomes infinity, and is refused
        x = np.ascontiguousarray(x, np.float32)
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        raise UserError(f"{path}: {bad.size} of {len(x)} rows of features are not finite, the first is row {bad[0]}")
    return x


# ---- folders of images -----------------------------------------------------------------------------------------------


def _folder(place: pathlib.Path) -> ImageSet:
    files, labels = list_images(place)
    shape = _read_image(files[0], None).shape

    def read(index: np.ndarray) -> np.ndarray:
        with ThreadPoolExecutor(max_workers=8) as pool:
            return np.stack(list(pool.map(lambda i: _read_image(files[i], shape), index)))

    return ImageSet(str(place), len(files), shape, labels, read)


def list_images(place: pathlib.Path) -> tuple[list[pathlib.Path], np.ndarray | None]:
    """The image files of a folder at any depth, by name, and int32 classes where all lie in folders of their own.

    Raises:
      UserError: there are none; one line.
    """
    files = sorted(f for f in _files(place) if f.suffix.lower() in IMAGE_ENDINGS and f.is_file())
    if not files:
        others = sum(1 for f in _files(place) if f.is_file())
        held = f"only {others:,} other files" if others else "nothing"
        raise UserError(f"{place} holds no images ({', '.join(IMAGE_ENDINGS)}) at any depth, and {held}")
    folders = [f.relative_to(place).parts[0] if f.parent != place else None for f in files]
    number = {name: i for i, name in enumerate(sorted(set(folders), key=str))}
    if None in number or len(number) < 2:
        return files, None
    return files, np.asarray([number[folder] for folder in folders], np.int32)


def _files(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """At any depth, through links to folders, as subsets of large sets are made of them; each folder once.

    Hidden ones are passed over: what editors and macOS leave behind would be samples, and classes of their own.
    """
    seen = set()
    for folder, inner, names in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to what lies above it
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (pathlib.Path(folder, name) for name in names if not name.startswith("."))


def _read_image(file: pathlib.Path, shape: tuple[int, ...] | None) -> np.ndarray:
    """uint8 `[height, width, 1 or 3]`: grey images have one channel, all others three; alpha is dropped."""

    def pixels(image) -> np.ndarray:
        grey = image.mode in ("1", "L") if shape is None else shape[-1] == 1
        if grey and image.mode not in ("1", "L"):
            raise UserError(f"{file} has colours, and the first image of its folder has none; convert one or other")
        return np.asarray(image.convert("L" if grey else "RGB"))

    found = look(file, str(file), pixels)
    found = found[..., None] if found.ndim == 2 else found
    if shape is not None and found.shape != shape:
        sizes = f"{found.shape[1]}x{found.shape[0]}, and the first of its folder {shape[1]}x{shape[0]}"
        raise UserError(f"{file} has {sizes} pixels; resize the images to one size")
    return found
