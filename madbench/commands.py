"""The commands of the command line: each reads its flags and calls one function."""

import os
import sys

from absl import flags, logging
from ml_collections import config_flags

from madbench import results


def run(argv: list[str]) -> int:
    """`madbench run`."""
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "Where results go.", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print the plan and train nothing.", flag_values=values)
    cache = os.environ.get("MADBENCH_CACHE", "~/.cache/madbench")
    flags.DEFINE_string("cache", cache, "Where trained feature networks are kept.", flag_values=values)
    config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True, sys_argv=argv)
    _check_file(argv)
    try:
        rest = values(argv)[1:]
        config = values["config"].value
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"--config: {str(error).strip(chr(39))}") from error
    if rest:
        raise ValueError(f"unexpected argument {rest[0]!r}")
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

    print(table.render([results.load(values.workdir)], "md"))
    return 0


def _check_file(argv: list[str]) -> None:
    """The config file must be there; ml_collections would say so only later, and with a traceback."""
    for i, argument in enumerate(argv):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "config" and argument.startswith("-"):
            path = value if equals else "".join(argv[i + 1 : i + 2])
            if not os.path.isfile(path.partition(":")[0]):
                raise ValueError(f"config file {path!r} is not there")
            return
    raise ValueError("--config=FILE is missing; try --config=configs/quickstart.py")


def table(argv: list[str]) -> int:
    """`madbench table`."""
    values = flags.FlagValues()
    formats = ["md", "csv", "json", "latex"]
    flags.DEFINE_enum("format", "md", formats, "Of the table.", flag_values=values)
    paths = values(argv)[1:]
    if not paths:
        raise ValueError("name one or more workdirs: madbench table DIR ...")
    from madbench.report import table as tables

    print(tables.render([results.load(path) for path in paths], values.format))
    return 0


COMMANDS = {"run": run, "table": table}
