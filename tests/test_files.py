"""Reading other programs' images and features."""

import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from madbench.data.files import FeatureSet, ImageSet, open_set
from madbench.errors import UserError

RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array).save(path)


def read_whole(path):
    found = open_set(str(path))
    found.read(np.arange(found.count))


def refused(path, *words):
    with pytest.raises(UserError) as caught:
        read_whole(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_folder_holds_the_images_in_the_order_of_their_names(tmp_path):
    images = pixels(3, 5, 4, 3)
    for name, image in zip(("b.png", "a.PNG", "deep/c.png"), images, strict=True):
        save(tmp_path / name, image)
    (tmp_path / "notes.txt").write_text("no image")
    found = open_set(str(tmp_path))
    assert isinstance(found, ImageSet)
    assert (found.count, found.shape, found.labels) == (3, (5, 4, 3), None)
    np.testing.assert_array_equal(found.read(np.arange(3)), images[[1, 0, 2]])
    np.testing.assert_array_equal(found.read(np.array([2, 0])), images[[2, 1]])


@pytest.mark.parametrize("ending", ["png", "bmp", "ppm", "webp", "tiff"])
def test_lossless_formats_give_back_the_pixels(tmp_path, ending):
    image = pixels(6, 6, 3)
    options = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(image).save(tmp_path / f"a.{ending}", **options)
    np.testing.assert_array_equal(open_set(str(tmp_path)).read(np.arange(1))[0], image)


def test_folders_within_name_the_classes(tmp_path):
    for name in ("dog/1.png", "cat/1.png", "cat/2.png"):
        save(tmp_path / name, pixels(4, 4, 1))
    found = open_set(str(tmp_path))
    assert found.shape == (4, 4, 1)
    assert found.labels.tolist() == [0, 0, 1]
    assert found.labels.dtype == np.int32


def test_links_to_folders_are_followed_once_and_hidden_files_passed_over(tmp_path):
    for name in ("set/dog/1.png", "elsewhere/1.png", "set/dog/.ipynb_checkpoints/1.png", "set/.cache/1.png"):
        save(tmp_path / name, pixels(4, 4, 1))
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "set")
    save(tmp_path / "set" / "dog" / "._2.png", pixels(4, 4, 1))
    assert open_set(str(tmp_path / "set")).labels.tolist() == [0, 1]


def test_images_on_two_levels_have_no_classes(tmp_path):
    for name in ("dog/1.png", "cat/1.png", "3.png"):
        save(tmp_path / name, pixels(4, 4, 1))
    assert open_set(str(tmp_path)).labels is None


def test_alpha_is_dropped_and_a_palette_is_resolved(tmp_path):
    image = pixels(4, 4, 4)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image[..., :3]).quantize(16).save(tmp_path / "b.png")
    found = open_set(str(tmp_path))
    assert found.shape == (4, 4, 3)
    np.testing.assert_array_equal(found.read(np.array([0]))[0], image[..., :3])


def test_archives_of_images_under_the_usual_names(tmp_path):
    images = pixels(7, 4, 4, 3)
    for names in (("x", "y"), ("images", "labels"), ("arr_0", "arr_1")):
        np.savez(tmp_path / "a.npz", **dict(zip(names, (images, np.arange(7)), strict=True)))
        found = open_set(str(tmp_path / "a.npz"))
        assert isinstance(found, ImageSet)
        assert found.labels.tolist() == list(range(7))
        np.testing.assert_array_equal(found.read(np.array([5, 1])), images[[5, 1]])
    np.save(tmp_path / "grey.npy", images[..., 0])
    assert open_set(str(tmp_path / "grey.npy")).shape == (4, 4, 1)
    np.save(tmp_path / "a.npy", images)
    assert open_set(str(tmp_path / "a.npy")).shape == (4, 4, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_are_read_as_float32(tmp_path, dtype):
    features = RNG.normal(size=(9, 5)).astype(dtype)
    np.save(tmp_path / "f.npy", features)
    np.savez(tmp_path / "f.npz", features=features, y=np.zeros(9, np.int64))
    for name in ("f.npy", "f.npz"):
        found = open_set(str(tmp_path / name))
        assert isinstance(found, FeatureSet)
        assert found.features.dtype == np.float32
        np.testing.assert_array_equal(found.features, features.astype(np.float32))
    assert found.labels.tolist() == [0] * 9


def test_features_that_are_not_finite_are_refused_with_the_first_row(tmp_path):
    features = RNG.normal(size=(9, 5))
    features[4, 2], features[7, 0] = np.nan, np.inf
    np.save(tmp_path / "f.npy", features)
    refused(tmp_path / "f.npy", "2 of 9 rows", "not finite", "row 4")


def test_what_is_not_there_or_of_another_kind_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "is not there")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no images")
    (tmp_path / "a.txt").write_text("text")
    refused(tmp_path / "a.txt", "no folder of images")
    (tmp_path / "a.npz").write_bytes(b"no archive")
    refused(tmp_path / "a.npz", "cannot be read")
    np.savez(tmp_path / "stats.npz", mu=np.zeros(4), sigma=np.eye(4))
    refused(tmp_path / "stats.npz", "mu float64 [4]", "sigma float64 [4, 4]")
    np.savez(tmp_path / "one.npz", x=pixels(4, 4))
    refused(tmp_path / "one.npz", "x uint8 [4, 4]")
    np.savez(tmp_path / "first.npz", x=pixels(4, 3, 8, 8))
    refused(tmp_path / "first.npz", "channels first", "x.transpose(0, 2, 3, 1)")
    np.savez(tmp_path / "float.npz", x=RNG.normal(size=(4, 8, 8, 3)))
    refused(tmp_path / "float.npz", "images of float64", "uint8")
    np.savez(tmp_path / "none.npz", x=pixels(0, 4, 4, 3))
    refused(tmp_path / "none.npz", "must hold images")


