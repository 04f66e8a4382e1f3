"""`madbench check`: an honest submission passes, and each way to be dishonest or damaged is one clear line."""

import io
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest
import submissions

from madbench import cli
from madbench.errors import UserError
from madbench.leaderboard import (
    checks,
    files,
    form_checks,
    forms,
    method_checks,
    number_checks,
    rewrite,
    score,
    submission,
    tasks,
)

METRICS = "metrics.jsonl"


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def task(patch, tmp_path_factory):
    return submissions.install(patch, tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def honest(task, tmp_path_factory):
    return submissions.packed(tmp_path_factory.mktemp("honest") / "entry")


@pytest.fixture
def entry(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "entry")


def failed(path):
    """name -> message of the checks that failed, without those that had nothing to look at."""
    found = checks.run(path)
    assert [finding.name for finding in found] == checks.names()
    assert all("\n" not in finding.message and finding.message.isprintable() for finding in found)
    blocked = [finding for finding in found if finding.message.startswith("not checked, because ")]
    assert not any(finding.ok for finding in blocked)
    return {finding.name: finding.message for finding in found if not finding.ok and finding not in blocked}


def forge(entry, change, *, scores=True, seeds=True):
    """Edits the rows and does all that a forger can do: new scores, the samples of the seeds that now count, hashes."""
    submissions.edit(entry / METRICS, change)
    found = submission.Submission(entry)
    if seeds:
        old = sorted(p for p in (entry / "samples").rglob("*.npz"))
        data = [path.read_bytes() for path in old]
        shutil.rmtree(entry / "samples")
        names = sorted(found.sample_names.values())
        for name, content in zip(names, data, strict=True):
            (entry / name).parent.mkdir(parents=True, exist_ok=True)
            (entry / name).write_bytes(content)

        def rename(manifest):
            kept = {name: value for name, value in manifest["files"].items() if "/" not in name}
            manifest["files"] = kept | dict.fromkeys(names)

        submissions.edit(entry / "submission.json", rename)
    if scores:
        rows = [json.loads(line) for line in (entry / METRICS).read_text().splitlines()]
        timing = [json.loads(line) for line in (entry / "timing.jsonl").read_text().splitlines()]
        summary = score.summary(found.task, rows, timing)
        submissions.edit(entry / "submission.json", lambda manifest: manifest.update(summary=summary))
    submissions.redo_hashes(entry)


def test_an_honest_submission_passes(honest):
    assert failed(honest) == {}
    assert len(checks.names()) > 15
    for function in checks._CHECKS:
        assert function.__doc__  # what a check is for stands beside it
        assert function.__module__ in (form_checks.__name__, method_checks.__name__, number_checks.__name__)


def test_a_forged_one_whose_rows_are_as_they_were_passes(entry):
    """So that what the other tests find is what they changed."""
    forge(entry, lambda rows: None)
    assert failed(entry) == {}


def test_a_check_without_anything_to_look_at_says_so(entry):
    (entry / "submission.json").write_text("{")
    found = {finding.name: finding for finding in checks.run(entry)}
    assert found["links"].ok
    assert found["manifest"].message.startswith("submission.json is not JSON")
    assert found["task"].message == "not checked, because manifest failed"
    assert found["band"].message.startswith("not checked, because ")
    assert not any(finding.ok for finding in list(found.values())[1:])


# ---- the directory ---------------------------------------------------------------------------------------------------


def test_links_of_every_kind(entry, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("{}")
    for name, make in {
        "config.json": lambda path: path.symlink_to(secret / "key"),
        "README.md": lambda path: path.symlink_to("nowhere"),
        "reference.json": lambda path: os.link(secret / "key", path),
        METRICS: os.mkfifo,
        "samples": lambda path: path.symlink_to(secret),
    }.items():
        copy = shutil.copytree(entry, tmp_path / "copy")
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)
        assert set(failed(copy)) == {"links"}
        assert f"'{name}' is a" in failed(copy)["links"]
        with pytest.raises(UserError, match="is a"):
            submission.load(copy)
        shutil.rmtree(copy)
    (tmp_path / "link").symlink_to(entry)
    assert "symbolic link" in failed(tmp_path / "link")["links"]


def test_a_file_that_becomes_a_link_is_not_followed(entry, tmp_path):
    found = submission.Submission(entry)
    assert "config.json" in found.listing
    (tmp_path / "other").write_text("{}")
    (entry / "config.json").unlink()
    (entry / "config.json").symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match=r"'config.json' cannot be read"):
        files.read(entry, "config.json", 100)
    os.unlink(entry / "config.json")
    os.mkfifo(entry / "config.json")
    with pytest.raises(UserError, match="a pipe"):
        files.read(entry, "config.json", 100)


def test_what_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "is not a directory" in failed(tmp_path / "file")["links"]
    assert "cannot be read" in failed(tmp_path / "nothing")["links"]
    assert "cannot be read" in failed("a\0b")["links"]
    (tmp_path / "empty").mkdir()
    found = failed(tmp_path / "empty")
    assert set(found) == {"links"}
    assert "is no submission: it has no submission.json" in found["links"]


