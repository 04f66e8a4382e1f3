"""The suite's selections: what they choose, against NumPy and probability; and that padding changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans
from toys import CLASSES, four_clouds

from madbench import data, strategies
from madbench.models.family import Given
from madbench.samples import Samples
from madbench.strategies import classifier
from madbench.strategies.classifier import log_confidence
from madbench.strategies.entropy_selection import farthest
from madbench.strategies.projection import Projection

GIVEN = Given((2,), CLASSES)
SELECTIONS = (
    "random_subsample",
    "verifier",
    "verifier(by='distance')",
    "k_choice",
    "k_choice(reward='quadratic',scale=20)",
    "projection",
    "entropy_selection(candidates=3)",
)


@pytest.fixture(autouse=True, scope="module")
def brief():
    """Verifiers that are hardly trained choose by the same rules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "STEPS", 30)
        yield


@functools.cache
def made(text, given=GIVEN):
    """A strategy, and what it makes of real samples, a few of which are padding."""
    strategy = strategies.build(text, given)
    x, y = four_clouds(80)
    real, member = Samples(jnp.asarray(x), jnp.asarray(y, jnp.int32)), jnp.arange(80) < 72
    if not strategy.reads_real:
        real = member = None
    return strategy, jax.jit(strategy.init)(jax.random.key(0), real, member)


@functools.cache
def chooser(text, given):
    """Compiled once for each size."""
    return jax.jit(made(text, given)[0].select)


def drawn(strategy, n, seed=1):
    """Candidates for n places; those of a place are the same for every n."""
    x = jnp.moveaxis(jax.random.normal(jax.random.key(seed), (n, strategy.candidates, 2)), 1, 0)
    return Samples(x, jnp.arange(n, dtype=jnp.int32) % max(strategy.given.num_classes, 1))


def select(text, candidates, members, key=2, given=GIVEN):
    member = jnp.arange(candidates.y.shape[0]) < members
    return chooser(text, given)(jax.random.key(key), candidates, member, made(text, given)[1])


@pytest.mark.parametrize("text", SELECTIONS)
def test_places_of_others_change_nothing(text):
    """A run in a grid with larger pools is the same run."""
    strategy, _ = made(text)
    alone = select(text, drawn(strategy, 21), 21)
    for far in (1.0, 1e4):
        beside = drawn(strategy, 36)
        beside = beside._replace(x=beside.x.at[:, 21:].multiply(far))
        found = select(text, beside, 21)
        np.testing.assert_array_equal(found.x[:21], alone.x)
        np.testing.assert_array_equal(found.y[:21], alone.y)


@pytest.mark.parametrize("text", SELECTIONS)
def test_labels_stay_and_samples_are_candidates(text):
    strategy, state = made(text)
    candidates = drawn(strategy, 21)
    found = select(text, candidates, 21)
    np.testing.assert_array_equal(found.y, candidates.y)
    allowed = np.asarray(candidates.x).reshape(-1, 2)
    if text == "projection":
        allowed = np.concatenate([allowed, np.asarray(state[0]).reshape(-1, 2)])
    assert all((allowed == x).all(axis=1).any() for x in np.asarray(found.x))


@pytest.mark.parametrize("by", ["confidence", "distance"])
def test_the_verifier_lets_the_best_of_each_class_pass(by):
    text = f"verifier(by={by!r})" if by == "distance" else "verifier"
    strategy, state = made(text)
    candidates = drawn(strategy, 21)
    x, y = np.asarray(candidates.x), np.asarray(candidates.y)
    if by == "confidence":
        score = np.asarray(log_confidence(strategy._net, state, candidates.x, candidates.y))
    else:
        real, label = four_clouds(80)
        apart = ((x[:, :, None] - real[None, None, :72]) ** 2).sum(axis=-1)
        score = -np.where(y[None, :, None] == label[None, None, :72], apart, np.inf).min(axis=-1)
    found = np.asarray(select(text, candidates, 21).x)
    for label in range(CLASSES):
        own = x[:, label::CLASSES].reshape(-1, 2)
        best = np.argsort(-score[:, label::CLASSES].ravel(), kind="stable")[: len(found[label::CLASSES])]
        np.testing.assert_array_equal(found[label::CLASSES], own[np.sort(best)])  # as they were drawn


