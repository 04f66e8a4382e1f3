"""Image sets of tensorflow-datasets, prepared as array_record and read without TensorFlow."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from madbench.data import prepared
from madbench.data.pictures import Form, check_form
from madbench.data.source import FiniteSource, check_whole
from madbench.errors import UserError


def load(
    path: str = "",
    data_dir: str = "",
    split: str = "train",
    image_key: str = "",
    label_key: str = "",
    resolution: int = 0,
    resize: str = "lanczos",
    crop: str = "center",
    unreadable: str = "refuse",
    count: int = 0,
    n_reference: int = 1000,
    split_seed: int = 0,
    *,
    cache: str,
    say: Callable[[str], None],
    blank: bool,
) -> FiniteSource:
    """uint8 images of one size, with classes where the set has them.

    The set must have been prepared by tensorflow-datasets as array_record; its images are decoded once, by Pillow, into
    `cache`; see `data/prepared.py`.

    Args:
      path: name of the set, as tensorflow-datasets writes it, "mnist" or "name/config:1.0.0"; what stands behind the
        colon of "tfds:NAME".
      data_dir: where it was prepared; "" for tensorflow-datasets' own default.
      split: as tensorflow-datasets writes it: "train", "train+test", "train[:50%]".
      image_key: of the feature that is the image; "" for the only one.
      label_key: of the feature that is the class; "" for the only one, or none; "none" for none.
      resolution: height and width that the images are brought to; 0 leaves them, and then all must have one size.
      resize: filter, one of `pictures.FILTERS`.
      crop: "center" cuts the square in the middle before resizing, "none" refuses images that are no squares.
      unreadable: "refuse" the set where an image cannot be decoded, or "skip" such images, and say so.
      count: images that the split is known to have; 0 for any. A dry run of a set that is not prepared plans with as
        many, and a split of another number is noted.
      n_reference: images kept for the metrics; the others are the training pool.
      split_seed: of the one permutation that separates the two.
      cache: directory for the decoded set.
      say: where notes go.
      blank: make a source to plan with instead of preparing the set.

    Raises:
      UserError: the set is unknown or not prepared, or holds no images that can be used so; one line.
    """
    check_form(resolution, resize, crop)
    if not path:
        raise UserError("config.data.source=tfds:NAME needs the name of a set of tensorflow-datasets")
    check_whole(0, count=count)
    part = {"n_reference": n_reference, "split_seed": split_seed}
    builder = _builder(path, data_dir)
    planned = blank and count > 0 and not builder.info.splits
    if not planned:
        _check_prepared(builder, path, data_dir)
    features = builder.info.features
    image_key = _key(path, features, "Image", image_key, "image_key")
    label_key = "" if label_key == "none" else _key(path, features, "ClassLabel", label_key, "label_key")
    num_classes = features[label_key].num_classes if label_key else 0
    form = Form(_channels(path, image_key, features[image_key]), resolution, resize, crop, upright=False)
    if planned:
        say(f"note: {path} is not prepared; planned for the {count:,} images of config.data.count")
        sides = (resolution, resolution) if resolution else features[image_key].shape[:2]
        if None in sides:
            raise UserError(f"the images of {path} have several sizes; set config.data.resolution")
        shape = (*sides, form.channels)
        return prepared.blank_source(_name(builder, split), str(builder.version), count, shape, num_classes, **part)
    records = _records(builder, path, split, image_key)
    return prepared.open_or_prepare(
        Records(builder, split, records, image_key, label_key, num_classes, form),
        cache,
        say,
        blank=blank,
        count=count,
        unreadable=unreadable,
        **part,
    )


def _name(builder: Any, split: str) -> str:
    """As in the tables: with the config and the split where they are not the usual ones."""
    config = builder.builder_config
    name = f"{builder.name}/{config.name}" if config else builder.name
    return name if split == "train" else f"{name}[{split}]"


@dataclasses.dataclass(frozen=True)
class Records:
    """As `prepared.Collection`."""

    builder: Any
    split: str
    records: Sequence[dict[str, Any]]
    image_key: str
    label_key: str
    num_classes: int
    form: Form

    @property
    def name(self) -> str:
        return _name(self.builder, self.split)

    @property
    def version(self) -> str:
        return str(self.builder.version)

    @property
    def where(self) -> str:
        return f"tfds:{self.builder.info.full_name}"

    @property
    def count(self) -> int:
        return len(self.records)

    @property
    def identity(self) -> list:
        """Its files with their sizes and times, what is read of each, and the features that are read."""
        read = []
        for part in self.builder.info.splits[self.split].file_instructions:
            found = pathlib.Path(part.filename).stat()
            read.append([str(part.filename), part.skip, part.take, found.st_size, found.st_mtime_ns])
        return [read, self.image_key, self.label_key]

    def fetch(self, index: Sequence[int]) -> list[prepared.Image]:
        found = self.records.__getitems__(list(index))
        label = lambda record: int(record[self.label_key]) if self.label_key else -1
        return [
            prepared.Image(bytes(record[self.image_key]), f"image {i} of {self.where}", label(record))
            for i, record in zip(index, found, strict=True)
        ]


def _builder(name: str, data_dir: str) -> Any:
    """Of the set; importing its code may fail in any way."""
    import tensorflow_datasets as tfds  # slow to import

    try:
        with _quiet():
            return tfds.builder(name, data_dir=data_dir or None)
    except Exception as error:
        if isinstance(error, tfds.core.registered.DatasetNotFoundError):
            where = data_dir or "its default folder; set config.data.data_dir to look elsewhere"
            raise UserError(f"tensorflow-datasets knows no set {name!r}, and finds none in {where}") from None
        text = " ".join(str(error).split())[:200]
        raise UserError(f"tensorflow-datasets cannot open {name!r}: {text}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without tensorflow-datasets' warning about a folder that has no set in it yet: that is told in one line."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _check_prepared(builder: Any, name: str, data_dir: str) -> None:
    if not builder.info.splits:
        raise UserError(f"{name} is not prepared in {builder.data_dir}; once:", _command(name, data_dir))
    formats = {found.value for found in builder.info.available_file_formats()}
    if not formats & {"array_record", "parquet"}:  # tfds convert_format needs Apache Beam besides
        raise UserError(
            f"{name} is prepared as {', '.join(sorted(formats))} in {builder.data_dir}, which TensorFlow alone reads; "
            "prepare it in another config.data.data_dir, once:",
            _command(name, "DATA_DIR"),
        )


def _command(name: str, data_dir: str) -> str:
    """For a shell: prepares a set as it can be read here."""
    where = f", data_dir={data_dir!r}" if data_dir else ""
    builder = f"import tensorflow_datasets as tfds; tfds.builder({name!r}{where})"
    return (
        f"pip install 'madbench[prepare]' && python -c \"{builder}.download_and_prepare(file_format='array_record')\""
    )


def _key(name: str, features: Any, kind: str, asked: str, setting: str) -> str:
    """The feature of this kind (a class of tfds.features): the one that is asked for, or the only one."""
    import tensorflow_datasets as tfds

    found = [key for key, feature in features.items() if isinstance(feature, getattr(tfds.features, kind))]
    if asked:
        if asked not in found:
            has = ", ".join(sorted(found)) or "none"
            raise UserError(f"config.data.{setting}={asked!r}: {name} has no such {kind}; it has {has}")
        return asked
    if len(found) > 1:
        raise UserError(f"{name} has several of kind {kind}: set config.data.{setting} to {' or '.join(sorted(found))}")
    if not found and kind == "Image":
        raise UserError(f"{name} has no image; its features are {', '.join(sorted(features))}")
    return found[0] if found else ""


def _channels(name: str, key: str, feature: Any) -> int:
    if np.dtype(feature.np_dtype) != np.uint8 or len(feature.shape) != 3:
        raise UserError(f"{name}: {key} is no image of 8 bits but {np.dtype(feature.np_dtype)} {feature.shape}")
    return 1 if feature.shape[-1] == 1 else 3


def _records(builder: Any, name: str, split: str, image_key: str) -> Sequence[dict[str, Any]]:
    """Examples whose image is still encoded."""
    import tensorflow_datasets as tfds

    try:
        return builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
    except Exception as error:  # of unknown splits, and of damaged files, each of its own kind
        has = ", ".join(sorted(builder.info.splits))
        text = " ".join(str(error).split())[:200]
        raise UserError(f"config.data.split={split!r} of {name}, which has {has}, cannot be read: {text}") from None
