"""`madbench submit`: what it packs, and what it refuses."""

import hashlib
import html
import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
import submissions

from madbench import cli, job_config, results
from madbench.errors import UserError
from madbench.leaderboard import checks, packing, submission, tasks


@pytest.fixture(autouse=True)
def task(monkeypatch, tmp_path):
    return submissions.install(monkeypatch, tmp_path / "tasks")


@pytest.fixture
def folder(tmp_path, task):
    return submissions.workdir(tmp_path / "run")


def main(*arguments):
    return cli.main(["madbench", *map(str, arguments)])


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert main("submit", *arguments) == 2
    output, error = capsys.readouterr()
    assert (output, error.count("\n")) == ("", 1)
    return error


def tree(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_it_packs_the_workdir_and_says_so(folder, task, tmp_path, capsys):
    out = tmp_path / "new" / "entry"
    options = ("--contact=me@example.org", "--url=https://example.org/a?b=1", "--note=a <b>bold</b> note")
    assert main("submit", folder, "--name=mine-1.0", f"--out={out}", *options) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == f"wrote {out}: 36 rows of task tiny-v1, 12 runs of 3 generations"
    assert second.startswith("15 files, ")
    assert "8 of them samples of one seed a cell" in second
    assert last == f"next: madbench check {out}"
    for name in ("config.json", "environment.json", "reference.json", "metrics.jsonl", "timing.jsonl"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    manifest = json.loads((out / "submission.json").read_text())
    content = tree(out)
    assert manifest["files"] == {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in content.items()
        if name not in ("submission.json", "README.md")
    }
    assert {name: manifest[name] for name in ("name", "method", "task", "task_version", "hardware", "note")} == {
        "name": "mine-1.0", "method": "none", "task": "tiny", "task_version": 1,
        "hardware": "2 cores of Abacus 9", "note": "a <b>bold</b> note",
    }  # fmt: skip
    assert manifest["task_sha256"] == task.sha256 == results.config_hash(task.config)
    assert main("check", out) == 0
    assert capsys.readouterr().out.startswith(f"{len(checks.names())} of {len(checks.names())} checks passed\n")


def test_the_seed_of_the_samples_follows_from_the_rows(folder, task, tmp_path):
    out = submissions.packed(tmp_path / "entry", folder)
    rows = (folder / "metrics.jsonl").read_bytes()
    expected = set()
    for cell in task.cells:
        text = f"{cell['loop']} {cell['bias']!r}".encode()
        seed = int(hashlib.sha256(rows + b"\0" + text).hexdigest(), 16) % 3
        slug = results.slug(cell["loop"], cell["bias"], seed)
        expected |= {f"samples/{slug}/measured-0001.npz", f"samples/{slug}/measured-0003.npz"}
    assert {name for name in tree(out) if name.startswith("samples/")} == expected
    for name in expected:
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    chosen = {submission.packed_seed(bytes([i]), "fully_synthetic", 1.0, [5, 7, 9]) for i in range(50)}
    assert chosen == {5, 7, 9}


def test_a_submission_as_readers_see_it(tmp_path, task):
    out = submissions.packed(tmp_path / "entry")
    found = submission.load(out)
    assert (found.path, found.task, found.manifest["name"]) == (out, task, "honest")
    assert found.rows == submissions.rows(task) == found.result.rows
    assert found.timing == submissions.timing(task)
    assert list(found.result.metrics) == ["fd", "precision", "recall"]
    assert {key[:2] + key[3:] for key in found.samples} == {(*run[:2], t) for run in task.runs for t in (1, 3)}
    for key, path in found.samples.items():
        assert np.array_equal(found.array(key), np.load(path)["x"])
    submissions.without_samples(out)
    assert submission.load(out).samples == {}
    assert all(finding.ok for finding in checks.run(out))
    (out / "metrics.jsonl").write_text("[")
    with pytest.raises(UserError, match=r"entry: metrics.jsonl.*see `madbench check"):
        submission.load(out)


def test_packing_twice_gives_the_same_bytes(folder, tmp_path):
    a = submissions.packed(tmp_path / "a", folder, note="x")
    b = submissions.packed(tmp_path / "deeper" / "b", folder, note="x")
    assert tree(a) == tree(b)
    assert (a.stat().st_mode & 0o777) == (folder.stat().st_mode & 0o777)


def test_the_readme_shows_texts_as_they_are(folder, task, tmp_path):
    out = submissions.packed(tmp_path / "a", folder, note="<script>alert(1)</script> [x](http://y) `z` **b**")
    text = (out / "README.md").read_text()
    assert "<script>" not in text
    (note,) = re.findall(r"^- \*\*note\*\*: (.*)$", text, re.M)
    assert html.unescape(note) == "<script>alert(1)</script> [x](http://y) `z` **b**"
    assert not re.search(r"[<>`*_\[\]]|://", note)
    assert "madbench run --task=tiny --workdir=DIR" in text
    summary = json.loads((out / "submission.json").read_text())["summary"]
    assert f"**resistance**: {summary['resistance']['score']:.1f} " in text
    for loop in task.config["loops"]:
        assert f"| `{loop}` |" in text


def test_diverged_runs_are_packed_and_said(tmp_path, capsys):
    def diverge(rows):
        for row in rows:
            if row["seed"] == 1 and row["generation"] > 1 and row["loop"] == "fully_synthetic":
                row |= {"status": "diverged", "fd": None, "precision": None, "recall": None}

    folder = submissions.workdir(tmp_path / "run", change=diverge)
    assert main("submit", folder, "--name=a", f"--out={tmp_path / 'a'}") == 0
    assert "4 of 36 loop-generations diverged; they count 0\n" in capsys.readouterr().out
    found = {finding.name: finding for finding in checks.run(tmp_path / "a")}
    assert all(finding.ok for finding in found.values())
    assert found["finite"].message == "of 36 loop-generations 4 diverged, which count 0"


@pytest.mark.parametrize("missing", [1, 5])
def test_unfinished_jobs_are_refused(tmp_path, capsys, missing):
    folder = submissions.workdir(tmp_path / "run", change=lambda rows: rows.__delitem__(slice(-missing, None)))
    error = refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}")
    assert f"is not finished: {missing} of 36 rows are missing" in error
    assert f"madbench run --task=tiny --workdir={folder}" in error
    assert not (tmp_path / "a").exists()


def test_a_last_line_that_a_kill_cut_short_is_no_row(folder, tmp_path, capsys):
    data = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(data[:-30])
    assert "the last line is cut short" in refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(task="mine"), "config.task is 'mine', which is no task of the leaderboard"),
        (lambda c: c.update(n_initial=31), "config.n_initial is 31, and the task's is 30"),
        (lambda c: c["data"].update(dimension=3), "config.data.dimension is 3, and the task's is 2"),
        (lambda c: c["model"].update(ddof=True), "config.model.ddof is True, and the task's is 1"),
        (lambda c: c.update(seeds=[0, 1]), "config.seeds is 2 values, and the task's is 3 values"),
        (lambda c: c.update(biases=[1.0, 0.9]), "config.biases[1] is 0.9, and the task's is 0.8"),
        (lambda c: c["metrics"].update(more=1), "config.metrics has the field 'more', and the task's has not"),
        (lambda c: c.pop("n_grid"), "config.n_grid is missing"),
    ],
)
def test_another_config_is_refused_by_its_field(folder, tmp_path, capsys, change, said):
    submissions.edit(folder / "config.json", lambda content: change(content["config"]))
    assert said in refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}")


