"""A benchmark starts and prints its table; figures are no business of tests."""

import os
import pathlib
import subprocess
import sys

import madbench

ROOT = pathlib.Path(madbench.__file__).resolve().parents[1]


def printed(script, *flags):
    command = [sys.executable, f"benchmarks/{script}", *flags]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_image_training_prints_a_row():
    flags = ["--small", "--sides=8", "--fleets=1", "--trainers=diffusion", "--repeats=1", "--steps=1"]
    assert "| diffusion | 8x8x3 | 1 |" in printed("images.py", *flags)


def test_feature_networks_print_a_row():
    assert "| dinov2 | 1 |" in printed("features.py", "--networks=dinov2", "--images=1", "--repeats=1")
