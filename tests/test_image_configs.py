"""The ready configs of image sets: their words, the paper's settings, and a dry run before the data are there."""

import itertools
import json
import pathlib
import runpy

import numpy as np
import pytest
from PIL import Image

from madbench import cli, config, data, loops
from madbench.errors import UserError

ROOT = pathlib.Path(__file__).parents[1] / "configs"
WORDS = {
    "mnist.py": (
        ("", "fully_synthetic", "augmentation", "fresh"),
        ("", "diffusion", "wgan", "gan", "vae"),
        ("", "mnist", "fashion"),
        ("", "16", "28", "32"),
        ("", "tiny"),
    ),
    "cifar10.py": (
        ("", "fully_synthetic", "augmentation", "accumulate", "fresh"),
        ("", "diffusion", "gan"),
        ("", "16", "32", "64"),
        ("", "tiny"),
    ),
    "faces.py": (
        ("", "ffhq", "celeba"),
        ("", "fully_synthetic", "accumulate", "augmentation", "fresh"),
        ("", "gan", "diffusion"),
        ("", "16", "32", "64", "128", "256"),
        ("", "tiny"),
    ),
}


def get(file, words=""):
    return runpy.run_path(str(ROOT / file))["get_config"](words)


@pytest.mark.parametrize("file", WORDS)
def test_every_combination_of_words_is_a_config_that_its_data_suffice_for(file):
    get_config = runpy.run_path(str(ROOT / file))["get_config"]
    tasks = set()
    for words in itertools.product(*WORDS[file]):
        if "" in words and words.count("") < len(words) - 1:
            continue  # all, one, or none are given
        plain = config.resolve(get_config(",".join(filter(None, words))))
        tasks.add(plain["task"])
        pool = (plain["data"]["count"] or 192) - plain["data"]["n_reference"]
        assert 2 * plain["data"]["n_reference"] <= pool
        for text in plain["loops"]:
            loop = loops.parse(text, plain["n_initial"])
            assert loop.real_needed(plain["generations"]) <= pool
            assert loop.size(1) >= plain["model"]["batch_size"]
        if side := plain["data"]["resolution"]:
            assert side % plain["model"].get("patch", 1) == 0
    assert len(tasks) > 4


def test_words_come_in_any_order_and_others_are_refused_with_the_choices():
    one, other = get("mnist.py", "fresh, wgan"), get("mnist.py", "wgan,fresh")
    assert one.to_dict() == other.to_dict()
    for words, message in (("frsh", "unknown argument 'frsh'"), ("wgan,gan", "'wgan' and 'gan' exclude each other")):
        with pytest.raises(UserError, match=message) as caught:
            get("mnist.py", words)
        assert "diffusion | wgan | gan | vae; mnist | fashion" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert config.choose("b", kind=("a", "b"), size=("s",)) == {"kind": "b", "size": "s"}
    assert config.choose("b,b,", kind=("a", "b")) == {"kind": "b"}
    sizes = {"size": ("full", "tiny"), "side": ("128", "16", "64")}
    chosen = [
        config.choose(words, implied={"tiny": {"side": "16"}}, **sizes)["side"] for words in ("", "tiny", "64,tiny")
    ]
    assert chosen == ["128", "16", "64"]


@pytest.mark.parametrize("file", WORDS)
def test_every_word_counts_whatever_the_others_are(file):
    """Two lists of words that differ are two configs, by name and by what is run: none is dropped without a word."""
    get_config = runpy.run_path(str(ROOT / file))["get_config"]
    found = {}
    sides = next(words for words in WORDS[file] if "16" in words)[1:]
    for side, size, family in itertools.product(sides, ("full", "tiny"), ("diffusion", "gan")):
        plain = config.resolve(get_config(",".join((side, size, family))))
        assert plain["data"]["resolution"] in (int(side), 0)  # 0: as the images of the set are
        found[plain.pop("task")] = json.dumps(plain)
    assert len(found) == len(set(found.values())) == 4 * len(sides)