def test_fields_that_say_only_how_may_differ(folder, tmp_path):
    submissions.edit(folder / "config.json", lambda content: content["config"].update(keep_checkpoints=7))
    assert all(finding.ok for finding in checks.run(submissions.packed(tmp_path / "a", folder)))


def test_without_kept_samples_there_is_no_submission(tmp_path, capsys):
    folder = submissions.workdir(tmp_path / "run", samples=False)
    error = refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}")
    assert "kept no samples" in error
    assert "madbench run --task=tiny --workdir=ANOTHER_DIR" in error


def test_samples_of_another_form_are_refused(folder, tmp_path, capsys):
    for path in folder.rglob("*.npz"):
        np.savez(path, x=np.zeros((40, 3), np.float32))
    error = refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}")
    assert "float32 [40, 2] is expected" in error


def test_a_task_without_a_band_is_not_open(monkeypatch, folder, tmp_path, capsys):
    submissions.install(monkeypatch, tmp_path / "other", submissions.task_file() | {"band": None})
    error = refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}")
    assert "task tiny-v1 is not open yet" in error


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--name=", "--name=NAME is missing"),
        ("--name=a/b", "--name is 'a/b', not 1 to 60"),
        ("--name=..", "--name is '..'"),
        ("--name=a.", "--name is 'a.'"),
        ("--name=" + "a" * 61, "--name is 'aaa"),
        ("--name=ä", "--name is '\\xe4'"),
        ("--note=" + "a" * 201, "--note is"),
        ("--note=a\nb", "--note is 'a\\nb'"),
        ("--note=a\u202eb", "--note is 'a\\u202eb'"),
        ("--contact=\x1b[2J", "--contact is '\\x1b[2J'"),
        ("--url=javascript:alert(1)", "--url is 'javascript:alert(1)'"),
        ("--url=https://a b", "--url is 'https://a b'"),
        ("--url=https://", "--url is 'https://'"),
        ("--url=http://a.b/<x>", "--url is 'http://a.b/<x>'"),
        ("--hardware= x", "--hardware is ' x'"),
    ],
)
def test_texts_that_cannot_stand_on_a_page(folder, tmp_path, capsys, option, said):
    assert said in refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}", option)
    assert not (tmp_path / "a").exists()


