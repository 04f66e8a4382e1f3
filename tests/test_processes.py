"""Several processes as one job: real ones, that meet on a free port of this machine, and are killed for it."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from madbench import cli, meeting, processes, supervisor
from madbench.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEADLINE = 240  # seconds after which a test gives up
NOTICED = 60  # seconds within which a lost process must be noticed
# Four runs, always on four devices in all: then the bytes are the same too, and not only the numbers.
GAUSSIAN = """
from madbench.config import base

def get_config():
    config = base("gaussian", "gaussian")
    config.task = "together"
    config.data.dimension = 2
    config.data.n_reference = 20
    config.n_initial = 20
    config.loops = ("fully_synthetic", "accumulate_subsample")
    config.seeds = 2
    config.generations = 40
    config.metrics.names = ("fd",)
    config.metrics.features = "raw"
    return config
"""
# Two runs on four devices: pairs of devices share a run, and of four processes each pair is of two.
DIFFUSION = """
from madbench.config import base

def get_config():
    config = base("mixture", "diffusion")
    config.task = "shared"
    config.data.n_reference = 40
    config.n_initial = 40
    config.seeds = 2
    config.generations = 2
    config.metrics.names = ("fd",)
    config.metrics.features = "raw"
    config.model.update(width=8, depth=1, steps=20, batch_size=8, sampler_steps=2)
    return config
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes")
    (path / "gaussian.py").write_text(GAUSSIAN)
    (path / "diffusion.py").write_text(DIFFUSION)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


