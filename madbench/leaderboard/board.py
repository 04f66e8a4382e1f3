"""A folder of submissions as the leaderboard: who stands where on which board, and why who stands on none.

Every number is computed from the rows of a submission; what its manifest says of them is only compared, by `checks`.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from madbench.errors import UserError
from madbench.leaderboard import agreement, checks, costs, files, number_checks, score, tasks
from madbench.leaderboard.checks import Finding
from madbench.leaderboard.files import one_line
from madbench.leaderboard.submission import VERIFICATION, Submission
from madbench.leaderboard.tasks import Task
from madbench.results import PLACE, place

# The least certain first. The second: by a kind of device that the submission does not name, with wider tolerances.
STATUSES = ("self-reported", "re-run (other device)", "re-run", "invalidated")
SELF_REPORTED, RE_RUN_OTHER, RE_RUN, INVALIDATED = STATUSES
DECIMALS, SPEED_DECIMALS = 1, 0  # of a score and of a speed, as shown: what reads the same ranks the same

MOST_RECORD = 1 << 20  # bytes


@dataclasses.dataclass(frozen=True)
class Entry:
    """One submission.

    Attributes:
      folder: its name in the folder of submissions.
      slug: of its page: letters, digits, "-", "_" and "."; no other entry has it, in whatever case.
      name, method, hardware, contact, url, note: texts by its author; name is the folder's where it cannot be read.
      task: None where it cannot be read.
      status: of `STATUSES`.
      reason: why it is invalidated, or why a record of a verification does not count; may be "".
      findings: of all checks.
      submission: what was loaded; None of an invalidated one.
      summary: of `score.summary`; None of an invalidated one.
      strategy: its method with the settings; "" where it cannot be read.
      cost: what its method cost; None of an invalidated one.
      is_in_band: whether its generation 1 is the task's without a method; False of an invalidated one.
      sha256: of submission.json; "" where it cannot be read.
      verification: what verification.json says, where it is one of this submission.json.
    """

    folder: str
    slug: str
    name: str
    method: str
    task: Task | None
    status: str
    reason: str
    findings: list[Finding]
    hardware: str = ""
    contact: str = ""
    url: str = ""
    note: str = ""
    submission: Submission | None = None
    summary: dict[str, Any] | None = None
    strategy: str = ""
    cost: costs.Costs | None = None
    is_in_band: bool = False
    sha256: str = ""
    verification: dict[str, Any] | None = None

    @property
    def compared(self) -> tuple[int, int]:
        """Runs that were computed again, and all of its task; (0, 0) where none were."""
        is_seen = self.status in (RE_RUN, RE_RUN_OTHER)
        return (self.verification["runs"], len(self.task.runs)) if is_seen else (0, 0)

    @property
    def evidence(self) -> str:
        """What stands beside the status: "2 of 60 runs", or ""."""
        return _share(*self.compared)

    @property
    def resistance(self) -> dict[str, float]:
        """{score, low, high}, of an entry that counts."""
        return self.summary["resistance"]

    @property
    def is_copying(self) -> bool:
        """Whether its pool looks like copies of real samples; see `costs`."""
        return self.cost is not None and self.cost.is_copying

    @property
    def per_hour(self) -> float:
        """Loop-generations, of an entry that counts: that its timing is whole, checks have seen."""
        return self.summary["speed"]["per_hour"]


@dataclasses.dataclass(frozen=True)
class Team:
    """The entries of one name and method, one a task: what the overall board ranks."""

    name: str
    method: str
    entries: dict[str, Entry]
    resistance: dict[str, float]

    @property
    def status(self) -> str:
        """That of its least certain entry."""
        return min((entry.status for entry in self.entries.values()), key=STATUSES.index)

    @property
    def is_copying(self) -> bool:
        """Whether any of its entries is."""
        return any(entry.is_copying for entry in self.entries.values())

    @property
    def evidence(self) -> str:
        """As `Entry.evidence`, of all its runs, where all its entries were seen again."""
        if self.status not in (RE_RUN, RE_RUN_OTHER):
            return ""
        return _share(*map(sum, zip(*(entry.compared for entry in self.entries.values()), strict=True)))


def _share(seen: int, of: int) -> str:
    return f"{seen} of {of} {'run' if of == 1 else 'runs'}" if of else ""


@dataclasses.dataclass(frozen=True)
class Line[T]:
    """A place on a board.

    Attributes:
      rank: from 1; what shows the same value has the same rank.
      of: who stands there.
      is_near: not on the first place, but its interval overlaps that of the first: not clearly behind it.
    """

    rank: int
    of: T
    is_near: bool = False


@dataclasses.dataclass(frozen=True)
class Board:
    """All of it. `tasks` are those with a band, in their order; `coming` the names of those without one."""

    tasks: list[Task]
    coming: list[str]
    entries: list[Entry]

    def resistance(self, task: Task) -> list[Line[Entry]]:
        """The ranks of one task; a name and method that submitted twice stands there twice."""
        return _ranked(self._counted(task), lambda entry: entry.resistance)

    def speed(self, task: Task) -> list[Line[Entry]]:
        """The ranks of one task: loop-generations of two tasks do not cost the same.

        Left out is whose method changes the first model: what is fast because it trains less is not fast.
        """
        those = [entry for entry in self._counted(task) if entry.is_in_band]
        return _ranked(those, lambda entry: {"score": entry.per_hour}, SPEED_DECIMALS)

    @functools.cached_property
    def overall(self) -> list[Line[Team]]:
        """The ranks of names and methods over all tasks. Of several submissions to one task the worst counts.

        (The best would be a prize for trying often.)
        """
        groups: dict[tuple[str, str], dict[str, Entry]] = {}
        for task in self.tasks:
            for line in self.resistance(task):  # the best first: a worse one replaces it
                groups.setdefault((line.of.name, line.of.method), {})[task.name] = line.of
        names = [task.name for task in self.tasks]
        teams = []
        for (name, method), entries in groups.items():
            rows = {task: (entry.task, entry.submission.rows) for task, entry in entries.items()}
            teams.append(Team(name, method, entries, score.overall(rows, names)))
        return _ranked(teams, lambda team: team.resistance)

    @property
    def invalidated(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.status == INVALIDATED]

    def _counted(self, task: Task) -> list[Entry]:
        return [e for e in self.entries if e.status != INVALIDATED and e.task.id == task.id]


def load(folder: str | os.PathLike, say: Callable[[str], None] = lambda text: None) -> Board:
    """Judges every submission in `folder`: each directory in it with a submission.json.

    Args:
      folder: of submissions.
      say: gets a line about each.

    Raises:
      UserError: `folder` is no folder, or holds no submission; one line.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name the one that holds the submissions, each a directory")
    paths = sorted(path for path in folder.iterdir() if path.is_dir() and os.path.lexists(path / "submission.json"))
    if not paths and os.path.lexists(folder / "submission.json"):
        raise UserError(f"{folder} is one submission; name the folder that holds it")
    if not paths:
        raise UserError(f"{folder} holds no submission: no directory in it has a submission.json")
    known = [tasks.load(name) for name in tasks.names()]
    entries = []
    for path, slug in zip(paths, slugs(path.name for path in paths), strict=True):
        entries.append(judge(path, slug))
        say(f"{entries[-1].folder}: {entries[-1].status}" + f" ({entries[-1].reason})" * bool(entries[-1].reason))
    return Board([task for task in known if task.bands], [task.name for task in known if not task.bands], entries)


