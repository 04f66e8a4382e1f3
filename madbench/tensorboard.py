"""TensorBoard event files of a job, `madbench run --tensorboard`, in WORKDIR/tensorboard:

  SLUG/     of each run: `metrics/NAME` and `samples` by generation, `fit/loss` by optimizer step over all generations
  wave1/, … of each wave: `seconds/PHASE` by generation, for the runs of a wave share a device's time

Each start writes these files anew. All but the loss comes from the workdir's own rows and samples, so that events say
what the rows say, whatever happened in between; the loss is kept from the files of the start before, as far as the
checkpoint reaches. The protocol buffers are tensorboardX's, which is imported here alone.
"""

import importlib.util
import pathlib
import struct
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from madbench import results
from madbench.errors import UserError

if TYPE_CHECKING:  # the flag is checked before JAX is imported
    from madbench import grid
    from madbench.checkpoints import Progress

FOLDER = "tensorboard"
LOSS = "fit/loss"
_COLUMNS = 10  # of the images in a grid
_LEAST = 32  # pixels: smaller images are enlarged to this
_POINTS = 10  # of the loss in one segment of a fit, at most


def check() -> None:
    """Refuses the flag where its package is missing.

    Raises:
      UserError: one line, with the command that installs it.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise UserError(
            "--tensorboard needs tensorboardX, which is not installed: ./bootstrap.sh tensorboard in a clone, "
            "else pip install tensorboardX"
        )


class NoEvents:
    """Writes no events; what `experiment` calls, and what the processes after the first do."""

    def begin(self, progress: "Progress") -> None:
        """Is told where the job goes on, after the workdir was cut to that."""

    def fitted(self, runs: "list[grid.Run]", generation: int, segment: int, curves: list[np.ndarray]) -> None:
        """Is told the losses `[run, point]` of segment `segment`, from 1, of a fit."""

    def measured(self, runs: "list[grid.Run]", rows: list[dict[str, Any]], timing: dict[str, Any]) -> None:
        """Is told what was added to metrics.jsonl and timing.jsonl, when that and the samples are on disk."""


class Events(NoEvents):
    """Writes them, file by file: a job of a thousand runs holds none open."""

    def __init__(self, job: "grid.Job", path: pathlib.Path):
        """`path`: of the workdir. Raises `UserError` as `check` does."""
        check()
        self.job = job
        self.path = path
        self.files: dict[str, pathlib.Path] = {}  # by folder

    def begin(self, progress: "Progress") -> None:
        stamp = f"{time.time():.6f}"
        for wave in range(self.job.plan.waves):
            self._renew(f"wave{wave + 1}", stamp, [])
            for run in self._runs(wave):
                name = _slug(run)
                self._renew(name, stamp, list(self._losses(name, self._steps_done(wave, progress))))
        by_run: dict[str, list[dict[str, Any]]] = {}
        for row in results.read_rows(self.path / "metrics.jsonl"):
            by_run.setdefault(results.slug(row["loop"], row["bias"], row["seed"]), []).append(row)
        for name, rows in by_run.items():
            self._append(name, [event for row in rows for event in self._of_row(name, row)])
        for timing in results.read_rows(self.path / "timing.jsonl"):
            self._time(timing)

    def fitted(self, runs: "list[grid.Run]", generation: int, segment: int, curves: list[np.ndarray]) -> None:
        losses = np.concatenate(curves, axis=1).astype(np.float64)  # [run, point]
        points = next(k for k in range(min(_POINTS, losses.shape[1]), 0, -1) if losses.shape[1] % k == 0)
        losses = losses.reshape(len(losses), points, -1).mean(axis=2)
        family = self.job.family
        before = (generation - 1) * family.steps + (segment - 1) * (family.steps // family.segments)
        steps = before + np.arange(1, points + 1) * (family.steps // family.segments) // points
        for run, values in zip(runs, losses, strict=True):
            self._append(_slug(run), [_scalar(LOSS, v, s) for v, s in zip(values, steps, strict=True)])

    def measured(self, runs: "list[grid.Run]", rows: list[dict[str, Any]], timing: dict[str, Any]) -> None:
        for run, row in zip(runs, rows, strict=True):
            self._append(_slug(run), self._of_row(_slug(run), row))
        self._time(timing)

    def _runs(self, wave: int) -> list["grid.Run"]:
        return [self.job.runs[i] for i in self.job.plan.wave(wave)]

    def _steps_done(self, wave: int, progress: "Progress") -> float:
        """Optimizer steps of a run of this wave before `progress`: losses of later ones will come again."""
        if wave != progress.wave:
            return float("inf") if wave < progress.wave else 0
        family = self.job.family
        return (progress.generation - 1) * family.steps + progress.segment * (family.steps // max(family.segments, 1))

    def _losses(self, name: str, limit: float) -> Iterator[Any]:
        """The events with losses up to step `limit`, as they are on disk."""
        for file in sorted((self.path / FOLDER / name).glob("*tfevents*")):
            for event in _read(file):
                if event.step <= limit and any(value.tag == LOSS for value in event.summary.value):
                    yield event

    def _renew(self, name: str, stamp: str, events: list[Any]) -> None:
        """A new file with `events` in the place of those that are in a folder.

        It begins by taking back all that was there, for a TensorBoard that has read the old file and goes on running.
        """
        from tensorboardX.proto import event_pb2

        folder = self.path / FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        old = list(folder.glob("*tfevents*"))
        self.files[name] = folder / f"events.out.tfevents.{stamp}.madbench"
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append(
            name,
            [
                event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"),
                event_pb2.Event(wall_time=time.time(), step=0, session_log=start),
                *events,
            ],
        )
        for file in old:
            file.unlink()

    def _of_row(self, name: str, row: dict[str, Any]) -> list[Any]:
        """The events of one row, and of the samples beside it; a metric that does not exist has none."""
        t = row["generation"]
        values = {metric: row.get(metric) for metric in self.job.config["metrics"]["names"]}
        events = [_scalar(f"metrics/{metric}", value, t) for metric, value in values.items() if value is not None]
        file = self.path / "samples" / name / f"generation-{t:04d}.npz"
        if self.job.source.bounds is not None and file.is_file():
            with np.load(file, allow_pickle=False) as found:
                events.append(_image("samples", found["x"], t))
        return events

    def _time(self, timing: dict[str, Any]) -> None:
        seconds = [
            _scalar(f"seconds/{phase}", timing[f"{phase}_seconds"], timing["generation"]) for phase in results.PHASES
        ]
        self._append(f"wave{timing['wave'] + 1}", seconds)

    def _append(self, name: str, events: Iterable[Any]) -> None:
        with open(self.files[name], "ab") as file:
            file.write(b"".join(map(_record, events)))


def _slug(run: "grid.Run") -> str:
    return results.slug(run.loop.name, run.bias, run.seed)


def _scalar(tag: str, value: float, step: int) -> Any:
    from tensorboardX import summary
    from tensorboardX.proto import event_pb2

    return event_pb2.Event(wall_time=time.time(), step=int(step), summary=summary.scalar(tag, float(value)))


def _image(tag: str, x: np.ndarray, step: int) -> Any:
    """`x`: uint8 images `[n, height, width, channels]`, laid out in rows of ten on white."""
    from tensorboardX import summary
    from tensorboardX.proto import event_pb2

    n, height, width, channels = x.shape
    columns = min(n, _COLUMNS)
    rows, scale = -(-n // columns), -(-_LEAST // width)
    x = np.concatenate([x, np.full((rows * columns - n, height, width, channels), 255, np.uint8)])
    x = x.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    x = x.reshape(rows * height, columns * width, channels).repeat(scale, axis=0).repeat(scale, axis=1)
    picture = summary.image(tag, x, dataformats="HWC")
    return event_pb2.Event(wall_time=time.time(), step=int(step), summary=picture)


def _record(event: Any) -> bytes:
    """A record of TensorFlow's format: length, its checksum, the bytes, their checksum; little-endian."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def _read(path: pathlib.Path) -> Iterator[Any]:
    """The events of a file, up to a record that a kill cut short."""
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c

    content, at = path.read_bytes(), 0
    while at + 16 <= len(content):
        length, checksum = struct.unpack_from("<QI", content, at)
        data = content[at + 12 : at + 12 + length]
        if masked_crc32c(content[at : at + 8]) != checksum or at + 16 + length > len(content):
            return
        yield event_pb2.Event.FromString(data)
        at += 16 + length
