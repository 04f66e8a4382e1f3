"""Folders of images: what is read, brought into one form, prepared once, refused and skipped."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from madbench import data, experiment, grid
from madbench.config import base
from madbench.data import drafts as drafts_module
from madbench.data import folder as folders
from madbench.data import prepared
from madbench.errors import UserError
from madbench.samples import decode

RNG = np.random.default_rng(0)
QUIET = {"say": lambda text: None}


def pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def load(place, cache, **settings):
    return data.load(f"folder:{place}", cache=str(cache), **QUIET | settings)


def everything(source):
    """uint8 images and labels of reference and pool, in the order of the permutation."""
    x = np.asarray(source.reference.x)
    levels = np.round((x + 1) * 127.5).astype(np.uint8)
    np.testing.assert_array_equal(decode(levels), x)  # nothing but levels of 8 bits
    return np.concatenate([levels, source.pool.x]), np.concatenate([source.reference.y, source.pool.y])


def refused(place, cache, *words, **settings):
    with pytest.raises(UserError) as caught:
        load(place, cache, **settings)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message
    return message


# ------------------------------------------------------------------------------------------------------ what is read


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Twenty PNG images of one size in two classes, and their pixels."""
    place = tmp_path_factory.mktemp("plain")
    images = pixels(20, 5, 7, 3)
    for i, image in enumerate(images):
        save(place / "cd"[i % 2] / f"{i:02}.png", image)
    return place, images


def test_images_of_one_size_are_their_own_bytes(plain, tmp_path):
    place, images = plain
    source = load(place, tmp_path, n_reference=6)
    assert (source.name, source.shape, source.num_classes) == (place.name, (5, 7, 3), 2)
    assert (source.available, source.bounds) == (14, (-1.0, 1.0))
    x, y = everything(source)
    listed = np.concatenate([np.arange(0, 20, 2), np.arange(1, 20, 2)])  # class c, then d
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(x, images[listed[order]])
    np.testing.assert_array_equal(y, listed[order] % 2)
    assert source.reference.x.dtype == jnp.float32
    assert source.reference.y.dtype == source.pool.y.dtype == np.int32


def test_the_same_images_in_an_archive_are_the_same_set(plain, tmp_path):
    """Up to the order, which follows the list of files."""
    place, images = plain
    np.savez(tmp_path / "same.npz", x=images, y=np.arange(20) % 2)
    x, y = everything(data.load(f"npz:{tmp_path / 'same.npz'}", n_reference=6))
    ours, labels = everything(load(place, tmp_path, n_reference=6))
    rows = lambda x, y: sorted(image.tobytes() + bytes([label]) for image, label in zip(x, y.tolist(), strict=True))
    assert rows(ours, labels) == rows(x, y)


def test_the_pool_is_a_view_of_the_file_and_reads_decode_it(plain, tmp_path):
    source = load(plain[0], tmp_path, n_reference=6)
    assert type(source.pool.x) is np.ndarray
    assert isinstance(source.pool.x.base, np.memmap) or isinstance(source.pool.x.base.base, np.memmap)
    assert source.pool.x.dtype == np.uint8
    order = source.order(jax.random.key(1))
    positions = jnp.asarray([3, 0, 13, 14])
    expected = decode(source.pool.x[np.asarray(order)[[3, 0, 13, 0]]])
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(source.at(order, positions).x, expected)
    np.testing.assert_array_equal(jax.jit(source.at)(order, positions).x, expected)
    np.testing.assert_array_equal(jax.jit(lambda s: s.at(order, positions).x)(source), expected)


def test_one_folder_or_images_beside_folders_are_no_classes(tmp_path):
    for i in range(4):
        save(tmp_path / "one" / "only" / f"{i}.png", pixels(4, 4))
        save(tmp_path / "two" / "ab"[i % 2] / f"{i}.png", pixels(4, 4))
    save(tmp_path / "two" / "5.png", pixels(4, 4))
    for name in ("one", "two"):
        source = load(tmp_path / name, tmp_path / "cache", n_reference=1)
        assert (source.num_classes, source.shape) == (0, (4, 4, 1))
        assert not np.any(source.pool.y)