def test_names_and_addresses_that_can(folder, tmp_path):
    for number, (name, url) in enumerate([("a", ""), ("0.9_B-c", "http://x.y:80/~z?a=b#c"), ("a" * 60, "https://h")]):
        out = submissions.packed(tmp_path / str(number), folder, name=name, url=url)
        assert all(finding.ok for finding in checks.run(out))


def test_errors_of_use(folder, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    assert "there exists; choose another --out" in refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'there'}")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "link exists" in refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'link'}")
    assert "--out=SUBMISSION is missing" in refusal(capsys, folder, "--name=a")
    assert "name the workdir" in refusal(capsys, "--name=a", "--out=b")
    assert "is not a workdir" in refusal(capsys, tmp_path, "--name=a", f"--out={tmp_path / 'a'}")
    entry = submissions.packed(tmp_path / "entry", folder)
    error = refusal(capsys, entry, "--name=a", f"--out={tmp_path / 'a'}")
    assert "entry is a submission itself, and is not packed again; name the workdir that was run" in error


def test_workdirs_of_an_older_version_are_told_what_to_do(folder, tmp_path, capsys):
    for path in (folder / "samples").rglob("measured-*"):
        path.unlink()
    submissions.edit(folder / "config.json", lambda content: content["config"].pop("keep_samples"))
    error = refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}")
    assert "by an older madbench; they cannot be made afterwards, so run it again: madbench run --task=tiny" in error
    submissions.edit(folder / "environment.json", lambda content: content.pop("processor"))
    error = refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}")
    assert "was not run by this version of madbench (environment.json: processor is missing); run it again" in error


