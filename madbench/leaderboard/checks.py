"""Is a submission well-formed, complete and consistent? A list of small checks: `madbench check`.

Each is a function of a `Submission` that raises UserError with the first thing that is wrong, or returns what is to be
said all the same, mostly nothing: those of form in `form_checks`, those of numbers in `number_checks`, those of methods
against collapse in `method_checks`.

That the numbers were measured at all, no check can tell: `madbench verify` measures and runs again.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

from madbench.errors import UserError
from madbench.leaderboard import form_checks, method_checks, number_checks
from madbench.leaderboard.files import one_line
from madbench.leaderboard.submission import Submission

# In their order, each with those without which it has nothing to look at.
_CHECKS: dict[Callable[[Submission], str | None], tuple[str, ...]] = {
    form_checks.links: (),
    form_checks.manifest: ("links",),
    form_checks.task: ("manifest",),
    form_checks.sizes: ("task",),
    form_checks.hashes: ("sizes",),
    form_checks.files: ("hashes",),  # which samples there must be follows from metrics.jsonl
    form_checks.json: ("sizes",),
    form_checks.config: ("json",),
    form_checks.schema: ("config",),
    method_checks.method: ("schema",),
    form_checks.evaluator: ("schema",),
    form_checks.floors: ("evaluator",),
    form_checks.seeds: ("schema",),
    form_checks.cells: ("schema",),
    form_checks.composition: ("cells",),
    number_checks.finite: ("cells",),
    number_checks.ranges: ("evaluator",),
    number_checks.distances: ("method", "cells", "ranges"),
    number_checks.timing: ("schema",),
    method_checks.cost: ("method", "cells", "timing"),
    number_checks.speed: ("timing", "cost"),
    number_checks.summary: ("cells", "ranges", "timing"),
    form_checks.readme: ("files", "method", "summary"),
    number_checks.band: ("method", "cells", "finite", "ranges"),
    number_checks.twins: ("band",),
    number_checks.samples: ("files", "cells", "finite"),
}
_BLOCKED = "not checked, because "
_MOST = 400  # characters of a message


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
      name: of the check.
      ok: whether it holds.
      message: one line: what is wrong; or what is to be said all the same, mostly "".
    """

    name: str
    ok: bool
    message: str = ""

    @property
    def is_blocked(self) -> bool:
        """Whether it had nothing to look at, because another check failed."""
        return not self.ok and self.message.startswith(_BLOCKED)

    def __str__(self) -> str:
        """ "FAILED  band: …"."""
        return f"{'ok' if self.ok else 'FAILED':<7} {self.name}{': ' * bool(self.message)}{self.message}"


def names() -> list[str]:
    """Of all checks of one submission, in their order."""
    return [function.__name__ for function in _CHECKS]


def run(path: str | os.PathLike) -> list[Finding]:
    """All checks of the submission at `path`, in the order of `names()`; whatever lies there, none raises."""
    return findings(Submission(pathlib.Path(path)))


def findings(submission: Submission) -> list[Finding]:
    """The same of one that whoever calls goes on with: its rows are then those that were checked, read once."""
    found: dict[str, Finding] = {}
    for function, after in _CHECKS.items():
        name = function.__name__
        if failed := [other for other in after if not found[other].ok]:
            found[name] = Finding(name, False, f"{_BLOCKED}{failed[0]} failed")
            continue
        try:
            found[name] = Finding(name, True, one_line(function(submission) or "", _MOST))
        except UserError as error:
            found[name] = Finding(name, False, one_line(str(error), _MOST))
    return list(found.values())


def clashes(paths: Sequence[str | os.PathLike], beside: str | os.PathLike = "") -> list[Finding]:
    """What is wrong between submissions, each of which may be damaged: one finding per pair that has the same name
    and method on one task, or the same times.

    Rows may be the same: two machines of one kind compute the same numbers. No two measure the same times.

    Args:
      paths: of submissions.
      beside: a folder of submissions, with each of which they are compared too; "" for none.

    Raises:
      UserError: `beside` is no folder; one line.
    """
    if beside and not pathlib.Path(beside).is_dir():
        raise UserError(f"--beside={beside} is not a folder of submissions")
    new = {pathlib.Path(path).absolute() for path in paths}
    old = sorted(path for path in pathlib.Path(beside).iterdir() if path.absolute() not in new) if beside else []
    named: dict[str, pathlib.Path] = {}
    found = []
    for path in [*old, *map(pathlib.Path, paths)]:
        submission = Submission(path)
        try:
            manifest = submission.manifest
        except UserError:
            continue  # said by `run`
        times = manifest["files"].get("timing.jsonl", {}).get("sha256")
        # one name and method on several tasks is one overall row
        name = f"{manifest['name'].casefold()} {manifest['method']} {manifest['task']}"
        marks = {f"the name {manifest['name']}": name, "the same timing.jsonl": times}
        for what, mark in marks.items():
            first = named.setdefault(f"{what.split()[1]} {mark}", path) if mark else path
            if first != path and path not in old:
                found.append(Finding("others", False, one_line(f"{path} has {what}, and so has {first}", _MOST)))
    return found
