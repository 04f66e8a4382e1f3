"""Large image sets, decoded once: one array on disk in the order of the split, mapped into memory ever after.

`CACHE/data/NAME-HASH.npy` holds uint8 `[n, height, width, channels]` in the order of the split's permutation, so that
reference and pool are views of it; beside it lie the labels (`-y.npy`) and what is known of both (`.json`). HASH covers
all that decides the bytes. Files are written under names of their own and moved into place whole (`drafts.py`), the
description last: what is there is complete, and processes that prepare the same set at once write the same. Where many
images cannot be used, all of them are listed in `NAME-HASH-unreadable.txt`.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np

from madbench.data.drafts import Draft, clear
from madbench.data.pictures import Form, Unreadable, check_choice
from madbench.data.source import FiniteSource, Frozen, check_split, parted, permutation
from madbench.errors import UserError
from madbench.samples import Samples
from madbench.units import format_bytes

FORMAT = 1  # of the files; another number makes all sets be prepared anew
UNREADABLE = ("refuse", "skip")
LIST = "-unreadable.txt"  # ending of the list of images that cannot be used
_BLOCK = 2**25  # bytes of images that are held at once
_SAY_EVERY = 30.0  # seconds
_NAMED = 3  # images that a message names
_SKIP = "--config.data.unreadable=skip"


class Image(NamedTuple):
    """One image of a collection, not decoded yet: a file or its content, its name for messages, its class or -1."""

    file: pathlib.Path | bytes
    name: str
    label: int


class Collection(Protocol):
    """What can be prepared.

    Attributes:
      name: as in the tables.
      version: of the data.
      where: for messages.
      count: how many images are listed.
      form: that they are brought into.
      num_classes: 0 where there are no labels.
      identity: JSON values that change when the bytes may: files with sizes and times.
    """

    name: str
    version: str
    where: str
    count: int
    form: Form
    num_classes: int
    identity: Any

    def fetch(self, index: Sequence[int]) -> list[Image]:
        """The images at some places of the list; cheap beside decoding them."""


def open_or_prepare(
    collection: Collection,
    cache: str,
    say: Callable[[str], None],
    *,
    blank: bool,
    count: int,
    unreadable: str,
    n_reference: int,
    split_seed: int,
) -> FiniteSource:
    """The source of a collection, which is prepared where `cache` does not hold it yet.

    Args:
      collection: of images.
      cache: directory; the set goes into `data/` there.
      say: where notes go.
      blank: make a source to plan with instead of preparing the set.
      count: how many images there should be; 0 for any. Others are noted.
      unreadable: what to do about images that cannot be decoded, "refuse" the set or "skip" them.
      n_reference: size of the reference part.
      split_seed: of the permutation.

    Raises:
      UserError: images cannot be decoded or have several sizes, or the cache cannot hold them; one line.
    """
    check_choice("unreadable", unreadable, UNREADABLE)
    check_split(collection.name, collection.count, n_reference, split_seed)
    identity = [FORMAT, collection.name, collection.version, vars(collection.form), split_seed]
    digest = hashlib.sha256(json.dumps([*identity, collection.identity], sort_keys=True).encode()).hexdigest()
    stem = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', collection.name)}-{digest[:16]}"
    stored = _Stored(pathlib.Path(cache).expanduser() / "data" / stem)
    found = stored.read()
    if found and found[2]["failed"] and unreadable == "refuse":  # it was prepared with "skip"
        again = map(_attempt(collection), collection.fetch(found[2]["failed"]))
        still = [error for error in again if isinstance(error, Unreadable)]
        if still:
            raise _refusal(collection, still, stored)
        found = None  # all have been repaired, in a way that their sizes and times do not show
    if count and count != collection.count:
        say(f"note: {collection.where} has {collection.count:,} images, and config.data.count={count:,}")
    if found is None and blank:
        shape = _first_shape(collection, unreadable)
        of = (collection.name, collection.version, collection.count, shape, collection.num_classes)
        return blank_source(*of, n_reference=n_reference, split_seed=split_seed)
    if found is None:
        try:
            _prepare(collection, stored, say, split_seed, unreadable)
        except OSError as error:
            where = f"{collection.name} in {stored.stem.parent}"
            raise UserError(f"cannot prepare {where}: {error.strerror or error}; see --cache") from None
        found = stored.read()
        if found is None:
            raise UserError(f"what was prepared in {stored.stem.parent} cannot be read back; see --cache")
    x, y, about = found
    if about["failed"]:
        say(f"note: {_failure(collection, about['first_failed'], len(about['failed']), stored)}; they are left out")
    check_split(collection.name, len(x), n_reference, split_seed)  # fewer than listed, where some are skipped
    fingerprint = {key: about[key] for key in ("name", "version", "count", "sha256")}
    return parted(x, y, num_classes=about["num_classes"], n_reference=n_reference, fingerprint=fingerprint)


def blank_source(
    name: str,
    version: str,
    count: int,
    shape: tuple[int, ...],
    num_classes: int,
    *,
    n_reference: int,
    split_seed: int,
) -> FiniteSource:
    """A source of black images that takes no memory, whatever its size: a job can be planned with it, not run."""
    check_split(name, count, n_reference, split_seed)
    repeat = lambda value, n, *shape: np.broadcast_to(value, (n, *shape))
    return FiniteSource(
        pool=Samples(repeat(np.uint8(0), count - n_reference, *shape), repeat(np.int32(0), count - n_reference)),
        reference=Samples(repeat(np.float32(-1), n_reference, *shape), repeat(np.int32(0), n_reference)),
        name=name,
        num_classes=num_classes,
        bounds=(-1.0, 1.0),
        fingerprint=Frozen(name=name, version=version, count=count, sha256=""),
    )


class _Stored:
    """The files of one prepared set; `stem` is their path without endings."""

    def __init__(self, stem: pathlib.Path):
        self.stem = stem

    def path(self, ending: str) -> pathlib.Path:
        return self.stem.with_name(self.stem.name + ending)

    def read(self) -> tuple[np.ndarray, np.ndarray, dict[str, Any]] | None:
        """Images (mapped), int32 labels, and what is known of them; None where they are missing or damaged."""
        try:
            about = json.loads(self.path(".json").read_text())
            x = np.load(self.path(".npy"), mmap_mode="r", allow_pickle=False)
            y = np.load(self.path("-y.npy"), allow_pickle=False)
            shape, _ = tuple(about["shape"]), (about["failed"], about["first_failed"])
        except (OSError, ValueError, EOFError, KeyError, TypeError):
            return None
        if x.dtype != np.uint8 or x.shape != shape or y.shape != x.shape[:1]:
            return None
        return np.asarray(x), y, about  # a plain array that keeps the map: JAX takes no np.memmap


def _prepare(collection: Collection, stored: _Stored, say, split_seed: int, unreadable: str) -> None:
    begin = said = time.monotonic()
    stored.stem.parent.mkdir(parents=True, exist_ok=True)
    labels = np.full(collection.count, -1, np.int64)
    digests: list[bytes | None] = [None] * collection.count  # of each image that was written
    failed: dict[int, Unreadable] = {}
    order = permutation(collection.count, split_seed)
    with _Images(stored.path(".npy")) as draft:
        clear(draft)
        for place, image, pixels in _decoded(collection, order):
            labels[place] = image.label
            if isinstance(pixels, Unreadable):
                failed[place] = pixels
                continue
            if failed and unreadable == "refuse":
                continue  # the others are still read, to say how many fail
            if draft.shape is None:
                _announce(collection, pixels, stored, say)
                draft.begin(collection.count, pixels.shape)
            if pixels.shape != draft.shape:
                raise UserError(
                    f"{image.name} has {_size(pixels.shape)} pixels, and others of {collection.where} have "
                    f"{_size(draft.shape)}; bring all to one size with --config.data.resolution=64, or another"
                )
            draft.append(pixels)
            digests[place] = hashlib.sha256(pixels.tobytes() + image.label.to_bytes(8, "little", signed=True)).digest()
            if time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                say(f"preparing {collection.name}: {draft.count:,} of {collection.count:,} images")
        if failed and (unreadable == "refuse" or not draft.count):
            raise _refusal(collection, [failed[place] for place in sorted(failed)], stored)
        used = np.array([place for place in order if digests[place] is not None])
        y, num_classes = _classes(labels[used])
        sha256 = hashlib.sha256(str(draft.shape).encode())
        for digest in filter(None, digests):  # as they are listed: the same for every split
            sha256.update(digest)
        with Draft(stored.path("-y.npy")) as other:
            np.save(other.file, y)
        draft.finish()
    about = {
        "name": collection.name,
        "version": collection.version,
        "count": draft.count,
        "sha256": sha256.hexdigest(),
        "shape": [draft.count, *draft.shape],
        "num_classes": num_classes,
        "listed": collection.count,
        "failed": sorted(failed),  # places in the list
        "first_failed": [str(failed[place]) for place in sorted(failed)[:_NAMED]],
        "form": vars(collection.form),
        "split_seed": split_seed,
    }
    _list(about["failed"] and [str(failed[place]) for place in about["failed"]], stored)
    with Draft(stored.path(".json")) as other:
        other.file.write(json.dumps(about, indent=2).encode())
    classes = f" in {num_classes} classes" if num_classes else ", without classes,"
    say(f"prepared {draft.count:,} images of {collection.name}{classes} in {time.monotonic() - begin:.0f} s")


def _failure(collection: Collection, first: list[str], failed: int, stored: "_Stored") -> str:
    """Which images cannot be used: the first few by name, all of many in a file."""
    more = f"; and {failed - _NAMED:,} more, all listed in {stored.path(LIST)}" if failed > _NAMED else ""
    return f"{failed:,} of {collection.count:,} images of {collection.where} cannot be used: {'; '.join(first)}{more}"


def _refusal(collection: Collection, failed: list[Unreadable], stored: "_Stored") -> UserError:
    lines = [str(error) for error in failed]
    _list(lines, stored)
    return UserError(f"{_failure(collection, lines[:_NAMED], len(lines), stored)}; mend or remove them, or add {_SKIP}")


def _list(lines: list[str], stored: "_Stored") -> None:
    """Writes what cannot be used, one a line, where there is more than a message names."""
    if len(lines) > _NAMED:
        stored.stem.parent.mkdir(parents=True, exist_ok=True)
        with Draft(stored.path(LIST)) as other:
            other.file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def _announce(collection: Collection, first: np.ndarray, stored: _Stored, say) -> None:
    """Says what is prepared; refuses where the disk is too small for it."""
    size = collection.count * first.nbytes
    free = shutil.disk_usage(stored.stem.parent).free
    images = f"{collection.count:,} {'grey' if first.shape[-1] == 1 else 'RGB'} images of {_size(first.shape)} pixels"
    if size > free:
        raise UserError(
            f"{images} need {format_bytes(size)} in {stored.stem.parent}, where {format_bytes(free)} are free; name "
            "another directory by --cache"
        )
    say(f"preparing {collection.name}, once: {images}, {format_bytes(size)} in {stored.stem.parent}")


def _size(shape: tuple[int, ...]) -> str:
    """Width before height, as image viewers say it, of an array's `(height, width, …)`."""
    return f"{shape[1]}x{shape[0]}"


