"""Killed, stopped, damaged, cut off: a job that goes on ends with the bytes of one that was never disturbed."""

import gc
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from madbench import checkpoints, cli, display, experiment, fleet, resume, stopping
from madbench import config as configs
from madbench.checkpoints import Progress
from madbench.errors import UserError

# Orbax drops an unfinished read of a damaged file, and its event loop says so when it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEADLINE = 240  # seconds after which a test gives up; nothing here takes a tenth of it
GAUSSIAN = """
from madbench.config import base

def get_config():
    config = base("gaussian", "gaussian")
    config.task = "killed"
    config.data.dimension = 2
    config.data.n_reference = 40
    config.n_initial = 40
    config.loops = ("fully_synthetic", "accumulate_subsample")
    config.seeds = 3
    config.generations = 12
    config.metrics.update(features="raw", names=("fd",))
    return config
"""
DIFFUSION = """
from madbench.config import base

def get_config():
    config = base("digits", "diffusion")
    config.task = "stopped"
    config.data.n_reference = 60
    config.n_initial = 64
    config.loops = ("fully_synthetic", "fixed_ratio")
    config.seeds = 4
    config.generations = 3
    config.n_grid = 2
    config.fleet.max_runs_per_device = 1
    config.metrics.names = ("fd",)
    config.model.update(width=16, depth=1, steps=500, batch_size=32, sampler_steps=4)
    return config
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory, feature_cache):
    """Of the subprocesses: one cache of feature networks; one of compiled programs, which this process shares."""
    compiled = str(tmp_path_factory.mktemp("compiled"))
    jax.config.update("jax_compilation_cache_dir", compiled)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    compilation_cache.reset_cache()
    yield {
        **os.environ,
        "MADBENCH_CACHE": feature_cache,
        "JAX_COMPILATION_CACHE_DIR": compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module", autouse=True)
def collected():
    """What Orbax dropped is collected here, where its words are expected, and not in another module's test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("resume")
    (path / "gaussian.py").write_text(GAUSSIAN)
    (path / "diffusion.py").write_text(DIFFUSION)
    return path


class Job:
    """`python -m madbench run` in a process of its own. Leaving the block ends it."""

    def __init__(self, config, workdir, environment, *python):
        command = [sys.executable, *python, "-m", "madbench", "run", f"--config={config}", f"--workdir={workdir}"]
        self.workdir = workdir
        self._said = workdir.parent / f"{workdir.name}-{time.monotonic_ns()}.txt"
        with open(self._said, "wb") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    @property
    def said(self):
        return self._said.read_text()

    def until(self, condition):
        """Waits until `condition()` holds."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.005)

    def kill(self):
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL, self.said

    def finish(self):
        assert self.process.wait(DEADLINE) == 0, self.said
        return self.said


def rows(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def saved(workdir, progress):
    return (workdir / "checkpoints" / f"{progress.name}.json").exists()


def result(workdir):
    """What must not depend on how often a job was stopped: rows, reference, samples and drift; which timings."""
    timing = [json.loads(line) for line in (workdir / "timing.jsonl").read_text().splitlines()]
    return {
        "metrics": (workdir / "metrics.jsonl").read_bytes(),
        "reference": (workdir / "reference.json").read_bytes(),
        "table": (workdir / "table.md").read_bytes(),
        "samples": {p.relative_to(workdir): p.read_bytes() for p in workdir.rglob("*.npz")},
        "drift": drift.read_bytes() if (drift := workdir / "drift.png").exists() else None,
        "timing": [(row["wave"], row["generation"]) for row in timing],
    }


@pytest.fixture(scope="module")
def gaussian(place, environment):
    """A job that nothing disturbed, in a process where a warning is an error."""
    (place / "calm").mkdir()
    with Job(place / "gaussian.py", place / "calm" / "work", environment, "-W", "error") as job:
        said = job.finish()
    assert "Warning" not in said
    assert "resuming" not in said
    assert rows(place / "calm" / "work") == 6 * 12
    assert len(list((place / "calm" / "work" / "samples").rglob("*.npz"))) == 6 * 12 + 1, "and the true density"
    assert (place / "calm" / "work" / "drift.png").exists()
    return place / "calm" / "work"


@pytest.fixture(scope="module")
def diffusion(place, environment):
    (place / "calm-diffusion").mkdir()
    with Job(place / "diffusion.py", place / "calm-diffusion" / "work", environment) as job:
        said = job.finish()
    assert "pmap over 4 devices, vmap over 1 run each, 2 waves" in said
    return place / "calm-diffusion" / "work"


# ------------------------------------------------------------------------------------------------------ killed, stopped


def test_a_job_killed_again_and_again(place, environment, gaussian, tmp_path, capsys):
    """Before its first row, just after it, in a later generation, at any time; the workdir is one process's own."""
    workdir, config = tmp_path / "work", place / "gaussian.py"
    chance = random.Random(0)
    with Job(config, workdir, environment) as job:
        job.until((workdir / "config.json").exists)
        job.kill()
    assert rows(workdir) == 0
    with Job(config, workdir, environment) as job:
        job.until(lambda: (workdir / ".lock").read_text() == str(job.process.pid))
        assert cli.main(["madbench", "run", f"--config={config}", f"--workdir={workdir}"]) == 2
        job.until(lambda: rows(workdir) >= 6)
        job.kill()
    assert re.fullmatch(rf"madbench: .* in use by process {job.process.pid}; [^\n]*\n", capsys.readouterr().err)
    with Job(config, workdir, environment) as job:
        job.until(lambda: job.said.count(": fit ") >= 2)
        time.sleep(chance.uniform(0, 0.1))
        job.kill()
    assert re.search(r"^resuming at wave 1, generation \d+$", job.said, re.MULTILINE)
    with Job(config, workdir, environment) as job:
        job.until(lambda: "resuming at" in job.said)
        time.sleep(chance.uniform(0, 3))
        job.process.kill()  # it may have ended
        job.process.wait()
    with Job(config, workdir, environment) as job:
        job.finish()
    assert "warning" not in job.said
    assert result(workdir) == result(gaussian)


