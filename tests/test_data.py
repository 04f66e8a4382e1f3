"""Sources of real samples: the digits, the endless Gaussian, and the two kinds of source beneath them."""

import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from madbench import data
from madbench.data.source import split
from madbench.randomness import Role, key_for
from madbench.samples import decode


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def gaussian():
    return data.load("gaussian", dimension=3, n_reference=4000)


def stream(source, seed, positions):
    return source.at(source.order(key_for(seed, 0, Role.DATA)), jnp.asarray(positions))


def multiset(*parts):
    """Each sample with its label as bytes, sorted."""
    rows = (row for p in parts for row in zip(np.asarray(p.x), p.y.tolist(), strict=True))
    return sorted(x.tobytes() + bytes([y]) for x, y in rows)


# -------------------------------------------------------------------------------------------------------- digits


def test_digits_have_the_documented_shapes_types_and_range(digits):
    assert (digits.name, digits.shape, digits.num_classes, digits.bounds) == ("digits", (8, 8, 1), 10, (-1.0, 1.0))
    assert digits.available == digits.pool.y.shape[0] == 1200
    for part, n in ((digits.pool, 1200), (digits.reference, 597)):
        assert part.x.shape == (n, 8, 8, 1)
        assert part.x.dtype == jnp.float32
        assert part.y.shape == (n,)
        assert part.y.dtype == jnp.int32
        assert float(part.x.min()) == -1.0
        assert float(part.x.max()) == 1.0
        assert set(np.asarray(part.y).tolist()) == set(range(10))


def test_pool_and_reference_together_are_the_whole_file(digits):
    file = load_digits()
    images, labels = (file.images / 8 - 1).astype(np.float32), file.target.tolist()
    whole = sorted(x.tobytes() + bytes([y]) for x, y in zip(images, labels, strict=True))
    assert multiset(digits.pool, digits.reference) == whole


def test_pool_and_reference_share_no_position():
    tags = np.arange(100, dtype=np.float32).reshape(100, 1, 1, 1)
    source = split(
        tags, np.arange(100, dtype=np.int32), name="t", version="1", num_classes=0, n_reference=30, split_seed=0
    )
    pool, reference = (np.asarray(p.x).ravel() for p in (source.pool, source.reference))
    assert len(reference) == 30
    assert sorted([*pool, *reference]) == list(range(100))
    np.testing.assert_array_equal(source.pool.y, pool)
    assert list(reference) != list(range(30))  # a permutation, not the head of the file


def test_the_split_is_deterministic_and_follows_its_seed(digits):
    again, other = data.load("digits"), data.load("digits", split_seed=1)
    np.testing.assert_array_equal(again.reference.x, digits.reference.x)
    assert not np.array_equal(other.reference.x, digits.reference.x)


def test_n_reference_sets_the_size_of_the_reference():
    source = data.load("digits", n_reference=97)
    assert (source.reference.y.shape[0], source.available) == (97, 1700)


def test_the_fingerprint_is_a_hash_of_the_data_and_not_of_the_split(digits):
    file = load_digits()
    x, y = (file.images[..., None] / 8 - 1).astype(np.float32), file.target.astype(np.int32)
    digest = hashlib.sha256()
    for array in (x, y):
        digest.update(str((array.dtype, array.shape)).encode() + array.tobytes())
    expected = {"name": "digits", "version": "1", "count": 1797, "sha256": digest.hexdigest()}
    assert digits.fingerprint == data.load("digits", split_seed=3).fingerprint == expected


def test_the_fingerprint_changes_with_one_pixel():
    x, y = np.zeros((4, 2, 2, 1), np.float32), np.zeros(4, np.int32)

    def make(x):
        return split(x, y, name="n", version="1", num_classes=0, n_reference=1, split_seed=0).fingerprint

    changed = x.copy()
    changed[3, 1, 1, 0] = 1e-6
    assert make(x)["sha256"] != make(changed)["sha256"]


def test_an_order_is_a_permutation_that_differs_between_seeds(digits):
    first, second = (np.asarray(digits.order(key_for(seed, 0, Role.DATA))) for seed in (0, 1))
    assert sorted(first) == sorted(second) == list(range(1200))
    assert first.dtype == np.int32
    assert (first == second).mean() < 0.02


def test_positions_walk_through_the_order_and_start_over_at_its_end(digits):
    order = digits.order(jax.random.key(0))
    read = digits.at(order, jnp.asarray([0, 5, 1199, 1200, 2405]))
    index = np.asarray(order)[[0, 5, 1199, 0, 5]]
    np.testing.assert_array_equal(read.x, np.asarray(digits.pool.x)[index])
    np.testing.assert_array_equal(read.y, np.asarray(digits.pool.y)[index])


@pytest.mark.parametrize("n_reference", [0, 1797, 5000, -3, "many", 1.5, None])
def test_a_reference_that_leaves_nothing_is_refused(n_reference):
    with pytest.raises(ValueError, match=r"config\.data") as caught:
        data.load("digits", n_reference=n_reference)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["digits", "gaussian"])