def judge(path: pathlib.Path, slug: str) -> Entry:
    """One submission: its checks, its record of a verification, its scores."""
    found = Submission(path)
    findings = checks.findings(found)
    texts, task = {"name": path.name, "method": "", "strategy": ""}, None
    with contextlib.suppress(UserError):  # as far as it can be read: the checks say what is wrong
        texts = {name: found.manifest[name] for name in ("name", "method", "hardware", "contact", "url", "note")}
        texts["strategy"] = found.strategy
        task = found.task
    entry = Entry(
        one_line(path.name), slug, **{name: one_line(text) for name, text in texts.items()}, task=task,
        status=INVALIDATED, reason="", findings=findings,
    )  # fmt: skip
    if failed := [finding for finding in findings if not finding.ok]:
        return dataclasses.replace(entry, reason=f"check {failed[0].name}: {failed[0].message}")
    digest = hashlib.sha256(found.manifest_bytes).hexdigest()
    status, reason, record = verification(found, digest)
    entry = dataclasses.replace(entry, status=status, reason=reason, sha256=digest, verification=record)
    if status == INVALIDATED:
        return entry
    seen = {"summary": score.summary(task, found.rows, found.timing), "cost": costs.of(task, found.rows)}
    return dataclasses.replace(entry, submission=found, is_in_band=number_checks.is_in_band(found), **seen)