class Job:
    """`madbench run` in several processes, which have four devices together, or `devices` each."""

    def __init__(self, place, name, workdir, number, *, flags=(), devices=None):
        self.workdir = workdir
        devices = devices or 4 // number
        environment = {
            **os.environ,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
            "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, "-m", "madbench", "run", f"--config={place / name}.py", f"--workdir={workdir}"]
        if number > 1:
            command += [f"--coordinator_address=127.0.0.1:{free_port()}", f"--num_processes={number}", *flags]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.members = [
            subprocess.Popen([*command, *[f"--process_id={i}"] * (number > 1)], cwd=ROOT, env=environment, **pipes)
            for i in range(number)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            if member.poll() is None:
                member.kill()
            member.communicate()

    def ends(self) -> list[tuple[int, str, str]]:
        """Exit code, stdout and stderr of each."""
        outputs = [member.communicate(timeout=DEADLINE) for member in self.members]
        return [(member.returncode, *output) for member, output in zip(self.members, outputs, strict=True)]

    def rows(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return len((self.workdir / "metrics.jsonl").read_bytes().splitlines())
        return 0

    def wait_for_rows(self, number: int) -> None:
        limit = time.monotonic() + DEADLINE
        while self.rows() < number:
            assert all(member.poll() is None for member in self.members), "ended too early"
            assert time.monotonic() < limit, "no rows"
            time.sleep(0.02)


def metrics(workdir) -> bytes:
    return (workdir / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def gaussian(place):
    """The rows of the Gaussian's job, by this process alone."""
    assert cli.main(["madbench", "run", f"--config={place}/gaussian.py", f"--workdir={place}/gaussian"]) == 0
    return metrics(place / "gaussian")


@pytest.fixture(scope="module")
def diffusion(place):
    with Job(place, "diffusion", place / "diffusion", 1) as job:
        assert [code for code, _, _ in job.ends()] == [0]
    return metrics(place / "diffusion")


def test_several_processes_write_what_one_writes(place, diffusion):
    """To the byte; four processes share each run between two of them. Of two, the signal's test below asks the same."""
    workdir = place / "of-4"
    with Job(place, "diffusion", workdir, 4) as job:
        ends = job.ends()
    assert [code for code, _, _ in ends] == [0] * 4, ends
    assert metrics(workdir) == diffusion
    assert "2 devices share a run" in ends[0][2]
    one_spoke(workdir, ends)


def one_spoke(workdir, ends):
    """The first process printed the table, and the others nothing; `environment.json` knows of all."""
    assert ends[0][1] == (workdir / "table.md").read_text()
    for _, output, error in ends[1:]:
        assert output == ""
        waits, joined = error.splitlines()  # and from then on one speaks
        assert re.match(r"waiting for the other (process|3 processes) at 127\.0\.0\.1:\d+, at most 300 s", waits)
        assert joined == f"all {len(ends)} processes have joined; process 0 says how it goes"
    assert f"all {len(ends)} processes have joined\n" in ends[0][2]
    environment = json.loads((workdir / "environment.json").read_text())
    assert environment["processes"] == len(ends)
    assert environment["device"]["count"] == 4


def test_streamed_samples_are_written_by_one_and_read_by_all_who_share_a_run(place, diffusion):
    """One run of two processes, a device each: its rows are those of one process with all its data on its devices."""
    workdir = place / "streamed"
    flags = ["--config.fleet.streaming=always", "--config.seeds=1"]
    with Job(place, "diffusion", workdir, 2, flags=flags, devices=1) as job:
        ends = job.ends()
    assert [code for code, _, _ in ends] == [0] * 2, ends
    assert "data streamed" in ends[0][2]
    assert "2 devices share a run" in ends[0][2]
    streamed, resident = (list(map(json.loads, rows.splitlines())) for rows in (metrics(workdir), diffusion))
    for a, b in zip(streamed, [row for row in resident if row["seed"] == 0], strict=True):
        assert a | {"fd": 0} == b | {"fd": 0}
        assert a["fd"] == pytest.approx(b["fd"], rel=1e-4)
    assert not any(workdir.rglob("*.array_record"))


def test_a_lost_process_ends_the_others_and_one_process_finishes_the_job(place, gaussian):
    workdir = place / "lost"
    with Job(place, "gaussian", workdir, 2, flags=["--heartbeat_timeout=10"]) as job:
        job.wait_for_rows(12)
        begin = time.monotonic()
        job.members[1].kill()
        code, _, error = job.ends()[0]
        assert time.monotonic() - begin < NOTICED
    assert code == supervisor.LOST
    last = error.splitlines()[-1]
    assert re.fullmatch(r"madbench: process 1 of 2 was lost; .* the same command resumes it, .*", last)
    assert "Traceback" not in error
    assert "stack trace" not in error
    assert 0 < len(metrics(workdir)) < len(gaussian)
    assert cli.main(["madbench", "run", f"--config={place}/gaussian.py", f"--workdir={workdir}"]) == 0
    assert metrics(workdir) == gaussian


def test_without_the_first_process_the_others_end_too(place, gaussian):
    workdir = place / "headless"
    with Job(place, "gaussian", workdir, 2, flags=["--heartbeat_timeout=10"]) as job:
        job.wait_for_rows(6)
        begin = time.monotonic()
        job.members[0].kill()
        code, output, error = job.ends()[1]
        assert time.monotonic() - begin < NOTICED
    assert (code, output) == (supervisor.LOST, "")
    assert re.fullmatch(
        r"waiting for .*\nall 2 processes have joined.*\nmadbench: process 0 of 2 was lost; .*\n", error
    )
    assert cli.main(["madbench", "run", f"--config={place}/gaussian.py", f"--workdir={workdir}"]) == 0
    assert metrics(workdir) == gaussian


def test_a_signal_to_any_process_stops_all_after_saving(place, gaussian):
    workdir = place / "stopped"
    with Job(place, "gaussian", workdir, 2) as job:
        job.wait_for_rows(6)
        job.members[1].send_signal(signal.SIGTERM)
        ends = job.ends()
    assert [code for code, _, _ in ends] == [128 + signal.SIGTERM] * 2
    assert "stopped; everything is saved" in ends[0][2]
    assert "stopped;" not in ends[1][2]
    with Job(place, "gaussian", workdir, 2) as job:
        ends = job.ends()
    assert [code for code, _, _ in ends] == [0, 0]
    assert "resuming at" in ends[0][2]
    assert metrics(workdir) == gaussian
    one_spoke(workdir, ends)


def test_what_the_first_refuses_all_refuse(place, tmp_path):
    (tmp_path / "other.txt").write_text("here before")
    with Job(place, "gaussian", tmp_path, 2) as job:
        ends = job.ends()
    for code, output, error in ends:
        assert (code, output) == (2, "")
        waits, joined, refusal = error.splitlines()
        assert re.fullmatch(
            r"waiting for the other process at 127\.0\.0\.1:\d+, at most 300 s \(--initialization_timeout\)", waits
        )
        assert joined.startswith("all 2 processes have joined")
        assert re.fullmatch(r"madbench: process 0: .* holds other files .*", refusal)


def test_processes_that_do_not_meet_say_so(place, tmp_path):
    with Job(place, "gaussian", tmp_path / "w", 2, flags=["--initialization_timeout=2"]) as job:
        job.members[0].kill()
        code, _, error = job.ends()[1]
    assert code == supervisor.LOST
    waits, refusal = error.splitlines()
    assert re.fullmatch(r"waiting for the other process at .*, at most 2 s \(--initialization_timeout\)", waits)
    assert re.fullmatch(r"madbench: the processes have not met within 2 s at 127\.0\.0\.1:\d+: .*", refusal)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--coordinator_address=here:1234", "--num_processes and --process_id must be given too"),
        ("--process_id=1", "--coordinator_address and --num_processes must be given too"),
        ("--coordinator_address=here --num_processes=2 --process_id=1", "is not HOST:PORT"),
        ("--coordinator_address=here:99999 --num_processes=2 --process_id=1", "is not HOST:PORT"),
        ("--coordinator_address=here:1234 --num_processes=2 --process_id=2", "numbered from 0 to 1"),
        ("--coordinator_address=here:1234 --num_processes=0 --process_id=0", "--num_processes must be at least 1"),
        ("--distributed --heartbeat_timeout=0", "--heartbeat_timeout must be at least 1 second"),
        ("--shard=0/4", "is not I/N"),
        ("--shard=5/4", "is not I/N"),
        ("--shard=2", "is not I/N"),
        ("--shard=1/5", "the grid has 4 runs, and so at most as many shares"),
    ],
)
def test_errors_of_use(place, tmp_path, capsys, flags, message):
    workdir = tmp_path / "w"
    code = cli.main(["madbench", "run", f"--config={place}/gaussian.py", f"--workdir={workdir}", *flags.split()])
    output, error = capsys.readouterr()
    assert (code, output) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert not workdir.exists()


def test_without_a_cluster_the_launchers_and_the_flags_are_named(place, tmp_path):
    told = ("SLURM_", "OMPI_", "KUBERNETES_", "TPU_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    command = [sys.executable, "-m", "madbench", "run", f"--config={place}/gaussian.py", f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run(
        [*command, "--distributed"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    line = r"madbench: --distributed: this process was not started by a launcher that JAX knows: srun of SLURM .*"
    assert re.fullmatch(
        rf"{line} give --coordinator_address=HOST:PORT --num_processes=N --process_id=I .*\n", done.stderr
    )
    assert not (tmp_path / "w").exists()


def test_a_taken_port_is_told(place, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = [f"--coordinator_address={address}", "--num_processes=2", "--process_id=0"]
        code = cli.main(["madbench", "run", f"--config={place}/gaussian.py", f"--workdir={tmp_path / 'w'}", *flags])
    assert code == 2
    assert re.search(r"port \d+ of --coordinator_address cannot be used", capsys.readouterr().err)


# ------------------------------------------------------------------------------------------------------ without others

MET = "madbench: the processes have met as 1 of 4\n"
FATAL = "Terminating process because the JAX distributed service detected fatal errors.\n"
SILENT = "The following tasks are unhealthy (stopped sending heartbeats):\n{}\nThe tasks have crashed.\n"


@pytest.mark.parametrize(
    ("number", "log", "code", "begins"),
    [
        (signal.SIGABRT, MET + FATAL + SILENT.format("2"), supervisor.LOST, "process 2 of 4 was lost"),
        (signal.SIGABRT, MET + FATAL + SILENT.format("2\n3"), supervisor.LOST, "processes 2 and 3 of 4 were lost"),
        (signal.SIGABRT, MET + FATAL + "Failed to send RPC to coordination service.", 75, "process 0 of 4 was lost"),
        (signal.SIGABRT, MET + FATAL, supervisor.LOST, "another process was lost"),
        (signal.SIGABRT, "F coordination: deadline", supervisor.LOST, "the processes have not met within 5 s"),
        (signal.SIGSEGV, MET + "a cause", 139, "this process was ended by SIGSEGV; its last words:"),
        (signal.SIGKILL, "", 137, "this process was ended by SIGKILL"),
    ],
)
def test_the_end_of_a_child_is_explained(number, log, code, begins):
    found, text = supervisor.explain(number, log, "madbench: the processes have met", "within 5 s")
    assert found == code
    assert text.startswith(begins)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (("h:1", 2, 1, 300), "waiting for the other process at h:1, at most 300 s (--initialization_timeout)"),
        (("h:1", 8, 0, 60), "waiting for the other 7 processes at h:1, at most 60 s (--initialization_timeout)"),
        ((None, None, None, 5), "waiting for the other processes, at most 5 s (--initialization_timeout)"),
    ],
)
def test_what_is_said_while_the_others_have_not_come(fields, text):
    assert meeting.Meeting(*fields).waiting == text


def test_alone_everything_is_as_without_others():
    leaf = np.arange(6.0).reshape(2, 3)
    assert processes.is_first()
    assert processes.exchange({"a": 1}) == [{"a": 1}]
    assert processes.together(lambda: 3) == processes.from_first(lambda: 3) == processes.in_turn(lambda: 3) == 3
    assert processes.collect(leaf) is leaf
    assert processes.broadcast(leaf, leaf) is leaf
    processes.same("x", "anything")
    with pytest.raises(UserError, match="its own words"):
        processes.together(lambda: (_ for _ in ()).throw(UserError("its own words")))
