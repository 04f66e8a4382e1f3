"""Synthetic samples on disk: one array_record file for each generation of a run, one record for each sample.

A record is the label (int32, little endian) and the bytes of the sample as it is kept. A file has its name only when it
is whole; a digest of its records goes into the checkpoint that follows.
"""

import contextlib
import hashlib
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from madbench.errors import UserError
from madbench.samples import Samples

_LABEL = np.dtype("<i4")
_OPTIONS = "group_size:1,uncompressed"  # records are read one by one


class Pool:
    """The synthetic samples of one run.

    Args:
      folder: of the run; made when something is written.
      shape: of a sample.
      dtype: as which it is kept.
    """

    def __init__(self, folder: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype):
        self._folder, self._shape, self._dtype = folder, shape, np.dtype(dtype)
        self._stored = self._dtype.newbyteorder("<")

    def writer(self, generation: int) -> "Writer":
        return Writer(self, generation)

    def read(self, generations: Iterable[int]) -> "Reader":
        """The samples of several generations, one after the other."""
        return Reader([self.path(g) for g in generations if self.path(g).exists()], self._shape, self._dtype)

    def digest(self, generation: int) -> np.ndarray:
        """sha256 of all records of a generation, uint8 `[32]`; zeros where it has none."""
        if not self.path(generation).exists():
            return np.zeros(32, np.uint8)
        digest = hashlib.sha256()
        reader = Reader([self.path(generation)], self._shape, self._dtype)
        for start in range(0, len(reader), 1024):
            for record in reader.records(range(start, min(start + 1024, len(reader)))):
                digest.update(record)
        return np.frombuffer(digest.digest(), np.uint8)

    def drop(self, before: int | None = None) -> None:
        """Deletes the generations before `before`, or all, and what was not finished."""
        for path in self._folder.glob("generation-*"):
            if path.suffix == ".tmp" or before is None or int(path.stem.split("-")[1]) < before:
                path.unlink(missing_ok=True)
        if before is None:
            with contextlib.suppress(OSError):  # a network's file system keeps what was open under another name
                self._folder.rmdir()

    def path(self, generation: int) -> pathlib.Path:
        return self._folder / f"generation-{generation:06d}.array_record"

    def records(self, samples: Samples) -> list[bytes]:
        x = np.ascontiguousarray(samples.x).astype(self._stored, copy=False)
        y = np.asarray(samples.y).astype(_LABEL)
        return [label.tobytes() + row.tobytes() for label, row in zip(y, x, strict=True)]


class Writer:
    """A generation that is being written, a block at a time; `close` names its file and gives its digest."""

    def __init__(self, pool: Pool, generation: int):
        self._pool, self._path = pool, pool.path(generation)
        self._draft = self._path.with_suffix(".tmp")
        self._digest = hashlib.sha256()
        self._file: Any = None

    def write(self, samples: Samples) -> None:
        """Samples as they are kept, x `[n, *shape]`, y `[n]`, n > 0; on the host.

        Raises:
          UserError: the disk does not take them; one line.
        """
        from array_record.python.array_record_module import ArrayRecordWriter

        records = self._pool.records(samples)
        with self._explained():
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = ArrayRecordWriter(str(self._draft), _OPTIONS)
            for record in records:
                self._file.write(record)
                self._digest.update(record)

    def close(self) -> np.ndarray:
        """uint8 `[32]`; zeros where nothing was written, and then there is no file either."""
        if self._file is None:
            self._path.unlink(missing_ok=True)  # of an earlier start
            return np.zeros(32, np.uint8)
        with self._explained():
            self._file.close()
            self._draft.replace(self._path)
        return np.frombuffer(self._digest.digest(), np.uint8)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:  # what its C++ raises where the disk is full
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"cannot write {self._path}: {reason}; everything before is saved") from None


class Reader:
    """Random access to the samples in some files, in their order."""

    def __init__(self, files: list[pathlib.Path], shape: tuple[int, ...], dtype: np.dtype):
        from grain import sources

        self._source = sources.ArrayRecordDataSource([str(path) for path in files]) if files else None
        self._shape, self._dtype = shape, dtype

    def __len__(self) -> int:
        return 0 if self._source is None else len(self._source)

    def records(self, index: Iterable[int]) -> list[bytes]:
        return self._source.__getitems__([int(i) for i in index])

    def rows(self, index: np.ndarray) -> Samples:
        """The samples at `index [n]`, as they are kept."""
        records = self.records(index)
        raw = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), -1)
        y = raw[:, : _LABEL.itemsize].copy().view(_LABEL)[:, 0]
        x = raw[:, _LABEL.itemsize :].copy().view(self._dtype.newbyteorder("<"))
        return Samples(x.astype(self._dtype, copy=False).reshape(-1, *self._shape), y.astype(np.int32))