def test_too_many_files_and_too_deep(entry, monkeypatch):
    monkeypatch.setattr(files, "MOST_ENTRIES", 30)
    for i in range(30):
        (entry / f"{i}").write_text("")
    assert "more than 30 files" in failed(entry)["links"]
    monkeypatch.undo()
    (entry / "a/b/c/d/e/f").mkdir(parents=True)
    assert "'a/b/c/d/e' lies too deep" in failed(entry)["links"]


def test_files_that_have_no_place(entry):
    for name in ("run.py", ".git", "samples/x.npz", "a\nb\x1b[2J\u202e.txt", "samples/fully_synthetic-bias1-seed9/x"):
        path = entry / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        assert set(failed(entry)) == {"files"}
        assert f"{name!a} has no place here" in failed(entry)["files"]
        path.unlink()
    (entry / "verification.json").write_text("{}")  # may be there
    assert failed(entry) == {}


def test_files_that_are_missing(entry):
    for name in ("README.md", "config.json", "timing.jsonl"):
        copy = shutil.copytree(entry, entry.parent / "copy")
        (copy / name).unlink()
        assert any(f"{name}" in message and "missing" in message for message in failed(copy).values())
        shutil.rmtree(copy)
    next((entry / "samples").rglob("*.npz")).unlink()
    assert "measured-0001.npz is missing" in failed(entry)["files"]
    submissions.without_samples(entry)
    assert failed(entry) == {}
    assert "left out" in next(f.message for f in checks.run(entry) if f.name == "samples")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "samples", "", "\x00", "submission.json"])
def test_the_manifest_names_only_what_has_a_place(entry, name):
    entry.with_name("outside").write_text("{}")

    def change(manifest):
        manifest["files"][name] = {"bytes": 2, "sha256": "0" * 64}

    submissions.edit(entry / "submission.json", change)
    assert set(failed(entry)) in ({"files"}, {"manifest"})


def test_the_manifest_must_name_all(entry):
    for name in list(json.loads((entry / "submission.json").read_text())["files"])[::5]:
        copy = shutil.copytree(entry, entry.parent / "copy")
        submissions.edit(copy / "submission.json", lambda manifest, name=name: manifest["files"].pop(name))
        assert failed(copy) == {"files": f"the manifest does not list {name}"}
        shutil.rmtree(copy)


def test_an_edited_file_has_another_hash(entry):
    for path in sorted(p for p in entry.rglob("*") if p.is_file() and p.name not in ("README.md", "submission.json")):
        data = path.read_bytes()
        path.write_bytes(data + b"\n")
        assert failed(entry), path
        path.write_bytes(data)
    data = (entry / METRICS).read_bytes()
    (entry / METRICS).write_bytes(data.replace(b"0.8", b"0.9", 1))
    assert failed(entry)
    (entry / METRICS).write_bytes(data)
    assert failed(entry) == {}


def test_files_that_are_too_large(entry):
    for name in ("config.json", METRICS, "README.md", "verification.json"):
        copy = shutil.copytree(entry, entry.parent / "copy")
        with open(copy / name, "ab") as file:
            file.truncate(10 << 30)  # sparse: takes no room
        assert "holds 10,737,418,240 bytes" in failed(copy)["sizes"]
        with pytest.raises(UserError, match=rf"^'{name}' holds 10,737,418,240 bytes, and at most 1,000 are expected$"):
            files.read(copy, name, 1000)
        shutil.rmtree(copy)


# ---- JSON ------------------------------------------------------------------------------------------------------------

HOSTILE_JSON = {
    "NaN": "NaN is no number of JSON",
    "-Infinity": "-Infinity is no number of JSON",
    "1e999": "1e999 is not a finite number",
    "9" * 5000: "is too large a number",
    "9223372036854775808": "is too large a number",
    "[" * 100_000: "values lie within each other",
    "[" * 30 + "]" * 30: "more than 20 values lie within each other",
    '{"a":' * 30 + "1" + "}" * 30: "more than 20 values lie within each other",
    '{"a": 1, "a": 2}': "'a' stands twice in one object",
    '"\\ud800"': "it holds half a character",
    '"\x01"': "is not JSON",
    "1 2": "is not JSON",
    "": "is not JSON",
}


@pytest.mark.parametrize("text", HOSTILE_JSON, ids=lambda text: text[:20])
def test_json_is_strict(text):
    with pytest.raises(UserError, match=r"^x") as caught:
        files.parse("x", text.encode())
    assert HOSTILE_JSON[text] in str(caught.value)
    assert len(str(caught.value)) < 200


def test_json_that_is_no_text():
    for data in (b"\xff\xfe", b'"\xed\xa0\x80"', b"\xc0\xaf", "{}".encode("utf-16")):
        with pytest.raises(UserError, match="not UTF-8"):
            files.parse("x", data)
    with pytest.raises(UserError, match="not JSON"):
        files.parse("x", "\ufeff{}".encode())  # a byte-order mark


