"""Four virtual CPU devices for every test, one cache for trained feature extractors, and the dearest files first."""

import gc
import importlib
import os
import pathlib
import sys

# Before JAX is imported anywhere: flags are read once. The tests compile a thousand programs that run for moments, so
# LLVM is told not to optimize them: two fifths of the time of tests that compile.
for _flag, _value in (("--xla_force_host_platform_device_count", 4), ("--xla_backend_optimization_level", 0)):
    if _flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}={_value}".strip()

import pytest  # noqa: E402

# A trace is a hundred thousand objects and hardly a cycle: with Python's own limit of 700, 9 of 125 seconds of
# test_image_networks went into looking for some.
gc.set_threshold(50_000, 20, 20)

# Whole files are dealt out, each to one worker, so that fixtures of a module are built once. The dearest come first, by
# the sum of a whole run's 45 slowest tests: a dear one that begins last keeps one worker busy while the others wait.
DEAREST = (
    "test_image_networks", "test_processes", "test_resume", "test_experiment", "test_families", "test_streaming",
    "test_fleet", "test_benchmarks", "test_cli", "test_verify", "test_notebook", "test_tensorboard", "test_shards",
    "test_treatment", "test_verify_method", "test_strategy_loading", "test_strategy_cookbook", "test_strategy_cheats",
    "test_phase", "test_contributing", "test_warped_digits", "test_inception", "test_metrics", "test_report_browser",
)  # fmt: skip


def pytest_configure(config):
    """Otherwise xdist sorts the files by how many tests they have."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    rank = {name: i for i, name in enumerate(DEAREST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def feature_cache(tmp_path_factory):
    """The directory of trained feature extractors: one for the session, unless the environment names another."""
    if "MADBENCH_CACHE" in os.environ:
        yield os.environ["MADBENCH_CACHE"]
        return
    os.environ["MADBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield os.environ["MADBENCH_CACHE"]
    del os.environ["MADBENCH_CACHE"]


MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = 25_000  # of 65,530 that Linux gives a process; every compiled program takes some, and too many abort it


@pytest.fixture(scope="module", autouse=True)
def room_for_programs():
    """Forgets the compiled programs of earlier modules before a process has too many."""
    yield
    if MAPS.exists() and MAPS.read_text().count("\n") > MOST_MAPS:
        import jax

        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache of compiled programs: a job that a module runs twice is compiled once."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def of_benchmarks():
    """Imports a module of `benchmarks/`, which is no package: `of_benchmarks("claims")`."""
    folder = str(pathlib.Path(__file__).resolve().parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium (tests/browser.py): one start serves all tests of a process."""
    from browser import started

    with started() as found:
        yield found
