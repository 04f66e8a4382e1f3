"""`board` and `formats`: who stands where and why, known answers, and what hostile folders come to."""

import csv
import io
import json
import os
import shutil

import entries
import pytest
import submissions

from madbench import cli, results
from madbench.errors import UserError
from madbench.leaderboard import board as boards
from madbench.leaderboard import checks, costs, formats, markdown, score, sheets
from madbench.leaderboard.files import one_line


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """The only task there is."""
    with pytest.MonkeyPatch.context() as patch:
        yield submissions.install(patch, tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def folder(task, tmp_path_factory):
    return entries.folder(tmp_path_factory.mktemp("all") / "submissions")


@pytest.fixture(scope="module")
def board(folder):
    return boards.load(folder)


@pytest.fixture
def one(task, tmp_path):
    """A folder with one submission of its own, "honest", without samples."""
    path = submissions.without_samples(submissions.packed(tmp_path / "submissions" / "honest", _workdir(tmp_path)))
    return path.parent


def _workdir(tmp_path):
    return submissions.workdir(tmp_path / "run")


def entry(board, name):
    return next(e for e in board.entries if e.folder == name)


def places(lines):
    return [(line.rank, line.of.name) for line in lines]


def test_ranks_ties_and_who_stands_on_no_board(board, task):
    assert places(board.resistance(task)) == [
        (1, "steady"), (2, "close"), (3, "stale"), (4, "rerun"), (5, "fading"), (5, "twin"),
    ]  # fmt: skip
    assert [e.name for e in board.invalidated] == ["broken", "refuted"]
    assert [line.of.name for line in board.resistance(task) if line.is_near] == ["close"]


def test_status_and_its_reasons(board):
    found = {e.folder: (e.status, e.reason) for e in board.entries}
    assert found["fading"] == ("self-reported", "")
    assert found["rerun"] == ("re-run", "")
    assert found["refuted"] == ("invalidated", "verify: re-run: fd differs")
    status, reason = found["stale"]
    assert (status, "another submission.json" in reason) == ("self-reported", True)
    status, reason = found["broken"]
    assert (status, reason.startswith("check ")) == ("invalidated", True)
    assert entry(board, "broken").summary is None


def test_scores_come_from_rows(board, task):
    for each in board.entries:
        if each.status != "invalidated":
            assert each.summary == score.summary(task, each.submission.rows, each.submission.timing)


def test_a_summary_that_is_not_of_the_rows_is_invalidated(one):
    submissions.edit(one / "honest" / "submission.json", lambda m: m["summary"]["resistance"].update(score=99.0))
    (found,) = boards.load(one).entries
    assert (found.status, found.reason.startswith("check summary: ")) == ("invalidated", True)


def test_speed_ranks_what_has_whole_timing(board, task, one):
    assert {line.rank for line in board.speed(task)} == {1}
    assert [line.of.per_hour for line in board.speed(task)] == [3600 * 36 / 5] * 6


def test_overall_counts_a_task_that_was_not_submitted_0(one, tmp_path, monkeypatch):
    other = submissions.task_file() | {"name": "another"}
    other["config"] = other["config"] | {"task": "another"}
    other["sha256"] = results.config_hash(other["config"])
    submissions.install(monkeypatch, tmp_path / "tasks", submissions.task_file(), other)
    found = boards.load(one)
    (line,) = found.overall
    (alone,) = found.resistance(found.tasks[1])
    assert [task.name for task in found.tasks] == ["another", "tiny"]
    assert line.of.resistance["score"] == pytest.approx(alone.of.resistance["score"] / 2)
    assert list(line.of.entries) == ["tiny"]


def test_one_name_on_two_tasks_is_no_clash_but_one_row(one, tmp_path):
    other = one.parent / "others" / "honest"
    shutil.copytree(one / "honest", other)
    submissions.edit(other / "timing.jsonl", lambda rows: rows[-1].update(fit_seconds=0.123))
    submissions.redo_hashes(other)
    assert [f.message for f in checks.clashes([one / "honest", other])] == [
        f"{other} has the name honest, and so has {one / 'honest'}"
    ]
    submissions.edit(other / "submission.json", lambda m: m.update(task="another"))
    assert checks.clashes([one / "honest", other]) == []


def test_a_task_without_a_band_does_not_count(one, tmp_path, monkeypatch):
    other = submissions.task_file() | {"name": "another", "band": None}
    submissions.install(monkeypatch, tmp_path / "tasks", submissions.task_file(), other)
    found = boards.load(one)
    assert ([task.name for task in found.tasks], found.coming) == (["tiny"], ["another"])
    assert found.overall[0].of.resistance == found.entries[0].resistance


def test_of_two_submissions_of_one_name_the_worse_counts_overall(one, tmp_path):
    better = submissions.workdir(tmp_path / "better", change=lambda rows: entries._shift(rows, 0.8))
    submissions.without_samples(submissions.packed(one / "again", better))
    found = boards.load(one)
    (line,) = found.overall
    assert len(found.resistance(found.tasks[0])) == 2
    assert line.of.entries["tiny"].folder == "honest"
    assert line.of.resistance == entry(found, "honest").resistance


def test_the_status_of_a_team_is_its_least_certain(board):
    def team(*statuses):
        found = {str(i): boards.dataclasses.replace(board.entries[0], status=s) for i, s in enumerate(statuses)}
        return boards.Team("a", "none", found, {}).status

    assert team("re-run", "re-run") == "re-run"
    assert team("re-run", "self-reported") == "self-reported"
    assert team("re-run", "re-run (other device)") == "re-run (other device)"


def test_how_much_was_seen_again_stands_beside_the_status(board):
    shown = {e.folder: e.evidence for e in board.entries}
    assert {name: text for name, text in shown.items() if text} == {"rerun": "1 of 12 runs"}
    rerun = entry(board, "rerun")
    assert boards.Team("a", "none", {"x": rerun, "y": rerun}, {}).evidence == "2 of 24 runs"
    assert boards.Team("a", "none", {"x": rerun, "y": entry(board, "fading")}, {}).evidence == ""
    details = {line[1].text: line[-1].detail for line in sheets.index(board)["resistance"].rows}
    assert details == {e.name: e.evidence for e in board.entries if e.status != "invalidated"}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        '{"submission_sha256": "HASH"}',
        '{"submission_sha256": "HASH", "status": "accepted"}',
        '{"submission_sha256": "HASH", "status": ["re-run"]}',
        '{"submission_sha256": "HASH", "status": "re-run", "seed": NaN}',
        '{"submission_sha256": ["HASH"], "status": "re-run"}',
        '{"status": "re-run"}',
        "[" * 100_000,
    ],
)
def test_a_damaged_verification_makes_no_status(one, text):
    digest = boards.hashlib.sha256((one / "honest" / "submission.json").read_bytes()).hexdigest()
    (one / "honest" / "verification.json").write_text(text.replace("HASH", digest))
    (found,) = boards.load(one).entries
    assert found.status == "self-reported"
    assert found.reason.startswith("its verification does not count: ")
    assert found.verification is None


