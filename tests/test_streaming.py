"""Streamed jobs against resident ones: the same rows, whatever is read from where, and whenever it was stopped."""

import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest

from madbench import dry_run, experiment, fleet, grid, models
from madbench.config import base
from madbench.display import PlainLines
from madbench.errors import UserError
from madbench.samples import Samples
from madbench.streaming import pools, stage

pytestmark = pytest.mark.usefixtures("feature_cache", "compiled")


def config(source="digits", **changes):
    made = base(source, "drifting")
    made.data.n_reference = 300 if source == "digits" else 64
    made.n_initial = 200
    made.generations = 3
    made.seeds = 2
    made.metrics = {"names": ("fd", "precision", "recall"), "features": "raw"}
    made.model.steps = 20
    made.model.batch_size = 16
    made.model.learning_rate = 0.05
    for name, value in changes.items():
        made[name] = value
    return made


def run(made, path, streaming, show=None):
    made.fleet.streaming = streaming
    experiment.run(made, str(path), show=show)
    return (path / "metrics.jsonl").read_text()


LOOPS = (
    "fully_synthetic",
    "fresh_data(n_fresh=60)",
    "synthetic_augmentation",
    "accumulate_subsample",
    "memory_k(memory=2,n_synthetic=90)",
    "fixed_ratio",
)


@pytest.fixture(scope="module", autouse=True)
def drifting():
    """Registered as a family for as long as this module's tests run."""
    models.FAMILIES["drifting"] = "drifting"
    yield
    del models.FAMILIES["drifting"]


def test_streamed_rows_are_resident_rows(tmp_path, monkeypatch):
    """Of all kinds of loops, with a generation's samples in blocks of 70: at most 77, equal numbers of ten classes."""
    monkeypatch.setattr("madbench.generation.BLOCK", 77)
    made = lambda: config(loops=LOOPS)
    job = grid.prepare(made())
    assert job.generation.block(job.source) == 70
    resident, streamed = (run(made(), tmp_path / mode, mode) for mode in ("never", "always"))
    assert len(resident.splitlines()) == 3 * 2 * len(LOOPS)
    assert resident == streamed
    assert not any((tmp_path / "always").rglob("*.array_record"))  # nobody needs them any more
    assert not (tmp_path / "never" / "pools").exists()


def test_an_endless_source_is_drawn_on_the_device_and_metrics_see_the_training_set(tmp_path):
    made = lambda: config(
        "mixture",
        loops=("accumulate", "fresh_data(n_fresh=60)"),
        metrics={"names": ("fd", "memorization"), "features": "raw"},
        n_initial=100,
        seeds=1,
    )
    resident, streamed = (run(made(), tmp_path / mode, mode) for mode in ("never", "always"))
    for a, b in zip(*(map(json.loads, rows.splitlines()) for rows in (resident, streamed)), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key] == (pytest.approx(b[key], rel=1e-4, abs=1e-6) if isinstance(a[key], float) else b[key]), key


