"""The strategies of docs/strategies.md do what the page says, as they stand there; also installed under a name."""

import json
import pathlib
import re
import shlex
import sys
import tomllib

import jax
import numpy as np
import pytest

import madbench
from madbench import cli, experiment, grid, results, strategies
from madbench.config import base
from madbench.models.family import Given
from madbench.results import ACCOUNT
from madbench.strategies import HOOKS, Strategy, has

ROOT = pathlib.Path(madbench.__file__).resolve().parents[1]
TEXT = (ROOT / "docs/strategies.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", TEXT, re.S)
GIVEN = Given((2,), 4)

pytestmark = pytest.mark.usefixtures("compiled")  # jobs of one model share most of their programs


@pytest.fixture(autouse=True)
def my_module(tmp_path, monkeypatch):
    """The page's code, in one file of a folder on the path."""
    (tmp_path / "my_module.py").write_text("\n\n".join(CODE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "my_module", None)
    del sys.modules["my_module"]
    yield
    sys.modules.pop("my_module", None)


def config(strategy, family="gaussian"):
    found = base("gaussian", family)
    found.strategy, found.metrics.features, found.n_grid, found.generations, found.seeds = strategy, "raw", 0, 3, 4
    found.loops, found.metrics.names = ("synthetic_augmentation",), ("fd",)
    found.data.dimension, found.data.n_reference, found.n_initial = 2, 60, 60
    return found


def rows_of(found, tmp_path):
    """Of a whole job, without its tables."""
    runs = [("synthetic_augmentation", 1.0, seed) for seed in range(4)]
    experiment.run(found, str(tmp_path / "work"), only=runs)
    rows = list(results.read_rows(tmp_path / "work" / "metrics.jsonl"))
    assert {row["status"] for row in rows} == {"ok"}
    assert len(rows) == 12
    return rows


def test_the_page_has_each_kind_of_hook_and_says_all_that_there_is():
    shown = {
        name: strategies.build(f"my_module:{name}", GIVEN) for name in re.findall(r"class (\w+)\(Strategy\)", TEXT)
    }
    assert {hook for each in shown.values() for hook in HOOKS if has(each, hook)} == set(HOOKS)
    table = dict(re.findall(r"^\| `(\w+)\((.*?)\)` \|", TEXT, re.M))
    for hook in HOOKS:
        code = getattr(Strategy, hook).__code__
        assert table[hook].split(", ") == list(code.co_varnames[1 : code.co_argcount])
    declared = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", TEXT, re.M))
    for name in ("candidates", "reads_real", "needs_labels", "extra_fit", "extra_rate", "cite"):
        assert float(getattr(Strategy, name) or 0) == float(
            {"`False`": 0, '`""`': 0}.get(declared[name], declared[name])
        )
    assert all(f"`{name}`" in TEXT for name in (*ACCOUNT, *strategies.STRATEGIES))
    assert strategies.ENTRY_POINTS in TEXT


def test_the_command_runs_as_it_stands(tmp_path, capsys):
    """In the shell's reading of it, on a smaller grid."""
    (line,) = re.findall(r"^    PYTHONPATH=\. (.*)$", TEXT, re.M)
    program, *arguments = shlex.split(line)
    assert program == ".venv/bin/madbench"
    assert "--config.strategy=my_module:MyStrategy(alpha=2)" in arguments
    arguments = [a.replace("configs/", f"{ROOT}/configs/").replace("runs/", f"{tmp_path}/runs/") for a in arguments]
    small = "--config.data.dimension=2 --config.n_initial=60 --config.data.n_reference=60 --config.seeds=1"
    more = ["--config.generations=2", "--config.loops=fully_synthetic", "--config.biases=(1.0,)"]
    assert cli.main(["madbench", *arguments, *small.split(), *more]) == 0
    table = capsys.readouterr().out
    assert "my_module:MyStrategy(alpha=2)" in table
    assert "the paper, or its arXiv number" in table
    rows = list(results.read_rows(tmp_path / "runs" / "mine" / "metrics.jsonl"))
    assert [row["n_real_seen"] for row in rows] == [60, 60]  # it reads them, whatever the loop trains on
    assert {row["extra_parameters"] for row in rows} == {3}  # a mean on the plane, and a spread
    told = json.loads((tmp_path / "runs" / "mine" / "reference.json").read_text())["strategy"]
    assert told["settings"] == {"alpha": 2, "candidates": 4}
    assert told["consumes"] == ["the real samples of generation 1", "4 candidates for each sample of the pool"]


def test_installed_under_a_name(tmp_path, monkeypatch):
    """By a package's metadata, as an installer writes it from the page's pyproject.toml."""
    project = tomllib.loads(re.search(r"```toml\n(.*?)```", TEXT, re.S)[1])["project"]
    points = project["entry-points"][strategies.ENTRY_POINTS]
    folder = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"[{strategies.ENTRY_POINTS}]", *(f"{name} = {value}" for name, value in points.items())]
    (folder / "entry_points.txt").write_text(
        "\n".join([*lines, "sims = my_module:Within", "odd = my_module:Within [x]"])
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = strategies.build("typical(alpha=2)", GIVEN)
    assert (type(found).__name__, found.alpha) == ("MyStrategy", 2)
    assert type(strategies.build("odd", GIVEN)).__name__ == "Within"
    assert type(strategies.build("sims", GIVEN)).__module__ == "madbench.strategies.sims"  # the suite's own come first
    with pytest.raises(ValueError, match=r"unknown strategy 'typicl'; did you mean typical\?"):
        strategies.build("typicl", GIVEN)
    rows = rows_of(config("typical(alpha=2)"), tmp_path)
    assert {row["strategy"] for row in rows} == {"typical(alpha=2)"}


def test_weights_of_the_pool(tmp_path):
    """What lies far out counts nothing: less variance than without."""
    value = lambda name: results_by_generation(config(name), tmp_path / name[:4])
    assert value("my_module:Within(radius=1)")[-1] < 0.8 * value("none")[-1]


def results_by_generation(found, tmp_path):
    found.metrics.names = ("variance",)
    rows = rows_of(found, tmp_path)
    return [np.mean([row["variance"] for row in rows if row["generation"] == t]) for t in (1, 2, 3)]


def test_weights_of_real_samples_and_extrapolated_ones(tmp_path):
    for name in ("RealCounts", "Away"):
        rows = rows_of(config(f"my_module:{name}"), tmp_path / name)
        copied = [row["pool_memorization"] for row in rows]  # measured where the model is another than the fitted one
        assert copied == [None] * len(rows) if name == "RealCounts" else all(0 <= share <= 1 for share in copied)
        assert {row["extra_parameters"] for row in rows} == {0}


def test_a_guided_sampler_pays_for_what_it_costs(tmp_path):
    found = config("my_module:AwayWhenClear", "diffusion")
    found.model.update(width=8, depth=1, steps=400, batch_size=32, sampler_steps=4)
    found.metrics.names = ("fd",)
    rows = rows_of(found, tmp_path)
    timing = json.loads((tmp_path / "work" / "timing.jsonl").read_text().splitlines()[0])
    assert 200 < timing["steps"] < 400
    assert timing["steps"] % 10 == 0
    (held,) = {row["extra_parameters"] for row in rows}
    found.strategy = "none"
    job = grid.prepare(found)
    shapes = jax.eval_shape(job.family.init, jax.random.key(0)).params
    assert held == sum(leaf.size for leaf in jax.tree.leaves(shapes))  # a second model, which guides
    free = job.accounts["synthetic_augmentation"]
    assert np.mean([row["flops"] for row in rows]) <= np.mean([free.flops(t) for t in (1, 2, 3)])
