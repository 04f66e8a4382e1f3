"""Generators that cheat or fail are each exposed by some metric, and none gets a perfect row."""

import functools
import importlib.util
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import madbench
from madbench.data.source import FiniteSource
from madbench.metrics import METRICS, features
from madbench.samples import Samples

SCRIPT = pathlib.Path(madbench.__file__).resolve().parents[1] / "benchmarks/degenerate.py"


@functools.cache
def script():
    spec = importlib.util.spec_from_file_location("degenerate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["degenerate"] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def judged():
    """Four classes in six dimensions, as clouds that overlap a little; all metrics, at 120 samples."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 480).astype(np.int32)
    x = (2 * np.random.default_rng(5).normal(size=(4, 6))[y] + rng.normal(size=(480, 6))).astype(np.float32)
    take = lambda part: Samples(jnp.asarray(x[part]), jnp.asarray(y[part]))
    pool, reference = take(slice(120, None)), take(slice(0, 120))
    source = FiniteSource(pool, reference, name="clouds", num_classes=4, bounds=None, fingerprint={})
    return script().judge(source, features.build("raw", None, 4, ""))


def exposing(generator):
    return {name for name, verdict in judged()[1][generator].items() if verdict.exposed}


def test_all_metrics_judge_that_need_no_exact_distribution():
    found, verdicts = judged()
    assert set(found) == set(METRICS) - {"gaussian_w2", "modes"}
    assert all(list(row) == list(found) for row in verdicts.values())


# What has to expose each, whatever else does.
EXPOSED_BY = {
    "constant: the mean": {
        "fd",
        "recall",
        "coverage",
        "variance",
        "vendi",
        "effective_rank",
        "entropy",
        "class_balance",
    },
    "constant: a real image": {"fd", "recall", "coverage", "variance", "entropy", "classes"},
    "one image and noise": {"fd", "kid", "mmd", "swd", "recall", "coverage", "variance", "entropy", "classes"},
    "copy of the training set": {"memorization", "authenticity"},
    "pure noise": {"fd", "precision", "density", "coverage"},
    "half the classes": {"fd", "recall", "coverage", "class_balance", "classes"},
    "halfway to the class means": {"fd", "recall", "variance", "entropy"},
}


def test_every_generator_but_the_real_one_has_its_metrics():
    assert set(EXPOSED_BY) | {"real"} == set(script().GENERATORS)


@pytest.mark.parametrize("generator", EXPOSED_BY)
def test_each_is_exposed(generator):
    assert EXPOSED_BY[generator] <= exposing(generator)


def test_real_samples_are_not():
    """But by chance: each metric exposes one real set in twenty, or in ten where the pool is twice the sample."""
    assert len(exposing("real")) <= 4


def test_copies_are_exposed_by_nothing_but_their_own_metrics():
    """Without the training set they pass for real."""
    assert exposing("copy of the training set") - {"memorization", "authenticity"} <= exposing("real") | {"density"}


def test_no_single_metric_exposes_all():
    """Why there are so many."""
    for name in judged()[0]:
        assert not all(name in exposing(generator) for generator in EXPOSED_BY), name


def test_the_table_marks_what_is_exposed():
    lines = script().table(*judged()).splitlines()
    assert lines[0].startswith("| metric | floor, 5–95 % | real | constant: the mean |")
    assert len({line.count("|") for line in lines}) == 1
    (row,) = (line for line in lines if line.startswith("| memorization ↓ |"))
    assert "| **1** |" in row
    assert int(lines[-1].split("|")[7]) == len(exposing("copy of the training set"))