class StopAt(PlainLines):
    """Sends SIGTERM to the process when a generation's fit has come so far."""

    def __init__(self, generation, segment):
        super().__init__()
        self.at, self.advances = (generation, segment), 0

    def advance(self, done, rate):
        super().advance(done, rate)
        self.advances += 1
        if self.advances == (self.at[0] - 1) * 11 + self.at[1]:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The rows of a whole job, and the workdir of one that was stopped within generation 3."""
    path = tmp_path_factory.mktemp("stopped")
    made = lambda: config(loops=("accumulate",))
    whole = run(made(), path / "whole", "always")
    with pytest.raises(experiment.Stopped):
        run(made(), path / "stopped", "always", StopAt(3, 3))
    return whole, path / "stopped"


@pytest.mark.parametrize("harm", ["none", "missing", "changed"])
def test_a_stopped_job_goes_on_with_the_same_batches(harm, stopped, tmp_path, capsys):
    """And a checkpoint whose pools are gone does not count."""
    whole, path = stopped
    shutil.copytree(path, tmp_path / "x")
    pool = pools.Pool(next((tmp_path / "x" / "pools").iterdir()), (8, 8, 1), np.float32)
    if harm == "missing":
        pool.path(2).unlink()
    elif harm == "changed":
        samples = pool.read([2]).rows(np.arange(200))
        samples.x[17] += 0.1
        writer = pool.writer(2)
        writer.write(samples)
        writer.close()
    # Where the data lie was settled by the first start.
    assert run(config(loops=("accumulate",)), tmp_path / "x", "never") == whole
    environment = json.loads((tmp_path / "x" / "environment.json").read_text())
    assert environment["plan"]["streamed_steps"] == 2
    lacks = "pools/ lacks samples that checkpoint wave0000-generation000003-segment03 was saved with"
    assert (lacks in capsys.readouterr().err) == (harm != "none")


# ---- the choice ------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_streamed(monkeypatch):
    made = config(loops=("accumulate",), generations=40)
    resident = grid.prepare(made)
    assert (resident.plan.streamed_steps, resident.calls) == (0, 1)
    assert "streamed" not in str(resident.plan)
    needed = resident.plan.bytes_shared + resident.plan.bytes_per_run
    for limit, streamed in ((needed, False), (needed - 1, True)):
        monkeypatch.setattr(fleet, "memory_limit", lambda *_, limit=limit: limit)
        plan = grid.prepare(made).plan
        assert (plan.streamed_steps > 0) == streamed == ("data streamed" in str(plan))
    assert plan.bytes_shared + plan.bytes_per_run < needed / 2
    made.fleet.streaming = "never"
    with pytest.raises(UserError, match="one run needs about"):
        grid.prepare(made)


def test_a_model_that_reads_all_at_once_cannot_be_streamed(monkeypatch):
    made = base("gaussian", "gaussian")
    made.metrics.features = "raw"
    made.fleet.streaming = "always"
    with pytest.raises(UserError, match="learns from minibatches"):
        grid.prepare(made)
    made.fleet.streaming = "sometimes"
    with pytest.raises(UserError, match="auto, always or never"):
        grid.prepare(made)
    made.fleet.streaming = "auto"
    monkeypatch.setattr(fleet, "memory_limit", lambda *_: 1000)
    with pytest.raises(UserError, match="one run needs about"):
        grid.prepare(made)


def test_the_disk_that_pools_take_is_known_beforehand(tmp_path, monkeypatch):
    made = config(loops=("accumulate", "fully_synthetic"), generations=10)
    made.fleet.streaming = "always"
    job = grid.prepare(made)
    # Two loops and seeds, 200 samples each of 64 floats, in nine files, of all generations that are remembered.
    assert stage.disk_bytes(job) == 2 * 2 * 9 * (200 * (64 * 4 + 72) + 2**17)
    assert "6.75 MiB of synthetic samples (pools/)" in dry_run.describe(grid.prepare(made, blank=True))
    usage = dataclasses.make_dataclass("usage", ["free"])
    monkeypatch.setattr(stage.shutil, "disk_usage", lambda _: usage(2**20))
    with pytest.raises(UserError, match=r"need about 6.75 MiB of disk, and .* has 1 MiB"):
        experiment.run(made, str(tmp_path / "x"))
    assert not (tmp_path / "x" / "metrics.jsonl").exists()


# ---- pools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "dtype"), [((4, 3, 2), np.uint8), ((5,), np.float32)])
def test_a_pool_gives_back_what_was_written(shape, dtype, tmp_path):
    rng = np.random.default_rng(0)
    draw = lambda n: Samples(rng.integers(0, 256, (n, *shape)).astype(dtype), rng.integers(0, 9, n))
    pool = pools.Pool(tmp_path / "run", shape, dtype)
    blocks = {1: [draw(7), draw(3)], 2: [draw(10)]}
    digests = {}
    for generation, parts in blocks.items():
        writer = pool.writer(generation)
        for part in parts:
            writer.write(part)
        assert not pool.path(generation).exists()  # it has its name when it is whole
        digests[generation] = writer.close()
        np.testing.assert_array_equal(pool.digest(generation), digests[generation])
    assert not np.array_equal(digests[1], digests[2])
    whole = [np.concatenate(leaf) for leaf in zip(*blocks[1], *blocks[2], strict=True)]
    index = rng.integers(0, 20, 50)
    reader = pool.read([1, 2])
    assert len(reader) == 20
    for found, expected in zip(reader.rows(index), whole, strict=True):
        np.testing.assert_array_equal(found, expected[index])
        assert found.dtype in (dtype, np.int32)
    pool.drop(2)
    assert [pool.path(g).exists() for g in (1, 2)] == [False, True]
    assert not pool.digest(1).any()
    pool.drop()
    assert not (tmp_path / "run").exists()


def test_a_generation_that_is_written_again_replaces_the_first(tmp_path):
    """And what a kill left is removed."""
    pool = pools.Pool(tmp_path, (2,), np.float32)
    for value in (3, 1):
        writer = pool.writer(4)
        writer.write(Samples(np.full((2, 2), value, np.float32), np.zeros(2)))
        writer.close()
    np.testing.assert_array_equal(pool.read([4]).rows(np.arange(2)).x, 1.0)
    pool.writer(5).write(Samples(np.zeros((1, 2), np.float32), np.zeros(1)))
    assert list(tmp_path.glob("*.tmp"))
    assert not pool.writer(4).close().any()  # nothing was written: nothing is there
    pool.drop(5)
    assert not list(tmp_path.iterdir())


def test_a_job_that_needs_more_files_than_may_be_open_says_so(monkeypatch, tmp_path):
    made = config(loops=("accumulate",), generations=400)
    made.fleet.streaming = "always"
    import resource

    raised = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    stage.check_disk(grid.prepare(made), tmp_path)
    assert raised == [(256 + 2 * 399 * 2, 4096)]
    made.generations = 4000
    with pytest.raises(UserError, match="opens about 16,252 files at once, and this process may open 4,096"):
        stage.check_disk(grid.prepare(made), tmp_path)


def test_processes_that_share_a_run_leave_its_file_to_the_one_that_leads(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet.Fleet, "leads", lambda self, run, runs: False)
    made = config(loops=("fully_synthetic",), generations=2)
    made.fleet.streaming = "always"
    with pytest.raises(UserError, match="does not hold the samples that were written there"):
        experiment.run(made, str(tmp_path / "x"))


def test_a_disk_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*generation-000001"):
        pools.Pool(tmp_path / "file", (2,), np.float32).writer(1).write(
            Samples(np.zeros((1, 2), np.float32), np.zeros(1))
        )
