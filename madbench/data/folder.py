"""Images of one's own, from a folder: PNG, JPEG, WebP and what else `data/files.py` lists, at any depth."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from madbench.data import prepared
from madbench.data.files import list_images
from madbench.data.pictures import GREY, Form, Unreadable, check_choice, check_form, look
from madbench.data.source import FiniteSource, Source, check_whole
from madbench.errors import UserError
from madbench.samples import encode


def load(
    path: str = "",
    resolution: int = 0,
    resize: str = "lanczos",
    crop: str = "center",
    channels: int = 0,
    unreadable: str = "refuse",
    count: int = 0,
    n_reference: int = 1000,
    split_seed: int = 0,
    *,
    cache: str,
    say: Callable[[str], None],
    blank: bool,
) -> FiniteSource:
    """uint8 images of one size; where all lie in folders of their own, those are the classes.

    They are decoded once, into `cache`; see `data/prepared.py`.

    Args:
      path: of the folder; what stands behind the colon of "folder:PATH".
      resolution: height and width that the images are brought to; 0 leaves them, and then all must have one size.
      resize: filter, one of `pictures.FILTERS`.
      crop: "center" cuts the square in the middle before resizing, "none" refuses images that are no squares.
      channels: 1 makes all grey, 3 all RGB; 0 is 1 where all are grey, and otherwise 3. Transparency is laid on white.
      unreadable: "refuse" the folder where an image cannot be decoded, or "skip" such images, and say so.
      count: images that the set is known to have; 0 for any. A dry run without the folder plans with as many, given a
        resolution, and a folder of another number is noted.
      n_reference: images kept for the metrics; the others are the training pool.
      split_seed: of the one permutation that separates the two.
      cache: directory for the decoded set.
      say: where notes go.
      blank: make a source to plan with instead of preparing the set.

    Raises:
      UserError: there is no such folder, or its images cannot be used so; one line.
    """
    check_form(resolution, resize, crop)
    check_choice("channels", channels, (0, 1, 3))
    check_choice("unreadable", unreadable, prepared.UNREADABLE)
    check_whole(0, count=count)
    split = {"n_reference": n_reference, "split_seed": split_seed}
    if blank and count and resolution and not (path and pathlib.Path(path).expanduser().is_dir()):
        say(f"note: there is no folder {path!r}; planned for the {count:,} images of config.data.count")
        shape = (resolution, resolution, channels or 3)
        return prepared.blank_source(pathlib.Path(path).name or "folder", "1", count, shape, 0, **split)
    if not path:
        raise UserError("config.data.source=folder:PATH needs the path of a folder of images, and PATH is empty")
    place = pathlib.Path(path).expanduser()
    if place.is_file():
        npz = f"; of an archive, write npz:{path}" if place.suffix == ".npz" else ""
        raise UserError(f"config.data.source=folder:{path} is a file, not a folder of images{npz}")
    if not place.is_dir():
        raise UserError(f"config.data.source=folder:{path}: there is no such folder here ({pathlib.Path.cwd()})")
    files, labels = list_images(place)
    form = Form(channels or (1 if all(map(_is_grey, files)) else 3), resolution, resize, crop)
    return prepared.open_or_prepare(
        Folder(place, files, labels, form),
        cache,
        say,
        blank=blank,
        count=count,
        unreadable=unreadable,
        **split,
    )


def write(source: Source, path: str, count: int) -> None:
    """Writes real samples of any source of images as PNG files, in a folder for each class: what `load` reads.

    Args:
      source: of images; of a finite one the training pool, in an order of its own.
      path: of the folder, which must not be there, or be empty.
      count: how many.

    Raises:
      UserError: it holds no images, or not so many, or the folder is in use; one line.
    """
    from PIL import Image  # slow to import

    place = pathlib.Path(path).expanduser()
    check_whole(1, count=count)
    if source.bounds is None or len(source.shape) != 3:
        raise UserError(f"{source.name} holds no images that could be written")
    if source.available is not None and count > source.available:
        raise UserError(f"{source.name} has {source.available} images beside its reference, fewer than {count}")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"{place} is there already; name a new folder")
    samples = source.at(source.order(jax.random.key(0)), jnp.arange(count))
    levels = np.asarray(encode(samples.x, np.dtype(np.uint8)))
    for number, (pixels, label) in enumerate(zip(levels, np.asarray(samples.y), strict=True)):
        folder = place / str(label) if source.num_classes else place
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(folder / f"{number:05}.png")


def _is_grey(file: pathlib.Path) -> bool:
    """By its header; what cannot be opened has no colours either."""
    try:
        return look(file, str(file), lambda image: image.mode in GREY)
    except Unreadable:
        return True


@dataclasses.dataclass(frozen=True)
class Folder:
    """As `prepared.Collection`."""

    place: pathlib.Path
    files: list[pathlib.Path]
    labels: np.ndarray | None
    form: Form

    version = "1"

    @property
    def name(self) -> str:
        return self.place.resolve().name or "folder"

    @property
    def where(self) -> str:
        return str(self.place)

    @property
    def count(self) -> int:
        return len(self.files)

    @property
    def num_classes(self) -> int:
        return 0 if self.labels is None else int(self.labels.max()) + 1

    @property
    def identity(self) -> list:
        """The folder, and a hash over names, sizes and times of its images."""
        digest = hashlib.sha256()
        for file in self.files:
            found = file.stat()
            line = f"{file.relative_to(self.place)}\0{found.st_size}\0{found.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return [str(self.place.resolve()), digest.hexdigest()]

    def fetch(self, index: Sequence[int]) -> list[prepared.Image]:
        label = lambda i: -1 if self.labels is None else int(self.labels[i])
        return [prepared.Image(self.files[i], str(self.files[i]), label(i)) for i in index]
