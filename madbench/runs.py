"""One run of the grid: a loop at one λ from one seed."""

import dataclasses

from madbench import results
from madbench.loops import Loop


@dataclasses.dataclass(frozen=True)
class Run:
    loop: Loop
    bias: float
    seed: int

    @property
    def slug(self) -> str:
        """Its name for files."""
        return results.slug(self.loop.name, self.bias, self.seed)
