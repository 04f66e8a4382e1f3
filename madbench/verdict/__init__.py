"""Does a loop collapse? Trends of the metrics over generations, with confidence. Imports no JAX.

`values`: rows as arrays. `trend`: slopes, their tests and intervals. `definitions`: what the literature calls collapse.
`judge`: the verdict on each cell of the standard table.
"""

from madbench.verdict.definitions import DEFAULT, DEFINITIONS, Criterion, Definition
from madbench.verdict.judge import Verdict, judge, judge_cell
from madbench.verdict.trend import CONFIDENCE, MIN_SEEDS, SIGNIFICANCE, Interval, Trend
from madbench.verdict.values import Cell, budget_name, group, half_life, logarithm, matrix, strategy_of

__all__ = [
    "CONFIDENCE",
    "DEFAULT",
    "DEFINITIONS",
    "MIN_SEEDS",
    "SIGNIFICANCE",
    "Cell",
    "Criterion",
    "Definition",
    "Interval",
    "Trend",
    "Verdict",
    "budget_name",
    "group",
    "half_life",
    "judge",
    "judge_cell",
    "logarithm",
    "matrix",
    "strategy_of",
]
