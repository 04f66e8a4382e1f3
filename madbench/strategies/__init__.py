"""Strategies against collapse. One file per strategy, one line each in the registry."""

from madbench.strategies.loading import ENTRY_POINTS, STRATEGIES, build, describe
from madbench.strategies.strategy import HOOKS, Strategy, has

__all__ = ["ENTRY_POINTS", "HOOKS", "STRATEGIES", "Strategy", "build", "describe", "has"]
