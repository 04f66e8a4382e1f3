"""Checks of a submission's numbers: they can be, they agree, and they begin where they must. See `checks`."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from madbench.errors import UserError
from madbench.leaderboard import agreement, forms, peaks, score
from madbench.leaderboard.files import shown
from madbench.leaderboard.form_checks import cell_of, fail_if, place_of
from madbench.leaderboard.submission import Submission
from madbench.leaderboard.tasks import Band
from madbench.results import PHASES, MetricInfo, place, slug

# Shares that count samples: a whole number of them.
_COUNTED = ("precision", "recall", "coverage")
# Generation 1 of two loops that begin alike, in standard deviations of the band. On one machine they are equal to the
# bit; where runs are mapped differently, sums are rounded differently, and training carries that on.
_TWINS = 0.25
_SUMMARY = 1e-6  # relative: sums in another order
_SHORTEST = 1e-5  # seconds of a phase: a program is called in it, and its numbers fetched
# A distance to the reference far below that of real samples is one of samples taken from it: this share of the
# floor's 5th percentile is below what λ, luck and rounding reach.
_NEAREST = 0.5
_LARGEST = 1e100  # of a value: its square is a number still


def finite(s: Submission) -> str:
    """Metrics are null where a run diverged, and it does not come back."""
    diverged: dict[tuple, int] = {}
    for row in sorted(s.rows, key=lambda row: row["generation"]):
        run = place(row)[:3]
        if row["status"] == "diverged":
            diverged.setdefault(run, row["generation"])
            if any(row[name] is not None for name in s.result.metrics):
                raise UserError(f"{place_of(row)}: it diverged, and has metrics")
        elif run in diverged:
            raise UserError(f"{place_of(row)}: it is ok after it diverged in generation {diverged[run]}")
    diverged_rows = sum(row["status"] == "diverged" for row in s.rows)
    without = sum(row["status"] == "ok" and any(row[name] is None for name in s.result.metrics) for row in s.rows)
    notes = [f"{count:,} {what}" for count, what in ((diverged_rows, "diverged"), (without, "lack a value")) if count]
    return f"of {len(s.rows):,} loop-generations {' and '.join(notes)}, which count 0" if notes else ""


def ranges(s: Submission) -> None:
    """Every metric has a value that it can have: distances from 0, shares of samples in whole numbers of them."""
    n = s.task.evaluator["n_samples"]
    for row in s.rows:
        for name, info in s.result.metrics.items():
            value = row[name]
            if value is None:
                continue
            if (info.kind != "number" and value < 0) or (info.most is not None and value > info.most):
                raise UserError(f"{place_of(row)}: {name} is {value:g}, which it cannot be")
            if abs(value) > _LARGEST:
                raise UserError(f"{place_of(row)}: {name} is {value:g}, too large to compute with")
            if (name in _COUNTED or info.kind == "count") and abs(
                (scaled := value * (n if name in _COUNTED else 1)) - round(scaled)
            ) > 1e-3:
                of = f" of {n} samples" if name in _COUNTED else ""
                raise UserError(f"{place_of(row)}: {name} is {value!r}, which is no whole number{of}")


def distances(s: Submission) -> None:
    """No distance is far below that of real samples to each other: with a method in any generation, without one after
    generation 1, of which the band says more."""
    kinds = {name: info.kind for name, info in s.result.metrics.items()}
    least = {
        name: _NEAREST * floor["p5"]
        for name, floor in s.task.evaluator["floors"].items()
        if floor and kinds[name] == "distance"
    }
    first = 1 if s.has_strategy else 2
    for row in s.rows:
        for name, low in least.items():
            if row["generation"] >= first and row[name] is not None and row[name] < low:
                raise UserError(
                    f"{place_of(row)}: {name} is {row[name]:.4g}, too good: real samples are rarely within "
                    f"{low / _NEAREST:.4g} of each other"
                )


def timing(s: Submission) -> None:
    """Every loop-generation is in one wave of timing.jsonl, and took time."""
    runs: Counter = Counter()
    seen = set()
    for row in s.timing:
        where = f"timing.jsonl, wave {row['wave']}, generation {row['generation']}"
        if (row["wave"], row["generation"]) in seen:
            raise UserError(f"{where} stands there twice")
        seen.add((row["wave"], row["generation"]))
        runs[row["generation"]] += row["runs"]
        if not all(row[f"{phase}_seconds"] > _SHORTEST for phase in PHASES if phase != "compile"):
            raise UserError(f"{where}: a phase took no time")
    for t in range(1, s.task.config["generations"] + 1):
        if (count := runs.pop(t, 0)) != len(s.task.runs):
            raise UserError(f"timing.jsonl has {count} runs of generation {t}, and the task has {len(s.task.runs)}")
    if runs:
        raise UserError(f"timing.jsonl has a generation {min(runs)}, which the task has not")


def speed(s: Submission) -> None:
    """The task's matrix products (with a method, those that its rows count) took the time that they take at least on
    the devices that are named, at twice the peak that their vendors publish."""
    runs = len(s.task.runs) * s.task.config["generations"]
    work = {(phase,): flops * runs for phase, flops in s.task.flops.items()}
    if s.has_strategy:  # what goes into which phase is the strategy's affair
        counted = sum(row["flops"] for row in s.rows)
        work = {("fit", "sample"): counted} | {each: work[each] for each in [("evaluate",)] if each in work}
    for phases, flops in work.items():
        took = math.fsum(row[f"{phase}_seconds"] for row in s.timing for phase in phases)
        if took < (least := peaks.seconds(flops, s.result.environment)):
            environment = s.result.environment
            device = f"{environment['device']['count']} x {shown(environment['device']['kind'])}"
            raise UserError(
                f"timing.jsonl: {' and '.join(phases)} took {took:.3g} s in all, and its {flops:.3g} FLOPs take "
                f"{least:.3g} s at least on {device} ({environment['processor']}): other hardware did this"
            )


def summary(s: Submission) -> None:
    """The scores in the manifest are those of the rows."""
    scores, is_old = score.summary(s.task, s.rows, s.timing), s.manifest["schema"] < forms.SCHEMA
    if problem := _unlike(s.manifest["summary"], scores, "summary", is_old):
        raise UserError(f"{problem}: it is not what the rows give")


def _unlike(found: Any, wanted: Any, where: str, is_old: bool = False) -> str:
    """The first place where two JSON values differ, numbers by more than rounding; an old one may lack fields."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        if found.keys() == wanted.keys() or (is_old and found.keys() < wanted.keys()):
            parts = (_unlike(found[name], wanted[name], f"{where}.{name}", is_old) for name in found)
            return next(filter(None, parts), "")
        return f"{where} has other fields"
    if isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return next(filter(None, (_unlike(a, b, f"{where}[{i}]", is_old) for i, (a, b) in pairs)), "")
    if type(wanted) in (int, float) and type(found) in (int, float):
        same = math.isclose(found, wanted, rel_tol=_SUMMARY, abs_tol=1e-9)
    else:
        same = type(found) is type(wanted) and found == wanted
    return "" if same else f"{where} is {shown(found)}, not {shown(wanted)}"


