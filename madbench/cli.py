"""The front door: absl flags, one line per command. Errors of use end in one line and exit code 2."""

import difflib
import os
import sys

from absl import flags

from madbench import __version__
from madbench.errors import UserError, told

USAGE = """madbench: how much synthetic data is safe? Self-consuming generative models, measured.

  madbench run --config=FILE --workdir=DIR [--config.FIELD=VALUE ...] [--dry_run [--on='4x8 H100']]
  madbench run --task=NAME --workdir=DIR
      run a job, or go on with one that was stopped; or say what it would take, here or on other devices
      --config=DIR/config.json: a job as another workdir ran it
      --distributed, or --coordinator_address=HOST:PORT --num_processes=N --process_id=I: one of several processes
      --tensorboard: event files in DIR/tensorboard (needs tensorboardX)
      --shard=I/N: share I, from 1, of N, in a workdir of its own; `table` unites them
  madbench table DIR ... [--format=md|csv|json|latex] [--verdict=mad|growing|variance|tails|real_only]
      the standard table; several workdirs make one
  madbench report DIR [--out=FILE]
      one page that opens from disk: what was run, the table, curves, samples; and the pictures again
  madbench compare DIR DIR ... [--out=FOLDER] [--format=md|csv|json]
      strategies against none: paired differences over seeds, with intervals, tests and ranks; with --out, a picture too
  madbench evaluate REAL GENERATED [--features=NAME] [--metrics=A,B] [--training=PATH] [--format=md|csv|json]
      the metrics of any two sets: folders of images, or .npz or .npy files of images or features
  madbench phase --config=FILE --workdir=DIR [--config.FIELD=VALUE ...] [--dry_run]
      the map of effective sample sizes: how much synthetic data is safe
  madbench submit DIR --name=NAME --out=SUBMISSION [--contact= --url= --hardware= --note=]
      pack a finished task for the leaderboard; of a grid in shares, name the workdirs of all
  madbench check SUBMISSION ... [--beside=SUBMISSIONS] [--verbose]
      is it well-formed, complete, consistent
  madbench verify SUBMISSION [--pairs=2] [--until=T] [--seed=N] [--record] [--verbose]
      computes metrics from its samples, and some of its runs, again; exit code 2 where they differ
  madbench leaderboard SUBMISSIONS --out=SITE [--readme=FILE]
      a folder of submissions as a static site, with its CSV and JSON; and as tables between the markers of a README

--cache=DIR (or MADBENCH_CACHE) keeps prepared data, trained feature networks, and published weights that you put
there; ~/.cache/madbench unless set. Exit codes: 0 done, 2 an error of use, 75 another process was lost, 128 + n stopped
by signal n. `madbench COMMAND --help` explains the flags of a command."""


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    argv = list(sys.argv if argv is None else argv)
    from madbench import command_flags, commands

    name = argv[1] if len(argv) > 1 else "help"
    if name in ("version", "--version"):
        print(f"madbench {__version__}")
        return 0
    if name == "help" or {"--help", "-h"} & set(argv):
        print(USAGE)
        if name in commands.COMMANDS:
            print(f"\nFlags of {name}, with their defaults:\n{command_flags.explain(name)}")
        return 0
    try:
        if name not in commands.COMMANDS:
            near = difflib.get_close_matches(name.lower(), commands.COMMANDS, 1)
            meant = f"; did you mean `madbench {near[0]}`?" if near else ";"
            raise UserError(
                f"unknown command {name!r}{meant} choose from {', '.join(commands.COMMANDS)}, see madbench --help"
            )
        code = commands.COMMANDS[name](argv[:1] + argv[2:])
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UserError, OSError, flags.Error) as error:
        print(f"madbench: {told(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before a job begins, or the second time within one
        return 130


if __name__ == "__main__":
    sys.exit(main())