def test_a_diffusion_in_waves_on_four_devices_killed_in_its_second_wave(place, environment, diffusion, tmp_path):
    workdir = tmp_path / "work"
    with Job(place / "diffusion.py", workdir, environment) as job:
        job.until(lambda: rows(workdir) >= 4 * 3 + 4)
        job.kill()
    with Job(place / "diffusion.py", workdir, environment) as job:
        said = job.finish()
    assert re.search(r"^resuming at wave 2, generation [12]$", said, re.MULTILINE)
    assert result(workdir) == result(diffusion)


def test_sigterm_and_ctrl_c_in_the_middle_of_a_fit(place, environment, diffusion, tmp_path):
    workdir = tmp_path / "work"
    fit = min(json.loads(line)["fit_seconds"] for line in (diffusion / "timing.jsonl").read_text().splitlines())
    for number, generation in ((signal.SIGTERM, 2), (signal.SIGINT, 3)):
        with Job(place / "diffusion.py", workdir, environment) as job:
            job.until(lambda t=generation: saved(workdir, Progress(0, t, 0)))
            time.sleep(0.3 * fit)
            job.process.send_signal(number)
            assert job.process.wait(60) == 128 + number, job.said
        assert "stopping as soon as what runs now can be saved; once more to leave at once" in job.said
        assert job.said.endswith("stopped; everything is saved, and the same command goes on from here\n")
        assert "Traceback" not in job.said
        assert rows(workdir) == 4 * (generation - 1)
        within = [p for p in range(1, 10) if saved(workdir, Progress(0, generation, p))]
        assert len(within) == 1
    with Job(place / "diffusion.py", workdir, environment) as job:
        said = job.finish()
    assert "resuming at wave 1, generation 3" in said
    assert "warning" not in said
    assert result(workdir) == result(diffusion)


class StopWithinTheSecondFit(display.Nothing):
    """Sends SIGTERM when three of its ten segments are done, and remembers what is said."""

    def __init__(self):
        self.generation, self.advances, self.said = 0, 0, []

    def say(self, text):
        self.said.append(text)

    def phase(self, wave, waves, generation, generations, phase):
        self.generation = generation

    def advance(self, done, steps_per_second):
        self.advances += self.generation == 2
        if self.advances == 3:
            signal.raise_signal(signal.SIGTERM)


def shared_run():
    """One run, on all devices at once, that is long enough for rounding to show."""
    config = configs.base("mixture", "diffusion")
    config.data.n_reference = config.n_initial = 40
    config.seeds = 1
    config.generations = 3
    config.metrics.update(names=("fd",), features="raw")
    config.model.update(width=8, depth=1, steps=20, batch_size=8, sampler_steps=2)
    return config


