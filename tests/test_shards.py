"""A grid in shares: each run is in one of them, and a table of all is the table of the whole."""

import itertools
import json
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from madbench import cli, grid, results
from madbench.report import shares

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = """
from madbench.config import base

def get_config(task="split"):
    config = base("gaussian", "gaussian")
    config.task = task
    config.data.dimension = 2
    config.data.n_reference = 20
    config.n_initial = 20
    config.loops = ("fully_synthetic", "fresh_data(n_fresh=10)")
    config.seeds = 3
    config.generations = 2
    config.fleet.max_runs_per_device = 1  # the same program for every share, so the same bytes
    config.metrics.names = ("fd",)
    config.metrics.features = "raw"
    return config
"""


def main(*arguments):
    return cli.main(["madbench", *map(str, arguments)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The whole, four shares of it, and a share of another job."""
    path = tmp_path_factory.mktemp("shards")
    (path / "job.py").write_text(CONFIG)
    assert main("run", f"--config={path}/job.py", f"--workdir={path}/whole") == 0
    for i in range(1, 5):
        assert main("run", f"--config={path}/job.py", f"--workdir={path}/part-{i}", f"--shard={i}/4") == 0
    assert main("run", f"--config={path}/job.py:other", f"--workdir={path}/other", "--shard=2/4") == 0
    return path


def parts(place, *numbers):
    return [place / f"part-{i}" for i in numbers]


def lines(workdir):
    return (workdir / "metrics.jsonl").read_text().splitlines()


def table(capsys, paths, format="json"):
    capsys.readouterr()
    assert main("table", *paths, f"--format={format}") == 0
    return capsys.readouterr().out


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert main(*arguments) == 2
    output, error = capsys.readouterr()
    assert (output, error.count("\n")) == ("", 1)
    return error


def test_shares_are_even_and_hold_every_run_once(place):
    config = json.loads((place / "whole" / "config.json").read_text())["config"]
    whole = grid.prepare(config).runs
    for n in (2, 4, 6):
        found = [grid.prepare(config, shard=(i, n)).runs for i in range(1, n + 1)]
        assert sorted(itertools.chain(*found), key=whole.index) == whole
        assert max(map(len, found)) - min(map(len, found)) <= 1


def test_rows_are_those_of_the_whole(place):
    assert sorted(line for part in parts(place, 1, 2, 3, 4) for line in lines(part)) == sorted(lines(place / "whole"))


def test_a_share_says_which_it_is_and_the_hash_is_the_job_s(place):
    whole = json.loads((place / "whole" / "config.json").read_text())
    share = json.loads((place / "part-3" / "config.json").read_text())
    assert "shard" not in whole
    assert share.pop("shard") == [3, 4]
    assert share == whole


def test_the_table_of_all_shares_is_that_of_the_whole(place, capsys):
    strip = lambda text: json.loads(text, object_pairs_hook=lambda p: {k: v for k, v in p if k != "workdir"})
    assert strip(table(capsys, parts(place, 3, 1, 4, 2))) == strip(table(capsys, [place / "whole"]))
    assert table(capsys, parts(place, 1, 2, 3, 4), "md") == table(capsys, [place / "whole"], "md")


def test_a_missing_share_is_missing_seeds_and_no_mean(place, capsys):
    found = json.loads(table(capsys, parts(place, 1, 2, 4)))
    assert [line["seeds"] for line in found["lines"]] == [3, 3]
    # Share 3 holds run 3, the last seed of the first loop.
    assert [line["seeds_finished"] for line in found["lines"]] == [2, 3]
    assert found["lines"][0]["metrics"]["fd"]["last"]["mean"] is None
    assert any("without 3 of the job's 4 shares" in note for note in found["notes"])
    assert "2/3" in table(capsys, parts(place, 1, 2, 4), "md")


def test_a_share_may_stand_beside_other_jobs(place, capsys, tmp_path):
    assert main("run", f"--config={place}/job.py:third", f"--workdir={tmp_path / 'third'}") == 0
    found = json.loads(table(capsys, [*parts(place, 1, 2, 3, 4), tmp_path / "third"]))
    assert [(line["task"], line["seeds_finished"]) for line in found["lines"]] == [("split", 3)] * 2 + [
        ("third", 3)
    ] * 2


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["part-1", "copy"], "both hold share 1 of 4"),
        (["part-1", "whole"], "holds the whole job"),
        (["part-1", "other"], "is a share of another job"),
        (["part-1", "halves"], "is one share of 2 and .* one of 4"),
        (["part-1", "foreign"], "holds rows of another share: fully_synthetic, λ = 1, seed 0"),
        (["part-1", "measured"], "has other features than"),
        (["part-1", "odd"], "shard is 'first', not"),
    ],
)
def test_what_does_not_go_together_is_refused(place, tmp_path, capsys, paths, message):
    def copy(name, source, file="", change=None):
        shutil.copytree(place / source, tmp_path / name)
        if change:
            content = json.loads((tmp_path / name / file).read_text())
            (tmp_path / name / file).write_text(json.dumps(content | change))

    for name in ("part-1", "whole", "other"):
        copy(name, name)
    copy("copy", "part-1")
    copy("halves", "part-2", "config.json", {"shard": [2, 2]})
    copy("foreign", "part-2")
    shutil.copy(place / "part-1" / "metrics.jsonl", tmp_path / "foreign" / "metrics.jsonl")
    copy("measured", "part-2", "reference.json", {"features": "others"})
    copy("odd", "part-2", "config.json", {"shard": "first"})
    assert re.search(message, refusal(capsys, "table", *[tmp_path / path for path in paths]))


def test_a_workdir_keeps_its_share(place, capsys):
    for workdir, flag in (("part-1", "--shard=2/4"), ("part-1", "--shard=1/5"), ("whole", "--shard=1/4")):
        error = refusal(capsys, "run", f"--config={place}/job.py", f"--workdir={place / workdir}", flag)
        assert "say so again, or choose another --workdir" in error
    error = refusal(capsys, "run", f"--config={place}/job.py", f"--workdir={place}/part-1")
    assert "holds share --shard=1/4" in error


def test_a_finished_share_resumes_as_itself(place, capsys):
    before = lines(place / "part-2")
    assert main("run", f"--config={place}/job.py", f"--workdir={place}/part-2", "--shard=2/4") == 0
    assert "finished already" in capsys.readouterr().err
    assert lines(place / "part-2") == before


def test_a_share_ends_with_the_command_for_the_table_of_all(place, capsys):
    capsys.readouterr()
    assert main("run", f"--config={place}/job.py", f"--workdir={place}/part-2", "--shard=2/4") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"share 2 of 4 is done; {place}/part-2/table.md is of this share alone.\n")
    assert out.endswith(f"\n\n    madbench table {place}/part-2 DIR ...\n")
    assert (place / "part-2" / "table.md").is_file()
    assert "share" not in table(capsys, [place / "whole"], "csv")


def test_a_dry_run_shows_the_share(place, capsys):
    assert main("run", f"--config={place}/job.py", "--shard=2/4", "--dry_run") == 0
    assert "share 2 of 4 of 6 runs: 2 runs x 2 generations" in capsys.readouterr().out


def test_results_without_shares_are_left_alone(place):
    found = [results.load(place / "whole")]
    assert shares.unite(found) is found


# -------------------------------------------------------------------------------------------------------- launch files

LAUNCH = sorted((ROOT / "launch").iterdir())


@pytest.mark.parametrize("path", [p for p in LAUNCH if p.suffix == ".sh"], ids=lambda p: p.name)
def test_launch_scripts_are_bash(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert path.stat().st_mode & 0o100


@pytest.mark.parametrize("path", LAUNCH, ids=lambda p: p.name)
def test_launch_files_use_flags_that_there_are_and_say_how_to_resume(path, place, capsys):
    """Each flag behind the command is given to it, with values that suit a test."""
    text = path.read_text()
    assert "To resume" in text
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    behind = re.split(r"madbench run|\bargs:", code, maxsplit=1)[1].partition("ports:")[0]
    used = re.findall(r"--(\w+)", behind)
    assert {"config", "workdir"} <= set(used)
    values = {"shard": "1/2", "coordinator_address": "a:1", "num_processes": "2", "process_id": "1"}
    values |= {"config": place / "job.py", "workdir": "/nowhere", "cache": place / "cache"}
    flags = [f"--{flag}={values[flag]}" if flag in values else f"--{flag}" for flag in used]
    assert main("run", *flags, "--dry_run") == 0


def test_the_kubernetes_file_is_an_indexed_job_and_its_service():
    service, job = yaml.safe_load_all((ROOT / "launch" / "kubernetes.yaml").read_text())
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    arguments = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(arguments["num_processes"])
    assert arguments["process_id"] == "$(JOB_COMPLETION_INDEX)"
    host, port = arguments["coordinator_address"].split(":")
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert container["ports"] == [{"containerPort": int(port)}]
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
