"""The flags of the commands: what they are, how they are read, and what is said of those that nobody knows."""

import difflib
import os
import textwrap
from collections.abc import Iterable

from absl import flags

from madbench.errors import UserError

# What Python says of a value, and what it should have been.
_MEANT = {
    "invalid literal for int()": "a whole number",
    "could not convert string to float": "a number",
    "('Non-boolean argument": "true or false",
}


def parse(command: str, argv: list[str], *, known_only: bool = False) -> tuple[flags.FlagValues, list[str]]:
    """The flags of a command, and what is left of `argv`."""
    values = flags.FlagValues()
    _FLAGS[command](values)
    return values, read(values, argv, list(values), known_only=known_only)


def read(values: flags.FlagValues, argv: list[str], known: Iterable[str], *, known_only: bool = False) -> list[str]:
    """`values(argv)`; its refusals in our words, with the nearest of the `known` flags."""
    try:
        return values(argv, known_only=known_only)
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, [*known, *values], 1)
        meant = f"did you mean --{near[0]}?" if near else "see madbench --help"
        raise UserError(f"unknown flag --{error.flagname}; {meant}") from None
    except flags.IllegalFlagValueError as error:
        text = str(error)
        for begin, kind in _MEANT.items():
            if f": {begin}" in text:
                text = f"{text.partition(f': {begin}')[0].removeprefix('flag ')} is not {kind}"
        raise UserError(text) from None


def explain(command: str) -> str:
    """The flags of a command with their defaults, a line each or more."""
    values = flags.FlagValues()
    _FLAGS[command](values)
    lines = []
    for name in values:
        flag = values[name]
        default = "" if flag.default in (None, "", False) else f"={flag.default_unparsed}"
        lines.append(
            textwrap.fill(f"--{name}{default}  {flag.help}", 118, initial_indent="  ", subsequent_indent=" " * 6)
        )
    return "\n".join(lines)


