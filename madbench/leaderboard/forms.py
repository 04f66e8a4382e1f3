"""What each JSON file of a submission looks like: every field that there is, and what may stand in it.

A form is a dict of forms (those fields and no others), a list of one form (a list of such), an `Each` (an object of any
names), `Fields`, or an `Is`, which judges one value.

Every file says by a number, its schema, which fields it must have: `SCHEMA` of the manifest, by which config.json and
the summary go too, and `results.SCHEMA` of the other files. A field that comes later is `Since(n, form)`, n the new
number of that schema: it must be there from n on, and may be in what says an older number. So what was published stays
valid.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

from madbench import results
from madbench.calls import read_call, spelled
from madbench.leaderboard.files import shown
from madbench.strategy_names import STRATEGIES

SCHEMA = 2  # of submission.json
# Against collapse, that a submission can name: those of madbench; or a class of somebody else's.
METHODS = tuple(STRATEGIES)
LONGEST = 200  # characters of a text for people
_MOST_MARKS = 4  # on one letter: no script needs more
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9])){0,59}")
_BLANK = re.compile("[\u115f\u1160\u2800\u3164\uffa0]")  # letters and signs, says Unicode, that show nothing
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_URL = re.compile(rf"https?://{_HOST}(?:[/?#][A-Za-z0-9!#$%&()*+,./:;=?@_~-]*)?")
# A class of somebody else's. Capitals tell it from an address.
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}(?:\.[A-Za-z_][A-Za-z0-9_]{0,59}){0,5}:[A-Z][A-Za-z0-9_]{0,59}")
_LISTED = 20  # values of a list of settings, or of what a strategy consumes


class Is(NamedTuple):
    """A single value: what it must be, for people, and whether it is."""

    what: str
    holds: Callable[[Any], bool]


class Each(NamedTuple):
    """An object of any names, each of one line; `form` is of its values."""

    form: Any


class Fields(NamedTuple):
    """A dict of fields, of which those in `optional` may be absent."""

    form: dict[str, Any]
    optional: tuple[str, ...]


class Since(NamedTuple):
    """A field of a dict that came with a later schema: see the module's text."""

    schema: int
    form: Any


def mismatch(form: Any, value: Any, where: str, schema: int | None = None) -> str:
    """The first way in which `value`, as `files.parse` gives it, is not of the form; "" where it is.

    Args:
      form: see the module's text.
      value: of any kind.
      where: its name, for the message.
      schema: what it says it is; None, and where an object has a "schema" itself, for that. Without either, the newest.
    """
    if isinstance(form, Is):
        return "" if form.holds(value) else f"{where} is {shown(value)}, not {form.what}"
    optional: tuple[str, ...] = ()
    if isinstance(form, Fields):
        form, optional = form
    if isinstance(form, dict):
        if isinstance(value, dict) and "schema" in form and type(value.get("schema")) is int:
            schema = value["schema"]
        later = {name: part.schema for name, part in form.items() if isinstance(part, Since)}
        optional += tuple(name for name, first in later.items() if schema is not None and schema < first)
        form = {name: part.form if isinstance(part, Since) else part for name, part in form.items()}
    inside = f"{where} " if where.endswith(":") else f"{where}."
    if not isinstance(value, list if isinstance(form, list) else dict):
        return f"{where} is {shown(value)}, not {'a list' if isinstance(form, list) else 'an object'}"
    if isinstance(form, list):
        inner = ((form[0], part, f"{where}[{i}]") for i, part in enumerate(value))
    elif isinstance(form, Each):
        if bad := next((name for name in value if not is_line(name)), None):
            return f"{where} has a field of the name {shown(bad)}"
        inner = ((form.form, part, f"{inside}{shown(name)}") for name, part in value.items())
    else:
        for name in form:
            if name not in value and name not in optional:
                return f"{inside}{name} is missing"
        for name in value:
            if name not in form:
                return f"{inside}{shown(name)} is unknown"
        inner = ((form[name], part, f"{inside}{name}") for name, part in value.items())
    return next(filter(None, (mismatch(*each, schema) for each in inner)), "")