def _first_shape(collection: Collection, unreadable: str) -> tuple[int, ...]:
    """Of the first image, or, where others may be left out, of the first that can be decoded."""
    found = None
    for i in range(collection.count):
        try:
            return collection.form.pixels(*collection.fetch([i])[0][:2]).shape
        except Unreadable as error:
            found = found or error
            if unreadable == "refuse":
                raise UserError(f"{error}; mend or remove it, or add {_SKIP}") from None
    raise found


def _attempt(collection: Collection) -> Callable[[Image], np.ndarray | Unreadable]:
    """Of an image, its pixels or why there are none."""

    def attempt(image: Image) -> np.ndarray | Unreadable:
        try:
            return collection.form.pixels(image.file, image.name)
        except Unreadable as error:
            return error

    return attempt


def _decoded(collection: Collection, order: np.ndarray) -> Iterator[tuple[int, Image, np.ndarray | Unreadable]]:
    """(place in the list, image, its pixels or why there are none) in `order`; a block at a time is in memory."""

    start, size = 0, 16
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while start < len(order):
            places = order[start : start + size].tolist()
            images = collection.fetch(places)
            block = list(pool.map(_attempt(collection), images))
            yield from zip(places, images, block, strict=True)
            start += size
            largest = max((x.nbytes for x in block if isinstance(x, np.ndarray)), default=0)
            size = max(8, min(1024, _BLOCK // largest)) if largest else size


def _classes(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """int32 classes numbered without a gap, and how many: 0 where there are none, or all are one."""
    names, y = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        return np.zeros(len(labels), np.int32), 0
    return y.astype(np.int32), len(names)


class _Images(Draft):
    """A draft of uint8 `[count, height, width, channels]`, written image by image.

    Attributes:
      count: images so far.
      shape: of one; None before the first.
    """

    count = 0
    shape: tuple[int, ...] | None = None

    def begin(self, count: int, shape: tuple[int, ...]) -> None:
        """The header of uint8 `[count, *shape]`."""
        self.shape = shape
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def append(self, pixels: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(pixels).data)
        self.count += 1

    def finish(self) -> None:
        """The header again, with the number of images that came: NumPy leaves room for any, so it is as long."""
        self.file.seek(0)
        self.begin(self.count, self.shape)
