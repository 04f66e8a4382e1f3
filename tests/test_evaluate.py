"""`madbench evaluate`: from two paths to a table."""

import csv
import io
import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from madbench import cli, evaluate
from madbench.errors import UserError
from madbench.metrics import METRICS
from madbench.metrics.features import lenet

RNG = np.random.default_rng(0)
CLOUD = RNG.normal(size=(3, 120, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Real and generated features, and digits as images with classes."""
    folder = tmp_path_factory.mktemp("sets")
    np.save(folder / "real.npy", CLOUD[0])
    np.save(folder / "generated.npy", CLOUD[1] * 0.5)
    np.save(folder / "many.npy", RNG.normal(size=(700, 6)))
    np.save(folder / "few.npy", CLOUD[1, :4])
    np.save(folder / "wide.npy", RNG.normal(size=(120, 7)))
    digits = load_digits()
    x = np.uint8(digits.images * 15)[..., None]
    np.savez(folder / "digits.npz", x=x[:500], y=digits.target[:500])
    np.savez(folder / "more.npz", x=x[500:700], y=digits.target[500:700])
    np.savez(folder / "large.npz", x=np.zeros((20, 9, 9, 1), np.uint8))
    return folder


def run(files, real, generated, **settings):
    said = []
    settings = {"cache": str(files / "cache"), "say": said.append} | settings
    return evaluate.run(str(files / real), str(files / generated), **settings)


def main(capsys, *argv):
    code = cli.main(["madbench", "evaluate", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_features_as_they_are_have_the_values_of_compare(files):
    found = run(files, "real.npy", "generated.npy")
    assert list(found["metrics"]) == list(evaluate.DEFAULT)
    assert found["features"] == "given"
    assert (found["n_samples"], found["real"]["samples"], found["floor_draws"]) == (120, 120, 0)
    values = evaluate.compare(CLOUD[1] * 0.5, CLOUD[0])
    for name, entry in found["metrics"].items():
        assert entry["value"] == pytest.approx(values[name], rel=1e-9), name
        assert entry["floor"] is None
        assert entry["version"] == METRICS[name].version


def test_real_samples_beyond_the_reference_make_the_floor(files):
    found = run(files, "many.npy", "generated.npy", names=["fd", "precision"], floor_draws=4)
    assert (found["n_samples"], found["floor_draws"]) == (120, 4)
    fd, precision = found["metrics"]["fd"], found["metrics"]["precision"]
    assert fd["floor"]["p5"] < fd["floor"]["mean"] < fd["floor"]["p95"] < fd["value"]
    assert precision["floor"]["mean"] < precision["value"]
    assert run(files, "many.npy", "generated.npy", names=["fd"], floor_draws=0)["metrics"]["fd"]["floor"] is None
    assert run(files, "many.npy", "many.npy", names=["fd"], samples=300)["floor_draws"] == 1  # 400 are left: one draw
    assert run(files, "many.npy", "many.npy", names=["fd"], samples=400)["floor_draws"] == 0


def test_the_same_command_gives_the_same_numbers_and_another_seed_another_choice(files):
    once, again, other = (run(files, "many.npy", "generated.npy", names=["fd"], seed=seed) for seed in (0, 0, 1))
    assert once == again
    assert once["metrics"] != other["metrics"]


def test_fewer_samples_can_be_asked_for(files):
    assert run(files, "real.npy", "generated.npy", samples=50, names=["fd"])["n_samples"] == 50


def test_a_training_set_brings_the_metrics_of_copies(files):
    found = run(files, "real.npy", "generated.npy", training=str(files / "generated.npy"))
    assert found["metrics"]["memorization"]["value"] == 1.0
    assert found["metrics"]["authenticity"]["value"] == 0.0
    assert found["training"]["samples"] == 120


def test_real_samples_that_were_trained_on_are_no_floor_of_copies(files):
    """All of them would count as memorized: a floor of 1 beside a generator's 0.05."""
    names = ["fd", "memorization", "authenticity"]
    np.save(files / "copy.npy", np.load(files / "many.npy"))
    for training in ("many.npy", "copy.npy"):
        found = run(files, "many.npy", "generated.npy", training=str(files / training), names=names)["metrics"]
        assert [found[name]["floor"] is None for name in names] == [False, True, True]
    found = run(files, "many.npy", "generated.npy", training=str(files / "real.npy"), names=names)["metrics"]
    assert found["memorization"]["floor"]["mean"] < 0.2
    assert found["authenticity"]["floor"]["mean"] > 0.3


def test_classes_that_no_sample_has_are_none(files):
    """Labels 0 and 7 are two classes, and one label is nothing to balance."""
    x, labels = CLOUD[0], np.where(np.arange(120) % 2, 7, 0)
    assert evaluate.compare(x, x, ["classes", "class_balance"], labels=labels) == {"classes": 2.0, "class_balance": 1.0}
    with pytest.raises(UserError, match="class_balance"):
        evaluate.compare(x, x, ["class_balance"], labels=np.full(120, 5))
    np.savez(files / "single.npz", features=x, labels=np.full(120, 5))
    assert "class_balance" not in run(files, "single.npz", "generated.npy")["metrics"]


@pytest.mark.parametrize("features", ["raw", "lenet"])
def test_images_are_seen_through_a_network(files, features, monkeypatch):
    monkeypatch.setitem(lenet.RECIPE, "steps", 100)  # enough for these
    found = run(files, "digits.npz", "more.npz", feature_name=features, names=["fd", "recall", "class_balance"])
    assert found["features"].startswith(f"{features}-1")
    assert found["floor_draws"] == 5  # of the 300 that are left
    assert found["metrics"]["class_balance"]["value"] > 0.8
    assert found["metrics"]["recall"]["value"] > 0.8


def test_labels_bring_the_balance_of_classes(files):
    assert "class_balance" in run(files, "digits.npz", "more.npz", feature_name="raw")["metrics"]


def test_the_command_prints_markdown_csv_and_json(files, capsys):
    paths = (files / "many.npy", files / "generated.npy", "--metrics=fd,recall")
    code, out, err = main(capsys, *paths)
    assert code == 0
    assert "| FD ↓ " in out
    assert "5th percentile" in out
    assert "comparing 120 with 120 samples" in err
    assert "No floor was asked for." in main(capsys, *paths, "--floor_draws=0")[1]
    assert "No floor: of 120 real samples no 120 are left" in main(capsys, files / "real.npy", *paths[1:])[1]
    code, out, _ = main(capsys, *paths, "--format=csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["metric"] for row in rows] == ["fd", "recall"]
    code, text, _ = main(capsys, *paths, "--format=json")
    found = json.loads(text)
    assert found["metrics"]["fd"]["value"] == float(rows[0]["value"])
    assert found["metrics"]["fd"]["floor"]["p95"] == float(rows[0]["floor_p95"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["real.npy"], "name two sets"),
        (["real.npy", "nowhere"], "is not there"),
        (["real.npy", "wide.npy"], "7"),
        (["real.npy", "few.npy"], "at least 8 samples"),
        (["real.npy", "few.npy", "--metrics=recall"], "recall needs at least 6 samples"),
        (["real.npy", "digits.npz"], "holds images"),
        (["real.npy", "generated.npy", "--features=raw"], "leave it out"),
        (["real.npy", "generated.npy", "--metrics=fid"], "unknown metric 'fid'"),
        (["real.npy", "generated.npy", "--metrics=classes"], "no labels"),
        (["real.npy", "generated.npy", "--metrics=memorization"], "--training"),
        (["real.npy", "generated.npy", "--samples=121"], "more than there are"),
        (["real.npy", "generated.npy", "--format=html"], "format"),
        (["digits.npz", "large.npz", "--features=raw", "--metrics=fd"], "8x8x1 and 9x9x1"),
        (["digits.npz", "more.npz", "--features=resnet"], "unknown features 'resnet'"),
        (["digits.npz", "more.npz"], "6726825d"),
        (["large.npz", "more.npz", "--features=lenet"], "labels"),
    ],
)
def test_errors_of_use_are_one_line_and_exit_code_two(files, capsys, argv, words):
    paths = [a if a.startswith("--") else files / a for a in argv]
    code, out, err = main(capsys, *paths, f"--cache={files / 'cache'}")
    assert code == 2
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("madbench: ")
    assert words in last


def test_compare_refuses_what_it_cannot_compare():
    with pytest.raises(UserError, match="6 features a sample, and the generated set 5"):
        evaluate.compare(CLOUD[0][:, :5], CLOUD[1])
    with pytest.raises(UserError, match="precision needs at least 6 samples, and the generated set has 5"):
        evaluate.compare(CLOUD[0][:5], CLOUD[1], ["precision"])


def test_features_that_are_not_finite_have_no_values():
    broken = CLOUD[0].copy()
    broken[3, 1] = np.inf
    assert evaluate.compare(broken, CLOUD[1], ["fd", "recall"]) == {"fd": None, "recall": None}
