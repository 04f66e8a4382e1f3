"""The commands of the leaderboard, as `commands` has the others."""

import os
import sys

from absl import flags, logging

from madbench.errors import UserError


def submit(argv: list[str]) -> int:
    """`madbench submit`."""
    values = flags.FlagValues()
    flags.DEFINE_string("name", None, "Of the submission, for folders and pages.", flag_values=values)
    flags.DEFINE_string("out", None, "Directory to make.", flag_values=values)
    flags.DEFINE_string("contact", "", "Whom to ask.", flag_values=values)
    flags.DEFINE_string("url", "", "Of more about it.", flag_values=values)
    flags.DEFINE_string("hardware", "", "By default the devices in environment.json.", flag_values=values)
    flags.DEFINE_string("note", "", "One line.", flag_values=values)
    paths = values(argv)[1:]
    if not paths:
        raise UserError("name the workdir of a finished task: madbench submit DIR --name=NAME --out=SUBMISSION")
    for field, example in (("name", "NAME"), ("out", "SUBMISSION")):
        if not values[field].value:
            raise UserError(f"--{field}={example} is missing")
    from madbench.leaderboard import packing

    texts = {field: values[field].value for field in ("name", "contact", "url", "hardware", "note")}
    print(packing.describe(packing.pack(paths, values.out, **texts)))
    return 0


def check(argv: list[str]) -> int:
    """`madbench check`: a line a check. 2 where any failed."""
    values = flags.FlagValues()
    paths = [os.path.normpath(path) for path in values(argv)[1:]]
    if not paths:
        raise UserError("name one or more submissions: madbench check SUBMISSION ...")
    from madbench.leaderboard import checks

    failed = False
    for number, path in enumerate(paths):
        if len(paths) > 1:
            print(f"{chr(10) * (number > 0)}{path}")
        for finding in checks.run(path):
            failed |= not finding.ok
            print(finding)
    for number, finding in enumerate(checks.clashes(paths)):
        failed = True
        print(f"{chr(10) * (number == 0)}{finding}")
    return 2 if failed else 0


def verify(argv: list[str]) -> int:
    """`madbench verify`: 0 where everything that was computed again agrees, else 2."""
    from madbench import commands

    values = flags.FlagValues()
    flags.DEFINE_integer("pairs", 2, "(Run, generation) pairs to compute again.", 0, flag_values=values)
    flags.DEFINE_integer("until", 0, "No generation beyond this one; 0: no limit.", 0, flag_values=values)
    flags.DEFINE_integer("seed", None, "Of their choice, to repeat a report; nobody's by default.", flag_values=values)
    flags.DEFINE_bool("record", False, "Write verification.json into the submission.", flag_values=values)
    commands.define_cache(values)
    paths = values(argv)[1:]
    if len(paths) != 1:
        raise UserError("name one submission: madbench verify SUBMISSION")
    if values.record and not values.pairs:
        raise UserError("--record needs a re-run: leave --pairs at 1 or more")
    from madbench import display, stopping
    from madbench import verify as job

    logging.set_verbosity(logging.ERROR)  # Orbax reports every save
    say = lambda text: print(text, file=sys.stderr, flush=True)
    chosen = {name: getattr(values, name) for name in ("pairs", "until", "seed", "cache")}
    try:
        report = job.run(paths[0], **chosen, say=say, show=display.make())
    except stopping.Stopped as stopped:
        say("stopped; nothing was recorded")
        return 128 + stopped.signal
    print("\n".join(job.lines(report)))
    if values.record:
        job.record(paths[0], report)
    return 0 if report["passed"] else 2


COMMANDS = {"submit": submit, "check": check, "verify": verify}
