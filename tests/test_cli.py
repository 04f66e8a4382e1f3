"""The command line: what is accepted, and that each error of use is one line, exit code 2, and nothing written."""

import ast
import csv
import io
import json
import math
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from madbench import cli, commands, data, results
from madbench.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent
GAUSSIAN = """
from madbench.config import base

def get_config(task="toy"):
    config = base("gaussian", "gaussian")
    config.task = task
    config.data.dimension = 2
    config.data.n_reference = 40
    config.n_initial = 40
    config.generations = 2
    config.seeds = 2
    config.metrics.features = "raw"
    return config
"""
DIGITS = """
from madbench.config import base

def get_config():
    config = base("digits", "diffusion")
    config.n_initial = 600
    config.model.width = 16
    return config
"""


def main(*arguments):
    return cli.main(["madbench", *map(str, arguments)])


def planned(text):
    """A dry run's lines by their first word, and the resolved config behind them."""
    facts, _, config = text.partition("\n\n{")
    assert facts.startswith("grid  ")
    return dict(re.findall(r"^(\w+) {2,}(\S.*)$", facts, re.MULTILINE)), json.loads("{" + config)


@pytest.fixture
def files(tmp_path):
    """A directory with two configs."""
    (tmp_path / "gaussian.py").write_text(GAUSSIAN)
    (tmp_path / "digits.py").write_text(DIGITS)
    return tmp_path


@pytest.fixture
def refused(capsys, files):
    """Runs a command that must be refused; returns its one line."""

    def run(*arguments):
        before = {p: p.read_bytes() for p in files.rglob("*") if p.is_file()}
        code = main(*arguments)
        out, err = capsys.readouterr()
        assert code == 2
        assert out == ""
        assert re.fullmatch(r"madbench: [^\n]+\n", err)
        assert "Traceback" not in err
        assert not (files / "work").exists()
        assert {p: p.read_bytes() for p in files.rglob("*") if p.is_file()} == before
        return err

    return run


@pytest.fixture
def resolved(capsys, files):
    """The resolved config of a dry run."""

    def run(*arguments):
        assert main("run", "--dry_run", *arguments) == 0
        return planned(capsys.readouterr().out)[1]

    return run


# ------------------------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",), ("-h",), ("run", "--help"), ("table", "-h")])
def test_help_is_the_usage(capsys, arguments):
    assert main(*arguments) == 0
    out, err = capsys.readouterr()
    assert all(f"madbench {name} " in out for name in commands.COMMANDS)
    assert err == ""


@pytest.mark.parametrize("name", ["train", "", "RUN", "--config=x.py"])
def test_an_unknown_command(refused, name):
    assert "choose from run, table" in refused(name)


@pytest.mark.parametrize(("name", "near"), [("runn", "run"), ("tabel", "table"), ("Evaluate", "evaluate")])
def test_an_unknown_command_names_the_nearest(refused, name, near):
    line = refused(name)
    assert f"did you mean `madbench {near}`?" in line
    assert "see madbench --help" in line


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_help_of_a_command_explains_every_flag_with_its_default(capsys, name):
    assert main(name, "--help") == 0
    text = capsys.readouterr().out.partition(f"Flags of {name}, with their defaults:\n")[2]
    assert "\n  --" in f"\n{text}"
    assert max(map(len, text.splitlines())) <= 118
    if name == "run":
        text = " ".join(text.split())
        assert "--initialization_timeout=300 Seconds until all processes must have come" in text
        assert "--heartbeat_timeout=30 Seconds without a sign of life" in text


def test_a_command_in_a_message_has_a_line_of_its_own(monkeypatch, capsys):
    def refuse(argv):
        raise UserError("not prepared;\nonce:", "pip install  x && y")

    monkeypatch.setitem(commands.COMMANDS, "run", refuse)
    assert main("run") == 2
    assert capsys.readouterr().err == "madbench: not prepared; once:\n\n    pip install  x && y\n"
    assert str(UserError("once:", "x y")) == "once: x y"  # one line wherever it is quoted


