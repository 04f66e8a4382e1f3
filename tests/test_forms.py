"""`forms`: a field that comes with a later schema leaves what was published before it valid."""

import shutil

import pytest
import submissions

from madbench import results, strategies
from madbench.leaderboard import checks, forms, score, submission
from madbench.leaderboard.forms import LINE, NUMBER, Fields, Is, Since, mismatch
from madbench.models.family import Given


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def honest(patch, tmp_path_factory):
    """Of the present schemas."""
    submissions.install(patch, tmp_path_factory.mktemp("tasks"))
    return submissions.packed(tmp_path_factory.mktemp("honest") / "entry")


@pytest.fixture
def entry(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "entry")


@pytest.fixture
def later(honest, monkeypatch):
    """A later madbench: every file has a new field, and its schema another number."""
    new, number = {"new": Since(forms.SCHEMA + 1, LINE)}, forms.schema(forms.SCHEMA + 1)
    rows, reference, inner = forms.row, forms.reference, forms.HOW["fleet"]
    environment, optional = forms.ENVIRONMENT
    monkeypatch.setattr(forms, "MANIFEST", {**forms.MANIFEST, **new, "schema": number})
    monkeypatch.setattr(forms, "CONFIG", {**forms.CONFIG, **new})
    monkeypatch.setattr(forms, "HOW", {**forms.HOW, "fleet": {**inner, **new}})
    monkeypatch.setattr(forms, "TIMING", {**forms.TIMING, **new, "schema": number})
    monkeypatch.setattr(forms, "ENVIRONMENT", Fields({**environment, **new, "schema": number}, optional))
    monkeypatch.setattr(forms, "row", lambda metrics: {**rows(metrics), **new, "schema": number})
    monkeypatch.setattr(forms, "reference", lambda metrics: {**reference(metrics), **new, "schema": number})
    monkeypatch.setattr(forms, "SCHEMA", forms.SCHEMA + 1)
    summary = score.summary
    monkeypatch.setattr(score, "summary", lambda *given: summary(*given) | {"new": 1.0})


def failed(path):
    return {f.name: f.message for f in checks.run(path) if not f.ok and not f.is_blocked}


def test_what_was_published_stays_valid(entry, later):
    assert failed(entry) == {}
    assert submission.load(entry).manifest["schema"] == forms.SCHEMA - 1


def test_what_says_the_later_schema_must_have_the_field(entry, later):
    for name in ("submission.json", "environment.json", "reference.json", "metrics.jsonl", "timing.jsonl"):
        copy = shutil.copytree(entry, entry.with_name("copy"))
        one = lambda content: content[-1] if isinstance(content, list) else content
        submissions.edit(copy / name, lambda content, one=one: one(content).update(schema=3))
        submissions.redo_hashes(copy)
        found = failed(copy)
        assert found["manifest" if name == "submission.json" else "schema"].endswith("new is missing")
        shutil.rmtree(copy)


def test_all_of_the_later_schema_passes_with_the_fields_and_not_without(entry, later):
    text = {"new": "a text"}
    submissions.edit(entry / "config.json", lambda c: (c.update(text), c["config"]["fleet"].update(text)))
    for name in ("environment.json", "reference.json"):
        submissions.edit(entry / name, lambda content: content.update(text, schema=3))
    for name in ("metrics.jsonl", "timing.jsonl"):
        submissions.edit(entry / name, lambda rows: [row.update(text, schema=3) for row in rows])
    # other rows choose other samples, which are not what this is about
    submissions.without_samples(entry)
    names = submission.Submission(entry).sample_names.values()

    def change(manifest):
        kept = {name: value for name, value in manifest["files"].items() if "/" not in name}
        manifest["files"] = kept | {name: {"bytes": 1, "sha256": "0" * 64} for name in names}
        manifest.update(text, schema=3)
        manifest["summary"]["new"] = 1.0

    submissions.edit(entry / "submission.json", change)
    submissions.redo_hashes(entry)
    assert failed(entry) == {}
    submissions.edit(entry / "submission.json", lambda manifest: manifest["summary"].pop("new"))
    assert set(failed(entry)) == {"summary"}
    submissions.edit(entry / "config.json", lambda c: c["config"]["fleet"].pop("new"))
    submissions.redo_hashes(entry)
    assert failed(entry)["config"] == "config.fleet.new is missing"


