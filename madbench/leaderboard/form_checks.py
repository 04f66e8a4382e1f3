"""Checks of a submission's form: the directory, its files, and that they are of the task. See `checks`."""

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

from madbench import __version__, results
from madbench.errors import UserError
from madbench.leaderboard.files import read, shown
from madbench.leaderboard.submission import MANIFEST, README, VERIFICATION, Submission, bound

# Floors are measured by whoever runs: a distance may be rounded differently, and of the samples a few be counted so.
_FLOOR_DISTANCE, _FLOOR_SAMPLES = 5e-3, 2

_CLONES = 1e-6  # relative difference of the numbers of two seeds, one of which was copied and touched


def fail_if(problems: Iterable[str]) -> None:
    """Raises the first of `problems`, with the number of the others."""
    if problems := list(problems):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}{more}")


def cell_of(row: dict[str, Any]) -> str:
    return f"{shown(row['loop'])[1:-1]}, λ = {row['bias']:g}"


def place_of(row: dict[str, Any]) -> str:
    return f"{cell_of(row)}, seed {row['seed']}, generation {row['generation']}"


def links(s: Submission) -> None:
    """It is a directory of folders and plain files: no links, pipes or devices, not too many, not too deep."""
    if s.path.is_dir() and not os.path.lexists(s.path / MANIFEST):
        raise UserError(f"{s.path} is no submission: it has no {MANIFEST}; `madbench submit` makes one of a workdir")
    _ = s.listing


def manifest(s: Submission) -> None:
    """submission.json is strict JSON with every field that there is, each of its kind; texts are single lines."""
    _ = s.manifest


def task(s: Submission) -> None:
    """The manifest names a task that there is, in its version, with its hash."""
    stated = s.manifest
    if stated["task_version"] != s.task.version:
        raise UserError(f"it is of version {stated['task_version']} of {s.task.name}, which is at {s.task.version}")
    if stated["task_sha256"] != s.task.sha256:
        raise UserError(f"task_sha256 is not that of {s.task.id}: another config was run")


def sizes(s: Submission) -> None:
    """No file is larger than the task can make it."""
    for name, size in s.listing.items():
        most = bound(s.task, name)
        if size > most:
            raise UserError(f"{shown(name)} holds {size:,} bytes, and at most {most:,} are expected")
    _ = s.contents


def files(s: Submission) -> str:
    """The manifest lists the files that there must be; all are there, and no others; samples may be left out."""
    samples = set(s.sample_names.values())
    wanted = {*s.contents, *samples}
    listed, there = set(s.manifest["files"]), set(s.listing)
    fail_if(f"the manifest lists {shown(name)}, which has no place here" for name in sorted(listed - wanted))
    fail_if(f"the manifest does not list {name}" for name in sorted(wanted - listed))
    extra = there - wanted - {MANIFEST, README, VERIFICATION}
    fail_if(f"{shown(name)} has no place here" for name in sorted(extra))
    left_out = not there & samples
    needed = {*s.contents, README} | (set() if left_out else samples)
    fail_if(f"{name} is missing" for name in sorted(needed - there))
    return "its samples are left out of this copy" if left_out else ""


def hashes(s: Submission) -> None:
    """Every file that the manifest lists has the size and the sha256 that it says, if it is there."""
    for name in s.manifest["files"]:
        if name in s.listing and name != MANIFEST:  # samples may be left out; what has no place, `files` says
            s.listed(name)


def json(s: Submission) -> None:
    """The other files are strict JSON: numbers are finite, no name stands twice, nothing is nested deep."""
    _ = s.parsed


def config(s: Submission) -> None:
    """The config is the task's, in every number."""
    _ = s.config


def schema(s: Submission) -> None:
    """Every field of every file is there and of its kind, and no others."""
    _ = s.result
    for row in s.rows:
        for field, wanted in (("task", s.task.name), ("model", s.task.config["model"]["family"])):
            if row[field] != wanted:
                raise UserError(f"metrics.jsonl: {field} is {shown(row[field])}, and the task's is {wanted!r}")


