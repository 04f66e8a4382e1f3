"""How a job is asked to stop: a signal is a flag that is looked at where everything can be saved."""

import contextlib
import os
import signal
import sys
import time

import jax

from madbench import processes

_TOLD = b"\nstopping as soon as what runs now can be saved; once more to leave at once\n"


class Stopped(processes.Agreed):
    """SIGTERM or Ctrl-C: everything is saved, and the same command goes on from here."""

    def __init__(self, signal_number: int):
        super().__init__(signal_number)
        self.signal = signal_number


class Signals:
    """Turns SIGTERM and Ctrl-C into a flag that is looked at between segments; a second one ends the process."""

    def __init__(self):
        self.received: int | None = None
        self._at = 0.0

    def __enter__(self):
        self._before = {}
        with contextlib.suppress(ValueError):  # outside the main thread signals cannot be set
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, frame):
        if self.received is not None:
            # A scheduler may tell the child of a `supervisor` what the parent passes on as well: that is one signal.
            if jax.process_count() > 1 and time.monotonic() - self._at < 1:
                return
            raise KeyboardInterrupt
        self.received, self._at = number, time.monotonic()
        # print() would fail where the signal has interrupted another print()
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), _TOLD)