def test_pickles_are_never_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(tmp_path / "a.npy", "cannot be read")


def test_classes_must_fit_the_samples(tmp_path):
    np.savez(tmp_path / "a.npz", x=pixels(4, 4, 4, 1), y=np.arange(3))
    refused(tmp_path / "a.npz", "4 samples and 3 classes")
    np.savez(tmp_path / "a.npz", x=pixels(4, 4, 4, 1), y=np.zeros(4))
    refused(tmp_path / "a.npz", "y must hold classes")
    np.savez(tmp_path / "a.npz", x=pixels(4, 4, 4, 1), y=np.array([0, 1, -1, 0]))
    refused(tmp_path / "a.npz", "y must hold classes")


def test_classes_are_numbered_without_gaps(tmp_path):
    """A number that no sample has is no class that could be lost."""
    np.savez(tmp_path / "a.npz", x=pixels(4, 4, 4, 1), y=np.array([7, 0, 7, 900000]))
    assert open_set(str(tmp_path / "a.npz")).labels.tolist() == [1, 0, 1, 2]


def test_images_of_more_than_eight_bits_are_refused(tmp_path):
    """Pillow makes 255 of every larger level, so that two such sets would agree."""
    levels = RNG.integers(0, 2**16, (4, 4)).astype(np.uint16)
    for name, array in (("a.png", levels), ("a.tif", levels.astype(np.float32) / 2**16), ("a.tiff", levels * 2**15)):
        Image.fromarray(array).save(tmp_path / name)
        refused(tmp_path, name, "8 bits")
        (tmp_path / name).unlink()


def header(shape):
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + b", }\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("shape", [b"(1000000000000, 5)", b"(99999999999999999999999, 5)", b"(" * 60, b"(-3, 5)", b"5"])
def test_a_header_that_lies_is_refused_in_one_line(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(header(shape) + b"0" * 100)
    refused(tmp_path / "a.npy", "cannot be read")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", (tmp_path / "a.npy").read_bytes())
    refused(tmp_path / "a.npz", "cannot be read")


def test_archives_that_zipfile_cannot_open_are_refused_in_one_line(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=pixels(4, 4, 4, 1))
    whole = path.read_bytes()
    central = whole.find(b"PK\x01\x02")
    for local, byte in ((6, 1), (8, 99)):  # encrypted; compressed in a way that nobody knows
        changed = bytearray(whole)
        changed[local] = changed[central + local + 2] = byte
        path.write_bytes(changed)
        refused(path, "cannot be read")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", bytes(RNG.integers(0, 256, 500, np.uint8)))
    changed = bytearray(path.read_bytes())
    changed[60:200] = b"\xff" * 140
    path.write_bytes(changed)
    refused(path, "cannot be read")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "no array")
    refused(path, "holds nothing")


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    save(tmp_path / "a.png", pixels(4, 4, 3))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, "b.png", "cannot be read as an image")
    (tmp_path / "b.png").write_bytes(b"no image")
    refused(tmp_path, "b.png", "cannot be read as an image")


def test_images_of_several_sizes_or_colours_are_refused(tmp_path):
    save(tmp_path / "a.png", pixels(4, 6, 1))
    save(tmp_path / "b.png", pixels(4, 5, 1))
    refused(tmp_path, "b.png", re.escape("5x4").replace("\\", ""), "6x4", "resize")
    save(tmp_path / "b.png", pixels(4, 6, 3))
    refused(tmp_path, "b.png", "colours")