def test_what_was_found_wrong_stays_so_whatever_its_author_edits(one):
    entries.verify(one / "honest", "invalidated", reason="fd differs")
    submissions.edit(one / "honest" / "submission.json", lambda manifest: manifest.update(note="better now"))
    (found,) = boards.load(one).entries
    assert found.status == "invalidated"
    assert found.reason == "verify, of an earlier submission.json: fd differs; to be verified again"


def test_a_verification_of_odd_values_shows_no_more_than_lines(one):
    odd = {"seed": "7", "device": {"kind": ["x"]}, "rule": {"a": 1}, "notes": [1, "a\nb", "c" * 999]}
    entries.verify(one / "honest", "re-run", **odd, samples=None, benchmark=3)
    (found,) = boards.load(one).entries
    assert found.status == "re-run (other device)"
    facts = found.verification
    assert (facts["seed"], facts["runs"], facts["task_runs"], facts["device"], facts["rule"]) == (None, 1, 12, "", "")
    assert facts["notes"][:2] == ["", "a\N{REPLACEMENT CHARACTER}b"]
    assert len(facts["notes"][2]) == 401


PAIR = {"loop": "fully_synthetic", "bias": 1.0, "seed": 0, "generation": 2}
VALUE = {"what": "re-run", **PAIR, "metric": "fd", "ok": True}
FIRST = {"generation": 1}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"passed": False}, "does not say that all agreed"),
        ({"passed": None}, "does not say that all agreed"),
        ({"passed": 1}, "does not say that all agreed"),
        ({"pairs": []}, "does not name each run"),
        ({"pairs": 3}, "does not name each run"),
        ({"pairs": [7]}, "names no pairs"),
        ({"rows": []}, "does not name each run"),
        ({"rows": {}}, "does not name each run"),
        ({"rows": [[]]}, "names no pairs"),
        ({"rows": [VALUE, VALUE | {"ok": False}]}, "names values that do not agree"),
        ({"rows": [VALUE | {"ok": "yes"}]}, "names values that do not agree"),
        ({"rows": [VALUE | {"what": "samples"}]}, "does not name each run"),
        ({"rows": [VALUE | {"seed": [0]}]}, "does not name each run"),
        ({"pairs": [PAIR, PAIR]}, "does not name each run that was computed again once"),
        ({"pairs": [PAIR, PAIR | {"seed": 1}]}, "does not name each run"),
        ({"pairs": [PAIR | {"seed": 99}], "rows": [VALUE | {"seed": 99}]}, "does not name each run"),
        ({"pairs": [PAIR | FIRST], "rows": [VALUE | FIRST]}, "is of generation 1 alone"),
    ],
)
def test_a_re_run_that_shows_too_little_does_not_count(one, fields, said):
    entries.verify(one / "honest", "re-run", **fields)
    (found,) = boards.load(one).entries
    assert (found.status, found.verification, found.evidence) == ("self-reported", None, "")
    assert found.reason.startswith("its verification does not count: verification.json ")
    assert said in found.reason


