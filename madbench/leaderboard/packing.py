"""From a finished workdir to a submission: `madbench submit`. The same workdir gives the same bytes."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

from madbench import results
from madbench.errors import UserError
from madbench.leaderboard import files, forms, readme, score, tasks
from madbench.leaderboard.submission import (
    MANIFEST,
    OBJECTS,
    README,
    ROWS,
    Submission,
    bound,
    differs,
    refusal,
    sample_form,
    sample_names,
)
from madbench.report import shares
from madbench.results import Result

_ALIKE = (
    "versions",
    "processor",
    "device",
    "source_sha256",
    "dataset",
)  # of the environments of shares that make one submission


def pack(
    workdirs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    name: str,
    contact: str = "",
    url: str = "",
    hardware: str = "",
    note: str = "",
) -> Submission:
    """Writes a submission, whole or not at all. Its method against collapse is that of the config.

    Args:
      workdirs: one with a finished task, or those of all shares of one.
      out: directory to make.
      name: of the submission, for folders and pages: at most 60 letters, digits, "-", "_" and ".".
      contact, url, note: for people, a line each.
      hardware: by default what environment.json says.

    Raises:
      UserError: the workdirs are not one whole job, of a task, with its samples, or one is a submission; a text that
        cannot stand on a page; `out` exists; one line.
    """
    out = pathlib.Path(out)
    if os.path.lexists(out):
        raise UserError(f"{out} exists; choose another --out, or remove it")
    texts = {"name": name, "contact": contact, "url": url, "hardware": hardware, "note": note}
    for field, text in texts.items():
        if field != "hardware" or text:
            _check(forms.TEXTS[field], text, f"--{field}")
    for path in map(pathlib.Path, workdirs):
        if os.path.lexists(path / MANIFEST):
            raise UserError(
                f"{path} is a submission itself, and is not packed again; name the workdir that was run, or judge this "
                f"one: madbench check {path}"
            )
    found = [results.load(path) for path in workdirs]
    task = _task(found)
    for result in found:
        if problem := forms.mismatch(forms.ENVIRONMENT, result.environment, "environment.json:"):
            raise UserError(
                f"{result.path} was not run by this version of madbench ({problem}); "
                f"run it again: madbench run --task={task.name} --workdir=ANOTHER_DIR"
            )
    content, places = _unite(found, task)
    parsed = {file: files.parse_rows(file, content[file], len(task.runs) * task.config["generations"]) for file in ROWS}
    _check_complete(places, task, parsed["metrics.jsonl"])
    content |= _samples(found, task, places, content["metrics.jsonl"])
    strategy = found[0].config.get("strategy", results.NO_STRATEGY)
    manifest = {
        # A workdir from before there were strategies says nothing of them, and so does what is made of it.
        "schema": forms.SCHEMA if "strategy" in found[0].config else 1,
        "name": name,
        "method": forms.method_of(strategy),
        "strategy": strategy,
        "task": task.name,
        "task_version": task.version,
        "task_sha256": task.sha256,
        "benchmark": parsed["metrics.jsonl"][0]["benchmark"],
        "contact": contact,
        "url": url,
        "hardware": hardware or _hardware(found[0].environment),
        "note": note,
        "summary": score.summary(task, parsed["metrics.jsonl"], parsed["timing.jsonl"]),
        "files": {
            file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for file, data in content.items()
        },
    }
    rows = [results.ACCOUNT | row for row in parsed["metrics.jsonl"]]
    whole = dataclasses.replace(found[0], rows=rows, shares=(), split=0)
    content[MANIFEST] = _json(manifest)
    content[README] = readme.render(manifest, task, whole).encode()
    try:
        _write(out, content)
    except UserError as error:
        raise UserError(f"{found[0].path}: {error}") from None
    return Submission(out)


def describe(found: Submission) -> str:
    """What was packed, in lines for whoever ran `madbench submit`."""
    sizes = found.listing
    samples = [size for file, size in sizes.items() if file.startswith("samples/")]
    rows = found.rows
    lines = [
        f"wrote {found.path}: {len(rows):,} rows of task {found.task.id}, {len(found.task.runs)} runs of "
        f"{found.task.config['generations']} generations",
        f"{len(sizes)} files, {_size(sum(sizes.values()))}; {len(samples)} of them samples of one seed a cell, "
        f"{_size(sum(samples))}",
    ]
    if diverged := sum(row["status"] == "diverged" for row in rows):
        lines.append(f"{diverged:,} of {len(rows):,} loop-generations diverged; they count 0")
    return "\n".join([*lines, f"next: madbench check {found.path}"])


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _check(form: Any, value: Any, where: str) -> None:
    if problem := forms.mismatch(form, value, where):
        raise UserError(problem)


def _task(found: list[Result]) -> tasks.Task:
    """The task that the workdirs ran."""
    if not found:
        raise UserError("name a workdir: madbench submit DIR --name=... --out=SUBMISSION")
    for result in found:
        name = result.config.get("task")
        if name not in tasks.names():
            raise UserError(
                f"{result.path}: config.task is {files.shown(name)}, which is no task of the leaderboard; "
                f"run one of them, madbench run --task=NAME --workdir=DIR, with NAME from {', '.join(tasks.names())}"
            )
        task = tasks.load(name)
        sample_form(task)
        if difference := differs(result.config, task):
            raise UserError(
                f"{result.path}: {difference}; the leaderboard takes "
                f"madbench run --task={name} --workdir=DIR, without changes but for --config.strategy"
            )
        if problem := refusal(result.config):
            raise UserError(f"{result.path}: {problem}")
    return tasks.load(found[0].config["task"])


def _unite(found: list[Result], task: tasks.Task) -> tuple[dict[str, bytes], dict[tuple, pathlib.Path]]:
    """The five files, and in which workdir each run is. Shares become the job that they are."""
    whole = shares.unite(found)
    if len(whole) > 1:
        raise UserError(f"{whole[0].path} and {whole[1].path} are two jobs; submit one, or all shares of one")
    (united,) = whole
    if len(united.shares) < united.split:
        missing = [str(i) for i in range(1, united.split + 1) if i not in united.shares]
        raise UserError(
            f"{found[0].path} is one share of {united.split}; name the workdirs of all, "
            f"madbench submit DIR ... --name=... --out=...; missing: {', '.join(missing)}"
        )
    found.sort(key=lambda result: result.shares)
    places = {run: found[i % len(found)].path for i, run in enumerate(task.runs)}
    content = {file: files.read(found[0].path, file, bound(task, file)) for file in (*OBJECTS, *ROWS)}
    if len(found) > 1:
        config = found[0].config
        for other in found[1:]:
            for field in _ALIKE:
                if other.environment.get(field) != found[0].environment.get(field):
                    raise UserError(
                        f"{other.path} was run with other {field} than {found[0].path} (environment.json), "
                        "and a submission has one hardware and one version"
                    )
        content["config.json"] = _json({"sha256": results.config_hash(config), "config": config})
        content["metrics.jsonl"] = b"".join(
            files.read(r.path, "metrics.jsonl", bound(task, "metrics.jsonl")) for r in found
        )
        content["timing.jsonl"] = _timing(found, task)
    return content, places


def _timing(found: list[Result], task: tasks.Task) -> bytes:
    """The rows of all shares, their waves numbered on."""
    rows, first = [], 0
    for result in found:
        data = files.read(result.path, "timing.jsonl", bound(task, "timing.jsonl"))
        own = files.parse_rows("timing.jsonl", data, len(task.runs) * task.config["generations"])
        rows += [row | {"wave": row["wave"] + first} for row in own]
        first = 1 + max((row["wave"] for row in rows), default=-1)
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def _check_complete(places: dict[tuple, pathlib.Path], task: tasks.Task, rows: list[dict[str, Any]]) -> None:
    planned = [(*run, t) for run in task.runs for t in range(1, task.config["generations"] + 1)]
    there = set(map(results.place, rows))
    missing = [key for key in planned if key not in there]
    if missing:
        loop, bias, seed, t = missing[0]
        folder = places[loop, bias, seed]
        raise UserError(
            f"{folder} is not finished: {len(missing):,} of {len(planned):,} rows are missing, the first of {loop}, "
            f"λ = {bias:g}, seed {seed}, generation {t}; go on with the command that began it, "
            f"madbench run --task={task.name} --workdir={folder}"
        )


def _samples(found: list[Result], task: tasks.Task, places: dict[tuple, pathlib.Path], rows: bytes) -> dict[str, bytes]:
    """The files of samples to pack, each of the right form."""
    content = {}
    for (*run, _), name in sample_names(task, rows).items():
        folder = places[tuple(run)]
        if not (folder / name).exists():
            raise UserError(
                f"{folder} kept no samples of what the metrics saw ({name}): it was run with keep_samples=False or by "
                f"an older madbench; they cannot be made afterwards, so run it again: madbench run --task={task.name} "
                "--workdir=ANOTHER_DIR"
            )
        content[name] = files.read(folder, name, bound(task, name))
        files.read_array(name, content[name], *sample_form(task))
    return content


def _json(value: dict[str, Any]) -> bytes:
    """As `results.write_object` writes it."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _hardware(environment: dict[str, Any]) -> str:
    """ "4 x NVIDIA A100", "2 cores of AMD EPYC"."""
    device = environment["device"]
    return environment["processor"] if device["platform"] == "cpu" else f"{device['count']} x {device['kind']}"


def _write(out: pathlib.Path, content: dict[str, bytes]) -> None:
    """All files in a folder beside `out` that is read once, as others will, and then takes its name."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for name, data in content.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(data)
        Submission(draft).read()
        os.umask(mask := os.umask(0))
        draft.chmod(0o777 & ~mask)  # `mkdtemp` lets nobody else read
        os.rename(draft, out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