def test_the_module_is_the_console_script(tmp_path, capsys):
    assert main("bogus") == 2
    expected = capsys.readouterr().err
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "madbench", "bogus"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.returncode, process.stdout, process.stderr) == (2, "", expected)
    assert '"madbench = madbench.cli:main"' in (ROOT / "setup.py").read_text()


def test_a_second_ctrl_c_ends_without_a_traceback(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setitem(commands.COMMANDS, "run", interrupted)
    assert main("run") == 130
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_one_line(refused, monkeypatch):
    def full(argv):
        raise OSError(28, "No space left on device", "rows")

    monkeypatch.setitem(commands.COMMANDS, "run", full)
    assert "No space left on device: 'rows'" in refused("run")


# -------------------------------------------------------------------------------------------------- files and flags


def test_config_and_workdir_are_needed(refused, files):
    assert "--config=FILE is missing" in refused("run", f"--workdir={files / 'work'}")
    assert "--config=FILE is missing" in refused("run", f"--workdir={files / 'work'}", "--config=")
    assert "--workdir=DIR is missing" in refused("run", f"--config={files / 'gaussian.py'}")
    assert "Missing value for flag --config" in refused("run", f"--workdir={files / 'work'}", "--config")


@pytest.mark.parametrize("name", ["absent.py", "."])
def test_a_config_that_is_no_file(refused, files, name):
    assert "is not there" in refused("run", f"--config={files / name}", f"--workdir={files / 'work'}")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def get_config(:\n", "SyntaxError"),
        ("def get_config():\n    return 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("import a_module_that_nobody_has\n", "ModuleNotFoundError"),
        ("def get_config():\n    raise ValueError('several\\nlines')\n", "ValueError: several lines"),
        ("def get_config():\n    raise OSError(5, 'input')\n", "OSError"),
        ("from madbench.config import base\ndef get_config():\n    c = base()\n    c.seeds.x = 1\n", "Error: "),
        ("from madbench.config import base\ndef get_config():\n    c = base()\n    c.n_initial = 'x'\n", "TypeError"),
        (
            "from madbench.config import base\ndef get_config():\n    return base('mnist')\n",
            "unknown dataset 'mnist'",
        ),
        ("x = 1\n", "needs a get_config()"),
        ("def get_config():\n    pass\n", "needs a get_config()"),
        ("def get_config():\n    return {'task': 'toy'}\n", "needs a get_config()"),
        ("def get_config(size):\n    pass\n", "missing 1 required positional argument: 'size'"),
    ],
)
def test_a_config_file_that_fails(refused, files, code, message):
    (files / "broken.py").write_text(code)
    assert message in refused("run", f"--config={files / 'broken.py'}", f"--workdir={files / 'work'}")


def test_a_field_that_a_config_lacks_or_invents(refused, files):
    for change, message in {
        "del config.n_grid": "config.n_grid is missing",
        "config.steps = 3": "config.steps is unknown",
        "config.model.stepz = 3": "stepz",
        "del config.fleet.memory_fraction": "config.fleet.memory_fraction is missing",
    }.items():
        (files / "changed.py").write_text(GAUSSIAN.replace("    return", f"    {change}\n    return"))
        assert message in refused("run", f"--config={files / 'changed.py'}", f"--workdir={files / 'work'}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.lops=fully_synthetic", "--config.lops: this config has no such field; did you mean --config.loops?"),
        (
            "--config.model.stepz=3",
            "--config.model.stepz: this config has no such field; config.model has ddof, family",
        ),
        ("--config.dimension=3", "did you mean --config.data.dimension?"),
        ("--config.model.ddoff=3", "did you mean --config.model.ddof?"),
        ("--config.fleet.zzz=3", "config.fleet has max_runs_per_device, memory_fraction, streaming"),
        ("--config.fleet.memory_fraction=half", "--config.fleet.memory_fraction=half is not a number"),
        ("--config.data.reuse_fresh=maybe", "--config.data.reuse_fresh=maybe is not true or false"),
        ("--config.model.ddof.x=3", "config"),
        ("--config.generations=three", "--config.generations=three is not a whole number"),
        ("--config.generations=2.5", "--config.generations=2.5 is not a whole number"),
        ("--config.generations=0", "config.generations must be a whole number of at least 1"),
        ("--config.n_initial=-3", "config.n_initial must be a whole number of at least 1"),
        ("--config.data.dimension=0", "config.data.dimension"),
        ("--config.data.n_reference=5", "config.data.n_reference must be at least 6 for precision, not 5"),
        ("--config.keep_checkpoints=0", "config.keep_checkpoints"),
        ("--config.fleet.memory_fraction=2", "config.fleet.memory_fraction"),
        ("--config.fleet.memory_fraction=nan", "config.fleet.memory_fraction"),
        ("--config.task=", "config.task must be a name"),
        ("--config.loops=circular", "unknown loop 'circular'"),
        ("--config.loops=", "loop"),
        ("--config.loops=()", "config.loops must be a list that is not empty"),
        ("--config.loops=fully_synthetic(", "config.loops: unbalanced parentheses"),
        ("--config.loops=fully_synthetic(5)", "cannot read loop"),
        ("--config.loops=fresh_data(fresh=5)", "unknown setting 'fresh'"),
        ("--config.loops=fully_synthetic,fully_synthetic", "'fully_synthetic' is repeated"),
        ("--config.loops=fixed_ratio(n_fixed=0)", "have no data at all"),
        ("--config.loops=replace(n_synthetic=0)", "have no data at all"),
        ("--config.loops=fully_synthetic(n_initial=0)", "generation 1 has no data"),
        ("--config.loops=replace(n_synthetic=1)", "trains on 1 sample(s), and gaussian needs at least 2"),
        ("--config.loops=fully_synthetic(bias=2)", "λ must lie in (0, 1], not 2"),
        ("--config.biases=0", "λ must lie in (0, 1], not 0"),
        ("--config.biases=1.5", "λ must lie in (0, 1], not 1.5"),
        ("--config.biases=-1", "λ must lie in (0, 1], not -1"),
        ("--config.biases=nan", "λ must lie in (0, 1], not 'nan'"),
        ("--config.biases=1e-400", "λ must lie in (0, 1], not 0.0"),
        ("--config.biases=True", "λ must lie in (0, 1], not True"),
        ("--config.biases=1,1.0", "λ 1.0 is repeated"),
        ("--config.seeds=0", "config.seeds must be at least 1"),
        ("--config.seeds=-1", "config.seeds must be at least 1"),
        ("--config.seeds=1.5", "config.seeds"),
        ("--config.seeds=one", "config.seeds"),
        ("--config.seeds=()", "config.seeds"),
        ("--config.seeds=(1,1)", "seed 1 is repeated"),
        ("--config.seeds=(0,-1)", "a seed is a whole number from 0"),
        ("--config.seeds=(4294967296,)", "a seed is a whole number from 0"),
        ("--config.model.family=oracle", "unknown model family 'oracle'"),
        ("--config.data.source=mnist", "unknown dataset 'mnist'"),
        ("--config.metrics.names=fid", "unknown metric 'fid'"),
        ("--config.metrics.names=('fd','fd')", "metric 'fd' is named twice"),
        ("--config.metrics.names=()", "config.metrics.names"),
        ("--config.metrics.features=vgg", "unknown features 'vgg'"),
        ("--config.metrics.features=lenet", "features 'lenet'"),
        ("--wrokdir=x", "unknown flag --wrokdir; did you mean --workdir?"),
        ("--qqqq", "unknown flag --qqqq; see madbench --help"),
        ("stray", "unexpected argument 'stray'"),
    ],
)
def test_a_value_that_cannot_be(refused, files, override, message):
    line = refused("run", f"--config={files / 'gaussian.py'}", f"--workdir={files / 'work'}", override)
    assert message in line