@pytest.mark.parametrize(
    "fields",
    [
        {"device": {"kind": "Slide Rule", "platform": "cpu"}},  # whatever it calls its rule
        {"device": {"kind": "Abacus 9"}},
        {"device": None},
        {"rule": "another kind of device"},
        {"status": "re-run (other device)", "rule": "another kind of device"},
    ],
)
def test_a_re_run_on_another_kind_of_device_is_called_that(one, fields):
    entries.verify(one / "honest", **{"status": "re-run", **fields})
    board = boards.load(one)
    (found,) = board.entries
    assert (found.status, found.evidence, found.compared) == ("re-run (other device)", "1 of 12 runs", (1, 12))
    assert '"status": "re-run (other device)"' in formats.to_json(board)
    assert "re-run (other device)" in formats.to_csv(board)
    assert "re-run (other device)" in sheets.index(board)["resistance"].rows[0][-1].text


def test_what_cannot_be_read_is_shown_as_invalidated(one):
    for name in ("empty", "a\nb", "Ünïcode <b>"):
        (one / name).mkdir()
        (one / name / "submission.json").write_text("{")
    (one / "not-one").mkdir()
    (one / "submission.json").write_text("{}")
    os.symlink(one / "honest", one / "link")
    (one / "dangling").mkdir()
    os.symlink(one / "nowhere", one / "dangling" / "submission.json")
    found = boards.load(one)
    assert {e.folder: e.status for e in found.entries} == {
        "honest": "self-reported",
        **dict.fromkeys(("empty", "a\N{REPLACEMENT CHARACTER}b", "Ünïcode <b>", "link", "dangling"), "invalidated"),
    }
    assert {e.slug for e in found.entries} == {"honest", "empty", "a-b", "n-code-b", "link", "dangling"}
    json.loads(formats.to_json(found))
    assert formats.to_csv(found).encode()


def test_a_name_that_is_no_text_can_be_written(one):
    path = os.fsencode(one) + b"/\xff\xfe"
    os.mkdir(path)
    with open(path + b"/submission.json", "wb") as file:
        file.write(b"{}")
    found = boards.load(one)
    formats.to_json(found).encode()
    assert [e.slug for e in found.invalidated] == ["submission"]


@pytest.fixture(scope="module")
def methods(task, tmp_path_factory):
    """A board of one name with three methods: none, sims, and one that copies real samples."""
    path = tmp_path_factory.mktemp("methods")
    for name, strategy in {"none": submissions.NONE, "sims": submissions.SIMS, "copier": submissions.COPIER}.items():
        change = None if name != "sims" else lambda rows: entries._shift(rows, 0.9)
        submissions.workdir(path / "runs" / name, strategy=strategy, change=change)
        entry = submissions.packed(path / "all" / name, path / "runs" / name, name="reference")
        submissions.edit(entry / "timing.jsonl", lambda rows, n=name: rows[0].update(fit_seconds=0.5 + len(n) / 100))
        submissions.redo_hashes(submissions.without_samples(entry))
        timing = [json.loads(line) for line in (entry / "timing.jsonl").read_text().splitlines()]
        rows = [json.loads(line) for line in (entry / "metrics.jsonl").read_text().splitlines()]
        summary = score.summary(task, rows, timing)
        submissions.edit(entry / "submission.json", lambda m, s=summary: m.update(summary=s))
    return boards.load(path / "all")


