"""`verify` and methods: the suite's are run again as they were, and somebody else's code only where that is allowed."""

import importlib
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
import submissions
import test_verify

from madbench import cli, experiment, grid, results, verify, verify_method
from madbench import config as configs
from madbench.display import Nothing
from madbench.errors import UserError
from madbench.leaderboard import agreement, board, checks, submission, tasks
from madbench.leaderboard.agreement import SAME

N = test_verify.N
MODULE = "foreign_strategies"
# Its first generation costs six optimizer steps more, which are paid for in all of them: with three, two steps each.
SOURCE = '''
"""Executed by whoever imports it, and says so."""
import dataclasses
import pathlib

import jax.numpy as jnp

from madbench.samples import Samples
from madbench.strategies import Strategy

pathlib.Path(__file__).with_suffix(".executed").write_text("")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Costly(Strategy):
    scale: float = 1.0
    reads_real = True

    def init(self, key, real, member):
        found = jnp.ones((64, 64)) * jnp.mean(real.x)
        for _ in range(10):
            found = found @ jnp.eye(64)
        return found.mean()

    def select(self, key, candidates, member, state):
        return Samples(candidates.x[0] * self.scale + 0 * state, candidates.y)
'''
STRATEGIES = {
    "exact": ("gaussian", "verifier(by='distance',candidates=2)"),
    "costly": ("diffusion", f"{MODULE}:Costly(scale=0.9)"),
    "sims": ("diffusion", "sims(weight=0.5)"),
}


def config(family):
    made = test_verify.config(family)
    made.task = f"tiny-{family}"
    if family == "diffusion":  # three generations and nine steps: enough for the price of `Costly` to depend on them
        made.update({"generations": 3, "seeds": 3})
        made.model.update({"steps": 9, "batch_size": 32})
    return made


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The folder of the module."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / f"{MODULE}.py").write_text(SOURCE)
    return folder


@pytest.fixture
def installed(foreign, monkeypatch):
    """Makes the module one that can be imported, and is not yet."""
    monkeypatch.syspath_prepend(foreign)
    yield from _fresh(foreign)


def _fresh(folder):
    executed = folder / f"{MODULE}.executed"
    sys.modules.pop(MODULE, None)
    executed.unlink(missing_ok=True)
    importlib.invalidate_caches()
    yield executed
    sys.modules.pop(MODULE, None)


@pytest.fixture(scope="module")
def place(tmp_path_factory, compiled, foreign):
    """Of each of `STRATEGIES` a submission, to tasks with the band of runs without any; all on one device."""
    path = tmp_path_factory.mktemp("methods")
    with pytest.MonkeyPatch.context() as patch:
        test_verify.on(patch, 1)
        for family in ("gaussian", "diffusion"):
            _run(config(family), path / family)
        submissions.install(
            patch, path / "tasks", *(test_verify.task_of(path / family) for family in ("gaussian", "diffusion"))
        )
        for name, (family, strategy) in STRATEGIES.items():
            made = config(family)
            made.strategy = strategy
            with pytest.MonkeyPatch.context() as inner:
                inner.syspath_prepend(foreign)
                _run(made, path / name)
            submissions.packed(path / f"{name}-entry", path / name)
        yield path


def _run(made, folder):
    runs = [(run.loop.name, run.bias, run.seed) for run in grid.prepare(made).whole]
    experiment.run(made, str(folder), show=Nothing(), only=runs)  # without tables


@pytest.fixture
def one_device(monkeypatch):
    test_verify.on(monkeypatch, 1)


def wrong(report):
    return {line["metric"] for line in report["rows"] if not line["ok"]}


def test_what_ran_is_what_is_packed_and_checked(place):
    for name, (_, strategy) in STRATEGIES.items():
        assert [str(f) for f in checks.run(place / f"{name}-entry") if not f.ok] == []
        found = submission.load(place / f"{name}-entry")
        assert (found.strategy, found.config["equal_cost"]) == (strategy, True)
        assert {row["strategy"] for row in found.rows} == {strategy}


