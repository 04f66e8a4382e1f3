"""`method_checks`: one method everywhere, at equal cost. Honest ones pass; each way to pretend is one clear line."""

import dataclasses
import json
import shutil

import pytest
import submissions
import test_checks_fuzz as fuzz
from test_checks import METRICS, edited, failed, forge

from madbench.errors import UserError
from madbench.leaderboard import checks, costs, method_checks, number_checks, submission, tasks

STRATEGIES = {"sims": submissions.SIMS, "copier": submissions.COPIER}


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def task(patch, tmp_path_factory):
    return submissions.install(patch, tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def honest(task, tmp_path_factory):
    """Of each strategy, and of none."""
    folder = tmp_path_factory.mktemp("honest")
    for name, strategy in {"none": submissions.NONE, **STRATEGIES}.items():
        submissions.packed(folder / name, submissions.workdir(folder / f"run-{name}", strategy=strategy))
    return folder


@pytest.fixture
def sims(honest, tmp_path):
    return shutil.copytree(honest / "sims", tmp_path / "entry")


@pytest.fixture
def copier(honest, tmp_path):
    return shutil.copytree(honest / "copier", tmp_path / "copier")


@pytest.mark.parametrize("name", STRATEGIES)
def test_honest_strategies_pass(honest, name):
    assert failed(honest / name) == {}
    manifest = submission.load(honest / name).manifest
    assert manifest["strategy"] == STRATEGIES[name]["name"]
    assert manifest["method"] == {"sims": "sims", "copier": "my_package.my_module:Copier"}[name]


def test_a_submission_from_before_there_were_strategies_has_none(honest, tmp_path):
    """All that came with schema 2 may be absent where schema 1 is said."""
    entry = shutil.copytree(honest / "none", tmp_path / "entry")
    account = ("strategy", "equal_cost", "flops", "n_real_seen", "extra_parameters", "pool_memorization")

    def older(content):
        for part in content if isinstance(content, list) else [content]:
            part["schema"] = 1
            for name in account:
                part.pop(name, None)

    submissions.edit(entry / "config.json", lambda c: [c["config"].pop(name) for name in account[:2]])
    for name in ("environment.json", "reference.json", "timing.jsonl", "submission.json"):
        submissions.edit(entry / name, older)
    forge(entry, older)
    assert failed(entry) == {}
    found = submission.load(entry)
    assert (found.strategy, found.has_strategy, found.rows[0]["flops"]) == ("none", False, None)
    assert costs.of(found.task, found.rows) == costs.Costs(1.0, True, None, 0, None, None)
    submissions.edit(entry / "submission.json", lambda m: m.update(method="sims"))
    assert failed(entry) == {"method": "config.strategy is 'none', and the manifest's is 'sims'"}


# ---- one name --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "check", "said"),
    [
        (
            "config.json",
            lambda c: c["config"].update(strategy="neon"),
            "config",
            "its sha256 is not that of its config",
        ),
        ("config.json", lambda c: c["config"].update(equal_cost=False), "config", "its sha256 is not that of its"),
        ("config.json", lambda c: c["config"].pop("strategy"), "config", "config.strategy is missing"),
        ("config.json", lambda c: c["config"].update(strategy=3), "config", "config.strategy is 3, not a method"),
        ("reference.json", lambda r: r["strategy"].update(name="neon"), "method", "reference.json: strategy is 'neon'"),
        ("reference.json", lambda r: r["strategy"].update(equal_cost=False), "method", "compares at equal cost"),
        ("reference.json", lambda r: r["strategy"]["settings"].update(weight=1.0), "method", "the setting 'weight' of"),
        ("reference.json", lambda r: r["strategy"]["settings"].pop("weight"), "method", "the setting 'weight' of"),
        ("reference.json", lambda r: r["strategy"]["settings"].update(x=[[1]]), "schema", "settings.'x' is a list"),
        ("reference.json", lambda r: r["strategy"].update(consumes=["x"] * 21), "schema", "not a list of at most 20"),
        ("reference.json", lambda r: r["strategy"].update(consumes=["a\nb"]), "schema", "consumes is a list"),
        ("reference.json", lambda r: r.pop("strategy"), "schema", "strategy is missing"),
        (METRICS, lambda rows: rows[7].update(strategy="sims(weight=1.0)"), "method", "and the manifest's is"),
        (METRICS, lambda rows: [r.update(strategy="none") for r in rows], "method", "strategy is 'none', and the"),
        (METRICS, lambda rows: rows[7].update(equal_cost=False), "method", "compares at equal cost"),
        (METRICS, lambda rows: rows[7].pop("flops"), "schema", "flops is missing"),
    ],
)
def test_all_files_name_one_strategy(sims, name, change, check, said):
    found = edited(sims, name, change)
    assert said in found[check]