def test_none_and_methods_stand_on_one_board(methods, task):
    assert [(e.folder, e.status, e.reason) for e in methods.entries] == [
        (name, "self-reported", "") for name in ("copier", "none", "sims")
    ]
    found = [(line.rank, line.of.method) for line in methods.overall]
    assert found == [(1, "sims"), (2, "my_package.my_module:Copier"), (2, "none")]
    assert checks.clashes([e.submission.path for e in methods.entries]) == []
    assert methods.resistance(task)[0].of.strategy == "sims(weight=2.0)"
    assert {e.folder: round(e.cost.ratio, 3) for e in methods.entries} == {"none": 1, "sims": 0.985, "copier": 0.985}


def test_who_copies_real_samples_is_marked(methods):
    assert [e.folder for e in methods.entries if e.is_copying] == ["copier"]
    assert [line.of.is_copying for line in methods.overall] == [False, True, False]
    text = markdown.render(methods)
    assert "| my_package.my_module&#58;Copier (copies?) |" in text.replace("my&#95;", "my_").replace("e&#95;m", "e_m")
    assert text.count("(copies?)") == 2  # on both boards
    assert f"copies? {costs.COPIED}" in text
    for sheet in (sheets.index(methods)["resistance"], sheets.task(methods, methods.tasks[0])["resistance"]):
        marks = {row[2].text: list(row[2].badges) for row in sheet.rows}
        assert marks == {"none": [], "sims": [], "my_package.my_module:Copier": [("copies?", "warn")]}
    assert sheets.index(methods)["copied"] == costs.COPIED


def test_what_a_method_cost_is_in_json_and_csv(methods):
    by_name = {each["submission"]: each for each in json.loads(formats.to_json(methods))["submissions"]}
    assert by_name["copier"]["cost"] == {
        "ratio": pytest.approx(1 - 100 / 6500), "is_bounded": True, "real_seen": 40, "extra_parameters": 17,
        "pool_memorization": 0.9, "first_pool": pytest.approx(0.9), "is_copying": True,
    }  # fmt: skip
    assert (by_name["sims"]["method"], by_name["sims"]["strategy"]) == ("sims", "sims(weight=2.0)")
    rows = [row for row in csv.DictReader(io.StringIO(formats.to_csv(methods))) if row["board"] == "task"]
    found = {row["submission"]: row for row in rows}
    assert float(found["sims"]["cost_ratio"]) == by_name["sims"]["cost"]["ratio"]
    assert (found["sims"]["strategy"], found["sims"]["cost_pool_memorization"]) == ("sims(weight=2.0)", "")
    assert json.loads(formats.to_json(methods))["tasks"][0]["budget"] == submissions.BUDGET


def test_speed_ranks_only_first_models_that_are_the_task_s(task, tmp_path):
    def worse(rows):
        for row in rows:
            row["fd"] *= 3 if row["generation"] == 1 else 1

    submissions.workdir(tmp_path / "run", strategy=submissions.SIMS, change=worse)
    submissions.without_samples(submissions.packed(tmp_path / "all" / "a", tmp_path / "run"))
    found = boards.load(tmp_path / "all")
    (entry,) = found.entries
    assert (entry.status, entry.is_in_band) == ("self-reported", False)
    assert (len(found.resistance(task)), found.speed(task)) == (1, [])
    assert json.loads(formats.to_json(found))["submissions"][0]["speed_rank"] is None


def test_slugs_differ_in_whatever_case_and_lead_nowhere():
    names = ["A", "a", "a-2", "..", ".", "../../x", "", "x" * 300, "x" * 200, "CON/", "<script>", "a b", "a_b", "é"]
    found = boards.slugs(names)
    assert len({slug.casefold() for slug in found}) == len(names)
    for slug in found:
        assert boards.re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,69}", slug)
    assert found[:2] == ["A", "a-2"]