@pytest.mark.parametrize("name", ["exact", "sims"])
def test_a_strategy_of_the_suite_is_run_again_as_it_was(place, one_device, tmp_path, name):
    entry = shutil.copytree(place / f"{name}-entry", tmp_path / "entry")
    report = verify.run(str(entry), pairs=3, seed=3)
    assert (report["passed"], report["status"], report["barred"]) == (True, "re-run", ""), report["reason"]
    lines = [line for line in report["rows"] if line["what"] == "account"]
    last = max(pair["generation"] for pair in report["pairs"])
    assert len(lines) == 3 * last * 4
    exact = [line for line in lines if line["metric"] != "pool_memorization"]
    assert {line["tolerance"] for line in exact} == {0.0}
    assert all(line["claimed"] == line["found"] > 0 for line in exact if line["metric"] == "flops")
    assert any(text.startswith("account: ") and text.endswith(" values agree") for text in verify.lines(report))
    verify.record(str(entry), report)
    assert board.judge(entry, "entry").status == "re-run"


def test_with_fewer_generations_a_strategy_has_the_steps_of_all(place, one_device, installed):
    """A job of two generations would leave it fewer, and all that follows would differ."""
    entry = submission.load(place / "costly-entry")
    steps = {t: _steps(entry, generations=t) for t in (2, 3)}
    assert steps[2] < steps[3] < entry.task.config["model"]["steps"]
    assert steps[3] == entry.timing[0]["steps"]
    report = verify.run(str(entry.path), pairs=3, until=2, seed=3, allow_code=True)
    assert (report["passed"], report["status"]) == (True, "re-run"), report["reason"]


def _steps(entry, **changes):
    plain = entry.task.config | {"strategy": entry.strategy} | changes
    return grid.prepare(configs.from_plain(plain)).family.steps


def test_rows_that_lie_about_their_cost_are_found(place, one_device, tmp_path):
    workdir = shutil.copytree(place / "exact", tmp_path / "run")

    def change(rows):
        for row in rows:
            row["flops"] -= 1
            row["extra_parameters"] += 1
            row["pool_memorization"] = 1.0 - row["pool_memorization"]

    submissions.edit(workdir / "metrics.jsonl", change)
    report = verify.run(str(submissions.packed(tmp_path / "entry", workdir)), pairs=1, until=2, seed=3)
    assert (report["passed"], report["status"]) == (False, "invalidated")
    assert wrong(report) == {"flops", "extra_parameters", "pool_memorization"}
    assert report["reason"].startswith("account: ")


def test_another_strategy_than_the_one_that_ran_is_found(place, one_device, tmp_path):
    """Everywhere the same, and at a cost that may be: the re-run tells."""
    workdir = shutil.copytree(place / "sims", tmp_path / "run")
    name = "sims(weight=0.0)"
    submissions.edit(workdir / "metrics.jsonl", lambda rows: [row.update(strategy=name) for row in rows])
    submissions.edit(workdir / "reference.json", lambda r: r["strategy"].update(name=name))
    submissions.edit(workdir / "reference.json", lambda r: r["strategy"]["settings"].update(weight=0.0))
    submissions.edit(workdir / "config.json", lambda c: c["config"].update(strategy=name))
    submissions.edit(workdir / "config.json", lambda c: c.update(sha256=results.config_hash(c["config"])))
    entry = submissions.packed(tmp_path / "entry", workdir)
    report = verify.run(str(entry), pairs=1, until=2, seed=3)
    assert (report["passed"], report["status"]) == (False, "invalidated")
    assert report["reason"].startswith("re-run: ")


def test_what_is_said_of_a_strategy_is_compared(place, one_device, tmp_path):
    """A workdir stands for the re-run: what it says is what the same code says again."""
    given = submission.load(place / "sims-entry")
    assert verify_method.misdescribed(given, place / "sims") == ""
    others = {"settings": {"weight": 0.5, "extra_fit": 9.0, "extra_rate": 0.5}, "consumes": [], "cite": "me"}
    for field, other in others.items():
        workdir = shutil.copytree(place / "sims", tmp_path / field)
        submissions.edit(workdir / "reference.json", lambda r, f=field, o=other: r["strategy"].update({f: o}))
        entry = submissions.packed(tmp_path / f"{field}-entry", workdir)
        assert all(finding.ok for finding in checks.run(entry))
        said = f"reference.json: what it says of the strategy's {field} is not so"
        assert verify_method.misdescribed(submission.load(entry), place / "sims") == said
    report = verify.run(str(entry), pairs=1, until=2, seed=3)
    assert (report["status"], report["reason"]) == ("invalidated", said)


# ---- somebody else's code --------------------------------------------------------------------------------------------