def test_the_verifier_by_distance_needs_no_classes():
    given = Given((2,))
    strategy, _ = made("verifier(by='distance')", given)
    candidates = drawn(strategy, 10)
    real = four_clouds(80)[0][:72]
    apart = ((np.asarray(candidates.x)[:, :, None] - real) ** 2).sum(axis=-1).min(axis=-1).ravel()
    found = select("verifier(by='distance')", candidates, 10, given=given)
    np.testing.assert_array_equal(found.x, np.asarray(candidates.x).reshape(-1, 2)[np.sort(np.argsort(apart)[:10])])


def test_k_choice_is_bradley_and_terry_s():
    """P(k) = exp r(x_k) / Σ_j exp r(x_j), r = -scale ‖x‖²/2; each within four standard deviations of n draws."""
    n, scale, x = 20_000, 2.0, np.asarray([[0.0, 0.0], [1.0, 0.0], [0.0, 0.5], [1.5, 1.0]], np.float32)
    candidates = Samples(jnp.broadcast_to(x[:, None], (4, n, 2)), jnp.zeros(n, jnp.int32))
    found = np.asarray(select(f"k_choice(reward='quadratic',scale={scale})", candidates, n).x)
    weight = np.exp(-scale * (x**2).sum(axis=1) / 2)
    expected = weight / weight.sum()
    share = [(found == each).all(axis=1).mean() for each in x]
    assert sum(share) == pytest.approx(1)
    np.testing.assert_array_less(np.abs(share - expected), 4 * np.sqrt(expected * (1 - expected) / n))


def test_k_choice_by_confidence_prefers_what_the_classifier_knows():
    strategy, state = made("k_choice")
    candidates = drawn(strategy, 400)
    of = lambda x: np.asarray(log_confidence(strategy._net, state, x, candidates.y))
    found = of(select("k_choice", candidates, 400).x[None])[0]
    score = of(candidates.x)
    assert found.mean() > score.mean() + 0.1
    probability = np.exp(score) / np.exp(score).sum(axis=0)
    expected = (probability * score).sum(axis=0).mean()
    assert found.mean() == pytest.approx(expected, abs=4 * score.std() / np.sqrt(400))


def test_the_control_is_uniform_and_changes_from_key_to_key():
    n = 20_000
    x = jnp.broadcast_to(jnp.arange(5.0)[:, None, None], (5, n, 2))
    text, candidates = "random_subsample(candidates=5)", Samples(x, jnp.zeros(n, jnp.int32))
    one, two = (np.asarray(select(text, candidates, n, key).x[:, 0], int) for key in (2, 3))
    np.testing.assert_allclose(np.bincount(one) / n, 0.2, atol=4 * np.sqrt(0.16 / n))
    assert np.mean(one == two) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("members", [30, 17])
def test_the_farthest_one_after_the_other(members):
    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    x[7] = x[3]  # a double comes after all that are none
    chosen = [0]
    while len(chosen) < 16:
        apart = ((x[:members, None] - x[chosen]) ** 2).sum(axis=-1).min(axis=1)
        apart[chosen] = -1
        chosen.append(int(apart.argmax()))
    found = np.asarray(farthest(jnp.asarray(x), jnp.arange(30) < members, 16))
    np.testing.assert_array_equal(found, chosen)


def test_the_farthest_goes_on_beyond_the_members():
    found = np.asarray(farthest(jnp.asarray(np.eye(6, dtype=np.float32)), jnp.arange(6) < 3, 6))
    assert sorted(found[:3]) == [0, 1, 2]
    assert sorted(found) == list(range(6))
    same = np.asarray(farthest(jnp.zeros((5, 2)), jnp.ones(5, bool), 5))
    assert sorted(same) == list(range(5))