def test_it_is_written_whole_or_not_at_all(folder, tmp_path, monkeypatch):
    before = {p.name for p in tmp_path.iterdir()}

    def fail(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        packing.pack([folder], tmp_path / "a", name="a")
    assert {p.name for p in tmp_path.iterdir()} == before


def test_rows_that_nobody_could_read_are_not_packed(tmp_path, capsys):
    folder = submissions.workdir(tmp_path / "run", change=lambda rows: rows[3].update(extra=1))
    error = refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}")
    assert "metrics.jsonl, line 4: 'extra' is unknown" in error
    assert not (tmp_path / "a").exists()


# ---- strategies ------------------------------------------------------------------------------------------------------


def with_strategy(tmp_path, name, **changes):
    """A workdir under a strategy of this text."""
    return submissions.workdir(tmp_path / "treated", strategy=submissions.SIMS | {"name": name} | changes)


@pytest.mark.parametrize("strategy", [submissions.SIMS, submissions.COPIER], ids=["suite", "class"])
def test_the_method_is_that_of_the_config(tmp_path, capsys, strategy):
    folder = submissions.workdir(tmp_path / "run", strategy=strategy)
    out = tmp_path / "entry"
    assert main("submit", folder, "--name=mine", f"--out={out}") == 0
    manifest = json.loads((out / "submission.json").read_text())
    assert (manifest["schema"], manifest["strategy"]) == (2, strategy["name"])
    assert manifest["method"] == strategy["name"].partition("(")[0]
    config = json.loads((out / "config.json").read_text())
    assert config["sha256"] == results.config_hash(config["config"]) != manifest["task_sha256"]
    assert manifest["task_sha256"] == submission.load(out).task.sha256
    assert main("check", out) == 0
    text = html.unescape((out / "README.md").read_text())
    assert f"- **strategy**: {strategy['name']}\n" in text
    assert "- **cost of a generation**: 0.985 times that without a strategy\n" in text
    assert f"--task=tiny {shlex.quote('--config.strategy=' + strategy['name'])} --workdir=DIR\n" in text
    assert ("- **warning**: 50% or more" in text) == (strategy is submissions.COPIER)


def test_the_readme_of_none_says_nothing_of_strategies(folder, tmp_path):
    text = (submissions.packed(tmp_path / "a", folder) / "README.md").read_text()
    assert "strategy" not in text.lower().replace("--config.strategy", "")
    assert "cost" not in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("magic", "config.strategy is 'magic', not a method"),  # an entry point of somebody's installation
        ("mine.module:lower", "config.strategy is 'mine.module:lower', not a method"),
        ("sims(a='<script>')", "none of them < or >"),
        ("sims(a='" + "x" * 200 + "')", "of at most 200 characters"),
    ],
)
def test_strategies_that_nobody_else_could_name_are_refused(tmp_path, capsys, name, said):
    error = refusal(capsys, with_strategy(tmp_path, name), "--name=a", f"--out={tmp_path / 'a'}")
    assert said in error
    assert "treated: config.strategy is " in error


@pytest.mark.parametrize("name", ["sims(weight=2.0)", "none"])
def test_unequal_cost_is_refused(tmp_path, capsys, name):
    folder = with_strategy(tmp_path, name, equal_cost=False)
    error = refusal(capsys, folder, "--name=a", f"--out={tmp_path / 'a'}")
    assert "config.equal_cost is False: the leaderboard compares at equal cost; leave config.equal_cost alone" in error


def test_a_run_that_cannot_be_submitted_is_told_so_when_it_starts():
    config = lambda **changes: job_config.override(
        job_config.read_task("tiny"), ["madbench", *(f"--config.{name}={value}" for name, value in changes.items())], []
    )
    told = lambda **changes: job_config.refusal(config(**changes), "tiny")
    assert told() == told(strategy="sims(weight=2.0)") == told(strategy="a.b:C") == ""
    assert "compares at equal cost; leave config.equal_cost alone: this run cannot be submitted" in told(
        strategy="sims", equal_cost=False
    )
    assert "is 'magic', not a method" in told(strategy="magic")
    assert "n_initial is 31" in told(strategy="sims", n_initial=31)