def distances(workdir):
    return [json.loads(line)["fd"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_that_devices_share_goes_on_with_fewer_of_them(tmp_path, monkeypatch, environment):
    """From four to two, in the middle of a fit: what follows differs in its last digits alone."""
    monkeypatch.setattr("madbench.report.workdir.write", lambda result: [])  # pictures take longer than the runs
    experiment.run(shared_run(), str(tmp_path / "calm"), show=display.Nothing())
    workdir = tmp_path / "work"
    with pytest.raises(stopping.Stopped):
        experiment.run(shared_run(), str(workdir), show=StopWithinTheSecondFit())
    assert saved(workdir, Progress(0, 2, 3))
    begun = (workdir / "metrics.jsonl").read_bytes()
    fewer = fleet.all_devices()[:2]
    monkeypatch.setattr(fleet, "all_devices", lambda: fewer)
    show = StopWithinTheSecondFit()
    show.advances = 4  # it has stopped before
    experiment.run(shared_run(), str(workdir), show=show)
    assert any(line.startswith("1 run: pmap over 2 devices, 2 devices share a run") for line in show.said)
    assert "resuming at wave 1, generation 2" in show.said
    speeds = [line for line in show.said if re.match(r"generation \d/3: fit [\d.]+ s, [\d,.]+ steps/s, loss", line)]
    assert len(speeds) == 2, "one that was resumed in the middle has a speed too"
    assert (workdir / "metrics.jsonl").read_bytes().startswith(begun)
    assert begun.count(b"\n") == 1
    calm = distances(tmp_path / "calm")
    assert calm[1] != pytest.approx(calm[2], rel=1e-2), "a step more or less would be seen"
    assert distances(workdir) == pytest.approx(calm, rel=1e-4)


def test_a_second_signal_leaves_at_once(capfd):
    before = signal.getsignal(signal.SIGINT)  # shells let what runs in the background ignore it
    with stopping.Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        while signals.received is None:
            time.sleep(0)
        assert signals.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err.strip() == (
        "stopping as soon as what runs now can be saved; once more to leave at once"
    )


# ----------------------------------------------------------------------------------------- damaged, cut off, refused


def go_on(workdir, capsys):
    capsys.readouterr()
    code = cli.main(["madbench", "run", f"--config={workdir.parent.parent / 'gaussian.py'}", f"--workdir={workdir}"])
    return code, capsys.readouterr().err


@pytest.fixture
def copy(place, gaussian):
    """A copy of the finished workdir, of the same name."""
    path = place / "copy" / "work"
    shutil.copytree(gaussian, path)
    yield path
    shutil.rmtree(place / "copy")


def arrays(workdir, generation):
    """The largest file of a checkpoint."""
    files = [p for p in (workdir / "checkpoints" / Progress(0, generation, 0).name).rglob("*") if p.is_file()]
    return max(files, key=lambda p: (p.stat().st_size, p.name))


def manifest(workdir, generation):
    return workdir / "checkpoints" / f"{Progress(0, generation, 0).name}.json"


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    path.write_bytes(bytes(b ^ 255 for b in path.read_bytes()))


@pytest.mark.parametrize("damage", [truncate, flip, pathlib.Path.unlink])
def test_a_damaged_checkpoint_is_told_and_the_one_before_goes_on(copy, gaussian, capsys, damage):
    damage(arrays(copy, 13))
    code, err = go_on(copy, capsys)
    assert code == 0
    assert len(re.findall(r"^warning: checkpoint \S+-generation000013-segment00 is damaged", err, re.MULTILINE)) == 1
    assert "resuming at wave 1, generation 12\n" in err
    assert result(copy) == result(gaussian)
    assert go_on(copy, capsys)[1].count("warning") == 0  # it has been replaced


def test_a_checkpoint_without_its_manifest_does_not_count(copy, gaussian, capsys):
    manifest(copy, 13).unlink()
    code, err = go_on(copy, capsys)
    assert (code, err.count("warning")) == (0, 0)
    assert "resuming at wave 1, generation 12\n" in err
    assert result(copy) == result(gaussian)


def test_without_any_usable_checkpoint_it_starts_over(copy, gaussian, capsys):
    flip(arrays(copy, 13))
    truncate(manifest(copy, 12))
    code, err = go_on(copy, capsys)
    assert code == 0
    assert len(re.findall("^warning: checkpoint .* is damaged", err, re.MULTILINE)) == 2
    assert "resuming at wave 1, generation 1\n" in err
    assert result(copy) == result(gaussian)


def cut_line(lines):
    return [*lines[:-1], lines[-1][:50]]


def half_a_row_more(lines):
    return [*lines, b'{"schema": 1, "bench']


def a_row_more(lines):
    return [*lines, lines[-1]]


def a_row_missing(lines):
    return lines[:7] + lines[8:]


def two_rows_in_another_order(lines):
    return [lines[1], lines[0], *lines[2:]]


def none(lines):
    return []


@pytest.mark.parametrize(
    ("change", "generation"),
    [(cut_line, 12), (half_a_row_more, 13), (a_row_more, 13), (a_row_missing, 1), (two_rows_in_another_order, 1),
     (none, 1)],
)  # fmt: skip
def test_rows_that_do_not_fit_the_checkpoint(copy, gaussian, capsys, change, generation):
    path = copy / "metrics.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    code, err = go_on(copy, capsys)
    assert code == 0
    start = {
        13: "this job is finished already",
        1: "preparing: feature network (raw), floors, compilation; this may take minutes",
    }
    assert start.get(generation, f"resuming at wave 1, generation {generation}") in err.splitlines()
    assert err.count("warning: metrics.jsonl lacks rows") == {13: 0, 12: 1, 1: 2}[generation]
    assert result(copy) == result(gaussian)


def test_timings_are_no_condition(copy, gaussian, capsys):
    (copy / "timing.jsonl").unlink()
    manifest(copy, 13).unlink()
    assert go_on(copy, capsys)[0] == 0
    assert result(copy) | {"timing": None} == result(gaussian) | {"timing": None}


def test_another_config_changes_nothing(copy, capsys):
    content = lambda: {p: p.read_bytes() for p in copy.rglob("*") if p.is_file() and p.name != ".lock"}
    before = content()
    config = copy.parent / "other.py"
    config.write_text(GAUSSIAN.replace("config.generations = 12", "config.generations = 13"))
    assert cli.main(["madbench", "run", f"--config={config}", f"--workdir={copy}"]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"madbench: .* config\.generations is 12 there and 13 here; [^\n]*\n", err)
    assert content() == before


def test_how_a_job_is_run_may_change(copy, gaussian, capsys):
    config = copy.parent / "other.py"
    config.write_text(GAUSSIAN.replace("config.seeds = 3", "config.seeds = 3; config.fleet.memory_fraction = 0.5"))
    manifest(copy, 13).unlink()
    assert cli.main(["madbench", "run", f"--config={config}", f"--workdir={copy}"]) == 0
    capsys.readouterr()
    assert result(copy) == result(gaussian)


@pytest.mark.parametrize(
    ("file", "field", "message"),
    [("reference.json", "features", "was measured with features"), ("environment.json", "dataset", "other data")],
)
def test_rows_of_other_features_or_data_are_not_added_to(copy, capsys, file, field, message):
    content = json.loads((copy / file).read_text())
    content[field] = "another"
    (copy / file).write_text(json.dumps(content))
    manifest(copy, 13).unlink()
    all_of_it = lambda: {p: p.read_bytes() for p in copy.rglob("*") if p.is_file() and p.name != ".lock"}
    before = all_of_it()
    code, err = go_on(copy, capsys)
    assert code == 2
    assert re.fullmatch(rf"madbench: .*{message}[^\n]*", err.splitlines()[-1])
    assert all_of_it() == before


def test_a_workdir_in_use_is_refused_and_left_alone(copy, capsys):
    lock = checkpoints.Lock(copy)
    before = (copy / "metrics.jsonl").stat()
    code, err = go_on(copy, capsys)
    lock.release()
    assert code == 2
    assert re.fullmatch(rf"madbench: .* is in use by process {os.getpid()}; [^\n]*\n", err)
    assert (copy / "metrics.jsonl").stat() == before


@pytest.mark.parametrize(
    "content", [None, "{", '{"plan": {"wave_size": 3}}'], ids=["lost", "damaged", "without its plan"]
)
def test_checkpoints_without_the_plan_they_were_saved_under_are_kept_and_refused(tmp_path, content):
    (tmp_path / "checkpoints").mkdir()
    checkpoint = tmp_path / "checkpoints" / "wave0000-generation000002-segment00.json"
    if content:
        (tmp_path / "environment.json").write_text(content)
    assert resume.first_plan(tmp_path) == (0, None)  # nothing was saved: it may begin again
    assert not (tmp_path / "environment.json").exists()
    checkpoint.write_text("{}")
    if content:
        (tmp_path / "environment.json").write_text(content)
    with pytest.raises(UserError, match=r"environment\.json is missing or cannot be read.*put it back") as caught:
        resume.first_plan(tmp_path)
    assert "\n" not in str(caught.value)
    assert checkpoint.exists()