def test_entropy_selection_spreads_each_class():
    """A class of which half the candidates are one point keeps that point once."""
    strategy, _ = made("entropy_selection(candidates=2)")
    candidates = drawn(strategy, 24)
    candidates = candidates._replace(x=candidates.x.at[0].set(0.0))
    found = np.asarray(select("entropy_selection(candidates=2)", candidates, 24).x)
    for label in range(CLASSES):
        assert (found[label::CLASSES] == 0).all(axis=1).sum() == 1


# -------------------------------------------------------------------------------------------------------- projection


@pytest.fixture(scope="module")
def digits():
    """(strategy, its state, real samples) of 400 digits, the last 40 of which are padding."""
    source = data.load("digits")
    strategy = Projection(given=Given((8, 8, 1), 10), clusters=6)
    real = source.at(source.order(jax.random.key(0)), jnp.arange(400))
    state = jax.jit(strategy.init)(jax.random.key(1), real, jnp.arange(400) < 360)
    return strategy, state, Samples(*(np.asarray(leaf)[:360] for leaf in real))


def test_centres_are_as_good_as_those_of_scikit_learn(digits):
    """The sum of squared distances to the nearest centre, over all classes: means over starts agree within 3 %."""
    strategy, _, real = digits
    keys, everyone = jax.random.split(jax.random.key(5), 8), jnp.ones(len(real.y), bool)
    found = jax.jit(jax.vmap(lambda key: strategy.init(key, jax.tree.map(jnp.asarray, real), everyone)[0]))(keys)
    ours, theirs = np.zeros(8), np.zeros(8)
    for label in range(10):
        x = real.x[real.y == label].reshape(-1, 64)
        ours += [((x[:, None] - c) ** 2).sum(axis=-1).min(axis=1).sum() for c in np.asarray(found[:, label])]
        theirs += [KMeans(6, n_init=1, random_state=start).fit(x).inertia_ for start in range(8)]
    assert found.shape == (8, 10, 6, 64)
    assert abs(ours.mean() / theirs.mean() - 1) < 0.03


def test_strength_is_the_probability_of_a_correction(digits):
    strategy, state, real = digits
    n, centres = 2000, np.asarray(state[0])
    x, y = (jnp.asarray(np.resize(leaf, (n, *leaf.shape[1:]))) for leaf in real)
    apart = ((centres[real.y] - real.x.reshape(-1, 1, 64)) ** 2).sum(axis=-1)
    nearest = centres[real.y, apart.argmin(axis=1)]
    for strength in (0.0, 1.0, 1e30):
        own = Projection(given=strategy.given, clusters=6, strength=strength)
        found = np.asarray(own.select(jax.random.key(3), Samples(x[None], y), jnp.ones(n, bool), state).x)
        found, kept, differ = (each.reshape(n, 64) for each in (found, np.asarray(x), np.resize(nearest, (n, 64))))
        differ = (kept != differ).any(axis=1)  # a digit may be a cluster by itself
        moved = (found != kept).any(axis=1)
        np.testing.assert_array_equal(found[:360][moved[:360]], nearest[moved[:360]])
        share = moved[differ].mean()
        assert share == pytest.approx(strength / (1 + strength), abs=2 / np.sqrt(n) if strength == 1 else 0)


def test_centres_are_of_their_class_however_few_samples_it_has():
    """Two of class 0 for four clusters, one of class 1, twice the same of class 2, none of class 3."""
    real = Samples(jnp.asarray([[9.0, 9], [1, 1], [2, 2], [5, 5], [5, 5]]), jnp.asarray([1, 0, 0, 2, 2]))
    strategy = Projection(given=Given((2,), 4), clusters=4, strength=1e30)
    state = strategy.init(jax.random.key(0), real, jnp.ones(5, bool))
    x, y = jnp.full((1, 8, 2), 100.0), jnp.arange(8) % 4
    found = np.asarray(strategy.select(jax.random.key(1), Samples(x, y), jnp.ones(8, bool), state).x)
    assert found[:, 0].tolist() == [2, 9, 5, 100] * 2