def test_json_that_is_right():
    text = '{"a": [1, -2.5e-3, null, true, "\\u00e4<script>"], "b": {}}'
    assert files.parse("x", text.encode()) == json.loads(text)
    assert files.parse_rows("x", b'{"a": 1}\n{}\n', 2) == [{"a": 1}, {}]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{}\n{}", "the last line is cut short"),
        (b"{}\n\n", "line 2 is not JSON"),
        (b"{}\n[]\n", "line 2: a list is not an object"),
        (b"{}\n1\n", "line 2: 1 is not an object"),
        (b"{}\n" * 4, "has 4 lines, and at most 3"),
    ],
)
def test_rows_are_strict(data, said):
    with pytest.raises(UserError, match=said):
        files.parse_rows("x", data, 3)


@pytest.mark.parametrize("value", ["x", float("nan"), True, [], {}, "1.0", 10**30, -1])
@pytest.mark.parametrize("field", ["fd", "recall", "seed", "generation", "n_real"])
def test_what_is_no_number_in_the_rows(entry, field, value):
    submissions.edit(entry / METRICS, lambda rows: rows[7].update({field: value}))
    submissions.redo_hashes(entry)
    assert set(failed(entry)) & {"json", "schema", "ranges"}


# ---- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["name", "contact", "url", "hardware", "note", "method", "benchmark"])
@pytest.mark.parametrize(
    "value", ["a\nb", "\u202eevil", "\x1b[2J", "x" * 201, " x", 1, None, ["x"], "\u2028", "\u3164", "\u0301" * 5]
)
def test_texts_are_single_printable_lines(entry, field, value):
    submissions.edit(entry / "submission.json", lambda manifest: manifest.update({field: value}))
    assert set(failed(entry)) == {"manifest"}
    assert failed(entry)["manifest"].startswith(f"submission.json.{field} is ")


@pytest.mark.parametrize("field", ["contact", "hardware", "note"])
def test_tags_are_texts_like_others(entry, field):
    """Who shows them escapes them."""
    text = "<script>alert('x')</script> [a](javascript:b) {{ 7*7 }}"
    submissions.edit(entry / "submission.json", lambda manifest: manifest.update({field: text}))
    assert failed(entry) == {}
    assert submission.load(entry).manifest[field] == text


@pytest.mark.parametrize("text", ["<script>x</script>", "../x", "javascript:x", "a b"])
def test_names_addresses_and_methods_are_narrower(entry, text):
    for field in ("name", "url", "method"):
        copy = shutil.copytree(entry, entry.parent / "copy")
        submissions.edit(copy / "submission.json", lambda manifest, field=field: manifest.update({field: text}))
        assert set(failed(copy)) == {"manifest"}
        shutil.rmtree(copy)


# ---- of the task -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        (lambda m: m.update(task="other"), "task", "unknown task 'other'"),
        (lambda m: m.update(task="../tiny"), "task", "unknown task '../tiny'"),
        (lambda m: m.update(task_version=2), "task", "version 2"),
        (lambda m: m.update(task_sha256="0" * 64), "task", "another config was run"),
        (lambda m: m.update(schema=3), "manifest", "schema is 3, not a whole number from 1 to 2"),
        (lambda m: m.update(schema=True), "manifest", "schema is True, not a whole number from 1 to 2"),
        (lambda m: m.pop("strategy"), "manifest", "strategy is missing"),
        (lambda m: m.update(method="sims"), "method", "method is 'sims', and its strategy is of 'none'"),
        (lambda m: m.update(strategy="sims"), "method", "method is 'none', and its strategy is of 'sims'"),
        (lambda m: m.update(strategy="sims", method="sims"), "method", "config.strategy is 'none', and the manifest's"),
        (lambda m: m.update(extra=1), "manifest", "'extra' is unknown"),
        (lambda m: m.pop("note"), "manifest", "note is missing"),
        (lambda m: m.update(benchmark="99.0"), "evaluator", "several versions"),
        (lambda m: m["summary"]["resistance"].update(score=99.0), "summary", "resistance.score is 99.0, not"),
        (lambda m: m["summary"].pop("cells"), "summary", "summary has other fields"),
        (lambda m: m["summary"]["speed"].update(per_hour=1e9), "summary", "per_hour"),
    ],
)
def test_a_manifest_that_is_not_of_the_rows(entry, change, check, said):
    submissions.edit(entry / "submission.json", change)
    assert set(failed(entry)) == {check}
    assert said in failed(entry)[check]


@pytest.mark.parametrize("redo", [False, True])
def test_a_config_that_differs_in_one_number(entry, redo):
    submissions.edit(entry / "config.json", lambda content: content["config"].update(n_initial=31))
    if redo:
        submissions.redo_hashes(entry)
    assert set(failed(entry)) == ({"config"} if redo else {"hashes", "config"})
    assert failed(entry)["config"] == "config.n_initial is 31, and the task's is 30"


def edited(entry, name, change):
    if name == METRICS:
        forge(entry, change)
    else:
        submissions.edit(entry / name, change)
        submissions.redo_hashes(entry)
    return failed(entry)