def test_nan_from_a_config_file(refused, files):
    (files / "nan.py").write_text(GAUSSIAN.replace("    return", "    config.biases = (float('nan'),)\n    return"))
    line = refused("run", f"--config={files / 'nan.py'}", f"--workdir={files / 'work'}")
    assert "λ must lie in (0, 1], not nan" in line


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.loops=fresh_data(n_fresh=200)", "needs 1400 real samples (600 initial, then 200 fresh in each of 4"),
        ("--config.n_initial=1300", "has 1200"),
        ("--config.model.batch_size=601", "fewer than config.model.batch_size=601"),
        ("--config.loops=replace(n_synthetic=50)", "generation 2 trains on 50 samples, fewer than"),
        ("--config.data.n_reference=1797", "config.data.n_reference=1797 must leave training data"),
        ("--config.data.n_reference=1000", "leaves 797 of the 1797 samples to train on"),
        ("--config.model.learning_rate=0", "config.model.learning_rate must be above 0"),
        ("--config.model.network=unet", "unknown network 'unet'"),
        ("--config.model.width=0", "config.model.width"),
    ],
)
def test_what_a_finite_set_and_a_network_cannot_do(refused, files, override, message):
    assert message in refused("run", f"--config={files / 'digits.py'}", f"--workdir={files / 'work'}", override)


