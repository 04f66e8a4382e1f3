"""Event files, read back by a reader written here from the format's description; and what is in them after a resume."""

import collections
import io
import json
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from madbench import cli, experiment, grid, results, tensorboard
from madbench.checkpoints import Progress
from madbench.config import base
from madbench.display import Nothing

pytestmark = pytest.mark.usefixtures("compiled")

LOOPS, BIASES, GENERATIONS, STEPS = ("fully_synthetic", "synthetic_augmentation"), (1.0, 0.5), 4, 40
METRICS = ("fd", "variance")
CONFIG = """
from madbench.config import base

def get_config():
    config = base("gaussian", "gaussian")
    config.data.update(dimension=2, n_reference=40)
    config.n_initial = 40
    config.loops = ("fully_synthetic",)
    config.seeds = 2
    config.generations = 2
    config.metrics.update(features="raw", names=("fd",))
    return config
"""


def digits():
    """In two waves of four runs, one for each loop."""
    config = base("digits", "diffusion")
    config.data.n_reference = config.n_initial = 60
    config.loops, config.biases, config.seeds, config.generations = LOOPS, BIASES, 2, GENERATIONS
    config.metrics.update(features="raw", names=METRICS)
    config.n_grid = 3
    config.fleet.max_runs_per_device = 1
    config.keep_checkpoints = GENERATIONS
    config.model.update(width=16, depth=1, steps=STEPS, batch_size=32, sampler_steps=2)
    return config


