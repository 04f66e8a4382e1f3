"""Tables and pictures, made from results alone: no model, no accelerator. Here: what they have in common."""

from madbench.results import Result, ResultError
from madbench.verdict import Cell, strategy_of


def planned(result: Result) -> list[Cell]:
    """The cells that the config asks for, in its order; each is crossed with seeds and generations.

    Raises:
      ResultError: the workdir does not say; one line.
    """
    try:
        task, model = result.config["task"], result.config["model"]["family"]
        done = strategy_of(result.config)
        return [Cell(task, model, entry["loop"], entry["bias"], *done) for entry in result.reference["cells"]]
    except (KeyError, TypeError) as error:
        raise ResultError(f"{result.path}: config.json or reference.json is incomplete ({error})") from None


def named(cell: Cell) -> str:
    """What a picture of a workdir is of: "digits, diffusion", and the strategy with its budget where there is one."""
    treated = [cell.strategy, cell.budget] if cell.budget else []
    return ", ".join([cell.task, cell.model, *treated])
