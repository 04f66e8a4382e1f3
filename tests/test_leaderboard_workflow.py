"""The workflow of the leaderboard: what it may do, that its commands exist, and what it makes of hostile names."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from madbench import commands

ROOT = pathlib.Path(__file__).parent.parent
FILE = ROOT / ".github" / "workflows" / "leaderboard.yml"
WORKFLOW = yaml.load(FILE.read_text(), yaml.BaseLoader)  # in YAML 1.1, "on" is true
JOBS = WORKFLOW["jobs"]
STEPS = [step for job in JOBS.values() for step in job["steps"]]
SCRIPTS = [step["run"] for step in STEPS if "run" in step]


def test_it_runs_on_pull_requests_that_add_submissions_and_on_main():
    assert WORKFLOW["on"]["pull_request"] == {"paths": ["submissions/**"]}
    assert "submissions/**" in WORKFLOW["on"]["push"]["paths"]
    assert WORKFLOW["on"]["push"]["branches"] == ["main"]
    assert "pull_request_target" not in WORKFLOW["on"]  # which would have secrets


def test_a_pull_request_gets_no_secret_and_may_write_nothing():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "secrets." not in FILE.read_text()
    assert "permissions" not in JOBS["check"]
    assert JOBS["check"]["if"] == "github.event_name == 'pull_request'"
    assert JOBS["build"]["if"] == "github.event_name != 'pull_request'"
    assert JOBS["publish"]["needs"] == "build"  # skipped with it
    for step in STEPS:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


def test_the_code_is_not_that_of_the_pull_request():
    code, data = (step["with"] for step in JOBS["check"]["steps"] if "checkout" in step.get("uses", ""))
    assert "base.sha" in code["ref"]
    assert "path" not in code
    assert ("head.sha" in data["ref"], data["path"]) == (True, "pull")
    for step in JOBS["check"]["steps"]:
        assert not re.search(r"pull/(?!submissions)", step.get("run", ""))


def test_actions_have_a_version_and_scripts_no_expression():
    for step in STEPS:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+\.\d+\.\d+", step["uses"])
    assert not [script for script in SCRIPTS if "${{" in script]  # a branch may be named $(anything)


def test_every_command_exists():
    named = re.findall(r"\.venv/bin/madbench (\w+)", "\n".join(SCRIPTS))
    assert sorted(named) == ["check", "leaderboard", "leaderboard"]
    assert set(named) <= set(commands.COMMANDS)
    assert (ROOT / "bootstrap.sh").is_file()
    assert SCRIPTS.count("./bootstrap.sh") == 2


# ---- the script, run as it stands ------------------------------------------------------------------------------------

CHANGED = next(step["run"] for step in STEPS if step.get("id") == "changed")
CHECK = next(step["run"] for step in STEPS if step.get("name") == "madbench check")


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "core.hooksPath=/dev/null")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def pull(tmp_path):
    """A clone named "pull" with three submissions, as the branch has them."""
    for name in ("kept", "edited", "removed"):
        (tmp_path / "pull" / "submissions" / name).mkdir(parents=True)
        (tmp_path / "pull" / "submissions" / name / "submission.json").write_text("{}")
    git(tmp_path / "pull", "init", "-q", "-b", "main")
    git(tmp_path / "pull", "add", ".")
    git(tmp_path / "pull", "commit", "-q", "-m", "before")
    return tmp_path / "pull"


def changed(pull, *, is_fork=True):
    """Exit code, output, and the changed submissions, of the script after all that lies in `pull` was committed."""
    base = git(pull, "rev-parse", "HEAD")
    git(pull, "add", "-A")
    git(pull, "commit", "-q", "--allow-empty", "-m", "after")
    values = {"BASE": base, "HEAD": git(pull, "rev-parse", "HEAD"), "IS_FORK": str(is_fork).lower()}
    command = ["bash", "-c", CHANGED]
    done = subprocess.run(command, cwd=pull.parent, env=os.environ | values, capture_output=True, text=True)
    path = pull.parent / "changed.txt"
    return done.returncode, done.stdout, path.read_text().split("\n")[:-1] if path.exists() else []


def test_only_what_is_added_or_changed_is_checked(pull):
    folder = pull / "submissions"
    (folder / "new" / "samples" / "deep").mkdir(parents=True)
    (folder / "new" / "submission.json").write_text("{}")
    (folder / "new" / "samples" / "deep" / "a file.npz").write_text("x")
    (folder / "edited" / "submission.json").write_text("[]")
    shutil.rmtree(folder / "removed")
    (folder / "leaderboard.json").write_text("{}")
    (pull / "madbench.py").write_text("x")
    code, text, found = changed(pull)
    assert (code, found) == (0, ["pull/submissions/edited", "pull/submissions/new"])
    assert "removed: removed" in text
    bin = pull.parent / ".venv" / "bin"
    bin.mkdir(parents=True)
    (bin / "madbench").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 2\n')
    (bin / "madbench").chmod(0o755)
    done = subprocess.run(["bash", "-c", CHECK], cwd=pull.parent, capture_output=True, text=True)
    assert done.stdout.split("\n")[:-1] == ["check", "--beside=pull/submissions", *found]
    assert done.returncode != 0  # a failed check fails the job


def test_where_nothing_changed_nothing_is_checked(pull):
    assert changed(pull) == (0, "", [])
    assert subprocess.run(["bash", "-c", CHECK], cwd=pull.parent).returncode == 0  # without any madbench


@pytest.mark.parametrize(
    "name",
    ["--help", "a b", "a\nb", "::set-output name=x::y", "$(touch owned)", "`touch owned`", "-rf", "ü", "a;b", ".x"],
)
def test_names_that_a_shell_or_a_log_would_act_on_are_refused(pull, name):
    (pull / "submissions" / name).mkdir()
    (pull / "submissions" / name / "submission.json").write_text("{}")
    code, text, found = changed(pull)
    assert (code, found) == (1, [])
    assert "letter or digit first" in text
    assert name not in text
    assert not list(pull.parent.rglob("owned"))


def test_links_are_passed_on_to_check_or_refused(pull):
    os.symlink("/etc", pull / "submissions" / "link")
    assert changed(pull)[2] == []  # git has it as a file beside the submissions, which nothing reads
    shutil.rmtree(pull / "submissions")
    os.symlink("/etc", pull / "submissions")
    code, text, _ = changed(pull)
    assert (code, text) == (1, "submissions is a link\n")


def test_nobody_verifies_their_own_submission(pull):
    (pull / "submissions" / "edited" / "verification.json").write_text("{}")
    code, text, _ = changed(pull)
    assert code == 1
    assert "verification.json of edited" in text


def test_those_who_keep_the_leaderboard_do(pull):
    (pull / "submissions" / "edited" / "verification.json").write_text("{}")
    assert changed(pull, is_fork=False)[::2] == (0, ["pull/submissions/edited"])
