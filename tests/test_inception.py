"""InceptionV3's features against PyTorch's, by stored numbers, and live where PyTorch is installed."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_references as references

from madbench.errors import UserError
from madbench.metrics import features
from madbench.metrics.features import images, inception, inception_network, torch_file

STORED = np.load(references.STORED)
TOLERANCE = 1e-4  # of the largest feature


def torch_state():
    return references.inception_state(inception_network.expected())


@pytest.fixture(scope="module")
def network():
    return inception.extractor(torch_state(), "0" * 64)


@pytest.fixture(scope="module")
def seen(network):
    return {name: network.extract(references.samples(name)) for name in references.IMAGES}


@pytest.mark.parametrize("name", references.IMAGES)
def test_features_are_those_of_pytorch_with_the_same_weights(name, seen):
    expected = STORED[f"inception/{name}"]
    assert seen[name].shape == (len(expected), 2048)
    assert seen[name].dtype == np.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(seen[name][:, ::64] / scale, expected / scale, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", references.IMAGES)
def test_the_network_is_given_what_the_standard_implementation_gives_it(name):
    ours = np.asarray(inception.prepare(references.samples(name)))
    assert ours.shape == (references.IMAGES[name][0], 299, 299, 3)
    np.testing.assert_allclose(ours[:, 3::59, 5::59], STORED[f"inception_inputs/{name}"], rtol=0, atol=2e-6)


def test_all_features_and_inputs_agree_with_an_installed_pytorch(seen, tmp_path):
    pytest.importorskip("torch_fidelity")
    reference = references.inception(tmp_path / "inception.pth")
    ours = inception.extractor(torch_file.read(tmp_path / "inception.pth"), "0" * 64)
    for name in references.IMAGES:
        expected = reference(references.channels_first(name))[0].numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(seen[name] / scale, expected / scale, rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(ours.extract(references.samples(name)), seen[name])
        prepared = inception.prepare(references.samples(name))
        np.testing.assert_allclose(prepared, references.inception_inputs(name), rtol=0, atol=2e-6)


def test_average_pooling_leaves_the_padding_out():
    x = jnp.ones((1, 4, 5, 2))
    np.testing.assert_allclose(inception_network.mean(x), x, rtol=1e-6)


def test_a_batch_is_cut_and_padded_without_a_trace(network, seen):
    """Features of a sample do not depend on how many are extracted with it."""
    x = references.samples("small")
    few = features.Extractor(network.params, network.function, network.label, batch=3)
    both = few.extract(np.concatenate([x, x]))
    np.testing.assert_allclose(both, np.concatenate([seen["small"]] * 2), rtol=0, atol=1e-4 * np.abs(both).max())


def test_a_sample_that_is_not_finite_has_no_finite_features(network):
    x = references.samples("small").copy()
    x[1, 4, 4, 0] = np.nan
    finite = np.isfinite(network.extract(x)).all(axis=1)
    assert finite.tolist() == [True, False]


def test_samples_become_the_levels_of_an_image_file():
    x = jnp.asarray([-1.5, -1, -1 + 0.9 / 255, -1 + 1.1 / 255, 0.999, 1, 1.2]).reshape(1, 1, 7, 1)
    assert images.levels(x)[0, 0, :, 0].tolist() == [0, 0, 0, 1, 255, 255, 255]
    level = np.arange(256, dtype=np.float32)
    assert (
        images.levels(jnp.asarray(level / 127.5 - 1).reshape(1, 16, 16, 1))[..., 2].ravel().tolist() == level.tolist()
    )


def test_resizing_to_the_same_size_changes_nothing():
    x = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 9, 9, 3)), jnp.float32)
    np.testing.assert_array_equal(images.resize_bilinear(x, 9), x)


def test_features_of_a_job_are_found_by_name_and_path(tmp_path, monkeypatch):
    state = torch_state()
    monkeypatch.setattr(inception.weights, "digest", lambda path: inception.SHA256)
    monkeypatch.setattr(inception.torch_file, "read", lambda path: state)
    for name in inception.FILES:
        cache = tmp_path / name[:2]
        cache.mkdir()
        (cache / name).touch()
        assert features.build("inception", None, 0, str(cache)).label == "inception-1:6726825d0af5"
    own = features.build(f"inception:{cache / name}", None, 0, "nowhere")
    assert own.label == "inception-1:6726825d0af5"
    assert own.batch
    assert features.dim("inception", (32, 32, 3), "nowhere") == 2048
    assert jax.eval_shape(own, jnp.zeros((5, 32, 32, 1))).shape == (5, 2048)


def refused(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_named_with_its_place_its_hash_and_its_source(tmp_path):
    message = refused(lambda: features.build("inception", None, 0, str(tmp_path)))
    for part in (*inception.FILES, str(tmp_path), inception.SHA256, "pytorch-fid", "--cache", "inception:PATH"):
        assert part in message
    path = str(tmp_path / "mine.pth")
    assert path in refused(lambda: features.build(f"inception:{path}", None, 0, str(tmp_path)))


def test_another_file_under_the_name_is_refused(tmp_path):
    (tmp_path / inception.FILES[0]).write_bytes(b"something else")
    message = refused(lambda: features.build("inception", None, 0, str(tmp_path)))
    assert "sha256 begins with" in message
    assert inception.SHA256[:16] in message


@pytest.mark.parametrize("shape", [(100,), (32, 32), (32, 32, 4), (7, 32, 3)])
@pytest.mark.parametrize("name", ["inception", "dinov2"])
def test_what_is_no_image_is_refused(name, shape):
    assert re.search(rf"{name}.*at least 8x8, not", refused(lambda: features.check(name, shape, 10)))


@pytest.mark.parametrize("name", ["lenet:/a/file", "raw:x", "inception:", "dinov2:"])
def test_a_path_goes_with_published_weights_only(name):
    message = refused(lambda: features.check(name, (32, 32, 3), 10))
    assert "reads no file" in message or "needs a path" in message


def test_every_extractor_knows_its_dimension():
    assert features.dim("lenet", (28, 28, 1), "") == 84
    assert features.dim("raw", (4, 5, 3), "") == 60
    assert set(features.FEATURES) == {"lenet", "raw", "inception", "dinov2"}


@pytest.mark.parametrize("change", ["missing", "misshapen"])
def test_a_state_dict_of_another_network_is_told_by_name(change):
    state = torch_state()
    name = "Mixed_6b.branch7x7_2.bn.bias"
    if change == "missing":
        del state[name]
    else:
        state[name] = state[name][:3]
    with pytest.raises((KeyError, ValueError), match=r"Mixed_6b\.branch7x7_2"):
        inception_network.from_torch(state)


def test_the_stored_numbers_are_few():
    assert pathlib.Path(references.STORED).stat().st_size < 10_000