def _flags_of_jobs(values: flags.FlagValues) -> None:
    """Of the commands that fill a workdir."""
    flags.DEFINE_string("config", None, "A file with get_config(), or a config.json.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Where results go.", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print the plan and do nothing.", flag_values=values)
    _define_cache(values)


def _flags_of_run(values: flags.FlagValues) -> None:
    _flags_of_jobs(values)
    flags.DEFINE_string("task", "", "Of the leaderboard, in place of --config: its name.", flag_values=values)
    flags.DEFINE_string("shard", "", "I/N: share I, from 1, of N of the grid.", flag_values=values)
    flags.DEFINE_string("on", "", "With --dry_run: devices to plan for, as '4x8 H100'.", flag_values=values)
    flags.DEFINE_bool("tensorboard", False, "Event files in WORKDIR/tensorboard.", flag_values=values)
    text = "One of several processes; the launcher (SLURM, Open MPI, Cloud TPU, Kubernetes) says which."
    flags.DEFINE_bool("distributed", False, text, flag_values=values)
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.", flag_values=values)
    flags.DEFINE_integer("num_processes", None, "Of this job.", flag_values=values)
    flags.DEFINE_integer("process_id", None, "Of this one, from 0.", flag_values=values)
    text = "Seconds until all processes must have come; those that have then end with exit code 75."
    flags.DEFINE_integer("initialization_timeout", 300, text, flag_values=values)
    text = (
        "Seconds without a sign of life until a process counts as lost; the others then end with exit code 75, all up "
        "to the newest checkpoint is saved, and the same command resumes it."
    )
    flags.DEFINE_integer("heartbeat_timeout", 30, text, flag_values=values)


def _flags_of_table(values: flags.FlagValues) -> None:
    from madbench.verdict import DEFAULT, DEFINITIONS

    formats = ["md", "csv", "json", "latex"]
    flags.DEFINE_enum("format", "md", formats, "Of the table.", flag_values=values)
    flags.DEFINE_enum("verdict", DEFAULT, list(DEFINITIONS), "Definition of collapse.", flag_values=values)


def _flags_of_evaluate(values: flags.FlagValues) -> None:
    from madbench.report import evaluation

    flags.DEFINE_enum("format", "md", list(evaluation.FORMATS), "Of the table.", flag_values=values)
    flags.DEFINE_string("features", "", "inception, dinov2, lenet or raw; NAME:FILE for weights.", flag_values=values)
    flags.DEFINE_list("metrics", [], "Names of metrics.", flag_values=values)
    flags.DEFINE_string("training", "", "What the generator was trained on.", flag_values=values)
    flags.DEFINE_integer("samples", 0, "From each side; 0: as many as both have.", 0, flag_values=values)
    flags.DEFINE_integer("seed", 0, "Of the choice of samples.", 0, flag_values=values)
    flags.DEFINE_integer("floor_draws", 5, "Of real samples, for the floor.", 0, flag_values=values)
    _define_cache(values)


def _flags_of_submit(values: flags.FlagValues) -> None:
    flags.DEFINE_string("name", None, "Of the submission, for folders and pages.", flag_values=values)
    flags.DEFINE_string("out", None, "Directory to make.", flag_values=values)
    flags.DEFINE_string("contact", "", "Whom to ask.", flag_values=values)
    flags.DEFINE_string("url", "", "Of more about it.", flag_values=values)
    flags.DEFINE_string("hardware", "", "By default the devices in environment.json.", flag_values=values)
    flags.DEFINE_string("note", "", "One line.", flag_values=values)


def _flags_of_report(values: flags.FlagValues) -> None:
    text = "A file for the page alone; nothing is written into the workdir."
    flags.DEFINE_string("out", "", text, flag_values=values)


def _flags_of_compare(values: flags.FlagValues) -> None:
    text = "A folder for comparison.md, .csv, .json, .png and .svg; made where there is none."
    flags.DEFINE_string("out", "", text, flag_values=values)
    flags.DEFINE_enum("format", "md", ["md", "csv", "json"], "Of what is printed.", flag_values=values)


def _flags_of_leaderboard(values: flags.FlagValues) -> None:
    text = "Where the site goes: an empty or new folder, or a site made before."
    flags.DEFINE_string("out", None, text, flag_values=values)
    text = "A file with the markers, between which the table goes."
    flags.DEFINE_string("readme", "", text, flag_values=values)


def _flags_of_verify(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("pairs", 2, "(Run, generation) pairs to compute again.", 0, flag_values=values)
    flags.DEFINE_integer("until", 0, "No generation beyond this one; 0: no limit.", 0, flag_values=values)
    flags.DEFINE_integer("seed", None, "Of their choice, to repeat a report; nobody's by default.", flag_values=values)
    flags.DEFINE_bool("record", False, "Write verification.json into the submission.", flag_values=values)
    text = "Import and execute its author's class, of a method package.module:Class."
    flags.DEFINE_bool("allow_code", False, text, flag_values=values)
    flags.DEFINE_bool("verbose", False, "Show every value that was compared.", flag_values=values)
    _define_cache(values)


def _flags_of_check(values: flags.FlagValues) -> None:
    text = "A folder of submissions, none of which may have the same name or times."
    flags.DEFINE_string("beside", "", text, flag_values=values)
    flags.DEFINE_bool("verbose", False, "Name the checks that passed, too.", flag_values=values)


def _define_cache(values: flags.FlagValues) -> None:
    cache = os.environ.get("MADBENCH_CACHE", "~/.cache/madbench")
    flags.DEFINE_string("cache", cache, "Where feature networks and prepared data are kept.", flag_values=values)


_FLAGS = {
    "run": _flags_of_run,
    "table": _flags_of_table,
    "evaluate": _flags_of_evaluate,
    "phase": _flags_of_jobs,
    "report": _flags_of_report,
    "compare": _flags_of_compare,
    "submit": _flags_of_submit,
    "check": _flags_of_check,
    "verify": _flags_of_verify,
    "leaderboard": _flags_of_leaderboard,
}
