"""The commands of the command line: each reads its flags and calls one function."""

import contextlib
import inspect
import os
import re
import runpy
import sys
import warnings
from collections.abc import Callable
from typing import Any

from absl import flags, logging
from ml_collections import config_dict, config_flags

from madbench import leaderboard_commands, results
from madbench.errors import UserError


def run(argv: list[str]) -> int:
    """`madbench run`."""
    values = flags.FlagValues()
    flags.DEFINE_string("task", "", "Of the leaderboard, in place of --config.", flag_values=values)
    flags.DEFINE_string("shard", "", "I/N: share I, from 1, of N of the grid.", flag_values=values)
    flags.DEFINE_string("on", "", "With --dry_run: devices to plan for, as '4x8 H100'.", flag_values=values)
    flags.DEFINE_bool("distributed", False, "One of several processes, as the cluster says.", flag_values=values)
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.", flag_values=values)
    flags.DEFINE_integer("num_processes", None, "Of this job.", flag_values=values)
    flags.DEFINE_integer("process_id", None, "Of this one, from 0.", flag_values=values)
    flags.DEFINE_integer("initialization_timeout", 300, "Seconds until all have come.", flag_values=values)
    flags.DEFINE_integer("heartbeat_timeout", 30, "Seconds until a silent process is lost.", flag_values=values)
    config, values = _job(argv, values)
    shard = _shard(values.shard)
    if values.dry_run:
        from madbench import dry_run

        print(dry_run.describe(config, values.cache, shard, values.on))
        return 0
    if values.on:
        raise UserError("--on says for which devices a dry run plans; add --dry_run, or leave it out")

    def work():
        from madbench import experiment, processes
        from madbench.report import table

        experiment.run(config, values.workdir, cache=values.cache, shard=shard)
        if processes.is_first():
            print(table.render([results.load(values.workdir)], "md"), end="")

    address = ("coordinator_address", "num_processes", "process_id")
    if not values.distributed and all(values[name].value is None for name in address):
        return _until_stopped(work)
    fields = (*address, "initialization_timeout", "heartbeat_timeout")
    return _one_of_several(work, {name: values[name].value for name in fields})


def _one_of_several(work: Callable[[], None], fields: dict[str, Any]) -> int:
    """`work` as one of several processes, in a child of this one; `fields` are those of `meeting.Meeting`."""
    from madbench import meeting, supervisor

    place = meeting.Meeting(**fields)
    place.check()

    def child():
        from madbench import processes

        with processes.connected(place):
            return _until_stopped(work)

    return supervisor.run(child, meeting.CONNECTED, str(place))