@pytest.mark.parametrize(
    ("name", "change", "check", "said"),
    [
        ("config.json", lambda c: c.update(sha256="0" * 64), "config", "not that of its config"),
        ("config.json", lambda c: c.update(shard=[1, 2]), "config", "'shard' is unknown"),
        ("reference.json", lambda r: r.update(features="lenet-1:0"), "evaluator", "features is 'lenet-1:0'"),
        ("reference.json", lambda r: r.update(n_samples=50), "evaluator", "n_samples is 50, and the task's is 40"),
        ("reference.json", lambda r: r["metrics"]["fd"].update(version=2), "evaluator", "not described as the task"),
        ("reference.json", lambda r: r["metrics"]["fd"].update(most="x"), "schema", "most is 'x'"),
        ("reference.json", lambda r: r["metrics"].pop("fd"), "schema", "fd is missing"),
        ("reference.json", lambda r: r["floors"]["fd"].update(mean=0.21), "floors", "the floor of fd (mean) is 0.21"),
        ("reference.json", lambda r: r["floors"]["recall"].update(p5=0.7), "floors", "the floor of recall (p5)"),
        ("reference.json", lambda r: r["cells"][0]["settings"].update(n_synthetic=1), "cells", "not the task's"),
        ("environment.json", lambda e: e["versions"].update(madbench="0.0.1"), "evaluator", "several versions"),
        ("environment.json", lambda e: e["device"].update(count=0), "schema", "device.count is 0"),
        ("environment.json", lambda e: e.pop("dataset"), "schema", "dataset is missing"),
        ("timing.jsonl", lambda rows: rows.pop(), "timing", "0 runs of generation 3, and the task has 12"),
        ("timing.jsonl", lambda rows: rows[1].update(runs=11), "timing", "11 runs of generation 2"),
        ("timing.jsonl", lambda rows: rows[1].update(generation=1), "timing", "generation 1 stands there twice"),
        ("timing.jsonl", lambda rows: rows[1].update(fit_seconds=0), "timing", "a phase took no time"),
        ("timing.jsonl", lambda rows: rows[1].update(fit_seconds=-1), "schema", "fit_seconds is -1"),
        ("timing.jsonl", lambda rows: rows[1].update(fit_seconds=1e300), "schema", "fit_seconds is 1e+300"),
        ("timing.jsonl", lambda rows: rows[1].update(fit_seconds=0.01), "summary", "speed"),
        (METRICS, lambda rows: [r.update(features="raw-2") for r in rows], "evaluator", "features is raw-2"),
        (METRICS, lambda rows: rows[2]["metric_versions"].update(fd=2), "evaluator", "metric_versions is"),
        (METRICS, lambda rows: rows[2].update(n_samples=39), "evaluator", "n_samples is 39"),
        (METRICS, lambda rows: rows[2].update(benchmark="0.0.9"), "evaluator", "several versions"),
        (METRICS, lambda rows: rows[2].update(task="x"), "schema", "task is 'x'"),
        (METRICS, lambda rows: rows[2].update(seed=7), "seeds", "seed 7"),
        (METRICS, lambda rows: rows.pop(5), "cells", "is missing"),
        (METRICS, lambda rows: rows.__setitem__(5, rows[4]), "cells", "has 2 rows"),
        (METRICS, lambda rows: rows[2].update(generation=4), "cells", "generation 4 is not of the task"),
        (METRICS, lambda rows: rows[30].update(n_synthetic=21), "composition", "and the task says"),
        (METRICS, lambda rows: rows[30].update(status="diverged"), "finite", "it diverged, and has metrics"),
        (METRICS, lambda rows: rows[30].update(status="fine"), "schema", "status is 'fine'"),
        (METRICS, lambda rows: rows[30].update(fd=-0.1), "ranges", "fd is -0.1"),
        (METRICS, lambda rows: rows[30].update(recall=1.025), "ranges", "recall is 1.025"),
        (METRICS, lambda rows: rows[30].update(recall=0.51), "ranges", "no whole number of 40 samples"),
    ],
)
def test_what_was_run_is_the_task(entry, name, change, check, said):
    found = edited(entry, name, change)
    assert check in found
    assert said in found[check].replace("'raw-2'", "raw-2")


def test_a_run_does_not_come_back(entry):
    def change(rows):
        row = next(r for r in rows if r["generation"] == 2)
        row |= {"status": "diverged", "fd": None, "precision": None, "recall": None}

    forge(entry, change)
    assert "it is ok after it diverged in generation 2" in failed(entry)["finite"]


def test_a_seed_that_stands_for_another(entry):
    def copied(rows):
        values = {(r["loop"], r["bias"], r["generation"]): r for r in rows if r["seed"] == 0}
        for row in rows:
            if row["seed"] == 2:
                source = values[row["loop"], row["bias"], row["generation"]]
                row |= {name: source[name] for name in ("fd", "precision", "recall")}

    forge(entry, copied)
    assert failed(entry) == {"seeds": "fully_synthetic, λ = 1: seeds 0 and 2 have the same numbers"}


# ---- the numbers -----------------------------------------------------------------------------------------------------


def shifted(rows, metric, factor, seeds=(0, 1, 2), bias=None):
    for row in rows:
        if row["generation"] == 1 and row["seed"] in seeds and bias in (None, row["bias"]):
            row[metric] = round(row[metric] * factor * 40) / 40 if metric != "fd" else row[metric] * factor


