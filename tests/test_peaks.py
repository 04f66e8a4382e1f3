"""Published peaks, and the check that rests on them: no speed beyond what the named hardware can do."""

import dataclasses
import json
import pathlib

import pytest
import submissions

from madbench.leaderboard import checks, peaks, tasks

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10", 125),
        ("NVIDIA GeForce RTX 4090", 330),
        ("Tesla T4", 65),
        ("Tesla V100-SXM2-16GB", 130),
        ("TPU v2", 45),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        ("tpu7x", 2307),
        ("AMD Instinct MI300X", 1307),
        ("Abacus 9", 10_000),
        ("A1000", 10_000),
        ("", 10_000),
    ],
)
def test_kinds_of_devices(kind, teraflops):
    assert peaks.peak(kind) == teraflops


def start(platform="gpu", kind="Tesla T4", count=4, processes=1, processor="8 cores of X"):
    device = {"platform": platform, "kind": kind, "count": count}
    return {"device": device, "processes": processes, "processor": processor}


def test_the_most_that_a_job_can_do():
    assert peaks.most(start()) == 2 * 4 * 65e12
    assert peaks.most(start() | {"resumed_with": [start(kind="TPU v4"), start(count=1)]}) == 2 * 4 * 275e12
    assert peaks.most(start("cpu", "cpu", count=64)) == 2 * 8 * 0.32e12  # virtual devices share the cores
    assert peaks.most(start("cpu", "cpu", processes=3)) == 3 * 2 * 8 * 0.32e12
    assert peaks.most(start("cpu", "cpu", processor="0 cores of X")) == 2 * 0.32e12
    assert peaks.most(start("cpu", "cpu", processor="many")) == 2 * 512 * 0.32e12
    assert peaks.seconds(1e15, start()) == pytest.approx(1e15 / 520e12)
    assert peaks.seconds(0, start()) == 0


def test_the_reference_submissions_are_far_from_it_and_a_thousand_times_as_fast_is_not():
    for name in ("gaussian", "digits-diffusion"):
        folder, task = ROOT / "submissions" / f"{name}-reference", tasks.load(name)
        environment = json.loads((folder / "environment.json").read_text())
        rows = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
        assert set(task.flops) == {"fit", "sample", "evaluate"}
        claims = []
        for phase, flops in task.flops.items():
            least = peaks.seconds(flops * len(task.runs) * task.config["generations"], environment)
            claims.append(sum(row[f"{phase}_seconds"] for row in rows) / least)
        assert 10 < min(claims) < 1000


def test_a_speed_beyond_the_peak_is_refused(tmp_path, monkeypatch):
    task = submissions.install(monkeypatch, tmp_path / "tasks")
    entry = submissions.packed(tmp_path / "entry")
    # 12 runs of three generations; two cores do 1.28e12 FLOPs a second, and fit took 1.5 s
    for flops, ok in ((5.3e10, True), (5.4e10, False)):
        known = dataclasses.replace(task, flops={"fit": int(flops)})
        monkeypatch.setattr(tasks, "load", lambda name, known=known: known)
        found = {finding.name: finding for finding in checks.run(entry)}
        assert found["speed"].ok is ok
        assert found["timing"].ok
    assert "fit took 1.5 s in all, and its 1.94e+12 FLOPs take 1.52 s at least on 2 x 'Abacus 9'" in str(found["speed"])