def is_line(value: Any) -> bool:
    """A text of at most 200 printable characters: no line feeds, control characters, marks that turn the direction,
    letters that show nothing, or towers of accents, which cover the lines around them.

    Tags and markup may stand in it: who shows it escapes it.
    """
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable() or value != value.strip():
        return False
    if value.isascii():
        return True
    marks = "".join("m" if unicodedata.category(letter) in ("Mn", "Me") else " " for letter in value)
    return "m" * (_MOST_MARKS + 1) not in marks and not _BLANK.search(value)


def method_of(strategy: Any) -> str:
    """The name that `config.strategy` begins with, which is the method of a submission; "" where none can be read.

    Nothing is imported, and nothing but literals is evaluated.
    """
    try:
        return read_call(strategy)[0]
    except ValueError:
        return ""


def is_class(method: str) -> bool:
    """Whether a method is somebody else's code, "package.module:Class", and not madbench's own."""
    return _CLASS.fullmatch(method) is not None


def _is_method(value: Any) -> bool:
    return isinstance(value, str) and (value in METHODS or is_class(value))


def _is_strategy(value: Any) -> bool:
    """In the one spelling that a resolved config has; "<" and ">" are in no setting that anybody needs."""
    if not is_line(value) or set("<>") & set(value) or value != _spelling(value):
        return False
    method = method_of(value)
    return _is_method(method) and (method != results.NO_STRATEGY or value == method)


def _spelling(value: str) -> str:
    try:
        return spelled(value)
    except ValueError:
        return ""


def _is_setting(value: Any) -> bool:
    """What a setting may be: as a strategy's own, or a list of such."""
    if isinstance(value, list):
        return len(value) <= _LISTED and not any(isinstance(each, list) or not _is_setting(each) for each in value)
    return value is None or type(value) in (bool, int, float) or is_line(value)


def _whole(least: int) -> Is:
    return Is(f"a whole number from {least}", lambda v: type(v) is int and v >= least)


def schema(newest: int) -> Is:
    """The number of a schema that this version knows."""
    what = "1" if newest == 1 else f"a whole number from 1 to {newest}"
    return Is(f"{what} (a larger one is of a newer madbench: update)", lambda v: type(v) is int and 1 <= v <= newest)


def _one_of(choices: tuple[str, ...]) -> Is:
    return Is(f"one of {', '.join(choices)}", lambda v: isinstance(v, str) and v in choices)


def _match(pattern: re.Pattern, what: str) -> Is:
    return Is(what, lambda v: isinstance(v, str) and pattern.fullmatch(v) is not None)


def _or_null(form: Is) -> Is:
    return Is(f"{form.what} or null", lambda v: v is None or form.holds(v))


_ANY = Is("a value", lambda v: True)
LINE = Is(f"one line of at most {LONGEST} printable characters", is_line)
FILLED = Is(f"one line of 1 to {LONGEST} printable characters", lambda v: is_line(v) and v != "")
NUMBER = Is("a number", lambda v: type(v) in (int, float))
SECONDS = Is("a number from 0 to 10^9", lambda v: type(v) in (int, float) and 0 <= v <= 1e9)
BOOL = Is("true or false", lambda v: type(v) is bool)
WHOLE = _whole(0)
COUNT = _whole(1)
HASH = _match(re.compile(r"[0-9a-f]{64}"), "a sha256 in hexadecimal digits")
VERSION = _match(re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}"), "a version such as 1.2.3")
NAME = _match(_NAME, "1 to 60 letters, digits, -, _ and . of ASCII, a letter or digit first and no . last")
METHOD = Is(f"one of {', '.join(METHODS)}, or package.module:Class", _is_method)
STRATEGY = Is(
    f"a method, with its settings where wanted, of at most {LONGEST} characters in all, none of them < or >: "
    f"{', '.join(METHODS)}, or package.module:Class",
    _is_strategy,
)
SHARE = Is("a number from 0 to 1", lambda v: type(v) in (int, float) and 0 <= v <= 1)
URL = Is(
    'an address that begins with http:// or https://, or ""',
    lambda v: is_line(v) and (v == "" or _URL.fullmatch(v) is not None),
)