@pytest.mark.parametrize("path", ["taken", "taken/below"])
def test_a_workdir_that_cannot_be_made(refused, files, path):
    (files / "taken").write_text("")
    line = refused("run", f"--config={files / 'gaussian.py'}", f"--workdir={files / path}")
    assert "choose another --workdir" in line


def test_a_workdir_is_looked_at_before_anything_slow(refused, files, monkeypatch):
    def never(*_, **__):
        raise AssertionError("too late")

    monkeypatch.setattr("madbench.grid.prepare", never)
    (files / "taken").write_text("")
    line = refused("run", f"--config={files / 'gaussian.py'}", f"--workdir={files / 'taken'}")
    assert f"{files / 'taken'} is a file and no directory" in line


@pytest.mark.parametrize(
    ("on", "message"),
    [
        ("1x8 H10", "--on='1x8 H10': nothing is known of devices of the kind 'H10'; the kinds are A100, H100"),
        ("1x8", "--on='1x8' lacks the kind of the devices, as in '1x8 H100'; the kinds are A100"),
        ("8 H100", "--on='8 H100' is not HOSTSxDEVICES and a kind, as in '4x8 H100'"),
        ("0x8 H100", "is not HOSTSxDEVICES and a kind"),
    ],
)
def test_devices_to_plan_for_are_read_before_the_data(refused, files, monkeypatch, on, message):
    def never(*_, **__):
        raise AssertionError("too late")

    monkeypatch.setattr("madbench.data.load", never)
    assert message in refused("run", f"--config={files / 'gaussian.py'}", "--dry_run", f"--on={on}")


def test_a_config_of_the_other_command(refused, files):
    path = ROOT / "configs" / "phase.py"
    line = refused("run", f"--config={path}", f"--workdir={files / 'work'}")
    assert f"{path} is a config of the other command: madbench phase --config={path}" in line
    path = files / "gaussian.py"
    line = refused("phase", f"--config={path}:toy", f"--workdir={files / 'work'}")
    assert f"a config of the other command: madbench run --config={path}:toy" in line


def test_a_workdir_with_other_files(refused, files):
    assert "holds other files" in refused("run", f"--config={files / 'gaussian.py'}", f"--workdir={files}")


# ------------------------------------------------------------------------------------------------- what is accepted


def test_overrides_read_as_documented(resolved, files):
    path = files / "gaussian.py"
    assert resolved(f"--config={path}") == resolved("--config", path)
    assert resolved(f"--config={path}", "--config.seeds=2")["seeds"] == [0, 1]
    assert resolved(f"--config={path}", "--config.seeds=(0,5)")["seeds"] == [0, 5]
    assert resolved(f"--config={path}", "--config.generations", "7")["generations"] == 7
    assert resolved(f"--config={path}", "--config.biases=0.8")["biases"] == [0.8]
    assert resolved(f"--config={path}", "--config.biases=(1,0.5)")["biases"] == [1.0, 0.5]
    loops = "--config.loops=fully_synthetic,fresh_data(n_fresh=10, n_synthetic=20)"
    assert resolved(f"--config={path}", loops)["loops"] == ["fully_synthetic", "fresh_data(n_fresh=10,n_synthetic=20)"]
    assert resolved("--config.model.ddof=0", f"--config={path}")["model"] == {"family": "gaussian", "ddof": 0}


