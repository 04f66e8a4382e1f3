"""The commands of the command line: each reads its flags and calls one function."""

import os
import re
import runpy
import sys

from absl import flags, logging
from ml_collections import config_dict, config_flags

from madbench import results


def run(argv: list[str]) -> int:
    """`madbench run`."""
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "A file with get_config().", flag_values=values)
    flags.DEFINE_string("workdir", None, "Where results go.", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print the plan and train nothing.", flag_values=values)
    cache = os.environ.get("MADBENCH_CACHE", "~/.cache/madbench")
    flags.DEFINE_string("cache", cache, "Where trained feature networks are kept.", flag_values=values)
    rest = values(argv, known_only=True)
    config = _override(_read_config(values.config), rest)
    if not values.dry_run and not values.workdir:
        raise ValueError("--workdir=DIR is missing")

    logging.set_verbosity(logging.ERROR)  # Orbax reports every save
    if values.dry_run:
        from madbench import dry_run

        print(dry_run.describe(config))
        return 0
    from madbench import experiment

    try:
        experiment.run(config, values.workdir, cache=values.cache)
    except experiment.Stopped as stopped:
        print("stopped; everything is saved, and the same command goes on from here", file=sys.stderr)
        return 128 + stopped.signal
    from madbench.report import table

    print(table.render([results.load(values.workdir)], "md"), end="")
    return 0


def _read_config(name: str | None) -> config_dict.ConfigDict:
    """What `get_config()` in a file returns. "FILE:TEXT" passes TEXT to it.

    Not by `DEFINE_config_file`, which loads with a method that Python 3.15 removes and reports errors as tracebacks.
    """
    if not name:
        raise ValueError("--config=FILE is missing; try --config=configs/quickstart.py")
    path, colon, text = name.partition(":")
    if not os.path.isfile(path):
        raise ValueError(f"config file {path!r} is not there")
    try:
        get_config = runpy.run_path(path).get("get_config")
        config = get_config(*[text] * bool(colon)) if get_config else None
    except Exception as error:  # whatever the file's own code raises
        raise ValueError(f"config file {path!r}: {type(error).__name__}: {error}") from error
    if not isinstance(config, config_dict.ConfigDict):
        raise ValueError(f"config file {path!r} needs a get_config() that returns madbench.config.base(), with changes")
    return config


def _override(config: config_dict.ConfigDict, argv: list[str]) -> config_dict.ConfigDict:
    """The config with the `--config.FIELD=VALUE` of `argv`, which may hold nothing else."""
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        rest = values(argv)[1:]
    except (AttributeError, LookupError) as error:  # its text is quoted several times over
        text = re.sub(r"[\\'\"]", "", re.sub(r"\\+n", "; ", str(error)))
        raise ValueError(f"--config: unknown field {text}") from error
    except TypeError as error:
        raise ValueError(f"--config: {error}") from error
    if rest:
        raise ValueError(f"unexpected argument {rest[0]!r}")
    return values["config"].value


def table(argv: list[str]) -> int:
    """`madbench table`."""
    values = flags.FlagValues()
    formats = ["md", "csv", "json", "latex"]
    flags.DEFINE_enum("format", "md", formats, "Of the table.", flag_values=values)
    paths = values(argv)[1:]
    if not paths:
        raise ValueError("name one or more workdirs: madbench table DIR ...")
    from madbench.report import table as tables

    print(tables.render([results.load(path) for path in paths], values.format), end="")
    return 0


COMMANDS = {"run": run, "table": table}