def band(s: Submission) -> str:
    """Generation 1 lies in the reference band, on both sides: the mean over seeds of each cell, and each run. Without a
    method nothing can have helped or harmed it.

    With a method it may lie outside, and that is said: one that pays with optimizer steps, extrapolates or guides
    changes the first model too, for better or worse. It gains nothing by it, as resistance starts from the band's
    centre and leaves generation 1 out; that no distance is better than between real samples, `distances` sees to.
    """
    outside = [*_lacking(s), *_outside(s)]
    if not s.has_strategy:
        fail_if(outside)
    return f"generation 1 lies outside the reference band, as a method's may: {outside[0]}" if outside else ""


def is_in_band(s: Submission) -> bool:
    """Whether generation 1, of a submission that passes its checks, is as good as the task's without a method."""
    return not _lacking(s) and not any(True for _ in _outside(s))


def _lacking(s: Submission) -> list[str]:
    """The runs without metrics in generation 1, as sentences."""
    first = [row for row in s.rows if row["generation"] == 1]
    lacking = [row for row in first if any(row[name] is None for name in s.result.metrics)]
    return [f"{place_of(row)}: it has no metrics, before there was synthetic data" for row in lacking]


def _outside(s: Submission) -> Iterable[str]:
    """What of generation 1 lies outside the band, as sentences; what it lacks is not looked at."""
    first = [row for row in s.rows if row["generation"] == 1]
    for (loop, bias), bands in s.task.bands.items():
        for name, band in bands.items():
            rows = [row for row in first if (row["loop"], row["bias"]) == (loop, bias) and row[name] is not None]
            if not rows:
                continue
            info = s.result.metrics[name]
            where = f"{cell_of(rows[0])}: {name} of generation 1"
            mean = band.average([row[name] for row in rows])
            sides = [(f"{where}, mean over {len(rows)} seeds,", _side(band, info, mean, len(rows)))]
            sides += [(f"{where}, seed {row['seed']},", _side(band, info, row[name], 1)) for row in rows]
            yield from (f"{what} is {side}" for what, side in sides if side)