@pytest.mark.parametrize("name", ["digits.py:vae", "warped_digits.py:tny", "gaussian.py:memmory", "quickstart.py:tiny"])
def test_words_that_a_config_does_not_know_are_refused(name, capsys):
    assert cli.main(["madbench", "run", "--dry_run", f"--config={ROOT / name}"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert repr(name.partition(":")[2]) in line
    assert "separated by commas: " in line or "takes no words" in line


def test_mnist_has_the_papers_settings():
    diffusion = get("mnist.py")
    assert diffusion.data.source == "tfds:mnist"
    assert (diffusion.model.parameterization, diffusion.model.timesteps, diffusion.n_initial) == ("ddpm", 500, 60_000)
    assert diffusion.biases == (1.0, 0.8, 0.66, 0.5)
    assert diffusion.loops == ("fully_synthetic",)
    augmented = loops.parse(get("mnist.py", "augmentation").loops[0], 60_000)
    assert augmented.union(2) == augmented.union(9) == (60_000, 60_000)
    fresh = get("mnist.py", "fresh")
    assert [loops.parse(text, 1).union(1)[0] for text in fresh.loops] == [2000, 3000]
    assert {loops.parse(text, 1).union(2) for text in fresh.loops} == {(2000, 2000)}
    assert (fresh.biases, fresh.generations) == ((1.0,), 15)
    critic = get("mnist.py", "wgan")
    assert (critic.model.family, critic.model.objective, critic.generations) == ("gan", "wgan_gp", 100)
    assert get("mnist.py", "fashion").data.source == "tfds:fashion_mnist"


def test_faces_have_the_papers_settings():
    faces = get("faces.py", "ffhq")
    assert (faces.data.resolution, faces.data.count, faces.data.channels, faces.generations) == (128, 70_000, 3, 9)
    assert faces.biases == (1.0, 0.7)
    grows = get("faces.py", "ffhq,accumulate")
    assert grows.biases == (1.0,)
    assert [loops.parse(grows.loops[0], 60_000).union(t) for t in (1, 2, 9)] == [
        (60_000, 0),
        (60_000, 60_000),
        (60_000, 480_000),
    ]
    assert get("faces.py", "celeba").data.source == "tfds:celeb_a"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """As many images as the tiny configs ask for, of two sizes, in two classes."""
    place = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(192):
        folder = place / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + i % 2, 24, 3), np.uint8)).save(folder / f"{i}.png")
    return place


@pytest.mark.parametrize("name", ["mnist.py:tiny,vae", "cifar10.py:tiny,fresh"])
def test_tiny_ones_are_planned_on_a_folder(photos, tmp_path, name, capsys):
    """What `--config.data.source` replaces keeps the config's form, so that it needs no other flag."""
    flags = [f"--config={ROOT / name}", f"--config.data.source=folder:{photos}", f"--cache={tmp_path / 'cache'}"]
    assert cli.main(["madbench", "run", "--dry_run", *flags]) == 0
    text = capsys.readouterr().out
    plain = json.loads("{" + text.partition("\n\n{")[2])
    assert plain["data"]["source"] == f"folder:{photos}"
    assert (plain["data"]["resolution"], plain["data"]["n_reference"]) == (16, 64)
    assert "samples of shape (16, 16, 3), 2 classes, 128 to train on, 64 for the metrics" in text
    assert not list(tmp_path.iterdir())  # a dry run prepares nothing
    settings = {key: value for key, value in plain["data"].items() if key != "reuse_fresh"}
    source = data.load(**settings, cache=str(tmp_path / "cache"), say=lambda text: None)
    assert (source.available, source.num_classes) == (128, 2)


def test_a_dry_run_needs_no_data_and_a_run_says_what_is_missing(tmp_path, capsys):
    flags = [f"--config={ROOT / 'faces.py'}:ffhq,32,diffusion", f"--cache={tmp_path / 'cache'}"]
    flags += ["--config.model.depth=1", "--config.model.width=32", "--config.n_initial=500"]
    flags += ["--config.data.n_reference=100"]  # what is planned elsewhere
    assert cli.main(["madbench", "run", "--dry_run", *flags]) == 0
    out, err = capsys.readouterr()
    assert "planned for the 70,000 images of config.data.count" in err
    assert "samples of shape (32, 32, 3), no classes, 69900 to train on, 100 for the metrics" in out
    assert cli.main(["madbench", "run", *flags, f"--workdir={tmp_path / 'work'}"]) == 2
    assert "config.data.source=folder:PATH needs the path of a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_set_of_another_size_than_known_is_noted(photos, tmp_path, capsys):
    flags = [
        f"--config={ROOT / 'cifar10.py'}:tiny,16",
        f"--config.data.source=folder:{photos}",
        "--config.data.count=200",
    ]
    assert cli.main(["madbench", "run", "--dry_run", *flags, f"--cache={tmp_path}"]) == 0
    assert f"note: {photos} has 192 images, and config.data.count=200" in capsys.readouterr().err


def test_between_sources_of_other_kinds_nothing_is_carried():
    mixture, digits, mnist, folder = (config.base(source).data.to_dict() for source in KINDS)
    mixture["n_reference"] = mnist["n_reference"] = mnist["resolution"] = mnist["count"] = mnist["split_seed"] = 7
    assert data.carried(mixture, digits) == data.carried(mnist, digits) == data.carried(mixture, folder) == {}
    kept = data.carried(mnist, folder)
    assert {name: kept[name] for name in ("n_reference", "resolution", "split_seed")} == dict.fromkeys(
        ("n_reference", "resolution", "split_seed"), 7
    )
    assert not {"source", "path", "count", "data_dir"} & kept.keys()
    assert data.carried(folder | {"count": 7}, folder | {"source": "folder:b"})["count"] == 7


KINDS = ("mixture", "digits", "tfds:mnist", "folder")
