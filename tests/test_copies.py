"""Authenticity and memorization against plain NumPy, and what copies and new real samples get."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import SCREENED, chunked, cloud, grid_points, of, scores, squared, value

from madbench.metrics import Comparison, Training, neighbours

MEMORIZATION, AUTHENTICITY = METRICS = of("memorization"), of("authenticity")
both = pytest.mark.parametrize("engine", [neighbours, SCREENED], ids=["traced", "screened"])
REFERENCE = cloud(6, 3, 77)


def by_definition(generated, training):
    """Alaa et al.: a sample is authentic if it is farther from its nearest training sample than that from its own."""
    across, among = squared(generated, training), squared(training, training)
    np.fill_diagonal(among, np.inf)
    own, nearest = among.min(axis=1), across.argmin(axis=1)
    authentic = [across[j, i] > own[i] for j, i in enumerate(nearest)]
    closest = np.sort(own)[max(int(0.05 * len(training)), 1) - 1]
    return {"memorization": np.mean(across.min(axis=1) <= closest), "authenticity": np.mean(authentic)}


SETS = {
    "random": (cloud(40, 3, 0), cloud(60, 3, 1)),
    "nearly copies": (cloud(60, 3, 1)[:40] + cloud(40, 3, 2, 0.1), cloud(60, 3, 1)),
    "half copies": (np.concatenate([cloud(60, 3, 1)[5:25], cloud(20, 3, 0)]), cloud(60, 3, 1)),
    "collapsed": (np.repeat(cloud(1, 3, 0), 40, axis=0), cloud(60, 3, 1)),
    "collapsed training set": (cloud(40, 3, 0), np.repeat(cloud(2, 3, 1), 30, axis=0)),
    "tied and duplicated": (grid_points(0, 40, side=5, d=3), grid_points(1, 60, side=5, d=3)),
    "tiny": (cloud(2, 3, 0), cloud(2, 3, 1)),
}


@both
@pytest.mark.parametrize("name", SETS)
def test_they_are_their_definitions(engine, name):
    generated, training = SETS[name]
    found = scores(METRICS, generated, REFERENCE, training=(training, len(training)), engine=engine)
    assert found == pytest.approx(by_definition(generated, training))


def test_the_sets_are_not_all_or_nothing():
    for metric in ("memorization", "authenticity"):
        assert sum(0 < by_definition(*SETS[name])[metric] < 1 for name in SETS) >= 3


@both
@pytest.mark.parametrize("fill", ["zeros", "copies of the generated", "far"])
def test_padding_of_the_training_set_is_ignored(engine, fill):
    generated, training = SETS["nearly copies"]
    padding = {"zeros": 0 * generated, "copies of the generated": generated, "far": generated + 1e9}[fill]
    padded = (np.concatenate([training, padding]), len(training))
    found = scores(METRICS, generated, REFERENCE, training=padded, engine=engine)
    assert found == pytest.approx(by_definition(generated, training))


@both
def test_copies_are_all_memorized_and_none_authentic(engine):
    training = cloud(80, 5, 0, 1.0, 3.0)
    found = scores(METRICS, training[10:50], REFERENCE, training=(training, 80), engine=engine)
    assert found == {"memorization": 1.0, "authenticity": 0.0}


def test_pure_noise_far_away_is_authentic_and_not_memorized():
    found = scores(METRICS, cloud(40, 3, 0, 1.0, 50.0), REFERENCE, training=(cloud(60, 3, 1), 60))
    assert found == {"memorization": 0.0, "authenticity": 1.0}


def test_of_new_real_samples_a_twentieth_counts_as_memorized():
    """They are as far from the training set as its samples are from one another, but for one neighbour more."""
    count, n, size = 300, 20, 100
    generated, training = (cloud(count * m, 3, seed).reshape(count, m, 3) for m, seed in ((n, 0), (size, 1)))

    def share(a, b):
        return [m.state(Comparison(a, a, None, Training(b, jnp.int32(size)))).hits / n for m in METRICS]

    with jax.enable_x64(True):
        memorized, authentic = (np.asarray(x) for x in jax.jit(jax.vmap(share))(generated, training))
    assert abs(memorized.mean() - 0.05) < 4 * memorized.std(ddof=1) / math.sqrt(count) + 0.05 / size
    assert 0.4 < authentic.mean() < 0.6


@both
def test_a_training_set_of_one_sample_has_no_distances_of_its_own(engine):
    """Nothing is farther than infinity: no sample is authentic, and all count as memorized."""
    found = scores(METRICS, cloud(5, 3, 0), REFERENCE, training=(cloud(60, 3, 1), 1), engine=engine)
    assert found == {"memorization": 1.0, "authenticity": 0.0}


@pytest.mark.parametrize("metric", METRICS, ids=["memorization", "authenticity"])
def test_chunks_of_generated_samples_merge_to_the_whole(metric):
    generated, training = SETS["half copies"]
    training = (training, len(training))
    chunks = [(generated[:3], REFERENCE), (generated[3:30], REFERENCE), (generated[30:], REFERENCE)]
    merged = metric.compute(chunked(metric, chunks, training=training, engine=SCREENED))
    assert merged == value(metric, generated, REFERENCE, training=training)
