"""Folders of submissions for the tests of the board and its site."""

import hashlib
import json
import math
import pathlib
import shutil

import submissions


def folder(path: pathlib.Path) -> pathlib.Path:
    """Of eight submissions to the task "tiny", one of a kind:

    steady    keeps everything
    close     falls a little short of it, in one seed: their intervals overlap
    twin      has the same scores as "fading", to the last digit shown
    fading    loses as `submissions.rows` does
    rerun     likewise, and a verification says that one of its runs was seen again
    broken    was edited after it was packed
    refuted   a verification says that its numbers are wrong
    stale     a verification is of another state of it
    """
    path.mkdir(parents=True)
    _pack(path / "fading")
    _pack(path / "twin", _noise)
    _pack(path / "rerun", lambda rows: _shift(rows, 0.9))
    _pack(path / "steady", _keep)
    _pack(path / "close", lambda rows: _keep(rows, worse=0.03))
    _pack(path / "broken", lambda rows: _shift(rows, 0.8))
    submissions.edit(path / "broken" / "metrics.jsonl", lambda rows: rows[-1].update(fd=0.1))
    _pack(path / "refuted", lambda rows: _shift(rows, 0.7))
    _pack(path / "stale", lambda rows: _shift(rows, 0.6))
    verify(path / "rerun", "re-run")
    verify(path / "refuted", "invalidated", reason="re-run: fd differs")
    verify(path / "stale", "re-run", submission_sha256="0" * 64)
    return path


def verify(path: pathlib.Path, status: str, **fields) -> None:
    """verification.json, as `madbench verify --record` writes it."""
    pair = {"loop": "fully_synthetic", "bias": 1.0, "seed": 0, "generation": 2}
    metrics = ("fd", "precision", "recall")
    seen = [
        {"what": what, **pair, "generation": t, "metric": metric, "ok": True}
        for what in ("samples", "re-run")
        for t in (1, 2)
        for metric in metrics
    ]
    record = {
        "schema": 2,
        "benchmark": "0.1.0",
        "submission_sha256": hashlib.sha256((path / "submission.json").read_bytes()).hexdigest(),
        "device": {"kind": "Abacus 9", "platform": "cpu", "count": 1},
        "seed": 7,
        "pairs": [pair],
        "runs": 12,
        "rule": "same kind of device",
        "samples": "recomputed",
        "rows": seen,
        "leaning": [],
        "notes": ["one of twelve runs"],
        "passed": status != "invalidated",
        "status": status,
        "reason": "",
        **fields,
    }
    (path / "verification.json").write_text(json.dumps(record))


def _pack(path: pathlib.Path, change=None) -> None:
    workdir = path.parent.parent / f"run-{path.name}"
    submissions.workdir(workdir, change=change)
    submissions.packed(path, workdir, name=path.name)
    shutil.rmtree(workdir)
    submissions.without_samples(path)


def _keep(rows: list[dict], worse: float = 0.0) -> None:
    """All generations as the first; `worse` in log FD in the last seed, from generation 2 on."""
    first = {(r["loop"], r["bias"], r["seed"]): r for r in rows if r["generation"] == 1}
    for row in rows:
        same = first[row["loop"], row["bias"], row["seed"]]
        row |= {name: same[name] for name in ("fd", "precision", "recall")}
        if row["generation"] > 1:  # no two submissions have the same rows
            row["fd"] *= math.exp(worse * (row["seed"] == 2) + 1e-7)


def _shift(rows: list[dict], factor: float) -> None:
    for row in rows:
        row["fd"] *= factor if row["generation"] > 1 else 1


def _noise(rows: list[dict]) -> None:
    for row in rows:
        row["fd"] *= 1 + 1e-9 * (row["generation"] > 1)