def verification(found: Submission, digest: str) -> tuple[str, str, dict[str, Any] | None]:
    """Status, reason and facts by `verification.json`, which counts for the submission.json of this sha256 alone.

    One that does not count leaves the entry self-reported, and the reason says why. But what was found wrong stays so
    until it is verified again: else its author could undo that by a byte.

    Args:
      found: passes its checks.
      digest: sha256 of its submission.json.
    """
    if not os.path.lexists(found.path / VERIFICATION):
        return SELF_REPORTED, "", None
    try:
        record = files.parse(VERIFICATION, files.read(found.path, VERIFICATION, MOST_RECORD))
        is_stale = not isinstance(record, dict) or record.get("submission_sha256") != digest
        if is_stale and isinstance(record, dict) and record.get("status") == INVALIDATED:
            reason = f"verify, of an earlier submission.json: {record.get('reason')}; to be verified again"
            return INVALIDATED, one_line(reason, 400), _facts(record, found)
        if is_stale:
            raise UserError(f"{VERIFICATION} is of another submission.json than this one")
        if record.get("status") == INVALIDATED:
            return INVALIDATED, one_line(f"verify: {record.get('reason')}", 400), _facts(record, found)
        if record.get("status") not in (RE_RUN, RE_RUN_OTHER):
            raise UserError(f"{VERIFICATION} names no status")
        if lacking := _lacking(record, found):
            raise UserError(f"{VERIFICATION} {lacking}")
    except UserError as error:
        return SELF_REPORTED, f"its verification does not count: {error}", None
    device = record.get("device")
    there = {name: device.get(name) if isinstance(device, dict) else None for name in ("kind", "platform")}
    is_same = record.get("rule") == agreement.rule(found.result.environment, there) == agreement.SAME
    return RE_RUN if is_same else RE_RUN_OTHER, "", _facts(record, found)


def _lacking(record: dict[str, Any], found: Submission) -> str:
    """What a record of a re-run lacks, as the end of a sentence; "" where it shows what it says."""
    if record.get("passed") is not True:
        return "does not say that all agreed"
    parts = {name: value if isinstance(value := record.get(name), list) else [] for name in ("pairs", "rows")}
    if not all(isinstance(part, dict) for part in (*parts["pairs"], *parts["rows"])):
        return "names no pairs of run and generation, or no values"
    if not all(row.get("ok") is True for row in parts["rows"]):
        return "names values that do not agree"
    seen = {_place(row) for row in parts["rows"] if row.get("what") == "re-run"}
    pairs, planned = {_place(pair) for pair in parts["pairs"]}, {place(row) for row in found.rows}
    if (
        not pairs
        or not pairs <= seen
        or not pairs <= planned
        or len({pair[:3] for pair in pairs}) < len(parts["pairs"])
    ):
        return "does not name each run that was computed again once, with values of it"
    if not any(pair[3] > 1 for pair in pairs):
        return "is of generation 1 alone, which no method can change"
    return ""


def _place(row: dict[str, Any]) -> tuple:
    """As `results.place`, of whatever: what is no place is none of the task's."""
    return tuple(str(value) if isinstance(value := row.get(name), (dict, list)) else value for name in PLACE)


def _facts(record: dict[str, Any], found: Submission) -> dict[str, Any]:
    """What is shown of a record: numbers and lines of text, whatever stands in it."""

    def listed(name: str) -> list:
        return value if isinstance(value := record.get(name), list) else []

    device = value if isinstance(value := record.get("device"), dict) else {}
    return {
        "benchmark": one_line(record.get("benchmark")),
        "device": one_line(device.get("kind")),
        "runs": len(listed("pairs")),
        "task_runs": len(found.task.runs),
        "values": len(listed("rows")),
        "rule": one_line(record.get("rule")),
        "samples": one_line(record.get("samples")),
        "seed": record["seed"] if type(record.get("seed")) is int else None,
        "notes": [one_line(note, 400) for note in listed("notes")[:20]],
    }


def slugs(names: Iterable[str]) -> list[str]:
    """File names without surprises, each once in whatever case, in the order of `names`."""
    found: list[str] = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60].strip(".-") or "submission"
        slug, n = base, 1
        while slug.casefold() in (other.casefold() for other in found):
            n += 1
            slug = f"{base}-{n}"
        found.append(slug)
    return found


def _ranked[T](those: Iterable[T], value: Callable[[T], dict[str, float]], decimals: int = DECIMALS) -> list[Line[T]]:
    """The highest score first; equal ones, as shown, on one rank, of which the next leave as many out ("1, 1, 3")."""
    ordered = sorted(those, key=lambda each: -value(each)["score"])
    shown = [f"{value(each)['score']:.{decimals}f}" for each in ordered]
    lines = []
    for each, here in zip(ordered, shown, strict=True):
        rank = shown.index(here) + 1
        near = rank > 1 and "high" in value(each) and value(each)["high"] >= value(ordered[0])["low"]
        lines.append(Line(rank, each, near))
    return lines
