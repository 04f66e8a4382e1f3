"""Tables and pictures, made from results alone: no model, no accelerator. Here: what they have in common."""

from madbench.results import Result, ResultError
from madbench.verdict import Cell

# Metrics that rise with quality or diversity. For them the floor between real samples is a ceiling, and its 5th
# percentile is the bound that counts. Named here because the metrics themselves need an accelerator's libraries.
HIGHER_IS_BETTER = frozenset({"precision", "recall", "density", "coverage", "modes"})
# Those that are shares, in [0, 1].
SHARES = frozenset({"precision", "recall", "coverage"})
# Those that count something, from 0.
COUNTS = frozenset({"modes"})


def label(metric: str) -> str:
    """The metric's name for people, with an arrow in the direction of better: "FD ↓", "recall ↑"."""
    name = {"fd": "FD"}.get(metric, metric)
    return f"{name} {'↑' if metric in HIGHER_IS_BETTER else '↓'}"


def planned(result: Result) -> list[Cell]:
    """The cells that the config asks for, in its order; each is crossed with seeds and generations.

    Raises:
      ResultError: the workdir does not say; one line.
    """
    try:
        task, model = result.config["task"], result.config["model"]["family"]
        return [Cell(task, model, entry["loop"], entry["bias"]) for entry in result.reference["cells"]]
    except (KeyError, TypeError) as error:
        raise ResultError(f"{result.path}: config.json or reference.json is incomplete ({error})") from None
