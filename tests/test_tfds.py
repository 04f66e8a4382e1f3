"""Sets of tensorflow-datasets: real ones, defined in tfds_builders.py, prepared and read; no TensorFlow anywhere."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tfds_builders
from PIL import Image

from madbench import data
from madbench.errors import UserError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    place = tmp_path_factory.mktemp("tfds")
    tfds_builders.prepare(place)
    return place


def load(name, data_dir, cache, **settings):
    settings = {"data_dir": str(data_dir), "n_reference": 10, "say": lambda text: None} | settings
    return data.load(f"tfds:{name}", cache=str(cache), **settings)


def everything(source):
    x = np.round((np.asarray(source.reference.x) + 1) * 127.5).astype(np.uint8)
    return np.concatenate([x, source.pool.x]), np.concatenate([source.reference.y, source.pool.y])


def rows(x, y):
    return sorted(image.tobytes() + bytes([label]) for image, label in zip(x, np.asarray(y).tolist(), strict=True))


def examples(*splits, side=0):
    places = [(split, i) for split in splits for i in range(tfds_builders.SIZES[split])]
    return [tfds_builders.image(split, i) for split, i in places], [i % 4 for _, i in places]


def test_images_and_classes_are_those_of_the_examples(data_dir, tmp_path):
    told = []
    source = load("tiny_squares", data_dir, tmp_path, say=told.append)
    assert (source.name, source.shape, source.num_classes, source.available) == ("tiny_squares", (6, 6, 3), 4, 30)
    assert rows(*everything(source)) == rows(*examples("train"))
    assert source.pool.x.dtype == np.uint8
    expected = {"name": "tiny_squares", "version": "1.2.0", "count": 40}
    assert {k: v for k, v in source.fingerprint.items() if k != "sha256"} == expected
    assert "40 RGB images of 6x6 pixels" in told[0]
    load("tiny_squares", data_dir, tmp_path, say=told.append)
    assert len(told) == 2  # prepared once


def test_splits_add_up_and_can_be_cut(data_dir, tmp_path):
    both = load("tiny_squares", data_dir, tmp_path, split="train+test")
    assert both.name == "tiny_squares[train+test]"
    assert rows(*everything(both)) == rows(*examples("train", "test"))
    half = load("tiny_squares:1.2.0", data_dir, tmp_path, split="train[:50%]")
    assert half.available == 10
    assert set(rows(*everything(half))) < set(rows(*examples("train")))


def test_images_of_several_sizes_are_cut_and_resized_as_pillow_does(data_dir, tmp_path):
    source = load("tiny_mixed", data_dir, tmp_path, image_key="image", label_key="kind", resolution=5, resize="bicubic")
    expected = [
        np.asarray(
            Image.open(tfds_builders.encoded(tfds_builders.image("train", i, 8 + i % 3), "jpeg")).resize(
                (5, 5), Image.Resampling.BICUBIC
            )
        )
        for i in range(40)
    ]
    assert rows(*everything(source)) == rows(expected, [i % 2 for i in range(40)])


def test_keys_choose_among_features(data_dir, tmp_path):
    grey = load("tiny_mixed", data_dir, tmp_path, image_key="mask", label_key="third", resolution=8)
    assert (grey.shape, grey.num_classes) == ((8, 8, 1), 3)
    without = load("tiny_mixed", data_dir, tmp_path, image_key="mask", label_key="none", resolution=8)
    assert without.num_classes == 0
    assert not np.any(without.pool.y)
    np.testing.assert_array_equal(without.pool.x, grey.pool.x)


REFUSED = [
    ("", {}, "needs the name of a set"),
    ("no_such_set", {}, "tensorflow-datasets knows no set 'no_such_set'"),
    ("../mnist", {}, "tensorflow-datasets cannot open '../mnist'"),
    ("mnist:9.9.9", {}, "tensorflow-datasets cannot open 'mnist:9.9.9'"),
    ("tiny_squares", {"split": "valid"}, "config.data.split='valid' of tiny_squares, which has test, train"),
    (
        "tiny_squares",
        {"image_key": "label"},
        "config.data.image_key='label': tiny_squares has no such Image; it has im",
    ),
    ("tiny_squares", {"n_reference": 40}, "of the 40 samples in tiny_squares; set it to 13 or less"),
    ("tiny_squares", {"resolution": 2.5}, "config.data.resolution must be 0"),
    ("tiny_mixed", {}, "tiny_mixed has several of kind Image: set config.data.image_key to image or mask"),
    ("tiny_mixed", {"image_key": "image"}, "set config.data.label_key to kind or third"),
    ("tiny_mixed", {"image_key": "image", "label_key": "none"}, "--config.data.resolution=64"),
    ("tiny_text", {}, "tiny_text has no image; its features are text"),
    ("tiny_deep", {}, "tiny_deep: image is no image of 8 bits but uint16 (6, 6, 1)"),
]


@pytest.mark.parametrize(("name", "settings", "message"), REFUSED)
def test_errors_of_use_are_one_line(data_dir, tmp_path, name, settings, message, capfd):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load(name, data_dir, tmp_path, **settings)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_what_is_not_prepared_comes_with_the_commands(data_dir, tmp_path, capfd):
    with pytest.raises(UserError) as caught:
        load("mnist", data_dir, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert "pip install 'madbench[prepare]'" in message
    code = message.split('python -c "')[1].rstrip('"')
    assert f"tfds.builder('mnist', data_dir='{data_dir}').download_and_prepare(file_format='array_record')" in code
    compile(code, "command", "exec")
    assert capfd.readouterr().err == ""


def test_other_formats_come_with_the_commands_too(data_dir, tmp_path):
    shutil.copytree(data_dir / "tiny_squares", tmp_path / "tiny_squares")
    about = tmp_path / "tiny_squares" / "1.2.0" / "dataset_info.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(
        UserError, match=r"is prepared as tfrecord.*another config.data.data_dir.*array_record"
    ) as caught:
        load("tiny_squares", tmp_path, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_training_on_a_set_of_tensorflow_datasets_imports_no_tensorflow(data_dir, tmp_path):
    """The whole command, in a process of its own, which knows nothing of the code that made the set."""
    (tmp_path / "config.py").write_text(
        f"""
from madbench.config import base

def get_config():
    config = base(source="tfds:tiny_squares", family="gaussian")
    config.data.update(data_dir={str(data_dir)!r}, split="train+test", n_reference=12)
    config.n_initial = 30
    config.loops = ("fully_synthetic", "fresh_data(n_fresh=10,n_synthetic=20)")
    config.generations = 2
    config.seeds = 1
    config.metrics.features = "raw"
    return config
"""
    )
    code = """
import sys
from madbench import cli
code = cli.main()
assert code == 0, code
assert "tensorflow_datasets" in sys.modules
assert "tensorflow" not in sys.modules
"""
    command = [sys.executable, "-c", code, "run", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'out'}"]
    done = subprocess.run([*command, f"--cache={tmp_path}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "prepared 56 images" in done.stderr
    found = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert len(found) == 4
    dataset = json.loads((tmp_path / "out" / "environment.json").read_text())["dataset"]
    assert (dataset["name"], dataset["version"], dataset["count"]) == ("tiny_squares[train+test]", "1.2.0", 56)