def test_an_old_one_may_have_the_field_but_no_other_and_none_of_another_kind(entry, later):
    submissions.edit(entry / "submission.json", lambda manifest: manifest.update(new="a text"))
    assert failed(entry) == {}
    submissions.edit(entry / "submission.json", lambda manifest: manifest.update(new=3))
    assert set(failed(entry)) == {"manifest"}
    submissions.edit(entry / "submission.json", lambda manifest: manifest.update(new="a text", newer="x"))
    assert "'newer' is unknown" in failed(entry)["manifest"]
    submissions.edit(entry / "submission.json", lambda manifest: (manifest.pop("newer"), manifest.update(schema=4)))
    assert "schema is 4, not a whole number from 1 to 3" in failed(entry)["manifest"]


def test_a_part_goes_by_the_schema_of_what_it_is_part_of_or_its_own():
    form = {"schema": forms.schema(3), "a": [{"x": NUMBER, "y": Since(2, NUMBER)}]}
    assert mismatch(form, {"schema": 1, "a": [{"x": 1}]}, "f") == ""
    assert mismatch(form, {"schema": 3, "a": [{"x": 1, "y": 2}, {"x": 1}]}, "f") == "f.a[1].y is missing"
    assert mismatch({"y": Since(2, NUMBER)}, {}, "f", 1) == ""
    assert mismatch({"y": Since(2, NUMBER)}, {}, "f") == "f.y is missing"
    own = {"schema": forms.schema(3), "inner": form}
    assert mismatch(own, {"schema": 3, "inner": {"schema": 1, "a": [{"x": 1}]}}, "f") == ""
    assert mismatch(own, {"schema": 1, "inner": {"schema": 2, "a": [{"x": 1}]}}, "f") == "f.inner.a[0].y is missing"
    for value in (0, 4, True, "1", None, 1.0):
        assert mismatch(form, {"schema": value, "a": []}, "f").startswith("f.schema is ")
    assert isinstance(forms.schema(1), Is)


def test_methods_are_the_strategies_of_the_suite():
    """All of which there are, with their labels where they need any."""
    given = Given((2,), 4, None, 8)
    assert all(isinstance(strategies.build(name, given), strategies.Strategy) for name in forms.METHODS)
    assert "none" in forms.METHODS
    assert results.SCHEMA == forms.SCHEMA  # else `later` above is to tell them apart


METHODS = ("none", "sims", "k_choice", "a.b:C", "my_package.my_module:MyStrategy", "m:C")
NO_METHODS = (
    "", "magic", "Sims", "sims ", "sims()", "javascript:x", "a.b", "a.b:", ":C", "a.b:c", "a..b:C", "a/b:C", "../a:C",
    "a.b:C.D", "os:system", "<b>:C", "a:C\n", "ä:C", "1a:C", "none(x=1)", "a" * 61 + ":C", None, 3, ["none"], {"a": 1},
)  # fmt: skip


def test_a_method_is_a_name_of_the_suite_or_a_class():
    for value in METHODS:
        assert mismatch(forms.METHOD, value, "method") == ""
        assert forms.is_class(value) == (":" in value)
    for value in NO_METHODS:
        assert mismatch(forms.METHOD, value, "method").startswith("method is ")


def test_a_strategy_is_a_method_with_settings_in_one_spelling():
    more = ("(weight=1.0)", "(a=1,b=-2,c=(1, 2),d=None,e=True)", "(label='x-y')")
    for value in (*METHODS, *(method + settings for method in METHODS[1:] for settings in more)):
        assert mismatch(forms.STRATEGY, value, "s") == ""
        assert forms.method_of(value) == value.partition("(")[0]
    wrong = (
        "(weight = 1)", "(1)", "(weight=open)", "(weight=__import__('os'))", "(a=1)(b=2)", "(a=1", "(a=1,a=2)",
        "(**{})",
        "(a='<script>')", "(a='\u202e')", "(a='" + "x" * 200 + "')", "(a=lambda:0)",
    )  # fmt: skip
    for value in (*NO_METHODS, *(f"sims{settings}" for settings in wrong)):
        assert mismatch(forms.STRATEGY, value, "s"), value