@pytest.mark.parametrize(
    ("metric", "factor", "side"),
    [("fd", 0.5, "good"), ("fd", 2.0, "bad"), ("recall", 0.6, "bad"), ("recall", 1.2, "good"), ("fd", 1e-300, "good")],
)
@pytest.mark.parametrize("seeds", [(0, 1, 2), (1,)])
def test_generation_1_lies_in_the_band_on_both_sides(entry, metric, factor, side, seeds):
    forge(entry, lambda rows: shifted(rows, metric, factor, seeds))
    found = failed(entry)
    if (metric, factor, seeds) == ("recall", 1.2, (1,)):  # one run alone may be as good as 0.96
        assert found == {}
        return
    assert set(found) == {"band"}
    assert f"{metric} of generation 1, " in found["band"]
    assert f"too {side} (the reference band is " in found["band"]
    if len(seeds) == 3:
        assert "mean over 3 seeds, is " in found["band"]


def test_the_mean_has_a_narrower_band_than_a_run(entry, task):
    band = task.bands["fully_synthetic", 1.0]["fd"]
    (low, high), (low_1, high_1) = band.interval(3), band.interval(1)
    factor = (high * high_1) ** 0.5 / band.centre  # between the two

    def change(rows):
        for row in rows:
            if row["generation"] == 1 and row["bias"] == 1.0:
                row["fd"] = band.centre * factor * (1 + 1e-6 * row["seed"])

    forge(entry, change)
    assert "mean over 3 seeds," in failed(entry)["band"]
    assert "(and 1 more)" in failed(entry)["band"]  # the other loop; no single run
    assert low_1 < low < high < high_1


def test_a_distance_of_zero_is_too_good(entry):
    forge(entry, lambda rows: shifted(rows, "fd", 0.0, seeds=(0,)))
    assert "is 0, too good" in failed(entry)["band"]


def test_generation_1_cannot_be_missing(entry):
    forge(entry, lambda rows: rows[0].update(fd=None))
    assert "before there was synthetic data" in failed(entry)["band"]


def test_loops_that_begin_alike_have_the_same_generation_1(entry):
    def change(rows, by):
        row = next(r for r in rows if r["generation"] == 1 and r["seed"] == 1 and "fresh" in r["loop"])
        row["fd"] *= by

    forge(entry, lambda rows: change(rows, 1.01))  # a tenth of a standard deviation: rounding, perhaps
    assert failed(entry) == {}
    forge(entry, lambda rows: change(rows, 1.05))
    assert set(failed(entry)) == {"twins"}
    assert "in fully_synthetic, λ = 1, which begins alike" in failed(entry)["twins"]


def test_an_edited_metric_is_found_without_its_hash(entry):
    """With everything redone but the scores; what a forger can make consistent is left to `verify`."""
    submissions.edit(entry / METRICS, lambda rows: rows[-1].update(fd=rows[-1]["fd"] * 1.5))
    assert "hashes" in failed(entry) or "files" in failed(entry)
    forge(entry, lambda rows: None, scores=False)
    assert set(failed(entry)) == {"summary"}
    assert "it is not what the rows give" in failed(entry)["summary"]


def test_nobody_chooses_which_samples_are_packed(entry, task):
    for step in range(20):  # the other rows may choose the same seeds, though not twenty times
        submissions.edit(entry / METRICS, lambda rows, step=step: rows[-1].update(fd=rows[-1]["fd"] + 1e-9 * step))
        submissions.redo_hashes(entry)
        if "files" in failed(entry):
            break
    assert "the manifest lists 'samples/" in failed(entry)["files"]


# ---- samples ---------------------------------------------------------------------------------------------------------


def npz(entries, **options):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", **options) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return data.getvalue()


def npy(x, **options):
    data = io.BytesIO()
    np.lib.format.write_array(data, x, **options)
    return data.getvalue()


def header(text, version=(1, 0)):
    text = text.encode() if isinstance(text, str) else text
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pickle-was-here",))


