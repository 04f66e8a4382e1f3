"""Small datasets of tensorflow-datasets, defined here and prepared for real, without TensorFlow.

Images that come encoded, as from files, need none; tensorflow-datasets calls it to encode arrays.
"""

import contextlib
import io
import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIZES = {"train": 40, "test": 16}


def image(split: str, i: int, side: int = 0) -> np.ndarray:
    """uint8 `[side, side, 3]` of one example."""
    rng = np.random.default_rng((sorted(SIZES).index(split), i))
    return rng.integers(0, 256, (side or 6, side or 6, 3), np.uint8)


def encoded(array: np.ndarray, kind: str = "png") -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    stream.seek(0)
    return stream


class _Images(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")

    def _features(self) -> dict:
        return {"image": tfds.features.Image(shape=(6, 6, 3)), "label": tfds.features.ClassLabel(num_classes=4)}

    def _example(self, split: str, i: int) -> dict:
        return {"image": encoded(image(split, i)), "label": i % 4}

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self._features()))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
        for i in range(SIZES[split]):
            yield i, self._example(split, i)


class TinySquares(_Images):
    """PNG, one size, four classes."""


class TinyMixed(_Images):
    """JPEG of several sizes, two images and two classes an example, and other features beside them."""

    def _features(self):
        return {
            "image": tfds.features.Image(),
            "mask": tfds.features.Image(shape=(None, None, 1)),
            "kind": tfds.features.ClassLabel(names=["even", "odd"]),
            "third": tfds.features.ClassLabel(num_classes=3),
            "text": tfds.features.Text(),
            "box": tfds.features.BBoxFeature(),
            "attributes": {"smiling": np.bool_},
        }

    def _example(self, split, i):
        pixels = image(split, i, 8 + i % 3)
        return {
            "image": encoded(pixels, "jpeg"),
            "mask": encoded(pixels[..., 0]),
            "kind": i % 2,
            "third": i % 3,
            "text": str(i),
            "box": tfds.features.BBox(0.0, 0.0, 0.5, 0.5),
            "attributes": {"smiling": True},
        }


class TinyText(_Images):
    """No image at all."""

    def _features(self):
        return {"text": tfds.features.Text()}

    def _example(self, split, i):
        return {"text": str(i)}


class TinyDeep(_Images):
    """Images of 16 bits."""

    def _features(self):
        return {"image": tfds.features.Image(shape=(6, 6, 1), dtype=np.uint16)}

    def _example(self, split, i):
        return {"image": encoded(image(split, i)[..., 0].astype(np.uint16) * 257)}


BUILDERS = (TinySquares, TinyMixed, TinyText, TinyDeep)


def prepare(data_dir: pathlib.Path) -> None:
    """All of them, as array_record."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        for builder in BUILDERS:
            builder(data_dir=data_dir).download_and_prepare(file_format="array_record")
