"""The verifier's classifier: it learns, its confidence is a probability, and padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import CLASSES, four_clouds

from madbench.samples import Samples
from madbench.strategies.classifier import Classifier, log_confidence, train
from madbench.strategies.distances import squared_distances

NET = Classifier(CLASSES, width=16)


@pytest.fixture(scope="module")
def trained():
    """Weights by how many of the samples are members."""
    x, y = four_clouds(96, spread=0.1)
    learn = jax.jit(lambda key, x, y, member: train(NET, key, Samples(x, y), member))

    def run(members, padding=0.0):
        member = jnp.arange(96) < members
        return learn(jax.random.key(0), jnp.where(member[:, None], x, padding), jnp.asarray(y, jnp.int32), member)

    return run


def test_it_tells_the_classes_apart(trained):
    x, y = four_clouds(400, spread=0.1, seed=1)
    found = np.exp(log_confidence(NET, trained(96), jnp.asarray(x)[None], jnp.asarray(y)))[0]
    assert found.shape == (400,)
    assert found.mean() > 0.98
    every = [log_confidence(NET, trained(96), jnp.asarray(x)[None], jnp.full(400, label)) for label in range(CLASSES)]
    np.testing.assert_allclose(np.exp(np.stack(every)).sum(axis=0), 1, rtol=1e-5)


def test_padding_is_never_seen(trained):
    jax.tree.map(np.testing.assert_array_equal, trained(64), trained(64, padding=jnp.nan))


def test_confidence_of_many_candidates_is_that_of_each(trained):
    x = jax.random.normal(jax.random.key(1), (3, 5, 2))
    y = jnp.arange(5, dtype=jnp.int32) % CLASSES
    together = log_confidence(NET, trained(96), x, y)
    assert together.shape == (3, 5)
    alone = jnp.stack([log_confidence(NET, trained(96), each[None], y)[0] for each in x])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_distances_are_those_of_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3, 2, 1)).astype(np.float32), rng.normal(size=(5, 3, 2, 1)).astype(np.float32)
    expected = ((a[:, None] - b[None]) ** 2).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(squared_distances(jnp.asarray(a), jnp.asarray(b)), expected, rtol=1e-4)
    assert (squared_distances(jnp.asarray(a), jnp.asarray(a)) >= 0).all()
