"""Configs: every field with its default, and the checks that turn a config into plain, complete values."""

import copy
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from madbench import data, loops, models
from madbench.calls import spelled
from madbench.checks import check_whole
from madbench.errors import UserError
from madbench.results import NO_STRATEGY

MOST_SEEDS = 100_000  # more is a seed that was meant, not a count


def base(source: str = "digits", family: str = "diffusion") -> config_dict.ConfigDict:
    """A complete config: what a file under `configs/` starts from, and what `--config.…` can override.

    Args:
      source: whose settings `config.data` holds.
      family: whose settings `config.model` holds.

    Raises:
      UserError: an unknown source or family; one line.
    """
    config = config_dict.ConfigDict()
    config.task = "unnamed"  # the name in the tables
    config.data = {
        "source": source,
        **data.SOURCES.settings(source),
        "reuse_fresh": False,  # let a fresh loop start over when a finite set is used up; the table says so
    }
    config.model = {"family": family, **models.FAMILIES.settings(family)}
    config.strategy = "none"  # against collapse: a name with settings, "sims(weight=1)", or "package.module:Class"
    config.equal_cost = True  # a strategy's generation costs what it does without: it pays in optimizer steps
    config.n_initial = 600  # real samples of generation 1, from which the presets' sizes follow
    config.loops = ("fully_synthetic",)
    config.biases = (1.0,)  # λ in (0, 1]; crossed with every loop that does not fix its own
    config.seeds = config_dict.FieldReference(3, field_type=object)  # how many, or which: 3 or (0, 1, 2)
    config.generations = 5
    config.metrics = {"names": ("fd", "precision", "recall"), "features": "lenet"}
    config.n_grid = 10  # images of the fixed-noise sample grid, per run and generation; 0 for none
    config.fleet = {
        "max_runs_per_device": 0,  # 0: as many as memory holds
        "memory_fraction": 0.7,  # of a device's memory that the plan may use
        "streaming": "auto",  # training data from host and disk: where they do not fit a device, or always, or never
    }
    config.keep_checkpoints = 2
    config.keep_samples = False  # what the metrics saw in the first and the last generation, for others to check
    return config


def from_plain(plain: dict[str, Any]) -> config_dict.ConfigDict:
    """The config of resolved values, as `resolve` gives them or a JSON file holds them; what it lacks is as in `base`.

    Raises:
      UserError: there is no such source, family or field; one line.
    """
    try:
        config = base(source=plain["data"]["source"], family=plain["model"]["family"])
    except (KeyError, TypeError):
        raise UserError("the config names no data.source or model.family") from None
    tuples = lambda value: (
        {name: tuples(each) for name, each in value.items()} if isinstance(value, dict)
        else tuple(map(tuples, value)) if isinstance(value, list) else value
    )  # fmt: skip
    try:
        config.update(tuples(plain))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f"the config does not fit this madbench: {' '.join(str(error).split())}") from None
    return config


def choose(text: str, *, implied: Mapping[str, Mapping[str, str]] = {}, **choices: tuple[str, ...]) -> dict[str, str]:
    """Reads what follows the colon of a config file, "fresh,gan": words, of each choice at most one, in any order.

    Every word counts: a config has to use all that this returns, whatever the others are.

    Args:
      text: the words.
      implied: by word, what it chooses besides where no word of that choice stands: {"tiny": {"side": "16"}}.
      **choices: by name, the words among which one may stand.

    Returns:
      By name, the word that stands there; where none does, the implied one, or else the first of the choice.

    Raises:
      UserError: another word, or two of one choice; one line with all of them.
    """
    every = "; ".join(" | ".join(words) for words in choices.values())
    found: dict[str, str] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name = next((name for name, words in choices.items() if word in words), None)
        if name is None:
            raise UserError(f"unknown argument {word!r}; choose one of each, separated by commas: {every}")
        if found.setdefault(name, word) != word:
            raise UserError(f"{found[name]!r} and {word!r} exclude each other; choose one of each: {every}")
    defaults = {name: words[0] for name, words in choices.items()}
    for word in found.values():
        defaults |= implied.get(word, {})
    return defaults | found


TINY = {"tiny": {"side": "16"}}  # what the word implies in configs of image sets


def tiny_images(config: config_dict.ConfigDict, *, side: int, fresh: bool) -> None:
    """Makes a config of a large image set one of 192 images or more, of any set, one seed and two generations.

    Args:
      config: is changed.
      side: pixels of the images.
      fresh: whether its loop takes new real samples.
    """
    config.data.update(count=0, resolution=side, n_reference=64)
    config.n_initial = 128
    if fresh:
        config.loops = ("fresh_data(n_initial=96,n_fresh=32,n_synthetic=64)",)
    config.biases = (1.0,)
    config.seeds = 1
    config.generations = 2
    config.metrics.features = "raw"