def _shard(text: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not text:
        return None
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--shard={text} is not I/N with I from 1 to N, as in --shard=1/4")
    return int(found[1]), int(found[2])


def phase(argv: list[str]) -> int:
    """`madbench phase`."""
    config, values = _job(argv)
    from madbench.phase import job

    if values.dry_run:
        print(job.describe(config, values.cache))
        return 0
    return _until_stopped(lambda: print(job.run(config, values.workdir, cache=values.cache), end=""))


def _job(argv: list[str], values: flags.FlagValues | None = None) -> tuple[config_dict.ConfigDict, flags.FlagValues]:
    """The config, and --workdir, --dry_run and --cache, of a command that fills a workdir, beside flags of its own."""
    values = values or flags.FlagValues()
    flags.DEFINE_string("config", None, "A file with get_config().", flag_values=values)
    flags.DEFINE_string("workdir", None, "Where results go.", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print the plan and do nothing.", flag_values=values)
    define_cache(values)
    rest = values(argv, known_only=True)
    config = _override(_read_task(values.task) if _given(argv, "task") else _read_config(values.config), rest)
    if not values.dry_run and not values.workdir:
        raise UserError("--workdir=DIR is missing")
    logging.set_verbosity(logging.ERROR)  # Orbax reports every save
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    return config, values


def _until_stopped(work: Callable[[], None]) -> int:
    from madbench import processes, stopping

    try:
        work()
    except stopping.Stopped as stopped:
        if processes.is_first():
            print("stopped; everything is saved, and the same command goes on from here", file=sys.stderr)
        return 128 + stopped.signal
    return 0


def define_cache(values: flags.FlagValues) -> None:
    cache = os.environ.get("MADBENCH_CACHE", "~/.cache/madbench")
    flags.DEFINE_string("cache", cache, "Where feature networks and prepared data are kept.", flag_values=values)


def _read_config(name: str | None) -> config_dict.ConfigDict:
    """What `get_config()` in a file returns. "FILE:TEXT" passes TEXT to it.

    Not by `DEFINE_config_file`, which loads with a method that Python 3.15 removes and reports errors as tracebacks.
    """
    if not name:
        raise UserError("--config=FILE is missing; try --config=configs/quickstart.py")
    path, colon, text = name.partition(":")
    if not os.path.isfile(path):
        raise UserError(f"config file {path!r} is not there")
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


def _read_task(name: str) -> config_dict.ConfigDict:
    """The frozen config of a task, which also keeps the samples that a submission carries."""
    from madbench import config as configs
    from madbench.leaderboard import tasks

    return configs.from_plain(tasks.load(name).config | {"keep_samples": True})


def _override(config: config_dict.ConfigDict, argv: list[str]) -> config_dict.ConfigDict:
    """The config with the `--config.FIELD=VALUE` of `argv`, which may hold nothing else.

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
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        rest = values(argv)[1:]
    except (AttributeError, LookupError) as error:  # its text is quoted several times over
        text = re.sub(r"[\\'\"]", "", re.sub(r"\\+n", "; ", str(error)))
        raise UserError(f"--config: unknown field {text}") from error
    except TypeError as error:
        raise UserError(f"--config: {error}") from error
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}")
    return values["config"].value


def _given(argv: list[str], flag: str) -> str | None:
    """What `argv` says of `flag`, the last time it does."""
    found = None
    for here, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = here.partition("=")
        if name.lstrip("-") == flag.lstrip("-"):
            found = value if equals else following
    return found


def table(argv: list[str]) -> int:
    """`madbench table`. Another verdict is for what is printed; the workdir's own tables keep the default one.

    Shares of a job are one result in what is printed, and each has its own tables in its workdir.
    """
    from madbench.verdict import DEFAULT, DEFINITIONS

    values = flags.FlagValues()
    formats = ["md", "csv", "json", "latex"]
    flags.DEFINE_enum("format", "md", formats, "Of the table.", flag_values=values)
    flags.DEFINE_enum("verdict", DEFAULT, list(DEFINITIONS), "Definition of collapse.", flag_values=values)
    paths = values(argv)[1:]
    if not paths:
        raise UserError("name one or more workdirs: madbench table DIR ...")
    from madbench.report import shares
    from madbench.report import table as tables

    found = [results.load(path) for path in paths]
    text = tables.render(shares.unite(found), values.format, values.verdict)
    for result in found:
        with contextlib.suppress(OSError):  # a workdir that may only be read has a table all the same
            tables.write(result)
    print(text, end="")
    return 0


def evaluate(argv: list[str]) -> int:
    """`madbench evaluate`."""
    from madbench.report import evaluation

    values = flags.FlagValues()
    flags.DEFINE_enum("format", "md", list(evaluation.FORMATS), "Of the table.", flag_values=values)
    flags.DEFINE_string("features", "", "inception, dinov2, lenet or raw; NAME:FILE for weights.", flag_values=values)
    flags.DEFINE_list("metrics", [], "Names of metrics.", flag_values=values)
    flags.DEFINE_string("training", "", "What the generator was trained on.", flag_values=values)
    flags.DEFINE_integer("samples", 0, "From each side; 0: as many as both have.", 0, flag_values=values)
    flags.DEFINE_integer("seed", 0, "Of the choice of samples.", 0, flag_values=values)
    flags.DEFINE_integer("floor_draws", 5, "Of real samples, for the floor.", 0, flag_values=values)
    define_cache(values)
    paths = values(argv)[1:]
    if len(paths) != 2:
        raise UserError("name two sets: madbench evaluate REAL GENERATED (folders of images, or .npz or .npy files)")
    from madbench import evaluate as job

    found = job.run(
        *paths,
        names=[name.strip().lower() for name in values.metrics],
        feature_name=values.features,
        training=values.training,
        samples=values.samples,
        seed=values.seed,
        floor_draws=values.floor_draws,
        cache=values.cache,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(evaluation.render(found, values.format), end="")
    return 0


COMMANDS = {"run": run, "table": table, "evaluate": evaluate, "phase": phase}
COMMANDS |= leaderboard_commands.COMMANDS
