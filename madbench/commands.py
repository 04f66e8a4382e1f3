"""The commands of the command line: each reads its flags and calls one function."""

import contextlib
import pathlib
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from typing import Any

from absl import flags, logging
from ml_collections import config_dict

from madbench import command_flags, job_config, leaderboard_commands, results
from madbench.errors import UserError


def run(argv: list[str]) -> int:
    """`madbench run`."""
    config, values = _job(argv, "run")
    shard = _shard(values.shard)
    if values.tensorboard:
        from madbench import tensorboard

        tensorboard.check()
    if values.dry_run:
        from madbench import dry_run, grid

        job = grid.prepare(config, cache=values.cache, shard=shard, blank=True, on=values.on)
        print(dry_run.describe(job, values.cache), flush=True)
        if job.refusal:
            raise UserError(job.refusal)
        return 0
    if values.on:
        raise UserError("--on says for which devices a dry run plans; add --dry_run, or leave it out")

    def work():
        from madbench import experiment, processes
        from madbench.report import table

        experiment.run(config, values.workdir, cache=values.cache, shard=shard, events=values.tensorboard)
        if processes.is_first():
            whole = shard is None
            text = table.render([results.load(values.workdir)], "md") if whole else _of_share(shard, values.workdir)
            print(text, end="")

    address = ("coordinator_address", "num_processes", "process_id")
    if not values.distributed and all(values[name].value is None for name in address):
        return _until_stopped(work)
    fields = (*address, "initialization_timeout", "heartbeat_timeout")
    return _one_of_several(work, {name: values[name].value for name in fields})


def _of_share(shard: tuple[int, int], workdir: str) -> str:
    """What stands at the end of a share in the place of a table, which would be of a part of the grid."""
    others = " DIR ..." if shard[1] > 1 else ""
    return (
        f"share {shard[0]} of {shard[1]} is done; {pathlib.Path(workdir) / 'table.md'} is of this share alone.\n"
        "One table of all shares, when the others are done (DIR: where they are):\n\n"
        f"    madbench table {shlex.quote(workdir)}{others}\n"
    )


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
    config, values = _job(argv, "phase")
    from madbench.phase import job

    if values.dry_run:
        print(job.describe(config, values.cache))
        return 0
    return _until_stopped(lambda: print(job.run(config, values.workdir, cache=values.cache), end=""))


def _job(argv: list[str], command: str) -> tuple[config_dict.ConfigDict, flags.FlagValues]:
    """The config and the flags of a command that fills a workdir."""
    values, rest = command_flags.parse(command, argv, known_only=True)
    is_task = command == "run" and bool(values.task)
    if is_task and values.config:
        raise UserError(f"--task={values.task} has a config of its own; leave --config={values.config} out")
    config = job_config.read_task(values.task) if is_task else job_config.read_config(values.config)
    marks = {"run": "loops", "phase": "n_real"}  # a field that one's configs have and the other's have not
    other = "phase" if command == "run" else "run"
    if marks[other] in config and marks[command] not in config:
        raise UserError(f"{values.config} is a config of the other command: madbench {other} --config={values.config}")
    config = job_config.override(config, rest, list(values))
    if not values.dry_run and not values.workdir:
        raise UserError("--workdir=DIR is missing")
    if values.workdir:
        _check_workdir(pathlib.Path(values.workdir))
    if is_task and (problem := job_config.refusal(config, values.task)):
        print(f"warning: {problem}", file=sys.stderr, flush=True)
    logging.set_verbosity(logging.ERROR)  # Orbax reports every save
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    return config, values


def _check_workdir(path: pathlib.Path) -> None:
    """Refuses what cannot be a directory, before anything slow."""
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise UserError(f"--workdir={path}: {nearest} is a file and no directory; choose another --workdir")


def _until_stopped(work: Callable[[], None]) -> int:
    from madbench import processes, stopping

    try:
        work()
    except stopping.Stopped as stopped:
        if processes.is_first():
            print("stopped; everything is saved, and the same command goes on from here", file=sys.stderr)
        return 128 + stopped.signal
    return 0


def table(argv: list[str]) -> int:
    """`madbench table`. Another verdict is for what is printed; the workdir's own tables keep the default one.

    Shares of a job are one result in what is printed, and each has its own tables in its workdir.
    """
    values, (_, *paths) = command_flags.parse("table", argv)
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


def report(argv: list[str]) -> int:
    """`madbench report`: the tables, the pictures and the page, made again in the workdir; or the page elsewhere."""
    values, (_, *paths) = command_flags.parse("report", argv)
    if len(paths) != 1:
        raise UserError("name one workdir: madbench report DIR")
    from madbench.report import workdir

    result = results.load(paths[0])
    out = pathlib.Path(values.out or result.path)
    if not values.out and (out / "submission.json").exists():
        raise UserError(f"{out} is a submission, in which a report has no place; name --out=FILE elsewhere")
    if values.out and out.is_dir():
        raise UserError(f"--out={out} is a directory; name a file in it, as in --out={out / workdir.PAGE}")
    if values.out and not out.parent.is_dir():
        raise UserError(f"--out={out}: the directory {out.parent} is not there; make it first")
    if values.out:
        results.write_text(pathlib.Path(values.out), workdir.render_page(result))
    else:
        workdir.write(result)
    print(f"wrote {values.out or result.path / workdir.PAGE}")
    return 0


def compare(argv: list[str]) -> int:
    """`madbench compare`: strategies against none, printed, and with --out written with the picture."""
    values, (_, *paths) = command_flags.parse("compare", argv)
    if len(paths) < 2:
        raise UserError("name a workdir of strategy none and others of strategies: madbench compare DIR DIR ...")
    from madbench.report import comparison, comparison_text, shares

    out = pathlib.Path(values.out) if values.out else None
    if out and out.exists() and not out.is_dir():
        raise UserError(f"--out={out} is a file; name a folder, which is made where there is none")
    if out and (out / "submission.json").exists():
        raise UserError(f"{out} is a submission, in which a comparison has no place; name --out=FOLDER elsewhere")
    found = comparison.compare(shares.unite([results.load(path) for path in paths]))
    if out:
        from madbench.report import comparison_plot, pictures

        out.mkdir(parents=True, exist_ok=True)
        comparison_text.write(found, out)
        pictures.save(comparison_plot.plot(found), out, comparison_text.NAME)
    print(comparison_text.render(found, values.format), end="")
    return 0


def evaluate(argv: list[str]) -> int:
    """`madbench evaluate`."""
    from madbench.report import evaluation

    values, (_, *paths) = command_flags.parse("evaluate", argv)
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


COMMANDS = {"run": run, "table": table, "report": report, "compare": compare, "evaluate": evaluate, "phase": phase}
COMMANDS |= leaderboard_commands.COMMANDS
