"""Images from a NumPy archive."""

import re

import numpy as np
import pytest

from madbench import data
from madbench.errors import UserError
from madbench.samples import decode

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 6, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3


def test_images_and_labels_are_those_of_the_archive(tmp_path):
    np.savez(tmp_path / "mine.npz", x=IMAGES, y=LABELS)
    source = data.load(f"npz:{tmp_path / 'mine.npz'}", n_reference=4)
    assert (source.name, source.shape, source.num_classes, source.available) == ("mine", (4, 6, 3), 3, 8)
    assert source.bounds == (-1.0, 1.0)
    assert source.pool.x.dtype == np.uint8
    assert type(source.pool.x) is np.ndarray  # on the host
    x = np.concatenate([decode(source.pool.x), source.reference.x])
    y = np.concatenate([source.pool.y, source.reference.y])
    rows = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    back = np.round((x + 1) * 127.5).astype(np.uint8)
    assert {image.tobytes(): label for image, label in zip(back, y, strict=True)} == rows
    assert x.dtype == np.float32
    assert y.dtype == np.int32


def test_without_labels_there_are_no_classes(tmp_path):
    np.savez(tmp_path / "mine.npz", x=IMAGES)
    source = data.load("npz", path=str(tmp_path / "mine.npz"), n_reference=4)
    assert source.num_classes == 0
    assert set(np.asarray(source.pool.y)) == {0}


BAD = [
    ({"y": LABELS}, "must hold x, uint8 [n, height, width, 1 or 3], and holds no x"),
    ({"x": IMAGES / 255}, "and holds x of float64 [12, 4, 6, 3]"),
    ({"x": IMAGES[..., 0]}, "and holds x of uint8 [12, 4, 6]"),
    ({"x": IMAGES[..., :2]}, "and holds x of uint8 [12, 4, 6, 2]"),
    ({"x": IMAGES, "y": LABELS[:5]}, "y must hold a class from 0 on for each of the 12 images"),
    ({"x": IMAGES, "y": LABELS - 1}, "y must hold a class from 0 on"),
    ({"x": IMAGES, "y": LABELS * 1.0}, "y must hold a class from 0 on"),
    ({"x": IMAGES, "y": LABELS * 2}, "y names classes up to 4, and 3 of them have images"),
    ({"x": np.array([{}])}, "cannot be read as a NumPy archive"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD)
def test_other_archives_are_refused_in_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        data.load(f"npz:{tmp_path / 'mine.npz'}", n_reference=4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK no archive", b"plain text"])
def test_what_is_no_archive_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a NumPy archive") as caught:
        data.load(f"npz:{tmp_path / 'mine.npz'}")
    assert "\n" not in str(caught.value)


def test_an_array_alone_and_a_damaged_archive_are_refused_too(tmp_path):
    np.save(tmp_path / "mine.npy", IMAGES)
    np.savez_compressed(tmp_path / "mine.npz", x=IMAGES * 0)
    content = bytearray((tmp_path / "mine.npz").read_bytes())
    content[60:90] = bytes(30)
    (tmp_path / "mine.npz").write_bytes(content)
    for name in ("mine.npy", "mine.npz"):
        with pytest.raises(UserError, match="cannot be read as a NumPy archive"):
            data.load(f"npz:{tmp_path / name}")


def test_as_many_classes_as_a_byte_can_tell(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.zeros((256, 2, 2, 1), np.uint8), y=np.arange(256).astype(np.uint8))
    assert data.load(f"npz:{tmp_path / 'mine.npz'}", n_reference=4).num_classes == 256


def test_two_paths_are_refused(tmp_path):
    with pytest.raises(UserError, match="name two files"):
        data.load("npz:a.npz", path="b.npz")


def test_a_path_is_asked_for(tmp_path):
    with pytest.raises(UserError, match=r"mine\.npz is not there"):
        data.load(f"npz:{tmp_path / 'mine.npz'}")
    with pytest.raises(UserError, match="needs the path of an archive"):
        data.load("npz")
