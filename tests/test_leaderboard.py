"""The published leaderboard is what the submissions in this repository come to: their rows, and nothing else."""

import json
import math
import pathlib

import pytest

from madbench.leaderboard import board as boards
from madbench.leaderboard import checks, formats, markdown, score, site, tasks

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "submissions"
HOW = "madbench leaderboard submissions --out=runs/site --readme=FILE, and cp runs/site/leaderboard.json submissions/"
PUBLISHED = [path for path in (ROOT / "README.md", FOLDER / "README.md") if markdown.BEGIN in path.read_text()]


@pytest.fixture(scope="module")
def board():
    return boards.load(FOLDER)


def same(a, b) -> bool:
    """Equal JSON, but for the last digits of numbers: exp and log differ a little between machines."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return type(a) is type(b) and a == b


def test_the_comparison_sees_a_changed_number():
    assert same({"a": [1.0, None, "x"]}, {"a": [1.0 + 1e-13, None, "x"]})
    for other in (
        {"a": [1.001, None, "x"]},
        {"a": [1.0, 0.0, "x"]},
        {"a": [1.0, None]},
        {"b": []},
        {"a": [1.0, None, "y"]},
    ):
        assert not same({"a": [1.0, None, "x"]}, other)


def test_there_are_submissions_and_all_of_them_count(board):
    assert board.entries
    assert [(entry.folder, entry.reason) for entry in board.invalidated] == []


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_each_passes_its_checks_and_is_small(path):
    if path.name in ("README.md", "leaderboard.json"):
        assert path.is_file()
        return
    assert [str(finding) for finding in checks.run(path) if not finding.ok] == []
    assert not (path / "samples").exists()
    assert sum(file.stat().st_size for file in path.iterdir()) < 2_000_000


def test_no_two_have_one_name_on_a_task_or_the_same_rows(board):
    assert checks.clashes([FOLDER / entry.folder for entry in board.entries]) == []


def test_the_published_tables_are_regenerated_from_the_rows(board):
    assert FOLDER / "README.md" in PUBLISHED
    for path in PUBLISHED:
        assert path.read_text() == markdown.replaced(path, markdown.render(board)), f"{path} is behind: {HOW}"


def test_the_published_numbers_are_regenerated_from_the_rows(board):
    published = json.loads((FOLDER / "leaderboard.json").read_text())
    assert same(published, json.loads(formats.to_json(board))), f"submissions/leaderboard.json is behind: {HOW}"


def test_a_score_by_other_means(board):
    """Resistance as docs and site define it, row by row in plain Python."""
    for entry in board.entries:
        task = tasks.load(entry.task.name)
        kept = {}
        for row in entry.submission.rows:
            if row["generation"] > 1:
                band = task.bands[row["loop"], row["bias"]]
                fd, precision, recall = (row[name] for name in score.METRICS)
                shares = (
                    min(1, math.exp(band["fd"].mean) / fd) if fd is not None else 0,
                    min(1, precision / band["precision"].mean) if precision is not None else 0,
                    min(1, recall / band["recall"].mean) if recall is not None else 0,
                )
                kept.setdefault((row["loop"], row["bias"]), []).append(shares)
        n = len(task.config["seeds"]) * (task.config["generations"] - 1)
        cells = [math.prod(sum(column) / n for column in zip(*rows, strict=True)) ** (1 / 3) for rows in kept.values()]
        assert entry.resistance["score"] == pytest.approx(100 * sum(cells) / len(task.cells), rel=1e-9)


def test_the_site_of_them_has_every_page(board):
    pages = site.pages(board)
    assert {f"submissions/{entry.slug}.html" for entry in board.entries} <= set(pages)
    assert {f"tasks/{task.name}.html" for task in board.tasks} <= set(pages)
