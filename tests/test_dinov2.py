"""DINOv2's features against PyTorch's, by stored numbers, and live where PyTorch is installed."""

import numpy as np
import pytest
import safetensors.numpy
import torch_references as references
from PIL import Image

from madbench.errors import UserError
from madbench.metrics import features
from madbench.metrics.features import dinov2, dinov2_network, images, torch_file

STORED = np.load(references.STORED)
TOLERANCE = 1e-4  # of the largest feature
DIM, DEPTH = references.SIZES["hidden_size"], references.SIZES["num_hidden_layers"]


def file_shapes(image_size, use_swiglu_ffn, **_):
    """The tensors of a file of the Hugging Face by name, for the sizes of the references."""
    tokens = (image_size // 14) ** 2 + 1
    shapes = {
        "embeddings.cls_token": (1, 1, DIM),
        "embeddings.mask_token": (1, DIM),
        "embeddings.position_embeddings": (1, tokens, DIM),
        "embeddings.patch_embeddings.projection.weight": (DIM, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (DIM,),
        "layernorm.weight": (DIM,),
        "layernorm.bias": (DIM,),
    }
    wide = -(-4 * DIM * 2 // 3 // 8) * 8 if use_swiglu_ffn else 4 * DIM
    enter, leave = (("weights_in", 2 * wide), "weights_out") if use_swiglu_ffn else (("fc1", wide), "fc2")
    dense = {f"attention.attention.{name}": (DIM, DIM) for name in ("query", "key", "value")}
    dense |= {"attention.output.dense": (DIM, DIM), f"mlp.{enter[0]}": (enter[1], DIM), f"mlp.{leave}": (DIM, wide)}
    for i in range(DEPTH):
        layer = f"encoder.layer.{i}."
        for name, shape in dense.items():
            shapes |= {f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]}
        for j in "12":
            shapes |= {f"{layer}norm{j}.{leaf}": (DIM,) for leaf in ("weight", "bias")}
            shapes[f"{layer}layer_scale{j}.lambda1"] = (DIM,)
    return shapes


def state(name):
    """The weights of a reference as in its file."""
    shapes = file_shapes(**references.TRANSFORMERS[name])
    return {key: references.weights(key, shape) for key, shape in shapes.items()}


def meta_names(tensors):
    """The same weights under the names of Meta's file, with query, key and value in one."""
    found = {}
    for name, value in tensors.items():
        for ours, theirs in (
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("embeddings.position_embeddings", "pos_embed"),
            ("embeddings.", ""),
            ("encoder.layer.", "blocks."),
            ("attention.output.dense", "attn.proj"),
            ("layer_scale1.lambda1", "ls1.gamma"),
            ("layer_scale2.lambda1", "ls2.gamma"),
            ("mlp.weights_in", "mlp.w12"),
            ("mlp.weights_out", "mlp.w3"),
            ("layernorm", "norm"),
        ):
            name = name.replace(ours, theirs)
        if "attention.attention.value" in name:
            parts = [tensors[key] for key in _siblings(tensors, value)]
            found[name.replace("attention.attention.value", "attn.qkv")] = np.concatenate(parts)
        elif "attention.attention" not in name:
            found[name] = value
    return found


def _siblings(tensors, value):
    (name,) = (key for key in tensors if tensors[key] is value)
    return [name.replace(".value.", f".{part}.") for part in ("query", "key", "value")]


def offset(name):
    """Of the position embeddings, in Meta's code or in that of the Hugging Face."""
    return dinov2_network.OFFSET if references.TRANSFORMERS[name]["meta"] else 0.0


def ours(name):
    extractor = dinov2.extractor(dinov2_network.canonical(state(name)), offset(name))
    return extractor.extract(references.samples("small"))


@pytest.mark.parametrize("name", references.TRANSFORMERS)
def test_features_are_those_of_pytorch_with_the_same_weights(name):
    expected, seen = STORED[f"dinov2/{name}"], ours(name)
    assert seen.shape == (2, DIM)
    assert seen.dtype == np.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(seen[:, ::4] / scale, expected / scale, rtol=0, atol=TOLERANCE)


def test_both_ways_to_interpolate_differ_by_more_than_the_tolerance():
    """So that the tests above can tell them apart."""
    one, other = STORED["dinov2/resized"], STORED["dinov2/meta"]
    assert np.abs(one - other).max() > 10 * TOLERANCE * np.abs(one).max()


@pytest.mark.parametrize("name", references.IMAGES)
def test_the_network_is_given_what_the_reference_gives_it(name):
    prepared = np.asarray(dinov2.prepare(references.samples(name)))
    assert prepared.shape == (references.IMAGES[name][0], 224, 224, 3)
    np.testing.assert_allclose(prepared[:, 3::43, 5::43], STORED[f"dinov2_inputs/{name}"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", references.TRANSFORMERS)
def test_all_features_and_inputs_agree_with_an_installed_transformers(name, tmp_path):
    pytest.importorskip("transformers")
    model = references.dinov2(name)
    model.save_pretrained(tmp_path)
    read = dinov2._read(tmp_path / "model.safetensors")
    assert {key: value.shape for key, value in read.items()} == file_shapes(**references.TRANSFORMERS[name])
    extractor = dinov2.extractor(dinov2_network.canonical(read), offset(name))
    for images_name in references.IMAGES:
        inputs = references.dinov2_inputs(images_name)
        prepared = np.asarray(dinov2.prepare(references.samples(images_name)))
        np.testing.assert_allclose(prepared, inputs, rtol=0, atol=2e-6)
        expected = references.features(model, inputs)
        seen = extractor.extract(references.samples(images_name))
        np.testing.assert_allclose(seen / np.abs(expected).max(), expected / np.abs(expected).max(), rtol=0, atol=1e-4)


def test_metas_own_file_is_read_as_an_installed_timm_writes_it(tmp_path):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    model = references.fill(timm.create_model("vit_small_patch14_dinov2", img_size=224, num_classes=0))
    torch.save(model.state_dict(), tmp_path / "small.pth")
    extractor = features.build(f"dinov2:{tmp_path / 'small.pth'}", None, 0, "")
    assert extractor.label.startswith("dinov2-s14-1:")
    x = references.dinov2_inputs("small")
    with torch.no_grad():
        expected = model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    seen = extractor.extract(references.samples("small"))
    np.testing.assert_allclose(seen / np.abs(expected).max(), expected / np.abs(expected).max(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size", [(9, 9), (40, 300), (224, 500), (701, 224), (1000, 31), (300, 300)])
def test_bicubic_resizing_is_pillows_to_the_bit(size):
    """Pillow is asked for one direction at a time: from version 13 on it begins with the rows of tall images."""
    x = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    x[: size[0] // 2] = (x[: size[0] // 2] > 127) * 255  # overshoots, which are cut
    ours = images.resize_bicubic(x[None].astype(np.float32), 224)[0]
    columns = Image.fromarray(x).resize((224, size[0]), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(ours, np.asarray(columns.resize((224, 224), Image.Resampling.BICUBIC)))
    if size[0] == size[1]:
        at_once = Image.fromarray(x).resize((224, 224), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(ours, np.asarray(at_once))


def test_a_sample_that_is_not_finite_is_prepared_as_such():
    x = references.samples("small").copy()
    x[1, 4, 4, 0] = np.nan
    prepared = np.asarray(dinov2.prepare(x))
    assert np.isfinite(prepared).all(axis=(1, 2, 3)).tolist() == [True, False]


def save(path, tensors):
    path.parent.mkdir(exist_ok=True)
    safetensors.numpy.save_file(tensors, path)
    return path


@pytest.mark.parametrize("name", ["plain", "gated"])
def test_both_kinds_of_file_give_one_extractor(name, tmp_path, monkeypatch):
    theirs = meta_names(state(name))
    assert "blocks.0.attn.qkv.weight" in theirs
    path = save(tmp_path / dinov2.FILES[0], state(name))
    monkeypatch.setattr(torch_file, "read", lambda path: theirs)
    (tmp_path / "meta.pth").touch()
    cached = features.build("dinov2", None, 0, str(tmp_path))
    labels = {cached.label}
    labels |= {features.build(f"dinov2:{file}", None, 0, "").label for file in (path, tmp_path / "meta.pth")}
    assert len(labels) == 1
    assert labels.pop().startswith(f"dinov2-{DIM}-1:")
    assert cached.batch
    assert features.dim("dinov2", (32, 32, 3), str(tmp_path)) == DIM
    changed = state(name)
    changed["layernorm.bias"] = changed["layernorm.bias"] + 1
    assert features.build(f"dinov2:{save(path, changed)}", None, 0, "").label != cached.label


def test_the_published_sizes_are_known_by_their_tensors(tmp_path):
    assert dinov2.SIZES == {384: "s14", 768: "b14", 1024: "l14", 1536: "g14"}
    found = dinov2_network.sized(dinov2_network.from_torch(dinov2_network.canonical(state("gated")), 224))
    assert found == dinov2_network.Transformer(dim=128, depth=3, hidden=344, gated=True, patch=14)
    found = dinov2_network.sized(dinov2_network.from_torch(dinov2_network.canonical(state("plain")), 224))
    assert found == dinov2_network.Transformer(dim=128, depth=3, hidden=512, gated=False, patch=14)


def refused(name, cache=""):
    with pytest.raises(UserError) as caught:
        features.build(name, None, 0, str(cache))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_named_with_its_place_and_its_source(tmp_path):
    message = refused("dinov2", tmp_path)
    for part in (*dinov2.FILES, str(tmp_path), "https://huggingface.co/facebook/dinov2-large", "dinov2:PATH"):
        assert part in message
    with pytest.raises(UserError, match="need weights"):
        features.dim("dinov2", (32, 32, 3), str(tmp_path))


CHANGES = {
    "missing": lambda tensors: tensors.pop("layernorm.bias"),
    "left over": lambda tensors: tensors.update({"head.weight": np.zeros((3, 3), np.float32)}),
    "misshapen": lambda tensors: tensors.update({"layernorm.bias": np.zeros(5, np.float32)}),
    "transposed": lambda tensors: tensors.update(
        {"encoder.layer.1.mlp.fc1.weight": tensors["encoder.layer.1.mlp.fc1.weight"].T.copy()}
    ),
    "no square": lambda tensors: tensors.update({"embeddings.position_embeddings": np.zeros((1, 8, DIM), np.float32)}),
    "no patches": lambda tensors: tensors.pop("embeddings.patch_embeddings.projection.weight"),
    "flat patches": lambda tensors: tensors.update(
        {"embeddings.patch_embeddings.projection.weight": np.zeros((DIM, 588), np.float32)}
    ),
    "empty patches": lambda tensors: tensors.update(
        {"embeddings.patch_embeddings.projection.weight": np.zeros((DIM, 3, 0, 0), np.float32)}
    ),
    "odd gate": lambda tensors: tensors.update(
        {f"encoder.layer.0.mlp.weights_in.{leaf}": np.zeros((257, DIM)[:n]) for n, leaf in ((1, "bias"), (2, "weight"))}
    ),
    "scalars": lambda tensors: tensors.update({name: np.zeros((), np.float32) for name in tensors}),
    "a scalar where three matrices are": lambda tensors: tensors.update({"blocks.0.attn.qkv.weight": np.zeros(())}),
    "another network": lambda tensors: (tensors.clear(), tensors.update({"a": np.zeros(3, np.float32)})),
    "no layers": lambda tensors: [tensors.pop(name) for name in list(tensors) if "layer." in name],
    "empty": lambda tensors: tensors.clear(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_of_another_network_is_refused_in_one_line(change, tmp_path):
    tensors = state("resized")
    CHANGES[change](tensors)
    path = save(tmp_path / "model.safetensors", tensors)
    assert "does not hold DINOv2's weights" in refused(f"dinov2:{path}")
    if change in ("another network", "scalars", "empty"):
        with pytest.raises(UserError, match="does not hold"):
            features.dim(f"dinov2:{path}", (32, 32, 3), "")


def test_registers_and_damaged_files_are_refused_in_one_line(tmp_path):
    tensors = state("resized") | {"embeddings.register_tokens": np.zeros((1, 4, DIM), np.float32)}
    path = save(tmp_path / "model.safetensors", tensors)
    assert "registers" in refused(f"dinov2:{path}")
    for damage in (b"", b"nonsense", b"\xff" * 100, path.read_bytes()[:1000]):
        path.write_bytes(damage)
        assert "cannot read" in refused(f"dinov2:{path}")
        with pytest.raises(UserError):
            features.dim(f"dinov2:{path}", (32, 32, 3), "")
