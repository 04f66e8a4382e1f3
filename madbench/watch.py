"""A stopwatch that tells phases apart."""

import time


class Watch:
    """Seconds by phase."""

    def __init__(self):
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, phase: str) -> float:
        """Adds the time since the last lap to `phase`; returns the phase's total."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now
        return self.seconds[phase]