def test_another_family_or_source_brings_its_own_settings(resolved, files):
    config = f"--config={files / 'gaussian.py'}"
    found = resolved(config, "--config.model.family", "diffusion", "--config.model.width=24", "--config.n_initial=150")
    assert found["model"]["family"] == "diffusion"
    assert found["model"]["width"] == 24
    assert "ddof" not in found["model"]
    found = resolved(config, "--config.data.source=digits", "--config.data.n_reference=50")
    assert found["data"] == {"source": "digits", "n_reference": 50, "split_seed": 0, "reuse_fresh": False}
    assert resolved(config, "--config.model.family=gaussian", "--config.model.ddof=0")["model"]["ddof"] == 0


def test_a_bug_is_no_error_of_use(monkeypatch):
    """An exception that nobody foresaw keeps its traceback, even where it is a ValueError."""

    def broken(argv):
        raise ValueError("shapes do not match")

    monkeypatch.setitem(commands.COMMANDS, "table", broken)
    with pytest.raises(ValueError, match="shapes do not match"):
        main("table")


def test_a_config_takes_an_argument_after_a_colon(resolved, files):
    path = files / "gaussian.py"
    assert resolved(f"--config={path}")["task"] == "toy"
    assert resolved(f"--config={path}:renamed")["task"] == "renamed"
    assert resolved(f"--config={path}:renamed", "--config.task=again")["task"] == "again"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), ""),
        (("--config.fleet.max_runs_per_device=4", "--config.keep_checkpoints=3", "--config.generations=15"), ""),
        (("--config.seeds=2",), "config.seeds is 2 values, and the task's is 10 values"),
        (("--config.generations=3",), "config.generations is 3, and the task's is 15"),
        (("--config.task=mine",), "config.task is 'mine', and the task's is 'gaussian'"),
        (("--config.keep_samples=False",), "config.keep_samples is False, and a submission has samples"),
    ],
)
def test_a_task_that_was_changed_cannot_be_submitted_and_says_so_at_once(capsys, arguments, why):
    assert main("run", "--task=gaussian", "--dry_run", *arguments) == 0
    error = capsys.readouterr().err
    assert error == (f"warning: {why}: this run cannot be submitted to the leaderboard\n" if why else "")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.name)
