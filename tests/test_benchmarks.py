"""A benchmark starts and prints its table; figures are no business of tests."""

import os
import pathlib
import subprocess
import sys

import trials

import madbench

ROOT = pathlib.Path(madbench.__file__).resolve().parents[1]


def run(script, *flags):
    command = [sys.executable, f"benchmarks/{script}", *flags]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


def printed(script, *flags):
    done = run(script, *flags)
    done.check_returncode()
    return done.stdout


def test_image_training_prints_a_row():
    flags = ["--small", "--sides=8", "--fleets=1", "--trainers=diffusion", "--repeats=1", "--steps=1"]
    assert "| diffusion | 8x8x3 | 1 |" in printed("images.py", *flags)


def test_feature_networks_print_a_row():
    assert "| dinov2 | 1 |" in printed("features.py", "--networks=dinov2", "--images=1", "--repeats=1")


def test_strategies_that_are_misspelt_or_done_of_another_job_are_refused(tmp_path):
    done = run("strategies.py", f"--out={tmp_path}", "--only=neno")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("strategies.py: --only=neno: choose from entropy_selection, ")
    trials.save(trials.make("none"), tmp_path)
    (tmp_path / "none" / "report.html").touch()  # which is written last
    done = run("strategies.py", f"--out={tmp_path}", "--only=none")
    assert (done.returncode, done.stdout) == (2, "")
    assert "none is of another job (" in done.stderr.splitlines()[-1]