def test_a_workdir_from_before_there_were_strategies_is_packed_as_such(folder, task, tmp_path):
    submissions.edit(folder / "config.json", lambda c: [c["config"].pop(name) for name in results.STRATEGY])

    def older(content):
        for part in content if isinstance(content, list) else [content]:
            part["schema"] = 1
            for name in ("strategy", *results.ACCOUNT):
                part.pop(name, None)

    for name in ("environment.json", "reference.json", "metrics.jsonl", "timing.jsonl"):
        submissions.edit(folder / name, older)
    found = submission.load(submissions.packed(tmp_path / "a", folder))
    assert (found.manifest["schema"], found.manifest["method"], found.has_strategy) == (1, "none", False)
    assert [str(f) for f in checks.run(tmp_path / "a") if not f.ok] == []


# ---- shares ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path):
    return [submissions.workdir(tmp_path / f"part-{i}", shard=(i, 3)) for i in (1, 2, 3)]


def test_shares_are_one_submission(parts, task, tmp_path):
    out = submissions.packed(tmp_path / "a", parts[2], parts[0], parts[1])
    assert tree(out) == tree(submissions.packed(tmp_path / "b", *parts))
    assert all(finding.ok for finding in checks.run(out))
    found = submission.load(out)
    key = lambda row: (row["loop"], row["bias"], row["seed"], row["generation"])
    assert sorted(found.rows, key=key) == sorted(submissions.rows(task), key=key)
    assert "shard" not in json.loads((out / "config.json").read_text())
    assert [(row["wave"], row["runs"]) for row in found.timing] == [(w, 4) for w in range(3) for _ in range(3)]
    scores = json.loads((submissions.packed(tmp_path / "c") / "submission.json").read_text())["summary"]
    assert found.manifest["summary"]["cells"] == scores["cells"]


def test_shares_under_a_strategy_are_one_submission(tmp_path):
    parts = [submissions.workdir(tmp_path / f"s{i}", shard=(i, 2), strategy=submissions.SIMS) for i in (1, 2)]
    out = submissions.packed(tmp_path / "a", *parts)
    assert all(finding.ok for finding in checks.run(out))
    submissions.edit(parts[1] / "config.json", lambda c: c["config"].update(strategy="sims"))
    with pytest.raises(UserError, match="is a share of another job"):
        submissions.packed(tmp_path / "b", *parts)


def test_a_share_alone_is_refused(parts, tmp_path, capsys):
    error = refusal(capsys, parts[1], "--name=a", f"--out={tmp_path / 'a'}")
    assert "is one share of 3; name the workdirs of all" in error
    assert "missing: 1, 3" in error
    whole = submissions.workdir(tmp_path / "whole")
    assert "holds the whole job" in refusal(capsys, whole, parts[0], "--name=a", f"--out={tmp_path / 'a'}")
    shutil.copytree(whole, tmp_path / "again")
    error = refusal(capsys, whole, tmp_path / "again", "--name=a", f"--out={tmp_path / 'a'}")
    assert "are two jobs" in error


@pytest.mark.parametrize("field", ["device", "processor"])
def test_shares_of_other_hardware_are_refused(parts, tmp_path, capsys, field):
    other = {"device": {"kind": "Abacus 10", "platform": "cpu", "count": 2}, "processor": "96 cores of Abacus 9"}
    submissions.edit(parts[2] / "environment.json", lambda e: e.update({field: other[field]}))
    error = refusal(capsys, *parts, "--name=a", f"--out={tmp_path / 'a'}")
    assert f"part-3 was run with other {field} than" in error


def test_every_task_of_the_leaderboard_says_what_its_samples_are(monkeypatch):
    monkeypatch.undo()
    for name in tasks.names():
        task = tasks.load(name)
        if task.bands:  # else it is not open
            (n, *_), dtype = submission.sample_form(task)
            assert n == task.config["data"]["n_reference"]
            assert dtype in ("uint8", "float32")
