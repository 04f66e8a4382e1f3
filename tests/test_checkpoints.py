"""Checkpoints survive kills and damage; a workdir has one owner and one config."""

import errno
import json
import os
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from madbench import checkpoints
from madbench.checkpoints import Checkpoints, Lock, Progress, WorkdirError, claim

CONFIG = {"task": "toy", "model": {"family": "gaussian", "ddof": 1}, "seeds": [0, 1]}


def tree(value):
    """A state with every kind of leaf, NaN and an empty branch among them."""
    return {
        "params": np.full((2, 3), value + 0.1, np.float32),
        "alive": np.array([True, value % 2 == 0]),
        "rest": (np.uint32(2**32 - 1 - value), np.float32(np.nan), None),
        "label": np.arange(5, dtype=np.int32) * value,
    }


def like(progress):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree(0))


def restore(checkpoints, like=like):
    warnings = []
    return list(checkpoints.restore(like, warnings.append)), warnings


def same(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes() and x.dtype == y.dtype
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def largest_file(directory):
    return max((p for p in directory.rglob("*") if p.is_file()), key=lambda p: (p.stat().st_size, p.name))


@pytest.fixture
def three(tmp_path):
    """Three checkpoints, of which two are kept."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for generation in (1, 2, 3):
        checkpoints.save(Progress(0, generation, 0), tree(generation))
    return checkpoints


def newest(tmp_path):
    return tmp_path / "checkpoints" / Progress(0, 3, 0).name


# ----------------------------------------------------------------------------------------------------- save, restore


def test_what_comes_back_is_what_was_saved_newest_first(three):
    found, warnings = restore(three)
    assert [p for p, _ in found] == [Progress(0, 3, 0), Progress(0, 2, 0)]
    assert all(same(state, tree(progress.generation)) for progress, state in found)
    assert warnings == []


def test_the_order_is_that_of_the_work(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=9)
    order = [Progress(0, 2, 0), Progress(0, 2, 9), Progress(0, 2, 10), Progress(0, 10, 0), Progress(1, 1, 0)]
    for progress in order:
        checkpoints.save(progress, tree(1))
    assert [p for p, _ in restore(checkpoints)[0]] == order[::-1]


def test_only_the_newest_are_kept(three, tmp_path):
    kept = {Progress(0, g, 0).name for g in (2, 3)}
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == kept | {f"{name}.json" for name in kept}


def test_one_that_was_saved_again_holds_the_new_state(three):
    three.save(Progress(0, 3, 0), tree(8))
    (progress, state), *_ = restore(three)[0]
    assert progress == Progress(0, 3, 0)
    assert same(state, tree(8))


def test_later_ones_that_could_not_be_used_go_with_the_next_save(three):
    three.save(Progress(0, 1, 0), tree(1))
    assert [p for p, _ in restore(three)[0]] == [Progress(0, 1, 0)]


def test_what_a_kill_cut_short_is_swept(three, tmp_path):
    for name in ("wave0000-generation000009-segment00", "wave0000-generation000004-segment00.orbax-tmp-1"):
        (tmp_path / "checkpoints" / name).mkdir()
    (tmp_path / "checkpoints" / ".wave0000-generation000009-segment00.json.tmp").write_text("{")
    assert [p.generation for p, _ in restore(three)[0]] == [3, 2]
    three.save(Progress(0, 4, 0), tree(4))
    assert {p.name.removesuffix(".json") for p in (tmp_path / "checkpoints").iterdir()} == {
        Progress(0, g, 0).name for g in (3, 4)
    }


def test_nothing_saved_is_nothing_found(tmp_path):
    assert restore(Checkpoints(tmp_path / "checkpoints", keep=2)) == ([], [])


# ------------------------------------------------------------------------------------------------------------ damage


def truncate(path):
    file = largest_file(path)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(path):
    file = largest_file(path)
    file.write_bytes(bytes(b ^ 255 for b in file.read_bytes()))


def delete_a_file(path):
    largest_file(path).unlink()


def delete_the_arrays(path):
    path.rename(path.with_name("elsewhere"))


def cut_the_manifest(path):
    manifest = path.with_name(path.name + ".json")
    manifest.write_text(manifest.read_text()[:40])


def another_manifest(path):
    manifest = path.with_name(path.name + ".json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "generation": 2}))


def manifest_of_another_kind(path):
    path.with_name(path.name + ".json").write_text("[]")


@pytest.mark.parametrize(
    "damage",
    [truncate, flip, delete_a_file, delete_the_arrays, cut_the_manifest, another_manifest, manifest_of_another_kind],
)
def test_a_damaged_one_is_told_in_one_line_and_the_one_before_counts(three, tmp_path, damage):
    damage(newest(tmp_path))
    ((progress, state),), (warning,) = restore(three)
    assert progress == Progress(0, 2, 0)
    assert same(state, tree(2))
    assert re.fullmatch(rf"checkpoint {newest(tmp_path).name} is damaged \(.+\); trying the one before", warning)


def test_one_bit_in_the_arrays_is_enough(three, tmp_path):
    manifest = newest(tmp_path).with_name(newest(tmp_path).name + ".json")
    sha256 = json.loads(manifest.read_text())["sha256"]
    changed = tree(3)
    changed["params"][1, 2] = np.nextafter(changed["params"][1, 2], np.float32(9))
    three.save(Progress(0, 3, 0), changed)
    assert same(restore(three)[0][0][1], changed)
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "sha256": sha256}))
    found, (warning,) = restore(three)
    assert [p.generation for p, _ in found] == [2]
    assert "not those that were saved" in warning


def test_without_a_manifest_it_does_not_count(three, tmp_path):
    newest(tmp_path).with_name(newest(tmp_path).name + ".json").unlink()
    found, warnings = restore(three)
    assert [p.generation for p, _ in found] == [2]
    assert warnings == []


def test_all_damaged_is_nothing_found(three, tmp_path):
    for path in (tmp_path / "checkpoints").glob("*.json"):
        path.write_text("")
    found, warnings = restore(three)
    assert found == []
    assert len(warnings) == 2


def test_arrays_of_another_run_are_refused(three):
    wider = lambda progress: {**like(progress), "params": jax.ShapeDtypeStruct((2, 4), np.float32)}
    found, warnings = restore(three, wider)
    assert found == []
    assert ["other shapes" in w for w in warnings] == [True, True]


# ------------------------------------------------------------------------------------------------------ lock, claim


def test_a_workdir_has_one_process_at_a_time(tmp_path):
    lock = Lock(tmp_path)
    with pytest.raises(WorkdirError, match=rf"in use by process {os.getpid()};"):
        Lock(tmp_path)
    lock.release()
    Lock(tmp_path).release()


def test_a_file_system_without_locks_is_no_reason_to_refuse(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(checkpoints.fcntl, "flock", refuse)
    claim(tmp_path, CONFIG).release()
    assert (tmp_path / "config.json").exists()


def test_the_lock_of_a_killed_process_is_open(tmp_path):
    code = f"import pathlib; from madbench.checkpoints import Lock; lock = Lock(pathlib.Path({str(tmp_path)!r})); "
    code += "print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(WorkdirError, match=rf"in use by process {process.pid};"):
            Lock(tmp_path)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    Lock(tmp_path).release()


def test_a_claim_makes_the_workdir_and_knows_it_again(tmp_path):
    for _ in range(2):
        claim(tmp_path / "a" / "b", CONFIG).release()
    content = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert content["config"] == CONFIG
    assert re.fullmatch("[0-9a-f]{64}", content["sha256"])


def test_what_a_kill_left_before_the_config_is_no_hindrance(tmp_path):
    (tmp_path / ".lock").write_text("1")
    (tmp_path / ".config.json.tmp").write_text("{")
    claim(tmp_path, CONFIG).release()
    assert json.loads((tmp_path / "config.json").read_text())["config"] == CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "other"}, "config.task is 'toy' there and 'other' here"),
        ({"model": {"family": "gaussian", "ddof": 0}}, "config.model.ddof is 1 there and 0 here"),
        ({"model": {"family": "gaussian"}}, "config.model.ddof is 1 there and None here"),
        ({"seeds": [0, 2]}, r"config.seeds is \[0, 1\] there and \[0, 2\] here"),
        ({"strategy": "golden_ratio", "equal_cost": True}, "config.strategy is 'none' there and 'golden_ratio' here"),
    ],
)
def test_another_config_is_refused_by_its_first_difference(tmp_path, change, message):
    claim(tmp_path, CONFIG).release()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(WorkdirError, match=message):
        claim(tmp_path, CONFIG | change)
    assert (tmp_path / "config.json").read_bytes() == before
    claim(tmp_path, CONFIG).release()  # the refusal let go of the lock


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"config"', "\xff"])
def test_a_config_that_cannot_be_read_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(WorkdirError, match=r"config\.json cannot be read"):
        claim(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_text(encoding="latin-1") == content


def test_a_directory_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(WorkdirError, match=r"holds other files \(thesis\.tex\)"):
        claim(tmp_path, CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_a_workdir_that_cannot_be_made_is_refused(tmp_path, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write to"):
        claim(tmp_path / path, CONFIG)
    assert (tmp_path / "file").read_text() == ""