def test_code_of_somebody_else_is_never_executed_unasked(place, one_device, installed, tmp_path, capsys, monkeypatch):
    entry = shutil.copytree(place / "costly-entry", tmp_path / "entry")
    monkeypatch.setattr(experiment, "run", lambda *_, **__: pytest.fail("ran"))
    for command in (["check"], ["verify"], ["verify", "--pairs=3"], ["verify", "--pairs=0"]):
        assert cli.main(["madbench", command[0], str(entry), *command[1:]]) == 0
    assert cli.main(["madbench", "leaderboard", str(tmp_path), f"--out={tmp_path / 'site'}"]) == 0
    assert MODULE not in sys.modules
    assert not installed.exists()
    capsys.readouterr()
    assert cli.main(["madbench", "verify", str(entry), "--seed=1"]) == 0
    *_, note, last = capsys.readouterr().out.splitlines()
    assert note == (
        f"note: no run was computed again: runs of {MODULE}:Costly(scale=0.9) are computed by its author's code, which "
        "--allow_code would import and execute"
    )
    unseen = "could see no run again, and its status stays self-reported; metrics of the packed samples agree"
    assert last == f"verify {unseen} (seed 1)"
    assert cli.main(["madbench", "verify", str(entry), "--record"]) == 2
    assert "nothing is recorded, and its status stays self-reported" in capsys.readouterr().err.splitlines()[-1]
    assert not (entry / submission.VERIFICATION).exists()
    assert MODULE not in sys.modules


def test_packed_samples_that_are_not_the_rows_invalidate_it_all_the_same(place, one_device, tmp_path):
    entry = shutil.copytree(place / "costly-entry", tmp_path / "entry")
    file = next((entry / "samples").glob("*/measured-0003.npz"))
    np.savez_compressed(file, x=np.random.default_rng(1).normal(size=(N, 4)).astype(np.float32))
    submissions.redo_hashes(entry)
    report = verify.run(str(entry))
    assert (report["passed"], report["status"], report["pairs"]) == (False, "invalidated", [])


def test_without_samples_and_without_its_code_there_is_nothing(place, one_device, tmp_path):
    entry = submissions.without_samples(shutil.copytree(place / "costly-entry", tmp_path / "entry"))
    with pytest.raises(UserError, match=r"has no samples, and runs of .* --allow_code .*: there is nothing to verify"):
        verify.run(str(entry))


def test_where_it_is_allowed_it_is_run_again(place, one_device, installed, tmp_path):
    entry = shutil.copytree(place / "costly-entry", tmp_path / "entry")
    assert cli.main(["madbench", "verify", str(entry), "--allow_code", "--pairs=2", "--seed=3", "--record"]) == 0
    assert installed.exists()
    record = json.loads((entry / submission.VERIFICATION).read_text())
    assert (record["status"], len(record["pairs"]), record["barred"]) == ("re-run", 2, "")
    assert board.judge(entry, "entry").status == "re-run"


def test_what_cannot_be_imported_here_ends_in_one_line(place, one_device, tmp_path, capsys):
    entry = shutil.copytree(place / "costly-entry", tmp_path / "entry")
    sys.modules.pop(MODULE, None)
    assert cli.main(["madbench", "verify", str(entry), "--allow_code"]) == 0
    *_, note, last = capsys.readouterr().out.splitlines()
    said = f"config.strategy='{MODULE}:Costly(scale=0.9)': there is no module '{MODULE}'"
    assert f"cannot be computed here: {said}" in note
    assert "its status stays self-reported; metrics of the packed samples agree" in last


def test_how_far_shares_of_a_pool_may_lie_apart(place, monkeypatch):
    task = tasks.load("tiny-gaussian")
    assert agreement.pool(task, SAME, 2, [0.1, 0.2], 50) == agreement.RERUN["gaussian"][SAME].at("share", 2, 50)
    monkeypatch.delitem(agreement.RERUN, "gaussian")
    least = agreement.pool(task, SAME, 2, [0.1, None], 100)
    assert 0.2 < least < 0.4
    assert agreement.pool(task, SAME, 2, [0.0, 1.0], 100) == pytest.approx(3 * least)


def test_the_budgets_of_the_suite_s_tasks_are_what_they_cost():
    """A changed way to count would refuse honest submissions, or let dear ones pass."""
    folder = pathlib.Path(tasks.__file__).parent / "tasks"
    for path in sorted(folder.glob("*.json")):
        task = json.loads(path.read_text())
        job = grid.prepare(configs.from_plain(task["config"]))
        assert task["budget"] == test_verify.reference_band().budget(job)
        assert set(task["budget"]["flops"]) == {cell["loop"] for cell in task["cells"]}