def test_folders_that_hold_nothing_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no submission"):
        boards.load(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        boards.load(tmp_path / "absent")


def test_json_holds_all_of_it(board, task):
    found = json.loads(formats.to_json(board))
    assert found == formats.plain(board)
    assert [row["rank"] for row in found["overall"]] == [1, 2, 3, 4, 5, 5]
    by_name = {each["submission"]: each for each in found["submissions"]}
    assert by_name["steady"]["summary"] == entry(board, "steady").summary
    assert by_name["steady"]["device"] == "Abacus 9"
    assert by_name["broken"]["rank"] is by_name["broken"]["summary"] is None
    assert by_name["broken"]["speed_rank"] is None
    band = found["tasks"][0]["cells"][0]["band"]["fd"]
    assert (band["low"], band["high"]) == task.bands["fully_synthetic", 1.0]["fd"].interval(3)


def test_csv_has_the_same_numbers(board):
    rows = list(csv.DictReader(io.StringIO(formats.to_csv(board))))
    found = {board: [row for row in rows if row["board"] == board] for board in ("overall", "task", "cell", "band")}
    assert [len(each) for each in found.values()] == [6, 8, 6 * 4, 4 * 3]
    steady = next(row for row in found["task"] if row["submission"] == "steady")
    summary = entry(board, "steady").summary
    assert float(steady["score"]) == summary["resistance"]["score"]
    assert float(steady["last_recall"]) == summary["last"]["recall"]
    assert float(steady["per_hour"]) == summary["speed"]["per_hour"]
    cells = [row for row in found["cell"] if row["submission"] == "steady"]
    assert [float(row["retention_fd"]) for row in cells] == [cell["retention"]["fd"] for cell in summary["cells"]]


def test_a_text_is_no_formula_of_a_spreadsheet(one):
    def change(manifest):
        manifest.update(hardware='=HYPERLINK("http://x.example")', note="+1", contact="@a")

    submissions.edit(one / "honest" / "submission.json", change)
    (one / "honest").rename(one / "=HYPERLINK(1)")
    board = boards.load(one)
    for text in (formats.to_csv(board), formats.curves_csv(board)):
        assert "'=HYPERLINK" in text
        assert not [cell for row in csv.reader(io.StringIO(text)) for cell in row if cell[:1] in tuple("=+@")]


def test_markdown_escapes_texts(one):
    hostile = "<script>a|b`c`*d*_e_[f](http://g.example) @h www.i.example\\"
    submissions.edit(one / "honest" / "submission.json", lambda m: m.update(hardware=hostile))
    text = markdown.render(boards.load(one))
    for part in ("<script", "a|b", "`", "*d", "_e", "[f]", "http://", "@h", "www.", "\\"):
        assert part not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines[-3:]} == {8}


@pytest.mark.parametrize(
    "content",
    ["", "begin", "end begin", "begin begin end", "begin end end", "end"],
)
def test_a_file_without_both_markers_is_refused(tmp_path, content):
    marks = {"begin": markdown.BEGIN, "end": markdown.END}
    path = tmp_path / "README.md"
    path.write_text("\n".join(marks[word] for word in content.split()))
    with pytest.raises(UserError, match="each once"):
        markdown.replaced(path, "x")


def test_markdown_goes_between_the_markers(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n{markdown.BEGIN}\nold\n{markdown.END}\nrest\n")
    text = markdown.replaced(path, "new\n")
    assert text == f"# Title\n{markdown.BEGIN}\nnew\n{markdown.END}\nrest\n"
    path.write_text(text)
    assert markdown.replaced(path, "new\n") == text


def test_the_command(one, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"a\n{markdown.BEGIN}\n{markdown.END}\nb\n")
    shutil.copytree(one / "honest", one / "other")
    submissions.edit(one / "other" / "metrics.jsonl", lambda rows: rows.pop())
    command = ["madbench", "leaderboard", str(one), f"--out={tmp_path / 'site'}", f"--readme={readme}"]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "honest: self-reported\nother: invalidated (check " in printed
    assert "1 of 2 submissions count" in printed
    assert "| 1 | honest | none |" in readme.read_text()
    assert (tmp_path / "site" / "submissions" / "honest.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the folder of submissions"),
        (["{folder}", "{folder}", "--out=x"], "name the folder of submissions"),
        (["{folder}"], "--out=SITE is missing"),
        (["{tmp}", "--out={tmp}/site"], "holds no submission"),
        (["{folder}", "--out={tmp}/site", "--readme={tmp}/none"], "cannot be read"),
        (["{folder}", "--out={folder}"], "holds other files"),
    ],
)
def test_errors_of_use_write_nothing(folder, tmp_path, capsys, arguments, message):
    before = sorted(folder.rglob("*"))
    values = {"folder": folder, "tmp": tmp_path}
    assert cli.main(["madbench", "leaderboard", *(a.format(**values) for a in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert sorted(folder.rglob("*")) == before


def test_texts_by_others_become_one_line():
    assert one_line("a\x1b[2J\u202eb\n c  d ") == "a\ufffd[2J\ufffdb\ufffd c d"
    assert one_line("ab" * 200, 5) == "ababa…"
    assert [one_line(value) for value in (None, 3, ["a"], {})] == [""] * 4
