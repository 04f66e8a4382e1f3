"""What people read: every link within the repository leads somewhere, and no blank was left to fill in."""

import pathlib
import re

import pytest

import madbench
from madbench.metrics import METRICS

ROOT = pathlib.Path(madbench.__file__).resolve().parents[1]


PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "benchmarks/README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere_and_nothing_is_left_blank(path):
    text = path.read_text()
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (path.parent / link).exists(), link
    for name in re.findall(r"(?:configs|benchmarks|madbench|tests)/[\w/]+\.py", text):
        assert (ROOT / name).exists() or name == "madbench/models/bootstrap.py", name
    assert not re.findall(r"@[A-Z]+@|TODO|FIXME", text)


def test_every_metric_has_its_paragraph():
    text = (ROOT / "docs/metrics.md").read_text()
    for name, metric in METRICS.items():
        assert f"**`{name}` {'↓' if metric.direction == 'lower' else '↑'}**" in text
