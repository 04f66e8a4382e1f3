"""The number of covered modes: the metric, its selection, its floor and its place in tables and curves."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import scores
from tables import entries

from madbench import data, floors, grid, results
from madbench.config import base
from madbench.errors import UserError
from madbench.metrics import Comparison, Evaluator, Known, features, select
from madbench.metrics.modes import CoveredModes
from madbench.report import curves, table
from madbench.samples import Modes

CORNERS = Modes(((0.0, 0.0), (0.0, 4.0), (4.0, 0.0), (4.0, 4.0)), radius=1.5)
METRIC = CoveredModes(CORNERS)


def state(x):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(of_samples)(jnp.asarray(x, jnp.float32)))


def of_samples(x, metric=METRIC):
    return metric.state(Comparison(x, x))


@pytest.mark.parametrize(
    ("x", "hits"),
    [
        ([[0.1, 0.1], [0.2, -0.3]], [1, 0, 0, 0]),
        ([[1.5, 0.0], [4.0, 2.25]], [1, 0, 0, 0]),  # on the boundary; and 1.75 from the last
        ([[1.1, 1.1], [2.0, 2.0]], [0, 0, 0, 0]),  # 1.56 from the first, but within 1.5 along each axis
        ([[0, 0], [0, 4], [4, 0], [4, 4], [9, 9]], [1, 1, 1, 1]),
    ],
)
def test_a_mode_is_covered_by_one_sample_within_the_radius(x, hits):
    np.testing.assert_array_equal(state(x), hits)
    assert METRIC.compute(state(x)) == sum(hits)


def test_where_modes_overlap_a_sample_counts_for_the_nearest():
    wide = CoveredModes(CORNERS._replace(radius=4.0))
    with jax.enable_x64(True):
        hits = of_samples(jnp.asarray([[1.9, 1.8]], jnp.float32), wide)
    np.testing.assert_array_equal(hits, [1, 0, 0, 0])


def test_chunks_merge_to_the_whole():
    x = np.random.default_rng(0).uniform(-1, 5, size=(12, 2))
    merged = METRIC.merge(state(x[:5]), state(x[5:]))
    np.testing.assert_array_equal(merged, state(x))
    assert 0 < METRIC.compute(state(x[:2])) < METRIC.compute(merged) <= METRIC.most == 4


def test_samples_that_are_not_finite_cover_nothing():
    """Also where the other samples cover every mode."""
    x = [*CORNERS.centres, (np.nan, 0.0)]
    assert scores([METRIC], x, x[:4]) == {"modes": None}
    assert scores([METRIC], x[:4], x[:4]) == {"modes": 4.0}


def small(source="mixture", **settings):
    config = base(source, "gaussian")
    config.metrics.names, config.metrics.features = ("modes",), "raw"
    config.n_initial, config.data.n_reference = 50, 40
    config.data.update(settings)
    return config


def test_the_job_counts_the_modes_of_its_source():
    (metric,) = grid.prepare(small(modes_per_side=3)).generation.evaluator.metrics
    assert metric.most == 9
    assert metric.modes == data.load("mixture", modes_per_side=3).modes


@pytest.mark.parametrize("source", ["gaussian", "rosenbrock", "digits"])
def test_a_source_without_modes_is_refused_in_one_line(source):
    with pytest.raises(UserError, match="counts the modes of a distribution that has them") as caught:
        grid.prepare(small(source))
    assert "\n" not in str(caught.value)


def test_features_other_than_the_samples_are_refused_in_one_line():
    config = small()
    config.metrics.features = "lenet"
    with pytest.raises(UserError, match=re.escape("config.data.source='mixture'")) as caught:
        grid.prepare(config)
    assert "\n" not in str(caught.value)


def test_the_floor_of_modes_is_what_coverage_by_chance_is():
    """n samples miss each of m modes with probability (1 - p/m)^n, p the mass of a mode within three deviations."""
    n, m, p = 60, 25, 1 - math.exp(-4.5)
    source = data.load("mixture", n_reference=n)
    extractor = features.build("raw", None, 0, "")
    evaluator = Evaluator(select(("modes",), Known(modes=source.modes)))
    found = floors.measure(source, extractor, extractor(source.reference.x), evaluator)["modes"]
    expected = m * (1 - (1 - p / m) ** n)
    assert abs(found["mean"] - expected) < 5 * math.sqrt(expected * (1 - expected / m) / floors.REPEATS)
    assert found["p5"] < found["mean"] < found["p95"] <= m


def result(tmp_path):
    """Two runs that keep 25 and 24 of 25 modes at first, and 12 and 11 at last."""
    rows = [
        results.row(
            task="t", model="mixture", loop="fully_synthetic", bias=1.0, seed=seed, generation=t, n_real=10 * (t == 1),
            n_synthetic=10 * (t > 1), n_samples=40, status="ok", metrics={"modes": 25.0 - 13 * (t - 1) - seed},
            metric_versions={"modes": 1}, features="raw-1",
        )
        for t in (1, 2)
        for seed in (0, 1)
    ]  # fmt: skip
    config = {
        "task": "t", "data": {"source": "mixture"}, "model": {"family": "mixture"}, "seeds": [0, 1], "generations": 2,
        "metrics": {"names": ["modes"]},
    }  # fmt: skip
    floor = {"mean": 25.0, "p5": 25.0, "p95": 25.0}
    reference = {
        "features": "raw-1", "n_samples": 40, "floors": {"modes": floor},
        "bias_meaning": "λ multiplies each component's covariance (ours)",
        "cells": [{"loop": "fully_synthetic", "bias": 1.0}], "metrics": entries("modes"),
    }  # fmt: skip
    return results.Result(path=tmp_path, config=config, reference=reference, environment={}, rows=rows)


def test_tables_show_modes_with_one_decimal_and_say_what_they_are(tmp_path):
    text = table.render([result(tmp_path)], "md")
    assert "24.5 ± 0.7 → 11.5 ± 0.7" in text
    assert "modes ↑" in text
    assert "25.0" in text
    assert "- Modes: those that have a generated sample." in text
    assert "λ multiplies each component's covariance" in text


def test_curves_count_modes_from_zero(tmp_path):
    (axis,) = curves.plot(result(tmp_path)).axes
    assert axis.get_yscale() == "linear"
    low, high = axis.get_ylim()
    assert low == 0
    assert 25 < high < 30
    assert all(tick == int(tick) for tick in axis.get_yticks())
    assert axis.get_title() == "modes ↑"