def test_a_config_with_its_own_hash_is_that_of_another_submission(sims):
    def change(content):
        content["config"]["strategy"] = "neon"
        content["sha256"] = method_checks.results.config_hash(content["config"])

    assert edited(sims, "config.json", change) == {
        "method": "config.strategy is 'neon', and the manifest's is 'sims(weight=2.0)'"
    }


def test_unequal_cost_is_refused_with_its_own_hash_too(honest, tmp_path):
    """As `madbench submit` refuses it: see test_submission."""
    for name in ("sims", "none"):
        entry = shutil.copytree(honest / name, tmp_path / name)

        def change(content):
            content["config"]["equal_cost"] = False
            content["sha256"] = method_checks.results.config_hash(content["config"])

        found = edited(entry, "config.json", change)
        assert found["method"].endswith("the leaderboard compares at equal cost; leave config.equal_cost alone")


def test_none_consumes_nothing(honest, tmp_path):
    entry = shutil.copytree(honest / "none", tmp_path / "entry")
    found = edited(entry, "reference.json", lambda r: r["strategy"].update(consumes=["a verifier"]))
    assert list(found) == ["method"]
    assert "says of the strategy none that it has settings, or consumes something" in found["method"]


SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "text", [f"sims(a='{SCRIPT}')", SCRIPT, f"a.b:C(x='{SCRIPT}')", "javascript:alert(1)", "sims\n", "none(a=1)"]
)
def test_tags_in_a_strategy_are_refused_everywhere(sims, text):
    places = {
        "submission.json": (lambda c: c.update(strategy=text), "manifest"),
        "config.json": (lambda c: c["config"].update(strategy=text), "config"),
        "reference.json": (lambda c: c["strategy"].update(name=text), "schema"),
        METRICS: (lambda rows: [row.update(strategy=text) for row in rows], "schema"),
    }
    for name, (change, check) in places.items():
        copy = shutil.copytree(sims, sims.with_name("copy"))
        submissions.edit(copy / name, change)
        submissions.redo_hashes(copy)
        assert " is " in failed(copy)[check]
        shutil.rmtree(copy)


# ---- equal cost ------------------------------------------------------------------------------------------------------


def test_a_method_beyond_the_budget_is_refused(sims):
    """It claims to be sims, and its rows add up, and are consistent, and beyond what the loop costs without it."""
    forge(sims, lambda rows: [row.update(flops=int(row["flops"] * 1.5)) for row in rows])
    assert list(failed(sims)) == ["cost"]
    assert failed(sims)["cost"] == (
        "fully_synthetic: a generation cost 1.479 times what it costs without a strategy (7,000 FLOPs), and the "
        "leaderboard compares at equal cost (and 1 more)"
    )


def test_the_budget_is_that_of_the_average_over_generations(sims):
    """What is made once, in generation 1, is paid for in all."""

    def first_costs_more(rows, by):
        for row in rows:
            row["flops"] = submissions.BUDGET["flops"][row["loop"]] + (2 * by if row["generation"] == 1 else -by)

    forge(sims, lambda rows: first_costs_more(rows, 500))
    assert failed(sims) == {}
    forge(sims, lambda rows: [row.update(flops=row["flops"] + 1) for row in rows])  # a step is no whole FLOP
    assert set(failed(sims)) == {"cost"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[4].update(flops=6899), "runs of one loop cost the same"),
        (lambda rows: rows[4].update(extra_parameters=18), "18 extra parameters, and 17 in fully_synthetic"),
        (lambda rows: rows[4].update(pool_memorization=0.5), "there in some rows, and null in others"),
        (lambda rows: rows[4].update(n_real_seen=31), "31 real samples seen, and it can be the 30 of its training set"),
        (lambda rows: rows[-1].update(n_real_seen=9), "9 real samples seen, and it can be the 10 of its training set"),
    ],
)
def test_rows_that_disagree_on_their_cost(sims, change, said):
    found = edited(sims, METRICS, change)
    assert list(found) == ["cost"]
    assert said in found["cost"]


def test_who_reads_real_samples_has_seen_them(copier):
    found = edited(copier, METRICS, lambda rows: [r.update(n_real_seen=r["n_real"]) for r in rows])
    assert "0 real samples seen, and it can be 30 to 30" in found["cost"]
    found = edited(copier, METRICS, lambda rows: [r.update(n_real_seen=r["n_real"] + 31) for r in rows])
    assert "61 real samples seen, and it can be 30 to 60" in found["cost"]
    found = edited(copier, "reference.json", lambda r: r["strategy"].update(reads_real=False))
    assert "61 real samples seen, and it can be the 30 of its training set" in found["cost"]


