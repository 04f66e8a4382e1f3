"""A submission to the leaderboard: a directory with what a workdir holds, its manifest, and the samples of a few runs.

  submission.json    the manifest, see `forms.MANIFEST`; "files" has the size and sha256 of every file but itself,
                     README.md and verification.json
  README.md          made of the rest by `packing`, for people
  config.json environment.json reference.json metrics.jsonl timing.jsonl      as the workdir has them
  samples/SLUG/measured-0001.npz, measured-T.npz      of one seed of each cell, which `packed_seed` chooses; all of
                     them, or none in a copy that is kept small
  verification.json  may be there: what `madbench verify` found; not read here

`Submission` reads one that anybody may have written, a part at a time, so that `checks` can say what holds of each.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
from typing import Any

import numpy as np

from madbench import results
from madbench.errors import UserError
from madbench.leaderboard import files, forms, tasks
from madbench.results import Result

MANIFEST, README, VERIFICATION = "submission.json", "README.md", "verification.json"
OBJECTS = ("config.json", "environment.json", "reference.json")
ROWS = ("metrics.jsonl", "timing.jsonl")
_MOST = 1 << 20  # bytes of a file of one object
_ROW = 2048  # bytes of a row

Key = tuple[str, float, int, int]  # (loop, λ, seed, generation)


def packed_seed(rows: bytes, loop: str, bias: float, seeds: list[int]) -> int:
    """Of which seed a cell's samples are packed. Who forges rows can try some until it suits; see docs/verify.md.

    Args:
      rows: the bytes of metrics.jsonl.
      loop, bias: of the cell, as the task has them.
      seeds: of the task.
    """
    digest = hashlib.sha256(rows + b"\0" + f"{loop} {bias!r}".encode()).hexdigest()
    return seeds[int(digest, 16) % len(seeds)]


def sample_names(task: tasks.Task, rows: bytes) -> dict[Key, str]:
    """The files of samples that a submission has, with "/" between folders; `rows` are the bytes of metrics.jsonl."""
    found = {}
    for cell in task.cells:
        loop, bias = cell["loop"], cell["bias"]
        seed = packed_seed(rows, loop, bias, task.config["seeds"])
        for t in results.measured_generations(task.config["generations"]):
            found[loop, bias, seed, t] = f"samples/{results.slug(loop, bias, seed)}/measured-{t:04d}.npz"
    return found


def sample_form(task: tasks.Task) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of one file of samples.

    Raises:
      UserError: the task has not been measured yet; one line.
    """
    stored = task.evaluator.get("samples")
    if not task.bands or stored is None:
        raise UserError(f"task {task.id} is not open yet: its reference band has not been measured")
    return (task.evaluator["n_samples"], *stored["shape"]), stored["dtype"]


def bound(task: tasks.Task, name: str) -> int:
    """The most bytes that a file of a submission to `task` may have."""
    if name in ROWS:
        return _ROW * len(task.runs) * task.config["generations"]
    if name.startswith("samples/"):
        return files.archive_bound(*sample_form(task))
    return _MOST


