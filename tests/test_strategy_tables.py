"""The page of the comparison holds the tables of the reference results, line by line."""

import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "strategies_compared.md"
FOLDER = ROOT / "benchmarks" / "reference"
HEADINGS = {"diffusion": "## Diffusion", "gan": "## GAN"}
LAST = "## What was searched"
FD = {"metric": "fd", "statistic": "mean", "scale": "log", "low": -0.7, "high": -0.3, "p_holm": 0.004}


@pytest.fixture(scope="module")
def strategy_tables(of_benchmarks):
    return of_benchmarks("strategy_tables")


def tables(module, name):
    path = FOLDER / f"{name}.json"
    return module.tables(json.loads(path.read_text())), f"python benchmarks/strategy_tables.py {path.relative_to(ROOT)}"


@pytest.mark.parametrize("family", HEADINGS)
def test_the_page_shows_the_reference_results_in_their_order(strategy_tables, family):
    found, command = tables(strategy_tables, f"strategies-{family}")
    section = PAGE.read_text().partition(f"\n{HEADINGS[family]}\n")[2].partition("\n## ")[0]
    shown = [line for line in section.split("\n") if line.startswith("|")]
    assert shown == [line for lines in found.values() for line in lines], command


def test_the_page_shows_what_was_searched(strategy_tables):
    found = [tables(strategy_tables, f"searched-{family}") for family in HEADINGS]
    section = PAGE.read_text().partition(f"\n{LAST}\n")[2].partition("\n## ")[0]
    shown = [line for line in section.split("\n") if line.startswith("|")]
    assert shown == [line for each, _ in found for line in each["what was searched"]], [command for _, command in found]


def test_effects_by_bias(strategy_tables):
    of = {"strategy": "neon", "equal_cost": False}
    fd = {**of, "metric": "fd", "is_log": True, "mean": -0.5, "interval": [-0.7, -0.3]}
    recall = {**of, "metric": "recall", "is_log": False, "mean": 0.02, "interval": None}
    rows = [fd | {"bias": 0.5}, recall | {"bias": 0.5}, fd | {"bias": 1.0, "mean": 0.0}, recall | {"bias": 1.0}]
    assert list(strategy_tables.by_bias(rows)) == [
        "| strategy | budget | FD, λ = 1 | recall, λ = 1 | FD, λ = 0.5 | recall, λ = 0.5 |",
        "|---|---|--:|--:|--:|--:|",
        "| `neon` | all steps | 1.00 (0.50 to 0.74) | missing | 0.61 (0.50 to 0.74) | missing |",
    ]


def test_effects_over_all_blocks_by_the_smallest_fd_at_equal_cost(strategy_tables):
    late = {"equal_cost": False, "difference": None, "low": None}  # runs that diverged
    recall = {"metric": "recall", "scale": "linear", "difference": 0.02, "low": -0.01, "high": 0.05, "p_holm": 0.2}
    rows = [
        FD | {"strategy": "none", "equal_cost": True, "difference": None, "low": None},
        FD | {"strategy": "pays", "equal_cost": True, "difference": 0.1},
        FD | {"strategy": "diverges", "equal_cost": True, "difference": None, "low": None},
        FD | {"strategy": "pays"} | late,
        FD | {"strategy": "free", "equal_cost": True, "difference": -0.4},
        FD | {"strategy": "free", "equal_cost": True} | recall,
        FD | {"strategy": "free", "equal_cost": True, "difference": 0.0, "statistic": "last"},
    ]
    assert list(strategy_tables.overall(rows)) == [
        "| strategy | budget | FD | FD, last generation | precision | recall |",
        "|---|---|--:|--:|--:|--:|",
        "| `free` | equal cost | 0.67 (0.50 to 0.74), p = 0.004 | 1.00 (0.50 to 0.74), p = 0.004 | missing "
        "| +0.020 (-0.010 to +0.050), p = 0.200 |",
        "| `pays` | equal cost | 1.11 (0.50 to 0.74), p = 0.004 | missing | missing | missing |",
        "| `pays` | all steps | missing | missing | missing | missing |",
        "| `diverges` | equal cost | missing | missing | missing | missing |",
    ]


def test_what_becomes_of_loops_and_what_it_costs(strategy_tables):
    block = {"loop": "fresh_data", "bias": 1.0, "findings": ["MAD"], "fd": [2.816, 123.4]}
    blocks = [block, block | {"bias": 0.5, "findings": ["MAD", "loses diversity"], "fd": [2.0, None]}]
    dead = [each | {"fd": [2.0, None], "findings": []} for each in blocks]
    rows = [
        {"strategy": "none", "equal_cost": True, "blocks": blocks},
        {"strategy": "a", "equal_cost": False, "blocks": dead},
    ]
    assert list(strategy_tables.collapse(rows)) == [
        "| strategy | budget | MAD | loses quality | loses diversity | fresh_data |",
        "|---|---|--:|--:|--:|--:|",
        "| `none` |  | 2/2 | 0/2 | 1/2 | 2.82 → 123 |",
        "| `a` | all steps | 0/2 | 0/2 | 0/2 | 2.00 → missing |",
    ]
    cost = {"strategy": "a", "equal_cost": True, "flops_ratio": 0.9996, "n_real_seen": 600.0, "extra_parameters": 12}
    assert list(strategy_tables.costs([cost | {"pool_memorization": None}]))[2:] == [
        "| `a` | equal cost | 1.000 | 600 | 12 | — |",
    ]


def test_a_claim_has_a_cell_for_each_bias(strategy_tables):
    claim = {
        "budget": "all steps", "paper": "2510.03597", "says": "it helps", "metric": "fd", "sign": -1, "when": "last",
        "loops": ["fresh_data"], "of": ["neon", "none"], "is_log": True, "mean": -0.5, "interval": [-0.7, -0.3],
        "p_holm": 0.004, "verdict": "holds", "undecided": "", "bias": 1.0,
    }  # fmt: skip
    missing = claim | {"bias": 0.5, "interval": None, "verdict": "no answer", "undecided": "not run"}
    other = claim | {"budget": "equal cost"}
    assert list(strategy_tables.table_of_claims([claim, missing, other], "all steps")) == [
        "| claim | tried as | λ = 1 | λ = 0.5 |",
        "|---|---|---|---|",
        "| it helps (2510.03597) | FD, the last generation, fresh_data: `neon` against `none` < 1 "
        "| **holds**: 0.61 (0.50 to 0.74), p = 0.004 | no answer: not run |",
    ]


def test_what_was_searched_at_both_budgets(strategy_tables):
    row = {"strategy": "neon", "equal_cost": True, "ln_fd": -0.123, "precision": 0.0044, "recall": None}
    rows = [row, row | {"strategy": "golden_ratio"}, row | {"equal_cost": False, "ln_fd": 0.5, "recall": -0.1}]
    lines = strategy_tables.tables({"rows": rows, "chosen": ["golden_ratio"]})["what was searched"]
    assert lines[2:] == [
        "| `neon` | -0.12 | +0.004 | — | +0.50 | +0.004 | -0.100 |",
        "| **`golden_ratio`** | -0.12 | +0.004 | — | — | — | — |",
    ]
