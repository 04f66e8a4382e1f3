"""Honest submissions pass on one device and on four; changed ones do not. Tolerances are as documented."""

import hashlib
import importlib.util
import itertools
import json
import math
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
import submissions

from madbench import cli, experiment, fleet, grid, results, verify
from madbench import config as configs
from madbench.display import Nothing
from madbench.errors import UserError
from madbench.leaderboard import agreement, board, submission, tasks
from madbench.leaderboard.agreement import OTHER, SAME, Limit, Tolerance

DEVICES = jax.devices()
N = 200
FAMILIES = ("gaussian", "diffusion")


def config(family):
    """Tiny: six runs of a loop, three generations; of points, of which programs are compiled soonest."""
    made = configs.base("gaussian", family)
    made.task = f"tiny-{family}"
    made.update({"n_initial": 40, "biases": (1.0, 0.8), "generations": 3, "n_grid": 0, "keep_samples": True})
    made.data.n_reference = N
    made.data.dimension = 4
    made.metrics.features = "raw"
    if family == "diffusion":  # of points without classes λ has no meaning
        made.update({"generations": 2, "biases": (1.0,), "seeds": 6})
        made.model.update({"width": 16, "depth": 1, "steps": 6, "batch_size": 16, "sampler_steps": 2})
    return made


def reference_band():
    """The program that measures tasks."""
    path = pathlib.Path(__file__).parent.parent / "benchmarks" / "reference_band.py"
    spec = importlib.util.spec_from_file_location("reference_band", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def task_of(workdir):
    """The content of a task's file, with what a run of it has found as its band."""
    found = results.load(workdir)
    plain = {name: value for name, value in found.config.items() if name in results.what(found.config)}
    x = np.load(next((workdir / "samples").glob("*/measured-0001.npz")))["x"]
    about = {"name": plain["task"], "version": 1, "title": "Tiny", "about": "For tests.", "command": ""}
    job = grid.prepare(configs.from_plain(plain))
    return {
        **about, "config": plain, "sha256": results.config_hash(plain), **reference_band().described(job, found, x),
    }  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, compiled):
    """A workdir of each family, made on one device, their tasks installed, and a submission of each."""
    path = tmp_path_factory.mktemp("verify")
    for family in FAMILIES:
        with pytest.MonkeyPatch.context() as patch:
            on(patch, 1)
            made = config(family)
            runs = [(run.loop.name, run.bias, run.seed) for run in grid.prepare(made).whole]
            experiment.run(made, str(path / family), show=Nothing(), only=runs)  # without tables
    with pytest.MonkeyPatch.context() as patch:
        submissions.install(patch, path / "tasks", *(task_of(path / family) for family in FAMILIES))
        for family in FAMILIES:
            submissions.packed(path / f"{family}-entry", path / family)
        yield path


def scaled(place, to, family, metric, factor):
    """A submission of a workdir in which somebody has multiplied a metric, packed by the book."""
    workdir = to / "workdir"
    shutil.copytree(place / family, workdir)

    def change(rows):
        for row in rows:
            n = row["n_samples"]
            value = factor * row[metric]
            row[metric] = value if metric == "fd" else min(round(value * n), n) / n

    submissions.edit(workdir / "metrics.jsonl", change)
    return submissions.packed(to / "entry", workdir)


def on(monkeypatch, devices):
    monkeypatch.setattr(fleet, "all_devices", lambda: DEVICES[:devices])


