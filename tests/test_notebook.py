"""The notebook for Colab, executed cell by cell in a kernel: a task, taken up again, seen, submitted and checked."""

import base64
import copy
import json
import os
import pathlib
import re
import shutil

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from madbench import REPOSITORY, results

pytestmark = [
    # of jupyter_client, as it looks for its own folders and closes its sockets
    pytest.mark.filterwarnings("ignore:.*zmq.*:ResourceWarning"),
]

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "benchmarks/colab/madbench_tpu.ipynb"
TASK, NAME = "gaussian", "from-a-notebook"
SEEDS, CELLS, GENERATIONS = 2, 6, 10  # of the task as it is here: see `shortened`


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


def shortened(folder):
    """A copy of the package in which the task has fewer seeds and generations, and its own hash.

    The band is of generation 1 and holds for any number of seeds: all checks apply as they do to the task itself.
    """
    shutil.copytree(ROOT / "madbench", folder / "madbench", ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "madbench/leaderboard/tasks" / f"{TASK}.json"
    task = json.loads(file.read_text())
    task["config"] |= {"seeds": task["config"]["seeds"][:SEEDS], "generations": GENERATIONS}
    task["sha256"] = results.config_hash(task["config"])
    for cell in task["cells"]:
        cell["composition"] = cell["composition"][:GENERATIONS]
    file.write_text(json.dumps(task))
    return folder


class Session:
    """A kernel, and the notebook's cells by id; each is executed when it is asked for."""

    def __init__(self, client):
        self.client = client
        self.places = {cell.id: i for i, cell in enumerate(client.nb.cells)}

    def execute(self, name, source=None):
        """The outputs of a cell, or of `source` in its place."""
        cell = copy.deepcopy(self.client.nb.cells[self.places[name]])
        cell.source = cell.source if source is None else source
        return self.client.execute_cell(cell, self.places[name]).outputs


def printed(outputs):
    return "".join(output.get("text", "") for output in outputs)


def shown(outputs, kind):
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


@pytest.fixture(scope="module")
def session(tmp_path_factory, feature_cache):
    """A kernel as a user has it, in a folder of its own, with the parameters of this test."""
    folder = tmp_path_factory.mktemp("notebook")
    client = NotebookClient(read(), timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    environment = {
        **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},  # a task is worth optimizing
        "PYTHONPATH": str(shortened(folder / "source")),
        "MADBENCH_CACHE": feature_cache,
        "IPYTHONDIR": str(folder / "ipython"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with client.setup_kernel(env=environment):
        session = Session(client)
        session.workdir = folder / "runs" / TASK
        session.execute("parameters")
        session.execute("parameters", f"TASK, NAME = {TASK!r}, {NAME!r}")  # as papermill injects them
        yield session


def test_it_is_valid_and_holds_no_output():
    notebook = read()
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)  # with ids of cells
    assert [cell.id for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])] == ["parameters"]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
            compile(cell.source, cell.id, "exec")  # Python alone: no line of a shell that fails in silence
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_the_repository_and_the_runtime_are_named_once():
    text = NOTEBOOK.read_text()
    assert re.findall(r"https://github\.com[\w./-]*", text) == [REPOSITORY]
    assert "v5e-1 TPU" in text


def test_install_does_nothing_where_madbench_can_be_imported(session):
    assert printed(session.execute("install")).startswith("madbench 0.")
    assert not (session.workdir.parent.parent / "madbench-clone").exists()


def test_install_clones_and_installs_what_the_machine_asks_for(session):
    """The commands alone: no test fetches packages."""
    recorded = """
class Recorder:
    def __init__(self):
        self.commands = []
    def run(self, command, **_):
        self.commands.append([str(part) for part in command])
        return __import__("types").SimpleNamespace(returncode=1)
    def __getattr__(self, name):
        return getattr(__import__("subprocess"), name)
recorder = Recorder()
accelerator_before = accelerator
"""
    block = read().cells[session.places["install"]].source
    block = block[block.index("if not installed():") : block.index("def madbench")]
    session.execute(
        "install", recorded + "real, subprocess, accelerator = subprocess, recorder, lambda: 'tpu'\n" + block
    )
    restore = "subprocess, accelerator = real, accelerator_before\nprint(*recorder.commands, sep='\\n')"
    lines = printed(session.execute("install", restore)).splitlines()
    assert "['git', 'clone', '--quiet', '--depth=1'" in lines[1]
    assert "'--constraint=madbench-clone/constraints.txt', '--editable', 'madbench-clone[tpu]'" in lines[2]


def test_the_device_is_named_and_a_cpu_is_told_how_to_get_a_tpu(session):
    text = printed(session.execute("device"))
    assert re.match(r"\d+ x cpu, JAX 0\.\S+ on cpu\n", text)
    assert "Change runtime type" in text


STOP = """
import os, threading, time

def stop():
    while not ((workdir / "metrics.jsonl").exists() and (workdir / "metrics.jsonl").stat().st_size):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)  # as the stop button does

threading.Thread(target=stop, daemon=True).start()
"""


def test_a_task_that_is_stopped_goes_on_when_the_same_cell_runs_again(session):
    assert printed(session.execute("workdir")).strip() == str(session.workdir)
    with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
        session.execute("run", STOP + session.client.nb.cells[session.places["run"]].source)
    rows = (session.workdir / "metrics.jsonl").read_bytes()
    done = rows.count(b"\n") // (CELLS * SEEDS)  # generations
    assert 1 <= done < GENERATIONS
    text = printed(session.execute("run"))
    assert f"resuming at wave 1, generation {done + 1}\n" in text
    told = re.findall(rf"^generation (\d+)/{GENERATIONS}", text, re.M)
    assert [int(t) for t in told] == list(range(done + 1, GENERATIONS + 1))
    after = (session.workdir / "metrics.jsonl").read_bytes()
    assert after.startswith(rows)
    assert after.count(b"\n") == CELLS * SEEDS * GENERATIONS


def test_table_and_pictures_are_shown(session):
    (table,) = shown(session.execute("table"), "text/markdown")
    assert table == (session.workdir / "table.md").read_text()
    assert "fully_synthetic" in table
    (picture,) = shown(session.execute("pictures"), "image/png")  # 16 dimensions have neither samples.png nor drift.png
    assert base64.b64decode(picture) == (session.workdir / "curves.png").read_bytes()


def test_the_report_is_shown_within_the_notebook(session):
    (page,) = shown(session.execute("report"), "text/html")
    assert page.startswith('<div><iframe title="report" srcdoc="')
    assert "lt;html" in page


def test_a_changed_task_is_not_submitted_and_says_why(session):
    session.execute("parameters", "EXTRA = ['--config.seeds=2']")
    assert "Not submitted: EXTRA changes the config" in printed(session.execute("submit"))
    session.execute("parameters", "EXTRA = []")
    assert not (session.workdir.parent / "submissions").exists()


def test_a_submission_is_packed_and_passes_its_check(session):
    for _ in range(2):  # again, it replaces its own
        text = printed(session.execute("submit"))
        assert re.search(r"^(\d+) of \1 checks passed$", text, re.M)
        assert "packed: " in text
    folder = session.workdir.parent / "submissions" / NAME
    manifest = json.loads((folder / "submission.json").read_text())
    assert (manifest["task"], manifest["name"]) == (TASK, NAME)
    assert folder.with_suffix(".zip").is_file()


def test_a_command_that_fails_stops_the_cell(session):
    with pytest.raises(CellExecutionError, match="madbench table ended with exit code 2"):
        session.execute("table", "madbench('table', 'nowhere')")