def test_every_config_opens_with_command_time_and_result(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert re.search(rf"madbench (run|phase) --config=configs/{path.name}", text)
    assert re.search(r"^Expected time.*: .*\d", text, re.MULTILINE)
    assert re.search(r"^Expected result.*: .*\d", text, re.MULTILINE)


CONFIGS = [p.name for p in sorted((ROOT / "configs").glob("*.py")) if p.name != "phase.py"]  # of another command
ARGUMENTS = ["digits.py:gan", "gaussian.py:memory", "warped_digits.py:tiny", "faces.py:ffhq", "mnist.py:gan"]
LARGE = (
    "mnist.py",
    "mnist.py:gan",
    "cifar10.py",
    "faces.py",
    "faces.py:ffhq",
)  # for a cluster, and for data that are not here


@pytest.mark.parametrize("name", CONFIGS + ARGUMENTS)
def test_a_dry_run_of_every_config(capsys, tmp_path, monkeypatch, name):
    def never(*args, **kwargs):
        raise AssertionError("a dry run trains nothing")

    monkeypatch.setattr("madbench.fleet.Program.compile", never)
    monkeypatch.setattr("madbench.metrics.features.build", never)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("madbench.fleet.matmul_rate", lambda *_, **__: 1e12)
    on = ["--on=4x8 H100"] if name in LARGE else []
    assert main("run", f"--config={ROOT}/configs/{name}", "--workdir=work", "--dry_run", "--cache=cache", *on) == 0
    assert list(tmp_path.iterdir()) == []
    facts, config = planned(text := capsys.readouterr().out)
    assert "changes nothing" not in text
    assert facts.keys() >= {"grid", "plan", "model", "data", "shapes", "FLOPs", "memory", "disk"}
    assert re.match(r"at most \S+ [KMG]?i?B of checkpoints", facts["disk"])
    if on:
        assert re.match(
            r"(about \d+[hms].*|under a minute) besides compilation, on \d+ devices \(4 hosts x 8 H100, 25%",
            facts["time"],
        )
    elif "steps of" in facts["model"]:
        assert re.match(
            r"(about \d+[ms] ?.*|under a minute) besides compilation \(.* of the (250|500|750|1000) GFLOP/s",
            facts["time"],
        )
    grid = re.fullmatch(r"(\d+) runs? x (\d+) generations, seeds? (0|0, 1|0, 1, 2|0, 1, …, \d+|[\d, ]+)", facts["grid"])
    runs, generations = map(int, grid.groups()[:2])
    own_bias = sum("bias=" in loop for loop in config["loops"])
    cells = own_bias + (len(config["loops"]) - own_bias) * len(config["biases"])
    assert (runs, generations) == (cells * len(config["seeds"]), config["generations"])
    eaten = re.findall(r"^ {14}(.*), λ = ([\d., ]+): (\S.*)$", text, re.MULTILINE)
    assert [name for name, _, _ in eaten] == config["loops"]
    assert sum(len(biases.split(", ")) for _, biases, _ in eaten) == cells
    assert not any(re.search(r"\b0 (real|synthetic)", what) for _, _, what in eaten)
    assert facts["plan"].startswith(f"{runs} runs: pmap over ")
    each = re.fullmatch(r"(\S+) fit \+ (\S+) sampling per run and generation, (\S+) in all", facts["FLOPs"])
    fit, sample, total = map(float, each.groups())
    assert total == pytest.approx((fit + sample) * runs * generations, rel=0.02)
    assert math.isfinite(total)
    assert re.search(r"[1-9]\S* [KMG]?i?B per run", facts["memory"])


def test_a_dry_run_names_all_that_a_run_would_lack(capsys, tmp_path, monkeypatch):
    """A job that exceeds the memory is described all the same, and refused in the last line; weights are noted."""
    monkeypatch.setattr("madbench.fleet.matmul_rate", lambda *_, **__: 1e12)
    flags = [f"--config={ROOT}/configs/faces.py:ffhq,256", f"--cache={tmp_path}", "--on=1x8 H100"]
    assert main("run", "--dry_run", *flags) == 0
    text = capsys.readouterr().out
    assert re.search(r"^note +a run would be refused: features 'inception' need weights that are not", text, re.M)
    assert re.search(rf"^cache +12.8 GiB of decoded images in {tmp_path}/data, which the first run", text, re.M)
    assert main("run", "--dry_run", *flags, "--config.fleet.memory_fraction=0.01", "--config.data.path=") == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(r"(note: [^\n]*\n)?madbench: one run needs about .* GiB and a device has 819 MiB [^\n]*\n", err)
    facts, config = planned(out)
    assert facts["plan"].startswith("2 runs: pmap over 8 devices")
    assert facts.keys() >= {"memory", "time", "disk", "model", "data", "shapes", "FLOPs"}
    assert config["fleet"]["memory_fraction"] == 0.01


def test_a_dry_run_knows_whether_images_are_prepared(capsys, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "c.py").write_text(GAUSSIAN.replace("    config.data.d", "    pass  # ").replace(
        'base("gaussian"', f'base("folder:{tmp_path}/photos"').replace("n_reference = 40", "n_reference = 3"
    ).replace("n_initial = 40", 'n_initial = 6; config.metrics.names = ("fd",)'))  # fmt: skip
    cache = tmp_path / "cache"
    flags = [f"--config={tmp_path}/c.py", f"--cache={cache}", "--dry_run"]
    assert main("run", *flags) == 0
    assert (
        f"cache       576 B of decoded images in {cache}/data, which the first run prepares" in capsys.readouterr().out
    )
    data.load(f"folder:{tmp_path}/photos", cache=str(cache), n_reference=3)
    assert main("run", *flags) == 0
    assert f"cache       576 B of decoded images in {cache}/data, there already" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------- a workdir and tables


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    (path / "gaussian.py").write_text(GAUSSIAN)
    assert main("run", f"--config={path / 'gaussian.py'}", f"--workdir={path / 'work'}", "--config.biases=1,0.5") == 0
    return path / "work"


def table(capsys, *arguments):
    capsys.readouterr()
    assert main("table", *arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_run_ends_with_the_table(workdir, capsys):
    config = workdir.parent / "gaussian.py"
    capsys.readouterr()
    assert main("run", f"--config={config}", f"--workdir={workdir}", "--config.biases=1,0.5") == 0
    assert capsys.readouterr().out == table(capsys, workdir)


def test_tables_in_every_format(workdir, capsys):
    markdown = table(capsys, workdir)
    assert markdown == table(capsys, workdir, "--format=md")
    assert markdown.startswith("**toy**\n")
    rows = list(csv.DictReader(io.StringIO(table(capsys, workdir, "--format=csv"))))
    assert {row["loop"] for row in rows} == {"fully_synthetic"}
    document = json.loads(table(capsys, "--format", "json", workdir))
    assert document["schema"] == results.SCHEMA
    assert r"\begin{tabular}" in table(capsys, workdir, "--format=latex")
    for style in ("md", "csv", "json", "latex"):
        text = table(capsys, workdir, f"--format={style}")
        assert text.endswith("\n")
        assert not text.endswith("\n\n")


def test_a_table_is_written_into_its_workdir_again(workdir, capsys):
    path = workdir / "table.md"
    path.write_text("old")
    assert table(capsys, workdir, "--format=csv") == (workdir / "table.csv").read_text()
    assert path.read_text() == table(capsys, workdir)


def test_several_workdirs_make_one_table(workdir, capsys):
    one, two = (table(capsys, *[workdir] * n, "--format=csv").count("\n") for n in (1, 2))
    assert two - 1 == 2 * (one - 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name one or more workdirs"),
        (("{absent}",), "is not a workdir of madbench"),
        (("{files}",), "is not a workdir of madbench"),
        (("{work}", "--format=xls"), "--format=xls"),
        (("{work}", "--formt=csv"), "unknown flag --formt; did you mean --format?"),
        (("{work}", "{absent}"), "is not a workdir of madbench"),
    ],
)
def test_tables_that_cannot_be(refused, files, workdir, arguments, message):
    places = {"absent": files / "absent", "files": files, "work": workdir}
    assert message in refused("table", *[a.format(**places) for a in arguments])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "config.json cannot be read"),
        ("reference.json", "{", "reference.json cannot be read"),
        ("reference.json", "{}", "was written by an earlier development version of madbench; run it again"),
        ("reference.json", '{"metrics": {}}', "reference.json does not say what the metric 'fd' is"),
        ("reference.json", '{"metrics": {"fd": {"version": 1, "label": 7}}}', "metric 'fd': label is 7"),
        ("reference.json", None, "reference.json is missing"),
        ("metrics.jsonl", "", "has no results yet"),
        ("metrics.jsonl", None, "has no results yet"),
        ("metrics.jsonl", "{]\n", "metrics.jsonl, line 1"),
        ("metrics.jsonl", '{"schema": 99}\n', "another schema"),
        ("metrics.jsonl", '{"schema": 1}\n', "metrics.jsonl, line 1: benchmark is None"),
        ("metrics.jsonl", '{"schema": 1, "fd": NaN}\n', "metrics.jsonl, line 1: NaN is no number"),
        ("config.json", "{}", "config.json holds no config"),
        ("config.json", "[]", "config.json cannot be read: it is not an object"),
    ],
)
def test_a_workdir_that_is_damaged(refused, files, workdir, name, content, message):
    copy = files / "copy"
    copy.mkdir()
    for file in ("config.json", "reference.json", "environment.json", "metrics.jsonl"):
        (copy / file).write_bytes((workdir / file).read_bytes())
    (copy / name).unlink() if content is None else (copy / name).write_text(content)
    assert message in refused("table", copy)


def test_the_workdir_of_another_config(workdir, capsys):
    config = workdir.parent / "gaussian.py"
    names = [p for p in workdir.rglob("*") if p.is_file()]
    before = {p: p.read_bytes() for p in names if p.name != ".lock"}
    assert main("run", f"--config={config}", f"--workdir={workdir}", "--config.biases=1") == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"madbench: .* config\.biases is \[1\.0, 0\.5\] there and \[1\.0\] here; [^\n]*\n", err)
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file() and p.name != ".lock"} == before
