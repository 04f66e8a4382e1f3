"""From the text of `config.strategy` to a strategy: the suite's own, an installed package's, or anybody's class."""

import dataclasses
import difflib
import importlib
import importlib.metadata
import inspect
import math
from typing import Any

from madbench.calls import read_call
from madbench.checks import check_number, check_whole
from madbench.errors import UserError
from madbench.models.family import Given
from madbench.strategies.strategy import HOOKS, Strategy, has
from madbench.strategy_names import STRATEGIES

# What an installed package calls its own: name = "module:Class" under this group of entry points.
ENTRY_POINTS = "madbench.strategies"

_BASE = {name for name in dir(Strategy) if not name.startswith("_")} | {"given"}
_DECLARATIONS = ("candidates", "reads_real", "needs_labels", "extra_fit", "extra_rate", "cite")


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
    known = {field.name for field in dataclasses.fields(kind) if field.init and field.name != "given"}
    for setting in settings:
        if setting not in known:
            near = difflib.get_close_matches(setting, known, 1)
            meant = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known)) or 'none'}"
            raise UserError(f"{where}: {name} has no setting {setting!r}; {meant}")
    try:
        found = kind(given=given, **settings)
        declared = {name: getattr(found, name) for name in _DECLARATIONS}  # some may be properties
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except Exception as error:  # whatever its own code raises
        raise UserError(f"{where}: {said(error)}") from error
    _check_declarations(found, declared, where)
    if found.needs_labels and not given.num_classes:
        raise UserError(f"{where}: it needs class labels, and these data, or this model, have none")
    return found


def said(error: BaseException) -> str:
    """What code that is not ours raised, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def describe(strategy: Strategy | None) -> dict[str, Any]:
    """Settings, what it consumes, and the source, as plain JSON values; None is no strategy."""
    if strategy is None:
        return {"reads_real": False, "settings": {}, "consumes": [], "cite": ""}
    fields = (f.name for f in dataclasses.fields(strategy) if f.init and f.name != "given")
    consumes = {
        "the real samples of generation 1": strategy.reads_real,
        "labels": strategy.needs_labels,
        f"{strategy.candidates} candidates for each sample of the pool": strategy.candidates > 1,
        f"a second fit, {strategy.extra_fit:g} of the first": strategy.extra_fit > 0,
        "more network evaluations in each step of the sampler": has(strategy, "guide"),
    }
    return {
        "reads_real": strategy.reads_real,
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
        place = installed.get(name, "").partition("[")[0].replace(" ", "")  # "module:Class [extra]" is one too
        if not place:
            known = [*STRATEGIES, *installed]
            near = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}."
            raise UserError(f"{where}: unknown strategy {name!r}; {meant} A class of yours is package.module:Class")
    module, _, attribute = place.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{where}: there is no module {error.name or module!r} here; install its package, or set PYTHONPATH to "
            "its folder"
        ) from error
    except (Exception, SystemExit) as error:  # whatever its code raises
        raise UserError(f"{where}: {module} cannot be imported: {said(error)}") from error
    if not hasattr(found, attribute):
        classes = [name for name, value in vars(found).items() if inspect.isclass(value)]
        near = difflib.get_close_matches(attribute, classes, 1)
        raise UserError(f"{where}: {module} has no {attribute!r}{f'; did you mean {near[0]}?' if near else ''}")
    return getattr(found, attribute)


def _check_class(kind: Any, where: str) -> None:
    """Refuses what is no strategy, and names that nothing would look at."""
    if not (inspect.isclass(kind) and issubclass(kind, Strategy)):
        raise UserError(f"{where}: it is no subclass of madbench.strategies.Strategy")
    above = kind.__mro__[: kind.__mro__.index(Strategy)]
    if unfrozen := [each.__name__ for each in above if "__dataclass_params__" not in vars(each)]:
        raise UserError(f"{where}: {unfrozen[0]} needs @dataclasses.dataclass(frozen=True, kw_only=True)")
    fields = {field.name for field in dataclasses.fields(kind)}
    for name in sorted(fields | {name for name in dir(kind) if not name.startswith("_")}):
        if name in _BASE:
            continue
        if name not in fields and callable(getattr(kind, name)):
            near = difflib.get_close_matches(name, sorted(_BASE), 1, 0.6)
            meant = f"did you mean {near[0]}?" if near else f"hooks are {', '.join(HOOKS)}, and others begin with _"
            raise UserError(f"{where}: {kind.__name__}.{name} is no hook; {meant}")
        if near := difflib.get_close_matches(name, _DECLARATIONS, 1, 0.87):
            raise UserError(f"{where}: {kind.__name__}.{name} declares nothing; did you mean {near[0]}?")
    for hook in HOOKS:
        if not inspect.isfunction(inspect.unwrap(own := getattr(kind, hook))):
            raise UserError(f"{where}: {kind.__name__}.{hook} is the name of a hook, and this is no method")
        takes, wanted = (list(inspect.signature(each).parameters) for each in (own, getattr(Strategy, hook)))
        if len(takes) != len(wanted):
            raise UserError(f"{where}: {kind.__name__}.{hook} takes ({', '.join(takes)}), not ({', '.join(wanted)})")


def _check_declarations(strategy: Strategy, declared: dict[str, Any], where: str) -> None:
    """Refuses what means nothing: settings that no file can hold, declarations, and hooks without what they need."""
    own = f"{where}: {type(strategy).__name__}"
    for field in dataclasses.fields(strategy):
        if field.init and field.name != "given" and not _is_plain(value := getattr(strategy, field.name)):
            text = " ".join(repr(value).split())[:80]
            raise UserError(
                f"{own}.{field.name} is {text}; settings are finite numbers, text, True, False, None, lists"
            )
    for name, kind in (("reads_real", bool), ("needs_labels", bool), ("cite", str)):
        if type(declared[name]) is not kind:
            raise UserError(
                f"{own}.{name} must be {'text' if kind is str else 'True or False'}, not {declared[name]!r}"
            )
    check_whole(own, 1, candidates=declared["candidates"])
    check_number(own, declared["extra_fit"], "extra_fit", least=0)
    check_number(own, declared["extra_rate"], "extra_rate", above=0)
    does = {hook for hook in HOOKS if has(strategy, hook)}
    if not does and type(strategy) is not Strategy:
        raise UserError(f"{where}: it overrides no hook; hooks are {', '.join(HOOKS)}")
    if declared["candidates"] > 1 and "select" not in does:
        raise UserError(f"{where}: it draws {declared['candidates']} candidates, and no hook select chooses among them")
    if "extrapolate" in does and not declared["extra_fit"]:
        raise UserError(f"{where}: extrapolate needs an extra fit; set extra_fit")
    if declared["extra_fit"] and not does & {"extrapolate", "guide"}:
        raise UserError(f"{where}: its extra fit is used by no hook; override extrapolate or guide")
    if "init" in does and not does & {"select", "guide"}:
        raise UserError(f"{where}: what its init returns is used by no hook; override select or guide")
    if declared["reads_real"] and "init" not in does:
        raise UserError(f"{where}: it reads_real, which init gets; override init")


def _is_plain(value: Any) -> bool:
    """Whether JSON can say it: a setting stands in files."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or type(value) in (bool, int, str)