def test_squares_are_cut_and_resized_as_pillow_does(tmp_path):
    image = pixels(31, 50, 3)
    for i in range(3):
        save(tmp_path / "in" / f"{i}.png", image)
    whole = Image.fromarray(image)
    square = whole.crop((9, 0, 40, 31))  # (50 - 31) // 2
    for filter_ in ("lanczos", "bicubic", "box"):
        source = load(tmp_path / "in", tmp_path, resolution=16, resize=filter_, n_reference=1)
        expected = np.asarray(square.resize((16, 16), Image.Resampling[filter_.upper()]))
        np.testing.assert_array_equal(source.pool.x, [expected, expected])
    grey = load(tmp_path / "in", tmp_path, resolution=31, channels=1, n_reference=1)
    np.testing.assert_array_equal(grey.pool.x[0, :, :, 0], np.asarray(square.convert("L")))


def test_transparency_is_laid_on_white_and_grey_is_made_colour(tmp_path):
    rgba = pixels(4, 4, 4)
    rgba[0, 0] = [10, 20, 30, 0]
    rgba[0, 1] = [10, 20, 30, 255]
    rgba[0, 2] = [10, 20, 30, 51]  # a fifth
    grey = pixels(4, 4)
    save(tmp_path / "in" / "a.png", rgba)
    save(tmp_path / "in" / "b.png", grey)
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "in" / "c.png", transparency=7)
    x, _ = everything(load(tmp_path / "in", tmp_path, n_reference=1))
    by_list = x[np.argsort(np.random.default_rng(0).permutation(3))]
    assert by_list.shape == (3, 4, 4, 3)
    np.testing.assert_array_equal(by_list[0, 0, 0], [255, 255, 255])
    np.testing.assert_array_equal(by_list[0, 0, 1], [10, 20, 30])
    np.testing.assert_allclose(by_list[0, 0, 2], [206, 208, 210], atol=1)
    np.testing.assert_array_equal(by_list[1], np.repeat(grey[..., None], 3, axis=-1))
    assert (by_list[2] == 255).all()


def test_grey_images_with_alpha_stay_grey(tmp_path):
    for i in range(3):
        Image.fromarray(pixels(4, 4, 2), "LA").save(tmp_path / f"{i}.png") if i else save(
            tmp_path / "0.png", pixels(4, 4)
        )
    assert load(tmp_path, tmp_path / "cache", n_reference=1).shape == (4, 4, 1)


def test_images_are_turned_as_their_orientation_says(tmp_path):
    image = pixels(8, 8, 3)
    image[:, 4:] = 0
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    for i in range(2):
        Image.fromarray(image).save(tmp_path / f"{i}.png", exif=exif)
    source = load(tmp_path, tmp_path / "cache", n_reference=1)
    np.testing.assert_array_equal(source.pool.x[0], np.rot90(image, -1))