@pytest.mark.parametrize("value", [-0.1, 1.1, "0.5", True, [0.5]])
def test_a_share_of_the_pool_is_a_share(copier, value):
    found = edited(copier, METRICS, lambda rows: rows[3].update(pool_memorization=value))
    assert "pool_memorization is " in found["schema"]


@pytest.mark.parametrize("field", ["flops", "n_real_seen", "extra_parameters"])
@pytest.mark.parametrize("value", [-1, 0.5, None, "7"])
def test_counts_are_whole(sims, field, value):
    assert f"{field} is " in edited(sims, METRICS, lambda rows: rows[3].update({field: value}))["schema"]


def test_no_fit_has_more_steps_and_none_has_all(honest, sims, tmp_path):
    found = edited(sims, "timing.jsonl", lambda rows: [row.update(steps=51) for row in rows])
    assert "51 optimizer steps, and the task has 50" in found["cost"]
    found = edited(sims, "timing.jsonl", lambda rows: (rows[0].update(steps=20), rows[1].update(steps=30)))
    assert "optimizer steps" in found["cost"]
    entry = shutil.copytree(honest / "none", tmp_path / "none")
    found = edited(entry, "timing.jsonl", lambda rows: [row.update(steps=49) for row in rows])
    assert "49 optimizer steps, and the task has 50" in found["cost"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [row.update(flops=row["flops"] // 2) for row in rows], "0.5 times what it costs without"),
        (lambda rows: [row.update(extra_parameters=1) for row in rows], "without a strategy"),
        (lambda rows: [row.update(pool_memorization=0.0) for row in rows], "without a strategy"),
        (lambda rows: [row.update(n_real_seen=row["n_real"] + 1) for row in rows], "31 real samples seen"),
        (lambda rows: rows[0].update(schema=1) or rows[0].pop("flops"), "its row does not say what it cost"),
    ],
)
def test_none_costs_what_the_task_says(honest, tmp_path, change, said):
    entry = shutil.copytree(honest / "none", tmp_path / "entry")
    found = edited(entry, METRICS, change)
    assert list(found) == ["cost"]
    assert said in found["cost"]


def test_where_fits_are_exact_the_cost_is_shown_and_not_bounded(task, sims, patch, tmp_path):
    with pytest.MonkeyPatch.context() as inner:
        exact = submissions.task_file()
        exact["budget"] = exact["budget"] | {"steps": 0}
        submissions.install(inner, tmp_path / "tasks", exact)
        submissions.edit(sims / "timing.jsonl", lambda rows: [row.update(steps=0) for row in rows])
        forge(sims, lambda rows: [row.update(flops=row["flops"] * 3) for row in rows])
        assert failed(sims) == {}
        (said,) = (f.message for f in checks.run(sims) if f.name == "cost")
        assert "its cost is not bounded, but shown" in said
        found = submission.load(sims)
        assert "2.95 times that without a strategy, not bounded" in costs.ratio_text(costs.of(found.task, found.rows))


def test_a_task_whose_cost_was_not_measured_takes_no_method(honest, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        submissions.install(patch, tmp_path / "tasks", submissions.task_file() | {"budget": {}})
        assert failed(honest / "none") == {}
        assert "it takes no method yet" in failed(honest / "sims")["cost"]


# ---- generation 1, and speed -----------------------------------------------------------------------------------------


def first_times(rows, factor):
    for row in rows:
        row["fd"] *= factor if row["generation"] == 1 else 1


def message(path, check):
    return next(f.message for f in checks.run(path) if f.name == check)


def test_a_method_may_change_generation_1_and_it_is_said(sims, honest):
    assert message(sims, "band") == ""
    assert number_checks.is_in_band(submission.load(sims))
    for factor, side in ((3, "bad"), (0.3, "good")):
        forge(sims, lambda rows, factor=factor: first_times(rows, factor))
        assert failed(sims) == {}
        said = message(sims, "band")
        assert said.startswith(
            "generation 1 lies outside the reference band, as a method's may: fully_synthetic, λ = 1"
        )
        assert f"too {side}" in said
        assert not number_checks.is_in_band(submission.load(sims))
        forge(sims, lambda rows, factor=factor: first_times(rows, 1 / factor))


def test_but_not_to_what_real_samples_are_not(sims):
    forge(sims, lambda rows: first_times(rows, 0.1))
    assert list(failed(sims)) == ["distances"]
    assert "generation 1: fd is 0.0" in failed(sims)["distances"]
    assert "too good: real samples are rarely within 0.1 of each other" in failed(sims)["distances"]


def worse_at_first(rows):
    for row in rows:
        if row["generation"] == 1 and row["loop"] == "fully_synthetic":
            row["fd"] *= 1.5


def costs_what_none_does(rows):
    for row in rows:
        row["flops"] = submissions.BUDGET["flops"][row["loop"]]


def test_loops_that_draw_as_many_samples_begin_alike(sims):
    """The task's draw 30 and 20: a strategy that gives up steps leaves them other numbers of these."""
    forge(sims, worse_at_first)
    assert failed(sims) == {}
    found = submission.load(sims)
    cells = [cell | {"settings": cell["settings"] | {"n_synthetic": 30}} for cell in found.task.cells]
    found.__dict__["task"] = dataclasses.replace(found.task, cells=cells)
    with pytest.raises(UserError, match="which begins alike"):
        number_checks.twins(found)


def test_loops_whose_strategy_gives_nothing_up_begin_alike(sims):
    forge(sims, costs_what_none_does)
    assert failed(sims) == {}
    forge(sims, worse_at_first)
    assert list(failed(sims)) == ["twins"]


def test_a_method_that_diverges_at_once_is_an_honest_result(sims):
    forge(sims, costs_what_none_does)

    def change(rows, loops):
        for row in rows:
            if row["seed"] == 1 and row["bias"] == 1.0 and row["loop"] in loops:
                row |= {"status": "diverged", "fd": None, "precision": None, "recall": None}

    forge(sims, lambda rows: change(rows, list(submissions.LOOPS)[:1]))
    assert list(failed(sims)) == ["twins"]
    assert "and null in fully_synthetic" in failed(sims)["twins"]
    forge(sims, lambda rows: change(rows, list(submissions.LOOPS)))
    assert failed(sims) == {}
    assert "has no metrics" in message(sims, "band")


def test_the_speed_of_a_method_is_bounded_by_the_work_that_it_counts(sims, task, monkeypatch):
    """Fewer steps take less time; but not less than their FLOPs."""
    device = {"kind": "NVIDIA T4", "platform": "gpu", "count": 1}
    submissions.edit(sims / "environment.json", lambda e: e.update(device=device))
    budget = {"steps": 50, "flops": {loop: int(1.5e12) for loop in submissions.LOOPS}}
    whole = tasks.dataclasses.replace(task, budget=budget, flops={"fit": 10**12, "sample": 10**12, "evaluate": 10})
    monkeypatch.setattr(tasks, "load", lambda name: whole)
    forge(sims, lambda rows: [row.update(flops=10**12) for row in rows])  # 36 TFLOP in 0.9 s, where 130 a second go
    assert failed(sims) == {}
    forge(sims, lambda rows: [row.update(flops=int(1.5e12)) for row in rows])
    assert failed(sims) == {}
    submissions.edit(
        sims / "timing.jsonl", lambda rows: [row.update(fit_seconds=0.02, sample_seconds=0.01) for row in rows]
    )
    forge(sims, lambda rows: None)
    assert failed(sims)["speed"].startswith("timing.jsonl: fit and sample took 0.09 s in all, and its 5.4e+13 FLOPs")


# ---- what else -------------------------------------------------------------------------------------------------------


def test_damage_to_a_submission_with_a_method(honest, tmp_path):
    free = fuzz.FREE | {"cite"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz, "FREE", free)
        for seed in range(60):
            fuzz.judge(honest / "none", tmp_path / "entry", fuzz.STRUCTURAL, seed, redo=True)


def test_costs_of_a_copier(honest, task):
    found = submission.load(honest / "copier")
    cost = costs.of(task, found.rows)
    assert cost == costs.Costs(pytest.approx(1 - 100 / 6500), True, 40, 17, 0.9, pytest.approx(0.9))
    assert cost.is_copying
    facts = dict(costs.facts(cost, submissions.COPIER))
    assert facts["cost of a generation"] == "0.985 times that without a strategy"
    assert facts["pool as near to real samples as copies"] == "90.0% in generation 1, at most 90.0% in any"
    assert facts["warning"] == costs.COPIED
    assert "settings" not in facts
    json.dumps(cost._asdict())


def test_samples_that_draw_together_are_no_copies(honest, task):
    """In later generations of a collapse, and where λ is small, all pools lie near a few real samples."""

    def first_pool(share):
        rows = [
            row | {"pool_memorization": share if row["generation"] == 1 and row["bias"] == 1.0 else 1.0}
            for row in submission.load(honest / "copier").rows
        ]
        return costs.of(task, rows)

    assert [first_pool(share).is_copying for share in (0.05, 0.49, 0.5, 1.0)] == [False, False, True, True]
    assert first_pool(0.05).pool_memorization == 1.0