@dataclasses.dataclass(frozen=True)
class Submission:
    """A submission, each part of which is read when it is asked for, or raises UserError in one line.

    Attributes:
      path: of the directory.
    """

    path: pathlib.Path

    @functools.cached_property
    def listing(self) -> dict[str, int]:
        """All files: name with "/" -> bytes."""
        return files.listing(self.path)

    @functools.cached_property
    def manifest_bytes(self) -> bytes:
        """submission.json."""
        _ = self.listing
        return files.read(self.path, MANIFEST, _MOST)

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """The content of submission.json, every field of the kind that it must be."""
        return _fits(forms.MANIFEST, files.parse(MANIFEST, self.manifest_bytes), MANIFEST)

    @functools.cached_property
    def task(self) -> tasks.Task:
        """The task that the manifest names, in the version that there is."""
        name = self.manifest["task"]
        if name not in tasks.names():
            raise UserError(f"unknown task {files.shown(name)}; choose from {', '.join(tasks.names())}")
        return tasks.load(name)

    @functools.cached_property
    def contents(self) -> dict[str, bytes]:
        """Of the five files that come from the workdir."""
        return {name: files.read(self.path, name, bound(self.task, name)) for name in (*OBJECTS, *ROWS)}

    @functools.cached_property
    def sample_names(self) -> dict[Key, str]:
        """The files of samples that there must be, unless all are left out."""
        return sample_names(self.task, self.contents["metrics.jsonl"])

    @functools.cached_property
    def samples(self) -> dict[Key, pathlib.Path]:
        """(loop, λ, seed, generation) -> the file, of those that are there; see `array`."""
        return {key: self.path / name for key, name in self.sample_names.items() if name in self.listing}

    def array(self, key: Key) -> np.ndarray:
        """Some samples as the metrics saw them: x `[n_samples, *shape]` of the stored dtype; may not be finite.

        Read anew each time, and only what the manifest has the hash of: another file may have come in its place.
        """
        name = self.sample_names[key]
        return files.read_array(name, self.listed(name), *sample_form(self.task))

    def listed(self, name: str) -> bytes:
        """The bytes of a file that the manifest lists, of the size and the sha256 that it says."""
        data = self.contents[name] if name in self.contents else files.read(self.path, name, bound(self.task, name))
        if self.manifest["files"].get(name) != {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}:
            raise UserError(f"{name} is not the file of which the manifest has the hash: it was changed")
        return data

    @functools.cached_property
    def parsed(self) -> dict[str, Any]:
        """JSON of the five files, of any form: objects, and lists of objects."""
        most = len(self.task.runs) * self.task.config["generations"]
        return {
            name: files.parse_rows(name, data, most) if name in ROWS else files.parse(name, data)
            for name, data in self.contents.items()
        }

    @property
    def strategy(self) -> str:
        """Against collapse, with its settings, as the manifest names it; one from before there were any has none."""
        return self.manifest.get("strategy", self.manifest["method"])

    @property
    def has_strategy(self) -> bool:
        """Whether anything is done against collapse."""
        return self.strategy != results.NO_STRATEGY

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config: the task's, what is done against collapse, and how it was run."""
        schema = self.manifest["schema"]
        content = _fits(forms.CONFIG, self.parsed["config.json"], "config.json:", schema)
        config = content["config"]
        if difference := differs(config, self.task):
            raise UserError(difference)
        how = {name: value for name, value in config.items() if name not in self.task.config}
        _fits(forms.HOW, how, "config", schema)
        if content["sha256"] != results.config_hash(config):
            raise UserError("config.json: its sha256 is not that of its config")
        return config

    @functools.cached_property
    def result(self) -> Result:
        """As readers of a workdir know it; every field of its files is of the kind that it must be, and finite."""
        metrics = list(self.task.config["metrics"]["names"])
        of_name = {
            "environment.json": forms.ENVIRONMENT,
            "reference.json": forms.reference(metrics),
            "metrics.jsonl": forms.row(metrics),
            "timing.jsonl": forms.TIMING,
        }
        for name, form in of_name.items():
            content = self.parsed[name]
            for number, each in enumerate(content if name in ROWS else [content], start=1):
                _fits(form, each, f"{name}, line {number}:" if name in ROWS else f"{name}:")
        _, environment, reference = (self.parsed[name] for name in OBJECTS)
        rows = [results.ACCOUNT | row for row in self.parsed["metrics.jsonl"]]
        return Result(self.path, self.config, reference, environment, rows)

    def read(self) -> None:
        """Reads every part but the arrays."""
        for part in ("manifest", "task", "result", "samples"):
            getattr(self, part)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Of metrics.jsonl; old ones with what stands for the columns of strategies (`results.ACCOUNT`)."""
        return self.result.rows

    @property
    def timing(self) -> list[dict[str, Any]]:
        """Of timing.jsonl."""
        _ = self.result
        return self.parsed["timing.jsonl"]


def load(path: str | os.PathLike) -> Submission:
    """Reads a submission whole, but for the arrays. Safe, but no judgement: that is `checks.run`.

    Raises:
      UserError: a part that cannot be read; one line.
    """
    found = Submission(pathlib.Path(path))
    try:
        found.read()
    except UserError as error:
        raise UserError(f"{found.path}: {error}; see `madbench check {found.path}`") from None
    return found


def _fits(form: Any, value: Any, where: str, schema: int | None = None) -> Any:
    if problem := forms.mismatch(form, value, where, schema):
        raise UserError(problem)
    return value


def differs(config: dict[str, Any], task: tasks.Task) -> str:
    """In which field a resolved config is not the task's, as a sentence; "" where it runs what the task says.

    What it does against collapse is no difference: see `refusal`.
    """
    plain = {name: value for name, value in config.items() if name not in results.STRATEGY}
    if results.config_hash(plain) == task.sha256:
        return ""
    return _difference(results.what(plain), task.config, "config") or "the config does not have the hash of the task"


def refusal(config: dict[str, Any]) -> str:
    """Why what a resolved config does against collapse has no place on the leaderboard, as a sentence; or ""."""
    strategy = config.get("strategy", results.NO_STRATEGY)
    if problem := forms.mismatch(forms.STRATEGY, strategy, "config.strategy"):
        return problem
    if config.get("equal_cost", True) is not True:
        return (
            f"config.equal_cost is {files.shown(config['equal_cost'])}: the leaderboard compares at equal cost; leave "
            "config.equal_cost alone"
        )
    return ""


def _difference(found: Any, wanted: Any, where: str) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        if extra := next((name for name in found if name not in wanted), None):
            return f"{where} has the field {files.shown(extra)}, and the task's has not"
        for name, value in wanted.items():
            if name not in found:
                return f"{where}.{name} is missing"
            if problem := _difference(found[name], value, f"{where}.{name}"):
                return problem
        return ""
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return next(filter(None, (_difference(a, b, f"{where}[{i}]") for i, (a, b) in pairs)), "")
    if type(found) is type(wanted) and found == wanted:
        return ""
    text = f"{len(found)} values" if isinstance(found, list) else files.shown(found)
    return (
        f"{where} is {text}, and the task's is {f'{len(wanted)} values' if isinstance(wanted, list) else repr(wanted)}"
    )