GOOD = np.arange(80, dtype=np.float32).reshape(40, 2)
SHAPE = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }\n"
ARRAYS = {
    "pickled objects": (npz({"x.npy": npy(np.array([Evil()], dtype=object), allow_pickle=True)}), "pickled objects"),
    "a pickle": (npz({"x.npy": pickle.dumps(Evil())}), "no .npz file"),
    "a bare pickle": (pickle.dumps(Evil()), "no .npz file"),
    "10 GB of declared shape": (npz({"x.npy": header(SHAPE % "50000, 50000")}), "[50000, 50000]"),
    "more than there is": (npz({"x.npy": header(SHAPE % "40, 2")}), "as many bytes as its header says"),
    "a zip bomb": (
        npz({"x.npy": header(SHAPE % "40, 2") + bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED),
        "as many bytes as its header says",
    ),
    "a header of a megabyte": (npz({"x.npy": header(b" " * 10**6, (2, 0))}), "no .npz file"),
    "a deep header": (npz({"x.npy": header("(" * 2000)}), "no .npz file"),
    "a program in the header": (npz({"x.npy": header("__import__('os').mkdir('header-was-here')\n")}), "no .npz file"),
    "a header of Python 2": (npz({"x.npy": header(SHAPE % "40L, 2L")}), "no .npz file"),
    "format 3": (npz({"x.npy": header(SHAPE % "40, 2", (3, 0)) + bytes(320)}), "format (3, 0)"),
    "another shape": (npz({"x.npy": npy(GOOD[:39])}), "float32' '[39, 2]', and float32 [40, 2] is expected"),
    "another order": (npz({"x.npy": npy(np.asfortranarray(GOOD))}), "is expected"),
    "another type": (npz({"x.npy": npy(GOOD.astype(np.float64))}), "float64"),
    "other bytes": (npz({"x.npy": npy(GOOD.astype(">f4"))}), "is expected"),
    "fields": (npz({"x.npy": npy(np.zeros((40, 2), [("a", "<f4")]))}), "is expected"),
    "bytes after the array": (npz({"x.npy": npy(GOOD) + b"x"}), "as many bytes as its header says"),
    "another name": (npz({"../x.npy": npy(GOOD)}), "'../x.npy', and x.npy alone is expected"),
    "two arrays": (npz({"x.npy": npy(GOOD), "y.npy": npy(GOOD)}), "x.npy alone is expected"),
    "many entries": (npz({str(i): b"" for i in range(50)}), "x.npy alone is expected"),
    "none": (npz({}), "x.npy alone is expected"),
    "another compression": (npz({"x.npy": npy(GOOD)}, compression=zipfile.ZIP_LZMA), "by another method"),
    "nothing": (b"", "no .npz file"),
    "a bare array": (npy(GOOD), "no .npz file"),
    "not finite": (npz({"x.npy": npy(np.full((40, 2), np.nan, np.float32))}), "not finite"),
    "all the same": (npz({"x.npy": npy(np.full((40, 2), 0.5, np.float32))}), "all the same one"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_samples_that_are_none(entry, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, said = ARRAYS[kind]
    found = submission.Submission(entry)
    for path in found.samples.values():
        path.write_bytes(data)
    submissions.redo_hashes(entry)
    problems = failed(entry)
    if kind in ("a zip bomb", "a header of a megabyte", "many entries") and "sizes" in problems:
        assert "bytes, and at most" in problems["sizes"]  # before anything is opened
        with pytest.raises(UserError) as caught:
            files.read_array("x", data, (40, 2), "float32")
        assert said in str(caught.value)
    else:
        assert set(problems) == {"samples"}
        assert said in problems["samples"].replace('"', "'")
    assert not list(tmp_path.glob("*-was-here"))
    assert not list(entry.rglob("*-was-here"))


def test_a_bomb_is_not_set_off(monkeypatch):
    """However much an archive holds, no more is decompressed than is expected, and a few kilobytes."""
    bomb, _ = ARRAYS["a zip bomb"]
    made = []
    plain = zlib.decompressobj

    class Counting:
        def __init__(self, *arguments):
            self.inner = plain(*arguments)

        def decompress(self, *arguments):
            made.append(self.inner.decompress(*arguments))
            return made[-1]

        def __getattr__(self, name):
            return getattr(self.inner, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    with pytest.raises(UserError):
        files.read_array("x", bomb, (40, 2), "float32")
    assert 0 < sum(map(len, made)) < 20_000


def test_arrays_that_are_right():
    for data in (
        npz({"x.npy": npy(GOOD)}),
        npz({"x.npy": npy(GOOD, version=(2, 0))}, compression=zipfile.ZIP_DEFLATED),
    ):
        assert np.array_equal(files.read_array("x", data, (40, 2), "float32"), GOOD)


def test_the_bound_of_an_archive_holds_for_noise():
    x = np.random.default_rng(0).integers(0, 256, (500, 28, 28, 3)).astype(np.uint8)
    for write in (np.savez, np.savez_compressed):
        data = io.BytesIO()
        write(data, x=x)
        assert len(data.getvalue()) <= files.archive_bound(x.shape, "uint8") < 1.01 * x.nbytes


def test_samples_of_a_run_that_diverged_need_not_be_finite(entry):
    def change(rows):
        for row in rows:
            if row["generation"] == 3 and row["loop"] == "fully_synthetic":
                row |= {"status": "diverged", "fd": None, "precision": None, "recall": None}

    forge(entry, change)
    for (loop, _, _, t), path in submission.Submission(entry).samples.items():
        if t == 3 and loop == "fully_synthetic":
            path.write_bytes(npz({"x.npy": npy(np.full((40, 2), np.nan, np.float32))}))
    submissions.redo_hashes(entry)
    assert failed(entry) == {}


def test_samples_that_are_another_run_s(entry):
    paths = [path for key, path in submission.Submission(entry).samples.items() if key[3] == 3]
    paths[1].write_bytes(paths[0].read_bytes())
    submissions.redo_hashes(entry)
    assert "its samples are those of fully_synthetic-bias1-seed" in failed(entry)["samples"]


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command(honest, entry, capsys):
    capsys.readouterr()
    assert cli.main(["madbench", "check", str(honest)]) == 0
    output, error = capsys.readouterr()
    *lines, empty, outcome = output.splitlines()
    assert lines == [f"{len(checks.names())} of {len(checks.names())} checks passed"]
    assert empty == ""
    assert outcome.startswith("check passed: to submit, open a pull request")
    assert error == ""
    assert cli.main(["madbench", "check", str(honest), "--verbose"]) == 0
    assert capsys.readouterr().out.splitlines()[:-3] == [f"ok      {name}" for name in checks.names()]
    (entry / "config.json").write_text("{}")
    assert cli.main(["madbench", "check", str(entry)]) == 2
    changed, *failures, counted, _, outcome = capsys.readouterr().out.splitlines()
    assert changed.startswith("FAILED  hashes: config.json is not the file")
    assert all(line.startswith("FAILED  ") for line in failures)
    assert re.fullmatch(
        rf"\d+ of {len(checks.names())} checks passed; not made, because of what failed: 1\d checks", counted
    )
    assert outcome.startswith("check failed: ")
    assert cli.main(["madbench", "check", str(entry), "--verbose"]) == 2
    assert ", samples" in capsys.readouterr().out.splitlines()[-3]
    assert cli.main(["madbench", "check"]) == 2
    assert cli.main(["madbench", "check", str(entry / "nothing")]) == 2


def test_what_holds_and_has_a_remark_is_said(entry, capsys):
    shutil.rmtree(entry / "samples")
    assert cli.main(["madbench", "check", str(entry)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["ok      files", "ok      samples"]
    assert lines[2] == f"{len(checks.names())} of {len(checks.names())} checks passed"


def test_what_is_no_submission_is_called_that(tmp_path, capsys):
    (tmp_path / "checkpoints" / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)  # as deep as those of a workdir
    (tmp_path / "config.json").write_text("{}")
    assert cli.main(["madbench", "check", str(tmp_path)]) == 2
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"FAILED  links: {tmp_path} is no submission: it has no submission.json; `madbench submit`")
    count = len(checks.names())
    assert second == f"0 of {count} checks passed; not made, because of what failed: {count - 1} checks"


@pytest.mark.parametrize("command", ["check", "verify"])
def test_what_was_taken_for_a_submission_is_told_what_it_is(honest, tmp_path, capsys, command):
    shutil.copytree(honest, tmp_path / "all" / "one")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    for name, said in {
        "all": f"a folder of submissions; name one in it: madbench {command} ",
        "run": "a workdir",
    }.items():
        assert cli.main(["madbench", command, str(tmp_path / name)]) == 2
        output, error = capsys.readouterr()
        assert (output, error.count("\n")) == ("", 1)
        assert f"{name} is {said}" in error


def test_edited_rows_are_called_edited(entry):
    """And not samples of other seeds, which is what follows from other rows."""
    submissions.edit(entry / METRICS, lambda rows: rows[0].update(fd=rows[0]["fd"] * 1.01))
    assert list(failed(entry)) == ["hashes"]


def test_several_at_once(honest, entry, tmp_path, capsys):
    other = shutil.copytree(entry, tmp_path / "other")
    submissions.edit(other / "timing.jsonl", lambda rows: rows[0].update(fit_seconds=rows[0]["fit_seconds"] * 1.001))
    forge(other, lambda rows: rows[-1].update(fd=rows[-1]["fd"] * 1.001))
    submissions.edit(other / "submission.json", lambda manifest: manifest.update(name="Other"))
    capsys.readouterr()
    assert cli.main(["madbench", "check", str(honest), str(other)]) == 0
    assert str(other) in capsys.readouterr().out.splitlines()
    assert cli.main(["madbench", "check", str(honest), str(entry)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:-2] == [
        f"FAILED  others: {entry} has the name honest, and so has {honest}",
        f"FAILED  others: {entry} has the same timing.jsonl, and so has {honest}",
    ]
    submissions.edit(other / "submission.json", lambda manifest: manifest.update(name="HONEST"))
    assert [finding.message for finding in checks.clashes([honest, other, tmp_path])] == [
        f"{other} has the name HONEST, and so has {honest}"
    ]


def test_a_run_that_was_resumed_elsewhere(entry):
    """What `environment.write` leaves then."""

    def change(environment):
        environment["resumed_with"] = [{**environment, "device": {"kind": "Abacus 10", "platform": "cpu", "count": 1}}]

    submissions.edit(entry / "environment.json", change)
    submissions.redo_hashes(entry)
    assert failed(entry) == {}
    submissions.edit(entry / "environment.json", lambda e: e["resumed_with"][0].update(processes=0))
    submissions.redo_hashes(entry)
    assert set(failed(entry)) == {"schema"}


def test_a_later_generation_nearer_than_real_samples_is_too_good(entry):
    def change(rows, value):
        next(row for row in rows if row["generation"] == 2)["fd"] = value

    for value in (-0.0, 1e-320, 0.04):
        forge(entry, lambda rows, value=value: change(rows, value))
        assert set(failed(entry)) == {"distances"}
        assert "too good: real samples are rarely within 0.1" in failed(entry)["distances"]
    forge(entry, lambda rows: change(rows, 0.06))
    assert failed(entry) == {}


@pytest.mark.parametrize("value", [1e308, 1e150])
def test_numbers_beyond_arithmetic_are_refused(entry, value):
    def change(rows):
        for row in rows:
            if row["generation"] > 1:
                row["fd"] = value

    forge(entry, change)
    assert "too large to compute with" in failed(entry)["ranges"]


def test_many_names_in_one_object_are_read():
    """Each compared with each takes a minute."""
    names = ",".join(f'"{i}": 0' for i in range(50_000))
    with pytest.raises(UserError, match="'x' stands twice in one object"):
        files.parse("a file", f'{{{names}, "x": 0, "x": 0}}'.encode())


def test_what_is_there_already(honest, entry, tmp_path, capsys):
    there = tmp_path / "all"
    for name in ("a", "b"):  # that clash with each other, which is not said of a third
        shutil.copytree(honest, there / name)
    (there / "README.md").write_text("")
    new = shutil.copytree(entry, there / "new")
    capsys.readouterr()
    assert cli.main(["madbench", "check", f"--beside={there}", str(new)]) == 2
    assert capsys.readouterr().out.splitlines()[-4:-2] == [
        f"FAILED  others: {new} has the name honest, and so has {there / 'a'}",
        f"FAILED  others: {new} has the same timing.jsonl, and so has {there / 'a'}",
    ]
    submissions.edit(new / "timing.jsonl", lambda rows: rows[0].update(fit_seconds=rows[0]["fit_seconds"] * 1.001))
    forge(new, lambda rows: None)
    submissions.edit(new / "submission.json", lambda manifest: manifest.update(name="other"))
    assert cli.main(["madbench", "check", f"--beside={there}", str(new)]) == 0  # of the same rows: both are honest
    assert cli.main(["madbench", "check", f"--beside={tmp_path / 'none'}", str(new)]) == 2


def test_twins_whose_waves_met_other_machines():
    """Rounding makes another generation 1: of a family in which it makes another run, and on another kind of device."""
    band = tasks.Band(mean=0.0, sd=0.1, count=24, is_log=True)
    task = type("Task", (), {"evaluator": {"n_samples": 40, "metrics": {"fd": {"kind": "distance"}}}})
    limits = []
    for family, later in (("diffusion", "cpu"), ("diffusion", "TPU v4"), ("gan", "cpu")):
        task.config = {"model": {"family": family}}
        first, other = ({"device": {"kind": kind, "platform": "any"}} for kind in ("cpu", later))
        environment = first | {"resumed_with": [other]}
        result = type("Result", (), {"environment": environment})
        one = type("Submission", (), {"task": task, "result": result})
        limits.append(number_checks._twin_limit(one, "fd", band))
    assert limits[0] == pytest.approx(0.025)
    assert limits[1] == pytest.approx(0.3)
    assert 0.5 < limits[2] < 0.8


def test_a_seed_that_is_another_but_for_the_last_digits(entry):
    def change(rows):
        found = [row for row in rows if row["loop"] == "fully_synthetic" and row["bias"] == 1.0]
        copied = {row["generation"]: row for row in found if row["seed"] == 0}
        for row in found:
            if row["seed"] == 1:
                same = copied[row["generation"]]
                row.update(fd=same["fd"] * (1 + 1e-8), precision=same["precision"], recall=same["recall"])

    forge(entry, change)
    assert "seeds 0 and 1 have all but the same numbers in generation 1" in failed(entry)["seeds"]


# ---- README.md, and files that change --------------------------------------------------------------------------------


def test_a_readme_that_says_something_else_is_refused_and_made_anew(entry, capsys):
    text = (entry / "README.md").read_bytes()
    for other in (text.replace(b"resistance**: ", b"resistance**: 9"), text + b"\n", b"", text.replace(b"\n", b"\r\n")):
        (entry / "README.md").write_bytes(other)
        assert set(failed(entry)) == {"readme"}
        assert failed(entry)["readme"].endswith(f"python -m madbench.leaderboard.rewrite {entry}")
    assert rewrite.main([str(entry)]) == 0
    assert (entry / "README.md").read_bytes() == text
    assert failed(entry) == {}
    capsys.readouterr()
    assert rewrite.main([str(entry), str(entry / "nothing")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_text_that_is_changed_without_its_readme_is_refused(entry):
    text = (entry / "README.md").read_text()
    submissions.edit(entry / "submission.json", lambda manifest: manifest.update(hardware="a thousand TPUs"))
    (entry / "README.md").write_text(text)
    assert set(failed(entry)) == {"readme"}


def test_samples_that_come_in_the_place_of_others_are_not_read(entry):
    found = submission.Submission(entry)
    assert all(finding.ok for finding in checks.findings(found))
    key, path = next(iter(found.samples.items()))
    data = found.array(key)
    np.savez_compressed(path, x=data + np.float32(1))
    with pytest.raises(UserError, match=r"measured-0001\.npz is not the file of which the manifest has the hash"):
        found.array(key)


def test_names_clash_within_one_method(honest, entry, monkeypatch):
    monkeypatch.setitem(forms.MANIFEST, "method", forms.LINE)
    submissions.edit(entry / "timing.jsonl", lambda rows: rows[0].update(fit_seconds=0.6))
    submissions.redo_hashes(entry)
    assert [finding.message for finding in checks.clashes([honest, entry])] == [
        f"{entry} has the name honest, and so has {honest}"
    ]
    submissions.edit(entry / "submission.json", lambda manifest: manifest.update(method="another"))
    assert checks.clashes([honest, entry]) == []