@pytest.mark.parametrize(("devices", "pairs"), [(1, 6), (4, 2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_honest_submission_passes_on_any_number_of_devices(place, monkeypatch, family, devices, pairs):
    """On four, two devices share a run and average its gradients."""
    on(monkeypatch, devices)
    said = []
    report = verify.run(str(place / f"{family}-entry"), pairs=pairs, seed=3, say=said.append)
    assert report["passed"], report["reason"]
    assert (report["status"], report["reason"], report["rule"]) == ("re-run", "", SAME)
    assert [each["metric"] for each in report["leaning"]] == ["fd", "precision", "recall", "all metrics"]
    task = tasks.load(f"tiny-{family}")
    last = max(pair["generation"] for pair in report["pairs"])
    kinds = [line["what"] for line in report["rows"]]
    assert kinds.count("samples") == len(task.cells) * 2 * 3  # generations 1 and T, three metrics
    assert kinds.count("re-run") == pairs * last * 3
    assert f"{pairs * last} of {6 * task.config['generations']} run-generations" in said[-1]
    json.dumps(report, allow_nan=False)
    assert verify.lines(report)[-1] == "verify passed (seed 3)"


@pytest.mark.parametrize(("metric", "factor"), [("fd", 0.95), ("recall", 1.05)])
def test_scaled_metrics_are_found_from_the_samples_and_from_the_re_run(place, tmp_path, metric, factor):
    entry = scaled(place, tmp_path, "gaussian", metric, factor)
    report = verify.run(str(entry), pairs=1)
    assert (report["passed"], report["status"]) == (False, "invalidated")
    wrong = [line for line in report["rows"] if not line["ok"]]
    shown = verify.lines(report)
    assert [" NO: " in line for line in shown[: len(wrong) + 2]] == [False, *[True] * len(wrong), False]
    assert len(verify.lines(report, verbose=True)) - len(shown) == len(report["rows"]) - len(wrong) > 0
    assert {line["what"] for line in wrong} == {"samples", "re-run"}
    assert {line["metric"] for line in wrong} == {metric}
    assert metric in report["reason"]


def test_scaled_metrics_are_found_without_samples_by_the_re_run(place, tmp_path):
    entry = submissions.without_samples(scaled(place, tmp_path, "gaussian", "fd", 0.95))
    report = verify.run(str(entry), pairs=1)
    assert (report["samples"], report["status"]) == ("left out", "invalidated")
    assert all(line["ok"] == (line["metric"] != "fd") for line in report["rows"])
    assert "samples were left out" in report["notes"][0]
    with pytest.raises(UserError, match="nothing to verify"):
        verify.run(str(entry), pairs=0)


def test_scaled_metrics_of_a_trained_family_are_found_from_the_samples(place, tmp_path):
    report = verify.run(str(scaled(place, tmp_path, "diffusion", "fd", 0.95)), pairs=0)
    assert not report["passed"]
    assert all(
        line["difference"] == pytest.approx(math.log(0.95), abs=1e-3) for line in report["rows"] if not line["ok"]
    )
    assert sum(not line["ok"] for line in report["rows"]) == 2  # the FD of each packed set


def elsewhere(place, to, family, change):
    """A submission that says it was run on another kind of device, without samples; `change` edits its rows."""
    workdir = to / "workdir"
    shutil.copytree(place / family, workdir)
    submissions.edit(workdir / "environment.json", lambda e: e["device"].update(kind="TPU v5p", platform="tpu"))
    submissions.edit(workdir / "metrics.jsonl", change)
    return submissions.without_samples(submissions.packed(to / "entry", workdir))


def test_a_re_run_on_another_kind_of_device_is_called_that(place, tmp_path):
    entry = elsewhere(place, tmp_path, "gaussian", lambda rows: None)
    report = verify.run(str(entry), pairs=2, seed=3)
    assert (report["passed"], report["rule"]) == (True, OTHER)
    assert report["status"] == "re-run (other device)"
    assert [each["mean"] for each in report["leaning"]] == [pytest.approx(0, abs=1e-3)] * 4
    verify.record(str(entry), report)
    found = board.judge(entry, "entry")
    assert (found.status, found.evidence) == ("re-run (other device)", "2 of 6 runs")


def test_rows_that_are_all_a_little_better_are_found_where_each_is_tolerated(place, monkeypatch, tmp_path):
    """The forgery that tolerances between kinds of devices invite: without samples, every later row near their end."""

    def forged(rows):
        for row in rows:
            if row["generation"] > 1:
                row["fd"] *= math.exp(-0.29)

    on(monkeypatch, 1)
    entry = elsewhere(place, tmp_path, "diffusion", forged)
    report = verify.run(str(entry), pairs=6, seed=3)
    assert all(line["ok"] for line in report["rows"])
    assert (report["passed"], report["status"]) == (False, "invalidated")
    assert [each["metric"] for each in report["leaning"] if not each["ok"]] == ["fd", "all metrics"]
    assert report["reason"].startswith(
        "re-run: all metrics, after generation 1 and over 6 runs: better than the re-run"
    )
    assert any(line.startswith("leaning: fd +97% of the tolerance, at most +3") for line in verify.lines(report))
    verify.record(str(entry), report)
    assert board.judge(entry, "entry").status == "invalidated"


def test_invented_samples_are_not_those_of_the_row(place, tmp_path):
    entry = tmp_path / "entry"
    shutil.copytree(place / "gaussian-entry", entry)
    file = next((entry / "samples").glob("*/measured-0003.npz"))
    np.savez_compressed(file, x=np.random.default_rng(1).normal(size=(N, 4)).astype(np.float32))
    submissions.redo_hashes(entry)
    report = verify.run(str(entry), pairs=0)
    slug = lambda line: results.slug(line["loop"], line["bias"], line["seed"])
    assert {(slug(line), line["generation"]) for line in report["rows"] if not line["ok"]} == {(file.parent.name, 3)}


def test_a_submission_that_fails_a_check_is_not_run_again(place, tmp_path, monkeypatch):
    entry = tmp_path / "entry"
    shutil.copytree(place / "gaussian-entry", entry)
    submissions.edit(entry / "metrics.jsonl", lambda rows: rows[0].update(fd=rows[0]["fd"] * 1.0001))
    monkeypatch.setattr(experiment, "run", lambda *_, **__: pytest.fail("ran"))
    report = verify.run(str(entry))
    assert (report["status"], report["rows"], report["passed"]) == ("invalidated", [], False)
    assert report["reason"].startswith("check ")
    verify.record(str(entry), report)
    assert json.loads((entry / submission.VERIFICATION).read_text()) == report


def test_the_command_records_what_the_leaderboard_shows(place, tmp_path, capsys):
    entry = tmp_path / "entry"
    shutil.copytree(place / "gaussian-entry", entry)
    command = ["madbench", "verify", str(entry), "--record"]
    assert cli.main([*command, "--pairs=0"]) == 2
    assert "--pairs" in capsys.readouterr().err
    assert cli.main([*command, "--pairs=1", "--until=1"]) == 2  # generation 1, which the score does not see
    assert "--until at 2" in capsys.readouterr().err
    assert not (entry / submission.VERIFICATION).exists()
    assert cli.main([*command, "--pairs=1", "--until=2", "--seed=5"]) == 0
    out, err = capsys.readouterr()
    counted, again, *_, last = out.splitlines()
    assert re.fullmatch(r"samples: (\d+) of \1 values agree", counted)
    assert again == "re-run: 6 of 6 values agree"
    assert last == "verify passed (seed 5)"
    assert "computing the metrics" in err
    assert "running again" in err
    found = json.loads((entry / submission.VERIFICATION).read_text())
    assert (found["status"], found["seed"], found["pairs"][0]["generation"]) == ("re-run", 5, 2)
    assert found["submission_sha256"] == hashlib.sha256((entry / "submission.json").read_bytes()).hexdigest()
    assert not list(entry.glob(".*"))
    (entry / "submission.json").unlink()
    assert cli.main(["madbench", "verify", str(entry)]) == 2


@pytest.mark.parametrize(
    "arguments", [[], ["a", "b"], ["nowhere"], ["nowhere", "--pairs=-1"], ["nowhere", "--seed=-1"]]
)
def test_errors_of_use_are_one_line(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["madbench", "verify", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out.count("\n") + err.count("\n"), list(tmp_path.iterdir())) == (1, [])


# ---- the choice ------------------------------------------------------------------------------------------------------


def test_the_choice_is_random_without_repeats_and_repeatable():
    runs = [("a", 1.0, seed) for seed in range(5)] + [("b", 0.8, seed) for seed in range(5)]
    draws = [verify.choose(runs, 4, 2, 0, f"{seed}") for seed in range(3000)]
    assert draws[:9] == [verify.choose(runs, 4, 2, 0, f"{seed}") for seed in range(9)]
    assert all(len({pair[:3] for pair in draw}) == 2 for draw in draws)
    share = {run: sum(run in [pair[:3] for pair in draw] for draw in draws) / 3000 for run in runs}
    assert all(value == pytest.approx(0.2, abs=0.03) for value in share.values())
    times = [t for draw in draws for *_, t in draw]
    for t in (2, 3, 4):  # in proportion to t
        assert times.count(t) / len(times) == pytest.approx(t / 9, abs=0.03)


def test_the_choice_is_bounded():
    runs = [("a", 1.0, 0), ("a", 1.0, 1)]
    assert verify.choose(runs, 1, 5, 0, "x") == [(*runs[0], 1), (*runs[1], 1)]
    assert verify.choose(runs, 9, 0, 0, "x") == []
    assert {t for i in range(50) for *_, t in verify.choose(runs, 9, 2, 3, str(i))} == {2, 3}
    assert {t for i in range(9) for *_, t in verify.choose(runs, 9, 2, 1, str(i))} == {1}


def test_some_runs_of_a_grid_have_the_shapes_of_the_whole():
    made = config("gaussian")
    made.loops = ("fully_synthetic", "synthetic_augmentation")
    whole = grid.prepare(made)
    runs = [("fully_synthetic", 0.8, 2), ("synthetic_augmentation", 1.0, 0)]
    some = grid.prepare(made, only=runs)
    assert [(r.loop.name, r.bias, r.seed) for r in some.runs] == runs
    assert (some.whole, some.generation.shapes) == (whole.whole, whole.generation.shapes)
    with pytest.raises(UserError, match="1 of the 2 runs"):
        grid.prepare(made, only=[*runs[:1], ("fully_synthetic", 0.8, 7)])


# ---- agreement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "claimed", "found", "expected"),
    [
        ("distance", 1.05, 1.0, math.log(1.05)),
        ("distance", 0.0, 0.0, 0.0),
        ("distance", 0.0, 1.0, None),
        ("share", 0.875, 1.0, -0.125),
        ("number", -3.0, 1.0, -4 / 3),
        ("positive", 2.0, 1.0, 0.5),
        ("share", None, None, 0.0),
        ("share", None, 0.5, None),
        ("share", 0.5, None, None),
        ("share", math.nan, 0.5, None),
        ("distance", math.inf, 0.5, None),
        ("share", "0.5", 0.5, None),
        ("share", True, 1.0, None),
    ],
)
def test_differences(kind, claimed, found, expected):
    assert agreement.difference(kind, claimed, found) == (None if expected is None else pytest.approx(expected))


def test_tolerances_grow_and_end():
    tolerance = Tolerance(Limit(0.01, 2, 0.05), Limit(3, 1.5))
    assert [tolerance.at("distance", t, 100) for t in (1, 2, 3, 4, 9000)] == pytest.approx(
        [0.01, 0.02, 0.04, 0.05, 0.05]
    )
    assert [tolerance.at("share", t, 100) for t in (1, 2, 3)] == pytest.approx([0.03, 0.045, 0.0675])
    assert Limit(0.01).at(9000) == pytest.approx(0.01)


def test_the_same_kind_of_device_is_held_to_more():
    here = {"kind": "cpu", "platform": "cpu"}
    assert agreement.rule({"device": {**here, "count": 8}}, here) == SAME
    for claimed in ({"device": {**here, "kind": "TPU v5"}}, {"device": None}, {}, None, [], {"device": "cpu"}):
        assert agreement.rule(claimed, here) == OTHER
    resumed = lambda kind: {"device": here, "resumed_with": [{"device": {**here, "kind": kind}}]}
    assert [agreement.rule(resumed(kind), here) for kind in ("cpu", "TPU v5")] == [SAME, OTHER]
    assert agreement.rule({"device": here, "resumed_with": 3}, here) == OTHER
    for tolerances in (agreement.SAMPLES, *agreement.RERUN.values()):
        for kind, t in itertools.product(("distance", "share"), (1, 6, 99)):
            assert 0 < tolerances[SAME].at(kind, t, 500) < tolerances[OTHER].at(kind, t, 500)


def test_independent_runs_are_rarely_further_apart():
    band = tasks.Band(mean=0.0, sd=0.2, count=1000, is_log=True)
    limit = agreement.apart(band, "distance", [], 500)
    x = np.random.default_rng(0).normal(scale=0.2, size=(2, 400_000))
    assert np.mean(np.abs(x[0] - x[1]) > limit) == pytest.approx(3e-4, rel=0.3)


def test_scattered_rows_widen_the_interval_only_so_far():
    band = tasks.Band(mean=0.0, sd=0.2, count=24, is_log=True)
    limit = lambda values, band=band, kind="distance": agreement.apart(band, kind, values, 100)
    assert limit([1.0, None, 1.1]) == limit([]) == limit([1.0, 0.0]) > 0.2
    assert limit([math.exp(0.3 * math.sqrt(2)), 1.0]) == pytest.approx(1.5 * limit([]))
    assert limit([1e-9, 1e9, math.nan]) == pytest.approx(3 * limit([]))
    share = tasks.Band(mean=1.0, sd=1e-9, count=24, is_log=False)
    assert limit([1.0, 1.0], share, "share") == pytest.approx(limit([]) * 0.05 / 0.2)


def test_a_family_that_nobody_has_measured_is_judged_by_its_distribution(place, monkeypatch):
    task = tasks.load("tiny-gaussian")
    rows = results.load(place / "gaussian").rows
    cell = ("fully_synthetic", 1.0)
    measured = agreement.rerun(task, SAME, cell, 2, rows)
    assert measured == {"fd": 1e-4, "precision": 2 / N, "recall": 2 / N}
    monkeypatch.delitem(agreement.RERUN, "gaussian")
    wide = agreement.rerun(task, SAME, cell, 2, rows)
    values = {m: [r[m] for r in rows if (r["loop"], r["bias"], r["generation"]) == (*cell, 2)] for m in wide}
    assert wide == {
        m: agreement.apart(task.bands[cell][m], "distance" if m == "fd" else "share", values[m], N) for m in wide
    }
    report = verify.run(str(place / "gaussian-entry"), pairs=1, until=2)
    assert report["passed"]
    assert any("rounding alone" in note for note in report["notes"])


def test_a_row_that_is_missing_or_holds_no_numbers_does_not_agree():
    where = {"what": "re-run", "loop": "a", "bias": 1.0, "seed": 0, "generation": 1}
    found = {"fd": 1.0, "precision": 0.5}
    kinds = {"fd": "distance", "precision": "share"}
    judge = lambda claimed: agreement.judge(where, kinds, claimed, found, {"fd": 0.01, "precision": 0.1})
    assert [line["ok"] for line in judge({"fd": 1.005, "precision": 0.59})] == [True, True]
    for claimed in (None, "row", {"fd": "1", "precision": math.nan}, {"fd": 0, "precision": None}):
        lines = judge(claimed)
        assert [line["ok"] for line in lines] == [False, False]
        assert all(line["why"] for line in lines)
        json.dumps(lines, allow_nan=False)
