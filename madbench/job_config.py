"""The config of a job, from the command line: a file, a task, and the fields that are overridden."""

import difflib
import inspect
import json
import os
import pathlib
import re
import runpy

from absl import flags
from ml_collections import config_dict, config_flags

from madbench import command_flags
from madbench.errors import UserError


def read_config(name: str | None) -> config_dict.ConfigDict:
    """What `get_config()` in a file returns, or what a JSON file says, as in a workdir. "FILE:TEXT" passes TEXT to it.

    Not by `DEFINE_config_file`, which loads with a method that Python 3.15 removes and reports errors as tracebacks.
    """
    if not name:
        raise UserError("--config=FILE is missing; try --config=configs/quickstart.py")
    path, colon, text = name.partition(":")
    if not os.path.isfile(path):
        raise UserError(f"config file {path!r} is not there")
    if path.endswith(".json"):
        if colon:
            raise UserError(f"a config.json takes no words, and {name!r} gives it {text!r}")
        return _read_json(path)
    try:
        get_config = runpy.run_path(path).get("get_config")
        if colon and get_config and not inspect.signature(get_config).parameters:
            raise UserError(f"it takes no words, and {name!r} gives it {text!r}")
        config = get_config(*[text] * bool(colon)) if get_config else None
    except UserError as error:
        raise UserError(f"config file {path!r}: {error}") from error
    except Exception as error:  # whatever the file's own code raises
        raise UserError(f"config file {path!r}: {type(error).__name__}: {error}") from error
    if not isinstance(config, config_dict.ConfigDict):
        raise UserError(f"config file {path!r} needs a get_config() that returns madbench.config.base(), with changes")
    return config


def _read_json(path: str) -> config_dict.ConfigDict:
    """The config of a workdir's `config.json`, or of a file that holds the config alone."""
    from madbench import config as configs

    try:
        plain = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        if not isinstance(plain, dict):
            raise ValueError("it is not an object")
    except (ValueError, RecursionError) as error:
        raise UserError(f"config file {path!r}: {error}") from error
    if isinstance(plain.get("config"), dict):
        plain = plain["config"]
    try:
        return configs.from_plain(plain)
    except UserError as error:
        raise UserError(f"config file {path!r}: {error}") from error


def read_task(name: str) -> config_dict.ConfigDict:
    """The frozen config of a task, which also keeps the samples that a submission carries."""
    from madbench import config as configs
    from madbench.leaderboard import tasks

    return configs.from_plain(tasks.load(name).config | {"keep_samples": True})


def refusal(config: config_dict.ConfigDict, name: str) -> str:
    """Why a run of the task `name` under this config cannot be submitted, as a sentence; "" where it can.

    Raises:
      UserError: the config is none that could be run; one line.
    """
    from madbench import config as configs
    from madbench.leaderboard import submission, tasks

    resolved = configs.resolve(config)
    why = submission.differs(resolved, tasks.load(name)) or submission.refusal(resolved)
    if not why and not resolved["keep_samples"]:
        why = "config.keep_samples is False, and a submission has samples"
    return why and f"{why}: this run cannot be submitted to the leaderboard"


def override(config: config_dict.ConfigDict, argv: list[str], known: list[str]) -> config_dict.ConfigDict:
    """The config with the `--config.FIELD=VALUE` of `argv`, which may hold nothing else; `known` are other flags.

    Another source or family brings its own settings, at their defaults; between files of images, form and split stay.
    """
    from madbench import data
    from madbench.config import base

    source, family = _given(argv, "--config.data.source"), _given(argv, "--config.model.family")
    if source is not None and source != config.data.source:
        new = base(source=source).data
        new.update(data.carried(config.data.to_dict(), new.to_dict()))
        config.data = new
    if family is not None and family != config.model.family:
        config.model = base(family=family).model
    _check_fields(config, argv)
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        rest = command_flags.read(values, argv, known)[1:]
    except (AttributeError, LookupError) as error:  # its text is quoted several times over
        text = re.sub(r"[\\'\"]", "", re.sub(r"\\+n", "; ", str(error)))
        raise UserError(f"--config: unknown field {text}") from error
    except TypeError as error:
        raise UserError(f"--config: {error}") from error
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}")
    return values["config"].value


def _check_fields(config: config_dict.ConfigDict, argv: list[str]) -> None:
    """Refuses the first field of `argv` that the config lacks, and names those that may be meant."""
    groups = _groups(config, "config")
    fields = [f"{group}.{name}" for group, names in groups.items() for name in names]
    for argument in argv:
        name = argument.partition("=")[0].lstrip("-")
        if not argument.startswith("-") or not re.fullmatch(r"config\.[\w.]+", name) or name in fields:
            continue
        last = lambda field: field.rpartition(".")[2]
        near = [field for field in fields if last(field) == last(name)]
        near = near or difflib.get_close_matches(name, fields, 2, 0.8)
        near = near or [f for f in fields if last(f) in difflib.get_close_matches(last(name), map(last, fields), 1)]
        near = [f"--{field}" for field in near if field not in groups]
        group = max((group for group in groups if name.startswith(f"{group}.")), key=len)
        meant = f"did you mean {' or '.join(near)}?" if near else f"{group} has {', '.join(groups[group])}"
        raise UserError(f"--{name}: this config has no such field; {meant}")


def _groups(config: config_dict.ConfigDict, name: str) -> dict[str, list[str]]:
    """What each group holds, by its dotted name: fields, and groups in it."""
    inner = {f"{name}.{key}": value for key, value in config.items() if isinstance(value, config_dict.ConfigDict)}
    found = {name: sorted(config)}
    for group, value in inner.items():
        found |= _groups(value, group)
    return found


def _given(argv: list[str], flag: str) -> str | None:
    """What `argv` says of `flag`, the last time it does."""
    found = None
    for here, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = here.partition("=")
        if name.lstrip("-") == flag.lstrip("-"):
            found = value if equals else following
    return found
