"""The commands of the leaderboard, as `commands` has the others."""

import os
import pathlib
import sys

from absl import logging

from madbench import command_flags
from madbench.errors import UserError


def submit(argv: list[str]) -> int:
    """`madbench submit`."""
    values, (_, *paths) = command_flags.parse("submit", argv)
    if not paths:
        raise UserError("name the workdir of a finished task: madbench submit DIR --name=NAME --out=SUBMISSION")
    for field, example in (("name", "NAME"), ("out", "SUBMISSION")):
        if not values[field].value:
            raise UserError(f"--{field}={example} is missing: madbench submit DIR --name=NAME --out=SUBMISSION")
    from madbench.leaderboard import packing

    texts = {field: values[field].value for field in ("name", "contact", "url", "hardware", "note")}
    print(packing.describe(packing.pack(paths, values.out, **texts)))
    return 0


def check(argv: list[str]) -> int:
    """`madbench check`: what failed, what is to be said all the same, and the outcome. 2 where any failed."""
    values, (_, *rest) = command_flags.parse("check", argv)
    paths = [os.path.normpath(path) for path in rest]
    if not paths:
        raise UserError("name one or more submissions: madbench check SUBMISSION ...")
    from madbench.leaderboard import checks, files

    for path in paths:
        _check_single(path, "check")
    failed = False
    for number, path in enumerate(paths):
        if len(paths) > 1:
            print(f"{chr(10) * (number > 0)}{files.one_line(path, 400)}")
        found = checks.run(path)
        for finding in found:
            failed |= not finding.ok
            if not finding.is_blocked and (values.verbose or finding.message or not finding.ok):
                print(finding)
        print(_counted(found, values.verbose))
    for number, finding in enumerate(checks.clashes(paths, values.beside)):
        failed = True
        print(f"{chr(10) * (number == 0)}{finding}")
    each = "it" if len(paths) == 1 else "each"
    print(
        "\ncheck failed: the lines that begin with FAILED say why"
        if failed
        else f"\ncheck passed: to submit, open a pull request that adds {each} to submissions/ (see its README.md)"
    )
    return 2 if failed else 0


def _counted(found: list, verbose: bool) -> str:
    """How many checks passed, and how many, or which, had nothing to look at."""
    blocked = [finding.name for finding in found if finding.is_blocked]
    text = f"{sum(finding.ok for finding in found)} of {len(found)} checks passed"
    which = ", ".join(blocked) if verbose else f"{len(blocked)} checks"
    return f"{text}; not made, because of what failed: {which}" if blocked else text


def _check_single(path: str, command: str) -> None:
    """Refuses what is no submission but was taken for one: anything else that is wrong, checks say."""
    folder = pathlib.Path(path)
    if not folder.is_dir() or os.path.lexists(folder / "submission.json"):
        return
    if any(os.path.lexists(inner / "submission.json") for inner in folder.iterdir()):
        raise UserError(f"{path} is a folder of submissions; name one in it: madbench {command} {path}/NAME")
    if (folder / "metrics.jsonl").exists():
        raise UserError(
            f"{path} is a workdir and no submission; make one of it: "
            f"madbench submit {path} --name=NAME --out=SUBMISSION"
        )


def verify(argv: list[str]) -> int:
    """`madbench verify`: 0 where everything that was computed again agrees, else 2."""
    values, (_, *paths) = command_flags.parse("verify", argv)
    if len(paths) != 1:
        raise UserError("name one submission: madbench verify SUBMISSION")
    if values.record and not values.pairs:
        raise UserError("--record needs a re-run: leave --pairs at 1 or more")
    _check_single(paths[0], "verify")
    from madbench import display, stopping
    from madbench import verify as job

    logging.set_verbosity(logging.ERROR)  # Orbax reports every save
    say = lambda text: print(text, file=sys.stderr, flush=True)
    chosen = {name: getattr(values, name) for name in ("pairs", "until", "seed", "cache", "allow_code")}
    try:
        report = job.run(paths[0], **chosen, say=say, show=display.make())
    except stopping.Stopped as stopped:
        say("stopped; nothing was recorded")
        return 128 + stopped.signal
    print("\n".join(job.lines(report, values.verbose)))
    if report["rows"] and not values.verbose:
        say("--verbose shows every value that was compared")
    if values.record:
        job.record(paths[0], report)
    return 0 if report["passed"] else 2


def leaderboard(argv: list[str]) -> int:
    """`madbench leaderboard`. A submission that does not count is shown as such, and no error of use."""
    values, (_, *paths) = command_flags.parse("leaderboard", argv)
    if len(paths) != 1:
        raise UserError("name the folder of submissions: madbench leaderboard SUBMISSIONS --out=SITE")
    if not values.out:
        raise UserError("--out=SITE is missing")
    from madbench.leaderboard import site

    board = site.build(paths[0], values.out, values.readme, say=print)
    counted = len(board.entries) - len(board.invalidated)
    print(f"wrote {values.out}: {counted} of {len(board.entries)} submissions count; open {values.out}/index.html")
    return 0


COMMANDS = {"submit": submit, "check": check, "verify": verify, "leaderboard": leaderboard}
