"""From the text of `config.strategy` to a strategy: the suite's own, an installed package's, or anybody's class."""

import dataclasses
import difflib
import importlib
import importlib.metadata
import inspect
from typing import Any

from madbench.calls import read_call
from madbench.errors import UserError
from madbench.models.family import Given
from madbench.strategies.strategy import HOOKS, Strategy, has

# config.strategy -> "module:class"; "none" is the base class, which changes nothing.
STRATEGIES = {
    "none": "madbench.strategies.strategy:Strategy",
    "random_subsample": "madbench.strategies.random_subsample:RandomSubsample",
    "verifier": "madbench.strategies.verifier:Verifier",
    "k_choice": "madbench.strategies.k_choice:KChoice",
    "projection": "madbench.strategies.projection:Projection",
    "entropy_selection": "madbench.strategies.entropy_selection:EntropySelection",
    "golden_ratio": "madbench.strategies.golden_ratio:GoldenRatio",
    "sims": "madbench.strategies.sims:Sims",
    "neon": "madbench.strategies.neon:Neon",
}
# What an installed package calls its own: name = "module:Class" under this group of entry points.
ENTRY_POINTS = "madbench.strategies"

_BASE = {name for name in dir(Strategy) if not name.startswith("_")} | {"given"}


def build(text: str, given: Given) -> Strategy:
    """The strategy that `config.strategy` names, with its settings.

    Args:
      text: "none", "sims(weight=1)", or "my_package.my_module:MyStrategy(alpha=2)".
      given: what the data are.

    Raises:
      UserError: there is none of that name, it is no strategy, or settings, hooks or data do not fit; one line.
    """
    where = f"config.strategy={text!r}"
    try:
        name, settings = read_call(text)
    except ValueError:
        raise UserError(f'{where}: write a name, with settings where wanted: "sims(weight=1)"') from None
    kind = _find(name, where)
    _check_class(kind, where)
    known = {field.name: field.default for field in dataclasses.fields(kind) if field.init and field.name != "given"}
    for setting in settings:
        if setting not in known:
            near = difflib.get_close_matches(setting, known, 1)
            meant = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
            raise UserError(f"{where}: {name} has no setting {setting!r}; {meant}")
    try:
        found = kind(given=given, **settings)
        refusal = found.refusal()
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error
    if not refusal and found.needs_labels and not given.num_classes:
        refusal = "it needs class labels, and these data have none"
    if refusal:
        raise UserError(f"{where}: {refusal}")
    _check_declarations(found, where)
    return found


def method(text: str) -> str:
    """The name alone, without settings: what a leaderboard calls the method."""
    return read_call(text)[0]


def describe(strategy: Strategy | None) -> dict[str, Any]:
    """Settings, what it consumes, and the source, as plain JSON values; None is no strategy."""
    if strategy is None:
        return {"settings": {}, "consumes": [], "cite": ""}
    fields = (f.name for f in dataclasses.fields(strategy) if f.init and f.name != "given")
    consumes = {
        "the real samples of generation 1": strategy.reads_real,
        "labels": strategy.needs_labels,
        f"{strategy.candidates} candidates for each sample of the pool": strategy.candidates > 1,
        f"a second fit, {strategy.extra_fit:g} of the first": strategy.extra_fit > 0,
        "more network evaluations in each step of the sampler": has(strategy, "guide"),
    }
    return {
        "settings": {name: getattr(strategy, name) for name in fields},
        "consumes": [what for what, does in consumes.items() if does],
        "cite": strategy.cite,
    }


def _find(name: str, where: str) -> Any:
    """The class of this name."""
    place = STRATEGIES.get(name)
    if place is None and ":" in name:
        place = name
    if place is None:
        installed = {point.name: point.value for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
        place = installed.get(name)
        if place is None:
            known = [*STRATEGIES, *installed]
            near = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            raise UserError(f"{where}: unknown strategy {name!r}; {meant}, or name your own as package.module:Class")
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{where}: no module {error.name!r} is to be imported; install its package, or set PYTHONPATH to its folder"
        ) from error
    except AttributeError:
        raise UserError(f"{where}: {module} has no {attribute!r}") from None
    except Exception as error:  # whatever its code raises
        raise UserError(f"{where}: {module} cannot be imported: {type(error).__name__}: {error}") from error


def _check_class(kind: Any, where: str) -> None:
    """Refuses what is no strategy, and methods that nothing would call."""
    if not (inspect.isclass(kind) and issubclass(kind, Strategy)):
        raise UserError(f"{where}: it is no subclass of madbench.strategies.Strategy")
    above = kind.__mro__[: kind.__mro__.index(Strategy)]
    if unfrozen := [each.__name__ for each in above if "__dataclass_params__" not in vars(each)]:
        raise UserError(f"{where}: {unfrozen[0]} needs @dataclasses.dataclass(frozen=True, kw_only=True)")
    fields = {field.name for field in dataclasses.fields(kind)}
    for name in dir(kind):
        if name.startswith("_") or name in _BASE or name in fields:
            continue
        near = difflib.get_close_matches(name, sorted(_BASE), 1, 0.6)
        if callable(getattr(kind, name)) or near:
            meant = f"did you mean {near[0]}?" if near else f"hooks are {', '.join(HOOKS)}, and others begin with _"
            raise UserError(f"{where}: {kind.__name__}.{name} is no hook; {meant}")
    for hook in HOOKS:
        takes = list(inspect.signature(getattr(kind, hook)).parameters)
        wanted = list(inspect.signature(getattr(Strategy, hook)).parameters)
        if len(takes) != len(wanted):
            raise UserError(f"{where}: {kind.__name__}.{hook} takes ({', '.join(takes)}), not ({', '.join(wanted)})")


def _check_declarations(strategy: Strategy, where: str) -> None:
    """Refuses declarations that mean nothing."""
    if type(strategy.candidates) is not int or strategy.candidates < 1:
        raise UserError(f"{where}: candidates must be a whole number of at least 1, not {strategy.candidates!r}")
    for name, least in (("extra_fit", 0), ("extra_rate", 0)):
        value = getattr(strategy, name)
        if type(value) not in (int, float) or not least <= value < float("inf"):
            raise UserError(f"{where}: {name} must be a number of at least {least}, not {value!r}")
    if strategy.candidates > 1 and not has(strategy, "select"):
        raise UserError(f"{where}: it draws {strategy.candidates} candidates, and no hook select chooses among them")
    if has(strategy, "extrapolate") and not strategy.extra_fit:
        raise UserError(f"{where}: extrapolate needs an extra fit; set extra_fit")
    if strategy.extra_fit and not (has(strategy, "extrapolate") or has(strategy, "guide")):
        raise UserError(f"{where}: its extra fit is used by no hook; override extrapolate or guide")
