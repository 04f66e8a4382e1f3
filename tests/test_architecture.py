"""Who may import whom, read off the source; and that reading results loads no accelerator library."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import madbench

ROOT = pathlib.Path(madbench.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
BASEMENT = {"samples", "randomness", "errors", "checks", "registry", "units", "calls", "tabular", "strategy_names"}
GROUND_FLOOR = {"loops", "training_set", "networks", "metrics", "data", "results"}
READERS = {"report", "verdict", "results", "leaderboard"}
ACCELERATOR = {"jax", "jaxlib", "flax", "optax", "orbax"}
LONGEST = 380


def dotted(path: pathlib.Path) -> str:
    """`madbench/data/source.py` -> `madbench.data.source`, a package by its own name."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in FILES}


def imported(source: str, module: str, is_package: bool = False) -> set[str]:
    """Every module that `source` names in an import anywhere, or in a string, as registries do."""
    found = set()
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*base, *filter(None, [origin])])
            for alias in node.names:
                whole = f"{origin}.{alias.name}"
                found.add(whole if whole in MODULES else origin)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in MODULES:
            found.add(node.value)
    return found - {"madbench"}  # the package itself holds only its version


def room(module: str) -> str:
    """`madbench.data.source` -> `data`."""
    return module.split(".")[1]


IMPORTS = {name: imported(path.read_text(), name, path.name == "__init__.py") for name, path in MODULES.items()}


def rooms_used(name: str) -> set[str]:
    return {room(m) for m in IMPORTS[name] if m.startswith("madbench.")}


def in_rooms(rooms: set[str]) -> list[str]:
    return [name for name in MODULES if name != "madbench" and room(name) in rooms]


def test_the_finder_sees_every_kind_of_import():
    source = """
import json, jax.numpy as jnp
from madbench import loops, __version__
from madbench.data import source
from . import extractor
from ..frechet import moments
def late():
    from flax import linen
    registry = {"a": "madbench.models.gaussian", "b": "madbench.nothing"}
"""
    assert imported(source, "madbench.metrics.features.raw") == {
        "json",
        "jax.numpy",
        "madbench.loops",
        "madbench.data.source",
        "madbench.metrics.features.extractor",
        "madbench.metrics.frechet",
        "flax",
        "madbench.models.gaussian",
    }
    assert imported("from . import mlp", "madbench.networks", is_package=True) == {"madbench.networks.mlp"}
    assert imported("from madbench import __version__", "madbench.results") == set()


def test_the_house_is_all_there():
    for name in (*GROUND_FLOOR, *BASEMENT, "models", "report", "verdict", "experiment", "fleet", "cli"):
        assert f"madbench.{name}" in MODULES
    assert "madbench.models.family" in IMPORTS["madbench.models.gaussian"]  # the finder finds something


@pytest.mark.parametrize("name", in_rooms(BASEMENT | GROUND_FLOOR))
def test_the_ground_floor_knows_only_itself_and_the_basement(name):
    own = set() if room(name) in BASEMENT else {room(name)}
    assert rooms_used(name) <= own | BASEMENT


@pytest.mark.parametrize("name", in_rooms({"models"}))
def test_models_use_networks_and_nothing_else_of_the_house(name):
    assert rooms_used(name) <= {"models", "networks"} | BASEMENT


@pytest.mark.parametrize("name", in_rooms({"strategies"}))
def test_strategies_know_what_a_model_is_and_nothing_of_how_it_is_run(name):
    assert rooms_used(name) <= {"strategies", "models", "networks"} | BASEMENT


@pytest.mark.parametrize("name", in_rooms({"fleet", "cost", "checkpoints", "display"}))
def test_machinery_knows_no_science(name):
    assert not rooms_used(name) & {"loops", "networks", "metrics", "data", "models", "experiment", "report"}


@pytest.mark.parametrize("name", in_rooms(READERS))
def test_readers_of_results_import_no_accelerator_and_no_model(name):
    assert not {m.split(".")[0] for m in IMPORTS[name]} & ACCELERATOR
    assert rooms_used(name) <= READERS | {"errors", "calls", "tabular", "strategy_names"}


def test_a_report_knows_the_tasks_and_nothing_else_of_the_leaderboard():
    """Which shows its pages: otherwise the two would be one house."""
    used = {m for name in in_rooms({"report"}) for m in IMPORTS[name] if m.startswith("madbench.leaderboard")}
    assert used <= {"madbench.leaderboard.tasks"}
    assert rooms_used("madbench.leaderboard.tasks") <= {"results", "errors"}


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"madbench.__main__"}))
def test_nothing_imports_the_command_line(name):
    assert "cli" not in rooms_used(name)


def test_the_module_as_a_program_does():
    assert rooms_used("madbench.__main__") == {"cli"}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_stay_short_and_have_a_purpose(name):
    assert len(MODULES[name].read_text().splitlines()) <= LONGEST
    assert not re.fullmatch(r"_?(utils?|helpers?|misc|common)", name.rpartition(".")[2])
    assert ast.get_docstring(ast.parse(MODULES[name].read_text()))


def loaded_by(*modules: str) -> set[str]:
    """Top-level packages in a new process that imports `modules`."""
    code = f"import sys, {', '.join(modules)}; print(*sorted(sys.modules))"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_reading_results_loads_no_accelerator_library():
    loaded = loaded_by(*in_rooms(READERS))
    assert "madbench" in loaded
    assert not loaded & ACCELERATOR


def test_the_front_door_opens_without_the_house():
    """The command line answers `--help` before anything slow is imported."""
    loaded = loaded_by("madbench.cli")
    assert "absl" in loaded
    assert not loaded & (ACCELERATOR | {"scipy", "matplotlib", "sklearn"})
