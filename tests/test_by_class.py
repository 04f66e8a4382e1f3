"""Selection within classes: each class keeps its places, and gets the best of its own candidates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench.samples import Samples
from madbench.strategies import by_class


def candidates(count, n, classes, seed=0):
    """Samples that say which they are: x = (candidate, place)."""
    x = np.stack(np.meshgrid(np.arange(count), np.arange(n), indexing="ij"), axis=-1).astype(np.float32)
    score = np.random.default_rng(seed).normal(size=(count, n)).astype(np.float32)
    return Samples(jnp.asarray(x), jnp.arange(n, dtype=jnp.int32) % max(classes, 1)), jnp.asarray(score)


def best(count, n, classes, members):
    """In plain NumPy: for each class, its members' candidates from the best on, in the order of its places."""
    _, score = candidates(count, n, classes)
    chosen = np.full((n, 2), np.nan)
    for label in range(max(classes, 1)):
        places = [i for i in range(label, n, max(classes, 1)) if i < members]
        ranked = sorted(((k, i) for i in places for k in range(count)), key=lambda ki: -float(score[ki]))
        for place, pair in zip(places, sorted(ranked[: len(places)]), strict=True):  # as they were drawn
            chosen[place] = pair
    return chosen[:members]


@pytest.mark.parametrize(
    ("count", "n", "classes", "members"),
    [(1, 7, 3, 7), (3, 12, 4, 12), (3, 13, 4, 13), (2, 9, 0, 9), (4, 20, 3, 11), (4, 20, 0, 11), (2, 3, 10, 2)],
)
def test_the_best_of_each_class_in_its_places(count, n, classes, members):
    given, score = candidates(count, n, classes)
    found = jax.jit(by_class.best, static_argnums=3)(given, score, jnp.arange(n) < members, classes)
    np.testing.assert_array_equal(found.x[:members], best(count, n, classes, members))
    np.testing.assert_array_equal(found.y, given.y)
    assert (found.x[:members, 1] < members).all()  # nobody gets what was drawn for places of others


def test_of_equals_the_first():
    given, _ = candidates(3, 8, 2)
    found = by_class.best(given, jnp.zeros((3, 8)), jnp.ones(8, bool), 2)
    np.testing.assert_array_equal(found.x, given.x[0])


def test_candidates_that_score_minus_infinity_come_last_and_are_the_run_s_own():
    """As of a class of which there is no real sample."""
    given, score = candidates(2, 12, 2)
    score = score.at[:, 1::2].set(-jnp.inf)
    found = by_class.best(given, score, jnp.arange(12) < 6, 2).x[:6]
    np.testing.assert_array_equal(found[1::2], given.x[0, 1:6:2])
