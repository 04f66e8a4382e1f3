"""One of several processes, and a small one that watches over it.

Where a process of a job is lost, the coordinator of `jax.distributed` ends the others by `abort()`, with pages of C++
text; a coordinator that nobody reaches does the same, and no Python of theirs runs after that. So the work is done by a
child, and its parent, which imports no JAX, says in one line how it ended. What C++ prints meanwhile goes to a file,
and is shown only where nothing else explains the end.
"""

import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable

from madbench.errors import UserError, told

LOST = 75  # exit code where another process was lost: EX_TEMPFAIL of sysexits.h, "try again"
_SHOWN = 2000  # characters of an end that nothing explains


def run(work: Callable[[], int], connected: str, where: str) -> int:
    """Does `work` in a child process.

    Args:
      work: returns the exit code. It must be the first to touch JAX.
      connected: what the child prints on file descriptor 2 once the processes have met, followed by " as I of N".
      where: the meeting point, for the message that they have not.

    Returns:
      The exit code: the work's own; 2 after an error of use, or where the processes never met; `LOST`; 128 + the
      number of the signal that ended the child.
    """
    with tempfile.TemporaryFile() as log:
        alive, hold = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            os.close(hold)
            _become(log.fileno(), alive)
            _leave(work)
        os.close(alive)
        pass_on = lambda number, _: os.kill(child, number)
        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            _, status = os.waitpid(child, 0)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(hold)
        if not os.WIFSIGNALED(status):
            return os.WEXITSTATUS(status)
        log.seek(0)
        code, text = explain(os.WTERMSIG(status), log.read().decode(errors="replace"), connected, where)
        print(f"madbench: {text}", file=sys.stderr, flush=True)
        return code


def explain(number: int, log: str, connected: str, where: str) -> tuple[int, str]:
    """Exit code and one line (or, where nothing explains it, the log's end as well) for a child that signal `number`
    has ended."""
    met = re.search(re.escape(connected) + r" as (\d+) of (\d+)", log)
    if met is None and number in (signal.SIGABRT, signal.SIGSEGV):
        return LOST, (
            f"the processes have not met {where}: start all of them, with the same coordinator, on machines that reach "
            "each other"
        )
    if "distributed service detected fatal errors" in log:
        silent = re.search(r"stopped sending heartbeats\):\s*((?:\d+[\s,]*)+)", log)
        lost = re.findall(r"\d+", silent[1]) if silent else []
        if not lost and "Failed to send RPC to coordination service" in log:
            lost = ["0"]
        several = len(lost) > 1
        who = f"process{'es' if several else ''} {' and '.join(lost)}" if lost else "another process"
        of = f" of {met[2]}" if lost and met else ""
        were = "were" if several else "was"
        return LOST, (
            f"{who}{of} {were} lost; all up to the newest checkpoint is saved, and the same command resumes it, "
            "on any number of processes"
        )
    name = signal.Signals(number).name
    end = log.strip()[-_SHOWN:]
    return 128 + number, f"this process was ended by {name}" + (f"; its last words:\n{end}" if end else "")


def _become(log: int, alive: int) -> None:
    """The child's own end of things: Python's streams stay where they were, and C++'s go to the log."""
    os.setpgid(0, 0)  # Ctrl-C reaches the parent, which passes it on: once
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    os.dup2(log, 1)
    os.dup2(log, 2)

    def watch():  # a parent that was killed closes its end of the pipe
        os.read(alive, 1)
        os._exit(128 + signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _leave(work: Callable[[], int]) -> None:
    """Does the work and ends the process, without waiting for processes that may be gone."""
    code = 1
    try:
        code = work()
    except (UserError, OSError) as error:
        print(f"madbench: {told(error)}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
