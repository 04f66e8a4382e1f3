"""What a person sees while a job runs: a live line on a terminal, plain lines elsewhere. Writes to stderr."""

import sys
import time
from typing import Protocol


class Display(Protocol):
    """Shows progress; `experiment` calls it and knows nothing of terminals."""

    def say(self, text: str) -> None:
        """One lasting line."""

    def busy(self, text: str) -> None:
        """What runs now, outside of any generation; may be called as often as its words change."""

    def phase(self, wave: int, waves: int, generation: int, generations: int, phase: str) -> None:
        """What runs now."""

    def advance(self, done: float, steps_per_second: float | None) -> None:
        """Share of the whole job that is done, in [0, 1]; optimizer steps per second over all runs, where known."""

    def close(self) -> None:
        """The job has ended."""


class Clock:
    """Seconds left, from the share of the work done since this process began it."""

    def __init__(self):
        self._begin: tuple[float, float] | None = None

    def left(self, done: float) -> float | None:
        now = time.monotonic()
        if self._begin is None:
            self._begin = (now, done)
            return None
        begin, at = self._begin
        return (now - begin) * (1 - done) / (done - at) if done > at else None


def duration(seconds: float | None) -> str:
    """ "3d 04h", "2h 05m", "3m 20s", "12s"; "?" where unknown."""
    if seconds is None:
        return "?"
    seconds = round(seconds)
    if seconds >= 48 * 3600:
        return f"{seconds // 86400}d {seconds % 86400 // 3600:02d}h"
    if seconds >= 3600:
        return f"{seconds // 3600}h {seconds % 3600 // 60:02d}m"
    return f"{seconds // 60}m {seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"


class PlainLines:
    """One line per phase, and at most one in `interval` seconds within it: for logs, notebooks and pipes."""

    def __init__(self, interval: float = 20.0):
        self._interval = interval
        self._clock = Clock()
        self._label = ""
        self._last = 0.0

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        self._last = time.monotonic()

    def busy(self, text) -> None:
        if time.monotonic() - self._last >= self._interval:
            self.say(text)

    def phase(self, wave, waves, generation, generations, phase) -> None:
        self._label = _label(wave, waves, generation, generations, phase)
        self._last = time.monotonic()

    def advance(self, done, steps_per_second) -> None:
        left = self._clock.left(done)
        if time.monotonic() - self._last >= self._interval:
            parts = [self._label, f"{done:4.0%}", speed(steps_per_second), left and f"{duration(left)} left"]
            self.say("  ".join(filter(None, parts)))

    def close(self) -> None:
        """Nothing is open."""


class Nothing:
    """For processes that do not speak."""

    def say(self, text: str) -> None:
        """Another process says it."""

    def busy(self, text) -> None:
        """Another process shows it."""

    def phase(self, wave, waves, generation, generations, phase) -> None:
        """Another process shows it."""

    def advance(self, done, steps_per_second) -> None:
        """Another process shows it."""

    def close(self) -> None:
        """Nothing is open."""


class LiveLine:
    """A bar that stays in place."""

    def __init__(self):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._clock = Clock()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24, complete_style="cyan", finished_style="green"),  # seen with 16 colours too
            TextColumn("{task.percentage:3.0f} %  {task.fields[rate]:>13}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]} left"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=1.0, rate="", left="?")
        self._progress.start()

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def busy(self, text) -> None:
        self._progress.update(self._task, description=text, rate="")

    def phase(self, wave, waves, generation, generations, phase) -> None:
        self._progress.update(self._task, description=_label(wave, waves, generation, generations, phase))

    def advance(self, done, steps_per_second) -> None:
        left = duration(self._clock.left(done))
        self._progress.update(self._task, completed=done, rate=speed(steps_per_second), left=left)

    def close(self) -> None:
        self._progress.stop()


def make() -> Display:
    """The display that fits where stderr goes."""
    return LiveLine() if sys.stderr.isatty() else PlainLines()


def _label(wave, waves, generation, generations, phase) -> str:
    where = f"wave {wave + 1}/{waves}  " if waves > 1 else ""
    return f"{where}generation {generation}/{generations}  {phase:<8}"


def speed(steps_per_second: float | None) -> str:
    """ "1,234 steps/s", "0.21 steps/s"; nothing where it is unknown."""
    if not steps_per_second:
        return ""
    return f"{steps_per_second:,.0f} steps/s" if steps_per_second >= 10 else f"{steps_per_second:.2g} steps/s"