def evaluator(s: Submission) -> None:
    """Measured with the features, the number of samples and the versions of the metrics that the task names, by one
    version of madbench, which is not newer than this one."""
    wanted = s.task.evaluator
    for name in ("features", "n_samples"):
        found = s.result.reference[name]
        if found != wanted[name]:
            raise UserError(f"reference.json: {name} is {shown(found)}, and the task's is {wanted[name]!r}")
    if s.result.reference["metrics"] != wanted["metrics"]:
        raise UserError("reference.json: its metrics are not described as the task does")
    for row in s.rows:
        for name in ("features", "n_samples", "metric_versions"):
            if row[name] != wanted[name]:
                held = row[name] if name == "metric_versions" else shown(row[name])
                raise UserError(f"{place_of(row)}: {name} is {held}, and the task's is {wanted[name]}")
    stated = s.manifest["benchmark"]
    versions = {stated, s.result.environment["versions"].get("madbench"), *(row["benchmark"] for row in s.rows)}
    if len(versions) > 1:
        raise UserError(f"it names several versions of madbench: {', '.join(sorted(map(str, versions)))}")
    if _numbers(stated) > _numbers(__version__):
        raise UserError(f"it was made by madbench {stated}, and this is {__version__}: update to check it")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def floors(s: Submission) -> None:
    """Its floors, between disjoint real samples, are the task's up to rounding."""
    for name, wanted in s.task.evaluator["floors"].items():
        is_share = s.task.evaluator["metrics"][name]["kind"] == "share"
        for which, value in (wanted or {}).items():
            found = s.result.reference["floors"][name][which]
            near = _FLOOR_SAMPLES / s.task.evaluator["n_samples"] if is_share else _FLOOR_DISTANCE * abs(value)
            if abs(found - value) > near:
                raise UserError(f"the floor of {name} ({which}) is {found:.6g}, and the task's is {value:.6g}")


def seeds(s: Submission) -> None:
    """Its seeds are the task's; none stands for another."""
    wanted = s.task.config["seeds"]
    fail_if(f"{place_of(row)}: this seed is not of the task" for row in s.rows if row["seed"] not in wanted)
    numbers: dict[tuple, dict[int, list]] = {}
    for row in s.rows:
        values = [row[name] for name in s.result.metrics]
        numbers.setdefault((row["loop"], row["bias"]), {}).setdefault(row["seed"], []).append(
            (row["generation"], values)
        )
    for (loop, bias), by_seed in numbers.items():
        where = cell_of({"loop": loop, "bias": bias})
        for (a, of_a), (b, of_b) in itertools.combinations(by_seed.items(), 2):
            if sorted(of_a, key=str) == sorted(of_b, key=str) and any(None not in values for _, values in of_a):
                raise UserError(f"{where}: seeds {a} and {b} have the same numbers")
            for (t, left), (u, right) in zip(
                sorted(of_a, key=_generation), sorted(of_b, key=_generation), strict=False
            ):
                if t == u and None not in (*left, *right) and min(*left, *right) > 0 and _are_near(left, right):
                    raise UserError(f"{where}: seeds {a} and {b} have all but the same numbers in generation {t}")


def _generation(pair: tuple[int, list]) -> int:
    return pair[0]


def _are_near(left: list[float], right: list[float]) -> bool:
    """As no two seeds are, in every metric; of generators that give one image, which may be, recall is 0."""
    return all(math.isclose(a, b, rel_tol=_CLONES) for a, b in zip(left, right, strict=True))


def cells(s: Submission) -> None:
    """The cells are the task's, and each run has one row a generation."""
    planned = [{name: cell[name] for name in ("loop", "bias", "settings")} for cell in s.task.cells]
    if s.result.reference["cells"] != planned:
        raise UserError("reference.json: its cells are not the task's")
    wanted = {(*run, t) for run in s.task.runs for t in range(1, s.task.config["generations"] + 1)}
    count = Counter(map(results.place, s.rows))
    where = lambda key: place_of(dict(zip(results.PLACE, key, strict=True)))
    fail_if(f"{where(key)} has {times} rows" for key, times in count.items() if times > 1)
    fail_if(f"{where(key)} is not of the task" for key in count if key not in wanted)
    fail_if(f"{where(key)} is missing" for key in sorted(wanted - set(count)))


def composition(s: Submission) -> None:
    """Each generation was trained on as many real and synthetic samples as the task says."""
    compositions = {(cell["loop"], cell["bias"]): cell["composition"] for cell in s.task.cells}
    for row in s.rows:
        composition = compositions[row["loop"], row["bias"]]
        wanted = composition[row["generation"] - 1] if composition else None  # a budget leaves it to chance
        if wanted and [row["n_real"], row["n_synthetic"]] != wanted:
            found = f"{row['n_real']} real and {row['n_synthetic']} synthetic"
            raise UserError(
                f"{place_of(row)}: trained on {found} samples, and the task says {wanted[0]} and {wanted[1]}"
            )


def readme(s: Submission) -> None:
    """README.md is what this version makes of the manifest and the rows: it says nothing that is not checked."""
    from madbench.leaderboard import rewrite  # which knows the board, and so these checks

    if read(s.path, README, bound(s.task, README)) != rewrite.text(s).encode():
        raise UserError(
            f"README.md is not what madbench {__version__} makes of the rows; make it anew: "
            f"python -m madbench.leaderboard.rewrite {s.path}"
        )