@pytest.mark.parametrize("ending", ["png", "webp", "bmp", "tiff", "jpg"])
def test_formats(tmp_path, ending):
    image = np.repeat(np.repeat(pixels(2, 2, 3) // 32 * 32, 8, axis=0), 8, axis=1)
    for i in range(2):
        save(tmp_path / f"{i}.{ending}", image, **({"lossless": True} if ending == "webp" else {}))
    found = load(tmp_path, tmp_path / "cache", n_reference=1).pool.x[0]
    if ending != "jpg":
        np.testing.assert_array_equal(found, image)
    else:
        np.testing.assert_array_equal(found, np.asarray(Image.open(tmp_path / "0.jpg")))


# --------------------------------------------------------------------------------------------------- a folder of JPEGs


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """300 images of mixed sizes in three classes, grey and RGBA among them; one truncated, one of them text."""
    place = tmp_path_factory.mktemp("mixed")
    for i in range(300):
        height, width = RNG.integers(20, 60, 2)
        folder = place / "abc"[i % 3]
        if i % 10 == 3:
            save(folder / f"{i:03}.jpg", pixels(height, width))
        elif i % 10 == 7:
            save(folder / f"{i:03}.png", pixels(height, width, 4))
        else:
            save(folder / f"{i:03}.jpg", pixels(height, width, 3), quality=80)
    truncated = place / "b" / "001.jpg"
    truncated.write_bytes(truncated.read_bytes()[:-200])
    (place / "c" / "002.png").write_text("no image")
    (place / "c" / "002.jpg").unlink()
    return place


def test_what_cannot_be_decoded_is_refused_with_its_path(mixed, tmp_path):
    words = "2 of 300 images", mixed / "b" / "001.jpg", mixed / "c" / "002.png", "--config.data.unreadable=skip"
    refused(mixed, tmp_path, *words, resolution=16, n_reference=50)
    assert not list(tmp_path.rglob("*.*"))  # nothing is left behind


def test_or_skipped_and_said(mixed, tmp_path):
    told = []
    source = load(mixed, tmp_path, resolution=16, unreadable="skip", n_reference=50, say=told.append)
    assert (source.available, source.num_classes, source.shape) == (248, 3, (16, 16, 3))
    assert source.fingerprint["count"] == 298
    assert np.bincount(np.concatenate([source.pool.y, source.reference.y])).tolist() == [100, 99, 99]
    note = next(text for text in told if text.startswith("note: 2 of 300 images"))
    assert str(mixed / "b" / "001.jpg") in note
    assert str(mixed / "c" / "002.png") in note
    assert any("300 RGB images of 16x16 pixels, 225 KiB in" in text for text in told)

    assert any("prepared 298 images" in text and "in 3 classes" in text for text in told)
    again, told = [], told.copy()
    same = load(mixed, tmp_path, resolution=16, unreadable="skip", n_reference=50, say=again.append)
    assert again == [note]  # it is prepared; what it lacks is said each time
    assert same.fingerprint == source.fingerprint
    np.testing.assert_array_equal(same.pool.x, source.pool.x)
    refused(mixed, tmp_path, "2 of 300 images", mixed / "b" / "001.jpg", resolution=16, n_reference=50)


def test_of_many_a_few_are_named_and_all_listed(tmp_path):
    place = tmp_path / "in"
    for i in range(9):
        save(place / f"{i}.png", pixels(4, 4, 3))
    for i in range(5):
        (place / f"{i}.png").write_text("no image")
    message = refused(place, tmp_path, "5 of 9 images", place / "2.png", "and 2 more, all listed in", n_reference=1)
    assert str(place / "3.png") not in message
    (file,) = (tmp_path / "data").glob("*")  # and nothing else is left behind
    assert f"listed in {file};" in message
    lines = file.read_text().splitlines()
    assert [line.split(" cannot be read")[0] for line in lines] == [str(place / f"{i}.png") for i in range(5)]
    told = []
    load(place, tmp_path, n_reference=1, unreadable="skip", say=told.append)
    assert f"and 2 more, all listed in {file}; they are left out" in told[-1]
    assert file.read_text().splitlines() == lines


def test_what_was_skipped_is_looked_at_again_before_it_is_refused(tmp_path):
    """A file may be repaired, or its folder be opened to its reader, without another size or time."""
    place = tmp_path / "in"
    for i in range(9):
        save(place / f"{i}.png", pixels(4, 4, 3))
    whole = {}
    for i in (2, 5):
        file = place / f"{i}.png"
        whole[file] = (file.read_bytes(), file.stat())
        file.write_bytes(bytes(file.stat().st_size))
        os.utime(file, ns=(whole[file][1].st_atime_ns, whole[file][1].st_mtime_ns))
    opened = lambda **settings: load(place, tmp_path / "cache", n_reference=1, **settings)
    assert opened(unreadable="skip").available == 6
    stored = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache" / "data").iterdir()}
    for number, (file, (content, times)) in enumerate(whole.items()):
        left = [f for f in whole if f not in list(whole)[:number]]
        refused(place, tmp_path / "cache", f"{len(left)} of 9 images", *left, n_reference=1)
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stored == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache" / "data").iterdir()}
    assert opened().available == opened(unreadable="skip").available == 8


def test_the_readable_ones_alone_have_the_same_fingerprint(mixed, tmp_path):
    ours = load(mixed, tmp_path, resolution=16, unreadable="skip", n_reference=50)
    place = tmp_path / mixed.name
    for file in sorted(mixed.rglob("*.*")):
        if file.name not in ("001.jpg", "002.png"):
            (place / file.parent.name).mkdir(parents=True, exist_ok=True)
            (place / file.parent.name / file.name).write_bytes(file.read_bytes())
    assert load(place, tmp_path, resolution=16, n_reference=50).fingerprint == ours.fingerprint


def test_what_is_written_from_a_source_is_read_back(plain, tmp_path):
    """Of an endless source with classes; of a finite one, all of its pool, to the bit."""
    folders.write(data.load("warped_digits", resolution=12, n_reference=1), str(tmp_path / "warped"), 40)
    found = load(tmp_path / "warped", tmp_path / "cache", n_reference=5)
    assert (found.shape, found.num_classes, found.available) == ((12, 12, 1), 10, 35)
    first = load(plain[0], tmp_path, n_reference=6)
    folders.write(first, str(tmp_path / "again"), 14)
    again = load(tmp_path / "again", tmp_path / "cache", n_reference=1)
    rows = lambda x, y: sorted(image.tobytes() + bytes([k]) for image, k in zip(x, np.asarray(y).tolist(), strict=True))
    assert rows(*everything(again)) == rows(first.pool.x, first.pool.y)
    with pytest.raises(UserError, match="is there already"):
        folders.write(first, str(tmp_path / "again"), 14)
    with pytest.raises(UserError, match="fewer than 15"):
        folders.write(first, str(tmp_path / "more"), 15)
    with pytest.raises(UserError, match="holds no images"):
        folders.write(data.load("gaussian", n_reference=1), str(tmp_path / "more"), 1)
    assert not (tmp_path / "more").exists()


# -------------------------------------------------------------------------------------------------------- preparation


def test_a_set_is_prepared_once_and_again_when_anything_changes(plain, tmp_path):
    _, images = plain
    folder = tmp_path / "in"
    for i, image in enumerate(images):
        save(folder / f"{i:02}.png", image)
    told = []
    cached = lambda: sorted(file.name for file in (tmp_path / "cache" / "data").iterdir())
    opened = lambda **settings: load(folder, tmp_path / "cache", say=told.append, **{"n_reference": 4} | settings)
    first = opened()
    assert len(told) == 2  # begins, ends
    assert len(cached()) == 3
    np.testing.assert_array_equal(opened().pool.x, first.pool.x)
    assert opened(n_reference=5).available == 15  # another view of the same file
    assert len(told) == 2
    assert opened(split_seed=1).fingerprint == first.fingerprint  # in another order
    assert opened(resolution=4).fingerprint != first.fingerprint
    assert len(cached()) == 9
    save(folder / "00.png", 255 - images[0])
    changed = opened()
    assert changed.fingerprint != first.fingerprint
    assert len(cached()) == 12


def test_the_fingerprint_covers_pixels_and_classes(tmp_path):
    images = pixels(4, 3, 3, 3)
    for name, classes in (("a", "xxyy"), ("b", "xyxy")):
        for i, (image, folder) in enumerate(zip(images, classes, strict=True)):
            save(tmp_path / name / "set" / folder / f"{i}.png", image)
    one, other = (load(tmp_path / name / "set", tmp_path, n_reference=1).fingerprint for name in "ab")
    assert {k: v for k, v in one.items() if k != "sha256"} == {"name": "set", "version": "1", "count": 4}
    assert re.fullmatch("[0-9a-f]{64}", one["sha256"])
    assert one["sha256"] != other["sha256"]


@pytest.mark.parametrize("ending", [".npy", "-y.npy", ".json"])
def test_damaged_files_are_made_anew(plain, tmp_path, ending):
    first = load(plain[0], tmp_path, n_reference=6)
    x = np.array(first.pool.x)
    (file,) = (
        f for f in (tmp_path / "data").iterdir() if f.name.endswith(ending) and f.name.count("-y") == ending.count("-y")
    )
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    np.testing.assert_array_equal(load(plain[0], tmp_path, n_reference=6).pool.x, x)


WRITER = """
import pathlib, sys, time
from madbench.data.drafts import Draft
with Draft(pathlib.Path(sys.argv[1])) as draft:
    draft.file.write(b"half")
    draft.file.flush()
    print("ready", flush=True)
    time.sleep(600)
"""


def test_what_killed_preparations_leave_is_cleared_and_what_others_write_is_not(plain, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    drafts = lambda: {file for file in folder.iterdir() if file.name.endswith(".tmp")}
    writers, theirs = [], []
    for name in ("dead", "alive"):
        before = drafts()
        command = [sys.executable, "-c", WRITER, str(folder / name)]
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert writers[-1].stdout.readline() == "ready\n"
        theirs += drafts() - before
    dead, alive = theirs
    try:
        writers[0].kill()
        writers[0].wait()
        hour = time.time() - 3600
        other, old = folder / ".set.npy.00000000.ab.tmp", folder / ".set.npy.00000000.cd.tmp"
        for file, when in ((other, hour), (old, hour - drafts_module.FOREIGN_AFTER), (alive, hour - 1e7)):
            file.touch()
            os.utime(file, (when, when))
        load(plain[0], tmp_path, n_reference=6)
        assert not dead.exists()
        assert not old.exists()  # of a machine that has not written for a week
        assert drafts() == {alive, other}
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            writer.stdout.close()


def test_a_draft_that_fails_leaves_nothing_and_one_that_does_not_is_whole(tmp_path):
    with contextlib.suppress(KeyError), drafts_module.Draft(tmp_path / "a") as draft:
        draft.file.write(b"half")
        raise KeyError
    assert not list(tmp_path.iterdir())
    with drafts_module.Draft(tmp_path / "a") as draft:
        draft.file.write(b"whole")
        drafts_module.clear(draft)  # of a file of ours that is being written
        assert draft.draft.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_two_that_prepare_at_once_end_in_one_whole_set(plain, tmp_path):
    barrier = threading.Barrier(2)
    found = []

    def work():
        barrier.wait()
        found.append(load(plain[0], tmp_path, n_reference=6))

    threads = [threading.Thread(target=work) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    np.testing.assert_array_equal(*(np.asarray(source.pool.x) for source in found))
    assert len(list((tmp_path / "data").iterdir())) == 3  # no drafts
    json.loads(next((tmp_path / "data").glob("*.json")).read_text())


def test_blocks_of_any_size_give_the_same_set(plain, tmp_path, monkeypatch):
    whole = load(plain[0], tmp_path / "a", n_reference=6)
    monkeypatch.setattr(prepared, "_BLOCK", 1)  # the least block, of eight images
    np.testing.assert_array_equal(load(plain[0], tmp_path / "b", n_reference=6).pool.x, whole.pool.x)


def test_a_cache_that_cannot_be_written_is_one_line(plain, tmp_path):
    (tmp_path / "file").write_text("")
    refused(plain[0], tmp_path / "file", "cannot prepare", "see --cache", n_reference=6)


def test_a_set_larger_than_the_disk_is_refused(plain, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=2099)
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda path: full)
    refused(
        plain[0],
        tmp_path,
        "20 RGB images of 7x5 pixels need 2.05 KiB",
        "name another directory by --cache",
        n_reference=6,
    )
    full = full._replace(free=2100)  # 20 * 5 * 7 * 3
    assert load(plain[0], tmp_path, n_reference=6).available == 14


# ------------------------------------------------------------------------------------------------------------ refusals


def test_errors_of_use_are_one_line(plain, tmp_path):
    place = plain[0]
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "none", tmp_path, "there is no such folder here")
    refused("", tmp_path, "needs the path of a folder", "PATH is empty")
    refused(tmp_path / "empty", tmp_path, "holds no images", "at any depth, and nothing")
    (tmp_path / "texts" / "a").mkdir(parents=True)
    (tmp_path / "texts" / "a" / "notes.txt").write_text("no image")
    refused(tmp_path / "texts", tmp_path, "holds no images", "only 1 other files")
    refused(place / "c" / "00.png", tmp_path, "00.png is a file, not a folder of images")
    np.savez(tmp_path / "mine.npz", x=pixels(3, 4, 4, 1))
    refused(tmp_path / "mine.npz", tmp_path, "is a file", f"write npz:{tmp_path / 'mine.npz'}")
    refused(place, tmp_path, "n_reference=20 must leave", "of the 20 samples", "set it to 6 or less", n_reference=20)
    refused(place, tmp_path, "resolution must be 0", resolution=-1)
    refused(place, tmp_path, "resolution must be 0", resolution="64")
    refused(place, tmp_path, "resize must be one of lanczos, bicubic", resize="Lanczos")
    refused(place, tmp_path, "crop must be one of center, none", crop="left")
    refused(place, tmp_path, "channels must be one of 0, 1, 3", channels=4)
    refused(place, tmp_path, "unreadable must be one of refuse, skip", unreadable="ignore")
    refused(place, tmp_path, "is 7x5, no square", crop="none", resolution=4, n_reference=6)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    ("name", "kind"), [("{0}", "folder"), ("{0}/none", "folder"), ("~/pictures", "folder"), ("{0}/mine.npz", "npz")]
)
def test_a_path_without_its_kind_comes_with_it(plain, name, kind):
    """In the command line too, which asks for a source's settings before it opens it."""
    text = name.format(plain[0])
    for ask in (data.load, data.SOURCES.settings):
        with pytest.raises(UserError, match=re.escape(f"write --config.data.source={kind}:{text}")) as caught:
            ask(text)
        assert "\n" not in str(caught.value)


def test_the_reference_that_a_message_proposes_works(plain, tmp_path):
    """Whichever of the two refuses: the split, which leaves nothing, or the job, whose floors need two more."""
    config = base(source=f"folder:{plain[0]}", family="gaussian")
    config.n_initial = 12
    config.metrics.features = "raw"
    for asked in (1000, 7):
        config.data.n_reference = asked
        with pytest.raises(UserError, match=rf"n_reference={asked}\b.*set it to 6 or less"):
            grid.prepare(config, cache=str(tmp_path), blank=True)
    config.data.n_reference = 6
    assert grid.prepare(config, cache=str(tmp_path), blank=True).source.available == 14


def test_what_is_wrong_with_the_rest_of_a_config_is_said_before_anything_is_prepared(plain, tmp_path):
    config = base(source=f"folder:{plain[0]}", family="gaussian")
    config.data.n_reference = 6
    config.n_initial = 12
    config.metrics.update(names=("fdd",), features="raw")
    with pytest.raises(UserError, match="fdd"):
        experiment.run(config, str(tmp_path / "work"), cache=str(tmp_path / "cache"))
    assert not any(tmp_path.iterdir())


def test_several_sizes_need_a_resolution(tmp_path):
    save(tmp_path / "a.png", pixels(4, 4, 3))
    save(tmp_path / "b.png", pixels(4, 5, 3))
    refused(tmp_path, tmp_path / "cache", "5x4", "4x4", "--config.data.resolution=64", n_reference=1)


def test_a_folder_of_nothing_readable_is_refused_even_where_it_may_skip(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_text("no image")
    refused(tmp_path, tmp_path / "cache", "2 of 2 images", "a.png", n_reference=1, unreadable="skip")


def test_deep_images_are_refused(tmp_path):
    for name in "ab":
        Image.fromarray(pixels(4, 4).astype(np.uint16) * 257).save(tmp_path / f"{name}.png")
    refused(tmp_path, tmp_path / "cache", "a.png has more than 8 bits", n_reference=1)