def resolve(config: config_dict.ConfigDict) -> dict[str, Any]:
    """Plain values for JSON, with lists spelt out.

    Raises:
      UserError: a field is missing, unknown, or of the wrong kind; one line.
    """
    plain = copy.deepcopy(config.to_dict())
    _same_fields(plain, base().to_dict(), "config")
    for group in ("data", "model", "metrics", "fleet"):
        if not isinstance(plain[group], dict):
            raise UserError(f"config.{group} must hold fields, not {plain[group]!r}")
    for group, name in (("data", "source"), ("data", "reuse_fresh"), ("model", "family")):
        if name not in plain[group]:
            raise UserError(f"config.{group}.{name} is missing; start configs from madbench.config.base()")
    for group in ("metrics", "fleet"):
        _same_fields(plain[group], base().to_dict()[group], f"config.{group}")
    plain["loops"] = _loop_texts(plain["loops"])
    plain["biases"] = [_bias(b) for b in _as_list(plain["biases"], "biases")]
    _no_repeats(plain["biases"], "biases", "λ")
    plain["seeds"] = _seeds(plain["seeds"])
    names = _as_list(plain["metrics"]["names"], "metrics.names")
    plain["metrics"]["names"] = [part.strip() for name in names for part in str(name).split(",")]
    for name, least in (("generations", 1), ("n_initial", 1), ("n_grid", 0), ("keep_checkpoints", 1)):
        check_whole("config", least, **{name: plain[name]})
    check_whole("config.fleet", 0, max_runs_per_device=plain["fleet"]["max_runs_per_device"])
    fraction = plain["fleet"]["memory_fraction"]
    if type(fraction) not in (int, float) or not 0 < fraction <= 1:
        raise UserError(f"config.fleet.memory_fraction must lie in (0, 1], not {fraction!r}")
    streaming = plain["fleet"]["streaming"]
    if streaming not in ("auto", "always", "never"):
        raise UserError(f"config.fleet.streaming must be auto, always or never, not {streaming!r}")
    switches = {name: plain[name] for name in ("keep_samples", "equal_cost")}
    for name, value in {"data.reuse_fresh": plain["data"]["reuse_fresh"], **switches}.items():
        if type(value) is not bool:
            raise UserError(f"config.{name} must be True or False, not {value!r}")
    plain["strategy"] = _strategy(plain["strategy"])
    plain["equal_cost"] |= plain["strategy"] == NO_STRATEGY  # which costs nothing that could be paid
    if not isinstance(plain["task"], str) or not plain["task"]:
        raise UserError("config.task must be a name")
    return plain


def _same_fields(given: dict, known: dict, where: str) -> None:
    for name in given.keys() ^ known.keys():
        what = "unknown" if name in given else "missing"
        raise UserError(f"{where}.{name} is {what}; start configs from madbench.config.base()")


def _as_list(value: Any, name: str) -> list:
    if isinstance(value, str) or not isinstance(value, (list, tuple)) or not value:
        raise UserError(f"config.{name} must be a list that is not empty, not {value!r}")
    return list(value)


def _bias(value: Any) -> float:
    loops.check_bias(value, "config.biases: ")
    return float(value)


def _no_repeats(values: list, name: str, what: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{what} {value!r} is repeated in config.{name}")


def _strategy(value: Any) -> str:
    """In one spelling; whether there is such a strategy, and whether it takes these settings, is seen with the data."""
    try:
        return spelled(value)
    except ValueError:
        raise UserError(
            f'config.strategy={value!r}: write a name, with settings where wanted: "sims(weight=1)"'
        ) from None


def _loop_texts(value: Any) -> list[str]:
    """Splits "a,b(c=1,d=2)" at commas outside parentheses, so that a command line needs no quotes within quotes."""
    found = []
    for text in _as_list(value, "loops"):
        if not isinstance(text, str):
            raise UserError(f"config.loops holds {text!r}; each loop is the name of a preset, as text")
        depth, part = 0, ""
        for letter in text + ",":
            depth += (letter == "(") - (letter == ")")
            if letter == "," and depth == 0:
                found.append("".join(part.split()))
                part = ""
            else:
                part += letter
        if part:
            raise UserError(f"config.loops: unbalanced parentheses in {text!r}")
    _no_repeats(found, "loops", "loop")
    return found


def _seeds(value: Any) -> list[int]:
    if type(value) is int:
        if value < 1:
            raise UserError(f"config.seeds must be at least 1, not {value}")
        if value > MOST_SEEDS:
            raise UserError(f"config.seeds={value} asks for that many seeds; for that one seed, write ({value},)")
        return list(range(value))
    seeds = _as_list(value, "seeds")
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise UserError(f"config.seeds: a seed is a whole number from 0 to 2^32 - 1, not {seed!r}")
    _no_repeats(seeds, "seeds", "seed")
    return seeds