def test_sources_are_inputs_of_a_compiled_program(name):
    """One compilation serves a source whose arrays changed: they are no constants inside the program."""
    source = data.load(name)
    order = source.order(jax.random.key(0))
    traces = []

    @jax.jit
    def first(source, order):
        traces.append(1)
        return source.at(order, jnp.arange(2)).x + source.reference.x[:2]

    once = first(source, order)
    shifted = jax.tree.map(lambda a: a + 1, source)
    np.testing.assert_allclose(
        first(shifted, order) - once, 2.0 if name == "digits" else 1.0, rtol=0, atol=1e-6
    )  # the Gaussian's stream has no array but its key
    assert len(traces) == 1


# ------------------------------------------------------------------------------------------------------ Gaussian


def test_the_gaussian_has_the_documented_shapes(gaussian):
    assert (gaussian.name, gaussian.shape, gaussian.num_classes) == ("gaussian", (3,), 0)
    assert gaussian.available is None
    assert gaussian.bounds is None
    assert gaussian.reference.x.shape == (4000, 3)
    assert gaussian.reference.x.dtype == jnp.float32
    assert gaussian.reference.y.shape == (4000,)
    assert gaussian.reference.y.dtype == jnp.int32
    assert not gaussian.reference.y.any()


def test_streams_and_reference_are_standard_normal(gaussian):
    """Moments up to the fourth within 5 standard errors."""
    for x in (gaussian.reference.x, stream(gaussian, 0, range(4000)).x):
        x, root_n = np.asarray(x, np.float64), np.sqrt(4000)
        assert np.abs(x.mean(0)).max() < 5 / root_n
        assert np.abs(np.cov(x.T) - np.eye(3)).max() < 5 * np.sqrt(2) / root_n
        assert np.abs((x**3).mean(0)).max() < 5 * np.sqrt(15) / root_n
        assert np.abs((x**4).mean(0) - 3).max() < 5 * np.sqrt(96) / root_n


def test_streams_of_different_seeds_and_the_reference_share_no_sample(gaussian):
    parts = [stream(gaussian, seed, range(1000)).x for seed in range(3)] + [gaussian.reference.x]
    values = np.concatenate([np.asarray(p)[:, 0] for p in parts])
    assert len(np.unique(values)) > len(values) - 5  # a few of 7000 float32 values may agree by chance
    for i, a in enumerate(parts):
        for b in parts[i + 1 :]:
            assert abs(np.corrcoef(a[:1000, 0], b[:1000, 0])[0, 1]) < 5 / np.sqrt(1000)


def test_a_position_is_one_sample_however_it_is_read(gaussian):
    all_at_once = stream(gaussian, 0, range(100)).x
    np.testing.assert_array_equal(stream(gaussian, 0, [42, 7, 42]).x, np.asarray(all_at_once)[[42, 7, 42]])
    assert np.unique(all_at_once, axis=0).shape[0] == 100


def test_the_reference_is_the_same_in_every_run_and_follows_the_split_seed(gaussian):
    def load(seed):
        return data.load("gaussian", dimension=3, n_reference=50, split_seed=seed).reference.x

    np.testing.assert_array_equal(load(0), gaussian.reference.x[:50])
    assert not np.isin(load(1), load(0)).any()


def test_the_gaussian_fingerprint_names_dimension_and_reference(gaussian):
    again = data.load("gaussian", dimension=3, n_reference=4000)
    other = data.load("gaussian", dimension=3, n_reference=4000, split_seed=1)
    assert again.fingerprint == gaussian.fingerprint
    assert gaussian.fingerprint["name"] == "gaussian[3]"
    assert gaussian.fingerprint["count"] is None
    assert other.fingerprint["sha256"] != gaussian.fingerprint["sha256"]


def test_two_loads_of_one_endless_source_are_one_program():
    trees = [jax.tree.structure(data.load("gaussian", dimension=2, n_reference=5)) for _ in range(2)]
    assert trees[0] == trees[1]


# ------------------------------------------------------------------------------------------------------ registry


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("cats", {}, "unknown dataset 'cats'; config.data.source is one of digits, gaussian"),
        ("", {}, "unknown dataset ''"),
        (None, {}, "unknown dataset None"),
        ("digits", {"n_refrence": 3}, "config.data.n_refrence does not fit source 'digits', which takes"),
        ("digits:somewhere", {}, "config.data.path does not fit source 'digits:somewhere'"),
        ("gaussian", {"dimension": 0}, "config.data.dimension must be a whole number of at least 1, not 0"),
        ("gaussian", {"dimension": 2.0}, "config.data.dimension must be a whole number"),
        ("gaussian", {"n_reference": True}, "config.data.n_reference must be a whole number"),
        ("gaussian", {"split_seed": "x"}, "config.data"),
        ("digits", {"split_seed": "x"}, "config.data"),
    ],
)
def test_errors_of_use_are_one_line(source, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        data.load(source, **settings)
    assert "\n" not in str(caught.value)


def test_a_negative_split_seed_is_named():
    with pytest.raises(ValueError, match="split_seed"):
        data.load("digits", split_seed=-1)


def test_levels_of_8_bits_decode_to_the_bit_on_the_host_and_compiled():
    levels = np.arange(256, dtype=np.uint8)
    decoded = decode(levels)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(jax.jit(decode)(levels), decoded)
    np.testing.assert_allclose(decoded, (2.0 * levels - 255) / 255, rtol=1.2e-7)
    assert (decoded[0], decoded[255]) == (-1, 1)
    assert decode(decoded) is decoded