def crc32c(data: bytes) -> int:
    """Castagnoli's polynomial, bit by bit (RFC 3720, appendix B.4)."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """As TFRecord stores it: rotated by 15 bits, plus a constant."""
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read(folder):
    """The events of the one file of a folder; checksums are compared."""
    (file,) = folder.iterdir()
    assert "tfevents" in file.name  # by which TensorBoard finds it
    content, events = io.BytesIO(file.read_bytes()), []
    while header := content.read(12):
        length, checksum = struct.unpack("<QI", header)
        assert masked(header[:8]) == checksum
        data = content.read(length)
        assert struct.unpack("<I", content.read(4))[0] == masked(data)
        events.append(event_pb2.Event.FromString(data))
    assert events[0].file_version == "brain.Event:2"
    assert events[1].session_log.status == event_pb2.SessionLog.START
    return events[2:]


def series(folder):
    """Tag -> [(step, value)], in the order of the file; an image is its array."""
    found = collections.defaultdict(list)
    for event in read(folder):
        for value in event.summary.value:
            one = value.simple_value
            if value.HasField("image"):
                one = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
            found[value.tag].append((event.step, one))
    return dict(found)


def everything(workdir):
    """Of all runs and waves, without the seconds, which differ from start to start."""
    return {folder.name: series(folder) for folder in sorted((workdir / "tensorboard").iterdir())}


def run(config, path, events=True):
    experiment.run(config, path, show=Nothing(), events=events)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, feature_cache):
    path = tmp_path_factory.mktemp("tensorboard") / "work"
    run(digits(), path)
    return path


@pytest.fixture
def copy(workdir, tmp_path):
    return shutil.copytree(workdir, tmp_path / "work")


def slugs():
    return [results.slug(loop, bias, seed) for loop in LOOPS for bias in BIASES for seed in range(2)]


def test_checksums_are_those_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's algorithm, the usual check value


def test_a_folder_for_each_run_and_each_wave(workdir):
    folders = {folder.name for folder in (workdir / "tensorboard").iterdir()}
    assert folders == {*slugs(), "wave1", "wave2"}


def test_metrics_are_those_of_the_rows(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 8 * GENERATIONS
    for metric in METRICS:
        for name in slugs():
            expected = [
                (row["generation"], np.float32(row[metric]))
                for row in rows
                if results.slug(row["loop"], row["bias"], row["seed"]) == name
            ]
            assert series(workdir / "tensorboard" / name)[f"metrics/{metric}"] == expected
            assert [t for t, _ in expected] == [1, 2, 3, 4]


def test_losses_go_on_over_the_generations_and_fall_within_each(workdir):
    for name in slugs():
        steps, losses = zip(*series(workdir / "tensorboard" / name)["fit/loss"], strict=True)
        assert steps == tuple(range(1, GENERATIONS * STEPS + 1))  # four steps a segment: each is a point
        first = np.asarray(losses[:STEPS])
        assert np.isfinite(losses).all()
        assert first[-10:].mean() < first[:5].mean()


def test_runs_of_one_seed_share_the_losses_of_generation_1(workdir):
    """They share its model; later ones differ, so each run has curves of its own."""
    one, other = (
        np.asarray([v for _, v in series(workdir / "tensorboard" / f"{loop}-bias1-seed1")["fit/loss"]])
        for loop in LOOPS
    )
    np.testing.assert_allclose(one[:STEPS], other[:STEPS], rtol=1e-4)
    assert not np.allclose(one[STEPS:], other[STEPS:], rtol=1e-2)


def test_seconds_are_those_of_the_waves(workdir):
    timings = [json.loads(line) for line in (workdir / "timing.jsonl").read_text().splitlines()]
    for wave in range(2):
        found = series(workdir / "tensorboard" / f"wave{wave + 1}")
        for phase in ("compile", "fit", "sample", "evaluate"):
            expected = [
                (row["generation"], np.float32(row[f"{phase}_seconds"])) for row in timings if row["wave"] == wave
            ]
            assert found[f"seconds/{phase}"] == expected


def test_images_are_the_saved_samples_side_by_side(workdir):
    name = slugs()[0]
    images = series(workdir / "tensorboard" / name)["samples"]
    assert [t for t, _ in images] == [1, 2, 3, 4]
    for t, picture in images:
        with np.load(workdir / "samples" / name / f"generation-{t:04d}.npz") as file:
            x = file["x"]
        assert picture.shape == (32, 3 * 32, 3)  # of 8x8, four times as large
        assert (picture[::4, ::4, 0] == np.hstack(list(x[..., 0]))).all()


@pytest.mark.parametrize("n", [1, 10, 12])
def test_more_than_ten_images_begin_another_row(n):
    x = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    (value,) = tensorboard._image("samples", x, 7).summary.value
    picture = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
    expected = list(range(n)) + [255] * (-n % 10 if n > 10 else 0)
    assert picture[::32, ::32, 0].ravel().tolist() == expected


def test_a_job_taken_up_again_has_each_event_once_and_the_same(workdir, copy):
    """Its last checkpoints are gone: generations 3 and 4 of the second wave come again."""
    for generation in (4, 5):
        name = Progress(1, generation, 0).name
        shutil.rmtree(copy / "checkpoints" / name)
        (copy / "checkpoints" / f"{name}.json").unlink()
    run(digits(), copy)
    assert (copy / "metrics.jsonl").read_bytes() == (workdir / "metrics.jsonl").read_bytes()
    again, before = everything(copy), everything(workdir)
    for name in slugs():
        assert again[name].keys() == before[name].keys()
        for tag in ("fit/loss", "metrics/fd", "metrics/variance"):
            assert again[name][tag] == before[name][tag]
        assert [t for t, _ in again[name]["samples"]] == [1, 2, 3, 4]
    assert [t for t, _ in again["wave2"]["seconds/fit"]] == [1, 2, 3, 4]


def test_from_a_checkpoint_within_a_fit_on_losses_are_kept_up_to_it_and_added_after_it(workdir, copy):
    job = grid.prepare(digits())
    events = tensorboard.Events(job, copy)
    assert (job.family.segments, job.plan.waves) == (10, 2)
    events.begin(Progress(0, 2, 5))
    for name, found in everything(copy).items():
        if name in slugs():
            before = series(workdir / "tensorboard" / name)["fit/loss"]
            assert found.get("fit/loss", []) == (before[: STEPS + STEPS // 2] if LOOPS[0] in name else [])
    calls = [np.full((4, 20), k, np.float32) for k in (1, 2)]  # the host called each of 40 steps
    events.fitted([job.runs[i] for i in job.plan.wave(0)], 2, 6, calls)
    added = series(copy / "tensorboard" / slugs()[0])["fit/loss"][STEPS + STEPS // 2 :]
    assert [value for _, value in added] == [1] * 5 + [2] * 5  # ten points of a segment at most
    assert added[-1][0] == STEPS + 6 * STEPS // 10


def test_a_file_that_a_kill_cut_short_loses_its_last_record_only(copy):
    folder = copy / "tensorboard" / slugs()[0]
    (file,) = folder.iterdir()
    whole = list(tensorboard._read(file))
    file.write_bytes(file.read_bytes()[:-3])
    assert list(tensorboard._read(file)) == whole[:-1]
    run(digits(), copy)  # finished already: the files are written anew
    assert len(series(folder)["fit/loss"]) == GENERATIONS * STEPS


def test_turned_on_late_it_has_what_the_workdir_has(workdir, copy):
    shutil.rmtree(copy / "tensorboard")
    run(digits(), copy)
    for name, found in everything(copy).items():
        expected = {tag: values for tag, values in series(workdir / "tensorboard" / name).items() if tag != "fit/loss"}
        assert found.keys() == expected.keys()
        assert all(found[tag] == expected[tag] for tag in found if tag != "samples")


def test_off_by_default(tmp_path, capsys):
    (tmp_path / "config.py").write_text(CONFIG)
    command = ["madbench", "run", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'work'}"]
    assert cli.main(command) == 0
    assert not (tmp_path / "work" / "tensorboard").exists()
    assert cli.main([*command, "--tensorboard"]) == 0
    found = series(tmp_path / "work" / "tensorboard" / "fully_synthetic-bias1-seed0")
    assert set(found) == {"metrics/fd"}  # no loss, and points are no images


def test_without_the_package_one_line_says_how_to_install_it_and_nothing_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr(tensorboard.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "config.py").write_text(CONFIG)
    command = ["madbench", "run", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'work'}"]
    assert cli.main([*command, "--tensorboard"]) == 2
    error = capsys.readouterr().err
    assert "pip install tensorboardX" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "work").exists()
    monkeypatch.undo()


def test_the_package_and_the_accelerator_are_imported_only_where_needed():
    code = "import sys, madbench.tensorboard; print(sorted({'tensorboardX', 'jax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