def _side(band: Band, info: MetricInfo, value: float, n: int) -> str:
    """On which side of the band the mean of n runs lies; "" within it."""
    low, high = band.interval(n)
    if info.most is not None:
        low, high = max(low, 0.0), min(high, info.most)
    if low <= value <= high:
        return ""
    is_good = (value < low) == (info.direction == "lower")
    return f"{value:.4g}, too {'good' if is_good else 'bad'} (the reference band is {low:.4g} to {high:.4g})"


def twins(s: Submission) -> None:
    """Loops that begin with as many real samples have the same generation 1, by λ and seed: nothing differs yet.

    But where a strategy gives up optimizer steps, how many depends on how many samples a loop draws: only loops that
    draw as many are held against each other then.
    """
    settings = {(cell["loop"], cell["bias"]): cell["settings"] for cell in s.task.cells}
    alike = ("n_initial", "n_synthetic") if _gives_up_steps(s) else ("n_initial",)
    known: dict[tuple, dict[str, Any]] = {}
    for row in s.rows:
        if row["generation"] > 1:
            continue
        begin = tuple(settings[row["loop"], row["bias"]][name] for name in alike)
        twin = known.setdefault((begin, row["bias"], row["seed"]), row)
        for name, band in s.task.bands[row["loop"], row["bias"]].items():
            a, b = row[name], twin[name]
            if a == b:
                continue
            if a is None or b is None:
                here, there = ("null" if value is None else f"{value:.6g}" for value in (a, b))
                raise UserError(
                    f"{place_of(row)}: {name} is {here}, and {there} in {cell_of(twin)}, which begins alike"
                )
            apart = abs(math.log(a / b)) if band.is_log and min(a, b) > 0 else abs(a - b)
            if apart > _twin_limit(s, name, band):
                raise UserError(
                    f"{place_of(row)}: {name} is {a:.6g}, and {b:.6g} in {cell_of(twin)}, which begins alike"
                )


def _gives_up_steps(s: Submission) -> bool:
    """Whether a generation costs anything else than without a strategy, of models whose steps can be given up."""
    if not (s.has_strategy and s.task.budget and s.task.budget["steps"]):
        return False
    return any(row["flops"] != s.task.budget["flops"][row["loop"]] for row in s.rows)


def _twin_limit(s: Submission, name: str, band: Band) -> float:
    """How far generation 1 of two twins may lie apart: what rounding does to this family, where a wave, a share or a
    later start met another machine."""
    n, kind = s.task.evaluator["n_samples"], s.task.evaluator["metrics"][name]["kind"]
    family, environment = s.task.config["model"]["family"], s.result.environment
    if family not in agreement.RERUN:  # rounding alone makes another run of it
        return max(_TWINS * band.sd, agreement.apart(band, kind, (), n))
    starts = [environment, *environment.get("resumed_with", [])]
    kinds = {(start["device"]["kind"], start["device"]["platform"]) for start in starts}
    which = agreement.SAME if len(kinds) == 1 else agreement.OTHER
    return max(_TWINS * band.sd, agreement.RERUN[family][which].at(kind, 1, n))


def samples(s: Submission) -> str:
    """The packed samples have the right shape and type, are finite where the run is, and neither equal nor copied."""
    rows = {place(row): row for row in s.rows}
    seen: dict[bytes, str] = {}
    for key in s.samples:
        row, x = rows[key], s.array(key)
        if row["status"] != "ok":
            continue
        if not np.isfinite(x).all():
            raise UserError(f"{place_of(row)}: its samples are not finite, and the run did not diverge")
        if (x == x[:1]).all() and (row["generation"] == 1 or row.get("recall")):
            raise UserError(f"{place_of(row)}: its samples are all the same one")
        if row["generation"] > 1:  # in generation 1 loops that begin alike have the same
            other = seen.setdefault(hashlib.sha256(x.tobytes()).digest(), slug(*key[:3]))
            if other != slug(*key[:3]):
                raise UserError(f"{place_of(row)}: its samples are those of {other}")
    return "" if s.samples else "left out of this copy: `madbench verify` can only run parts of it again"
