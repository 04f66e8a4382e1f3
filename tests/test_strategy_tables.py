"""The page of the comparison holds the tables of the reference results, line by line."""

import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "strategies_compared.md"
FAMILIES = ("diffusion", "gan")
REFERENCES = [
    ROOT / "benchmarks" / "reference" / f"{of}-{name}.json" for of in ("strategies", "searched") for name in FAMILIES
]
FD = {"metric": "fd", "statistic": "mean", "low": -0.7, "high": -0.3, "p_holm": 0.004, "flops_ratio": 0.999}


@pytest.fixture(scope="module")
def strategy_tables(of_benchmarks):
    return of_benchmarks("strategy_tables")


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
def test_the_page_shows_the_reference_results(strategy_tables, path):
    page = PAGE.read_text()
    for title, lines in strategy_tables.tables(json.loads(path.read_text())).items():
        assert "\n".join(lines) in page, f"{title}: python benchmarks/strategy_tables.py {path.relative_to(ROOT)}"


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


def test_the_smallest_fd_at_equal_cost_comes_first(strategy_tables):
    rows = [
        FD | {"strategy": "none", "equal_cost": True, "difference": None},
        FD | {"strategy": "pays", "equal_cost": True, "difference": 0.1},
        FD | {"strategy": "pays", "equal_cost": False, "difference": -0.5, "p_holm": 0.2},
        FD | {"strategy": "free", "equal_cost": True, "difference": -0.4, "flops_ratio": 1.0},
        FD | {"strategy": "nearly", "equal_cost": True, "difference": 0.0},
        FD | {"strategy": "pays", "equal_cost": True, "difference": 9.0, "metric": "recall"},
    ]
    assert list(strategy_tables.overall(rows))[2:] == [
        "| `free` | 0.670 (0.497 to 0.741) | 0.004 | costs nothing | — |",
        "| `nearly` | 1.00 (0.497 to 0.741) | 0.004 | — | — |",
        "| `pays` | 1.11 (0.497 to 0.741) | 0.004 | 0.607 (0.497 to 0.741) | 0.200 |",
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
