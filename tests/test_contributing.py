"""CONTRIBUTING's example of a model family does what it says, by one file and one line."""

import importlib.util
import pathlib
import re
import sys

import numpy as np
import pytest

import madbench
from madbench import experiment, models, results
from madbench.config import base

TEXT = (pathlib.Path(madbench.__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """The example installed as it says: its file's module, and its line in the registry."""
    code, line = (
        re.search(r"`madbench/models/(bootstrap\.py)`.*?```python\n(.*?)```.*?```python\n(.*?)```", TEXT, re.S)[2],
        re.search(r'^("bootstrap": .*),$', TEXT, re.M)[1],
    )
    assert len(code.splitlines()) < 40
    (tmp_path / "bootstrap.py").write_text(code)
    spec = importlib.util.spec_from_file_location("madbench.models.bootstrap", tmp_path / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    name, path = re.findall(r'"([\w.]+)"', line)
    monkeypatch.setitem(models.FAMILIES, name, path)
    return name


def test_the_example_runs_through_its_loops(bootstrap, tmp_path):
    """Resampling loses points for good: FD grows with the generations, and faster where λ is below 1."""
    n, generations = 20, 6
    config = base("gaussian", bootstrap)
    config.data.update({"dimension": 2, "n_reference": 200})
    config.metrics.features = "raw"
    config.n_initial, config.generations, config.seeds = n, generations, 200
    config.loops, config.biases, config.n_grid = ("fully_synthetic",), (1.0, 0.5), 0
    config.metrics.names = ("fd", "precision")
    experiment.run(config, str(tmp_path / "work"))
    rows = results.load(tmp_path / "work").rows
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["model"] for row in rows} == {"bootstrap"}
    mean_fd = lambda bias, t: np.mean([r["fd"] for r in rows if r["bias"] == bias and r["generation"] == t])
    assert mean_fd(0.5, generations) > mean_fd(1.0, generations) > 2 * mean_fd(1.0, 1)
