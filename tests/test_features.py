"""The feature extractors that metrics look through: the LeNet, its cache, and raw samples."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench import data
from madbench.metrics import features
from madbench.metrics.features import lenet as lenet_module


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(autouse=True)
def nothing_bundled(request, monkeypatch, tmp_path):
    if "bundled" not in request.node.name:
        monkeypatch.setattr(lenet_module, "BUNDLED", tmp_path / "nothing")


@pytest.fixture(scope="module")
def lenet(digits, feature_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lenet_module, "BUNDLED", pathlib.Path(feature_cache) / "nothing")
        return features.build("lenet", digits.pool, 10, feature_cache)


def test_the_bundled_weights_of_the_digits_are_everybodys(digits, tmp_path, monkeypatch):
    forbid_training(monkeypatch)
    found = features.build("lenet", digits.examples, 10, str(tmp_path))
    assert found.label == "lenet-1:187e163666b5"
    assert not any(tmp_path.iterdir())
    assert accuracy(found, digits.reference) > 0.95


def test_bundled_weights_are_what_their_recipe_trains(lenet, digits):
    """To rounding, and to what rounding becomes in five hundred steps: both name the same classes."""
    found = features.build("lenet", digits.examples, 10, "unused")
    same = jnp.argmax(_logits(found, digits.reference), 1) == jnp.argmax(_logits(lenet, digits.reference), 1)
    assert jnp.mean(same) > 0.97


def weights_equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def forbid_training(monkeypatch):
    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(lenet_module, "train", refuse)


def train_at_once(monkeypatch):
    """Weights from a formula of the data and the recipe instead of training, for tests of the cache alone."""

    def train(x, y, num_classes):
        fill = np.float32(np.dot(y, np.arange(len(y))) % 1000 + lenet_module.RECIPE["steps"])
        shapes = jax.eval_shape(lenet_module.LeNet(num_classes).init, jax.random.key(0), x[:1])["params"]
        return jax.tree.map(lambda leaf: np.full(leaf.shape, fill), shapes)

    monkeypatch.setattr(lenet_module, "train", train)


def _logits(extractor, samples):
    last = extractor.params["Dense_4"]
    return extractor(samples.x) @ last["kernel"] + last["bias"]


def accuracy(extractor, samples):
    return float(jnp.mean(jnp.argmax(_logits(extractor, samples), axis=1) == samples.y))


def test_raw_features_are_the_flattened_samples():
    extractor = features.build("raw", None, 0, "unused")
    x = jnp.arange(24, dtype=jnp.float32).reshape(2, 2, 3, 2)
    np.testing.assert_array_equal(extractor(x), np.arange(24).reshape(2, 12))
    assert extractor.label == "raw-1"
    assert extractor(x).dtype == jnp.float32


def test_the_lenet_knows_the_digits_it_was_never_shown(lenet, digits):
    assert accuracy(lenet, digits.reference) > 0.95


def test_lenet_features_are_84_numbers_a_sample(lenet, digits):
    seen = jax.jit(lambda f, x: f(x))(lenet, digits.reference.x[:5])
    assert seen.shape == (5, 84)
    assert seen.dtype == jnp.float32
    np.testing.assert_allclose(seen, lenet(digits.reference.x[:7])[:5], rtol=1e-5, atol=1e-5)
    assert float(jnp.std(seen)) > 0


def test_a_second_build_loads_the_same_weights_without_training(lenet, digits, feature_cache, monkeypatch):
    forbid_training(monkeypatch)
    again = features.build("lenet", digits.pool, 10, feature_cache)
    assert again.label == lenet.label
    assert weights_equal(again.params, lenet.params)


def test_the_cache_may_lie_in_the_home_directory(digits, tmp_path, monkeypatch):
    train_at_once(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    features.build("lenet", digits.pool, 10, "~/cache")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_training_again_gives_the_same_label(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(lenet_module.RECIPE, "steps", 5)
    labels = {features.build("lenet", digits.pool, 10, str(tmp_path / cache)).label for cache in "ab"}
    assert len(labels) == 1
    name, _, weights = labels.pop().partition(":")
    assert name == "lenet-1"
    assert len(weights) == 12
    assert set(weights) <= set("0123456789abcdef")


def test_other_data_or_another_recipe_is_another_file_and_another_label(digits, tmp_path, monkeypatch):
    train_at_once(monkeypatch)
    half = jax.tree.map(lambda a: a[:600], digits.pool)
    swapped = digits.pool._replace(y=(digits.pool.y + 1) % 10)
    labels = {features.build("lenet", pool, 10, str(tmp_path)).label for pool in (digits.pool, half, swapped)}
    monkeypatch.setitem(lenet_module.RECIPE, "steps", 4)
    labels.add(features.build("lenet", digits.pool, 10, str(tmp_path)).label)
    assert len(labels) == 4
    assert len(list(tmp_path.iterdir())) == 4  # and no drafts are left behind


DAMAGE = {
    "empty": lambda whole: b"",
    "not an archive": lambda whole: b"something else",
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "one byte flipped": lambda whole: whole[:3000] + bytes([whole[3000] ^ 255]) + whole[3001:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_file_is_trained_anew(damage, digits, tmp_path, monkeypatch):
    train_at_once(monkeypatch)
    first = features.build("lenet", digits.pool, 10, str(tmp_path))
    (path,) = pathlib.Path(tmp_path).iterdir()
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    again = features.build("lenet", digits.pool, 10, str(tmp_path))
    assert again.label == first.label
    forbid_training(monkeypatch)
    assert features.build("lenet", digits.pool, 10, str(tmp_path)).label == first.label


def test_a_cache_file_without_all_layers_is_trained_anew(digits, tmp_path, monkeypatch):
    train_at_once(monkeypatch)
    first = features.build("lenet", digits.pool, 10, str(tmp_path))
    (path,) = pathlib.Path(tmp_path).iterdir()
    with open(path, "wb") as file:
        np.savez(file, **{"Dense_0/kernel": np.zeros((9, 16), np.float32)})
    assert features.build("lenet", digits.pool, 10, str(tmp_path)).label == first.label


@pytest.mark.parametrize("shape", [(4, 4, 1), (5, 7, 3), (28, 28, 1), (32, 32, 3)])
def test_the_lenet_takes_small_images_of_any_side(shape):
    net = lenet_module.LeNet(10)
    x = jnp.zeros((2, *shape))
    seen, logits = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x)[0], x)
    assert seen.shape == (2, 84)
    assert logits.shape == (2, 10)
    features.check("lenet", shape, 10)


@pytest.mark.parametrize(
    ("name", "shape", "num_classes", "message"),
    [
        ("vgg", (8, 8, 1), 10, "unknown features 'vgg'"),
        ("lenet", (100,), 10, "see images of 4x4 to 32x32, not (100,)"),
        ("lenet", (3, 8, 1), 10, "see images"),
        ("lenet", (8, 33, 1), 10, "see images"),
        ("lenet", (8, 8, 1), 0, "have none"),
    ],
)
def test_features_that_cannot_see_the_data_are_refused_in_one_line(name, shape, num_classes, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        features.check(name, shape, num_classes)
    assert "\n" not in str(caught.value)


def test_raw_features_take_any_shape():
    features.check("raw", (100,), 0)
    features.check("raw", (64, 64, 3), 10)