TEXTS = {"name": NAME, "contact": LINE, "url": URL, "hardware": FILLED, "note": LINE}
MANIFEST = {
    "schema": schema(SCHEMA),
    "name": NAME,
    "method": METHOD,
    "strategy": Since(2, STRATEGY),  # the same with its settings
    "task": FILLED,
    "task_version": COUNT,
    "task_sha256": HASH,
    "benchmark": VERSION,
    **{field: TEXTS[field] for field in ("contact", "url", "hardware", "note")},
    "summary": Each(_ANY),  # compared with what it must be
    "files": Each({"bytes": WHOLE, "sha256": HASH}),
}
CONFIG = {"sha256": HASH, "config": Each(_ANY)}  # likewise, but for
HOW = {
    "fleet": {
        "max_runs_per_device": WHOLE,
        "memory_fraction": NUMBER,
        "streaming": _one_of(("auto", "always", "never")),
    },
    "keep_checkpoints": COUNT,
    "keep_samples": BOOL,
    "strategy": Since(2, STRATEGY),
    "equal_cost": Since(2, BOOL),
}
_ENVIRONMENT = {
    "schema": schema(results.SCHEMA),
    "versions": Each(LINE),
    "platform": LINE,
    "processor": LINE,
    "device": {"kind": LINE, "platform": LINE, "count": COUNT},
    "processes": COUNT,
    "plan": Each(Is("a whole number from 0, or true or false", lambda v: BOOL.holds(v) or WHOLE.holds(v))),
    "source_sha256": HASH,
    "dataset": {"name": LINE, "version": LINE, "count": _or_null(COUNT), "sha256": HASH},
}
ENVIRONMENT = Fields({**_ENVIRONMENT, "resumed_with": [_ENVIRONMENT]}, ("resumed_with",))
TIMING = {
    "schema": schema(results.SCHEMA),
    "wave": WHOLE,
    "generation": COUNT,
    "runs": COUNT,
    "steps": WHOLE,
    **{f"{phase}_seconds": SECONDS for phase in results.PHASES},
    "fit_flops": WHOLE,
    "sample_flops": WHOLE,
}
_DESCRIBED = {
    "name": STRATEGY,
    "equal_cost": BOOL,
    "reads_real": BOOL,
    "settings": Each(Is(f"a number, a line, true, false, null, or a list of at most {_LISTED} of these", _is_setting)),
    "consumes": Is(
        f"a list of at most {_LISTED} lines",
        lambda v: isinstance(v, list) and len(v) <= _LISTED and all(map(is_line, v)),
    ),
    "cite": LINE,
}


def reference(metrics: list[str]) -> dict[str, Any]:
    """The form of reference.json, of a config with these metrics."""
    info = {
        "version": COUNT,
        "label": LINE,
        "direction": _one_of(("lower", "higher")),
        "kind": _one_of(("distance", "share", "count", "positive", "number")),
        "note": Is("a text", lambda v: isinstance(v, str)),
        "most": _or_null(NUMBER),
    }
    return {
        "schema": schema(results.SCHEMA),
        "features": LINE,
        "n_samples": COUNT,
        "metrics": dict.fromkeys(metrics, info),
        "floors": {name: dict.fromkeys(("mean", "p5", "p95"), NUMBER) for name in metrics},
        "bias_meaning": LINE,
        "strategy": Since(2, _DESCRIBED),
        "cells": [{"loop": LINE, "bias": NUMBER, "settings": Each(_ANY)}],  # compared with the task's
    }


def row(metrics: list[str]) -> dict[str, Any]:
    """The form of a row of metrics.jsonl."""
    return {
        "schema": schema(results.SCHEMA),
        "benchmark": VERSION,
        **dict.fromkeys(("task", "model", "loop"), LINE),
        "bias": NUMBER,
        "seed": WHOLE,
        "generation": COUNT,
        **dict.fromkeys(("n_real", "n_synthetic"), WHOLE),
        "n_samples": COUNT,
        "status": _one_of(("ok", "diverged")),
        "strategy": Since(2, STRATEGY),
        "equal_cost": Since(2, BOOL),
        **dict.fromkeys(("flops", "n_real_seen", "extra_parameters"), Since(2, WHOLE)),
        "pool_memorization": Since(2, _or_null(SHARE)),
        **dict.fromkeys(metrics, _or_null(NUMBER)),
        "metric_versions": dict.fromkeys(metrics, COUNT),
        "features": LINE,
    }
