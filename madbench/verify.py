"""`madbench verify`: computes parts of a submission again, and compares.

Two things are done with a submission that passes its checks. The metrics are computed again from the samples that are
packed with it; and some of its runs, which nobody could know beforehand, are trained again from the task's config and
seeds through their first generations. What decides what is computed is the task's: config, seeds, source, features and
metrics. Of the submission comes the strategy against collapse alone, one of the suite's with its settings: a class of
somebody else's is never imported unless the caller says so. docs/verify.md says what all that can show and what not.
"""

import contextlib
import hashlib
import pathlib
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from madbench import __version__, display, experiment, grid, results, verify_method
from madbench import config as configs
from madbench.errors import UserError
from madbench.leaderboard import agreement, checks, leaning, submission
from madbench.leaderboard.board import INVALIDATED, RE_RUN, RE_RUN_OTHER
from madbench.leaderboard.tasks import Task
from madbench.metrics import Comparison, Evaluator, features
from madbench.metrics.features import Extractor

SCHEMA = 2
Say = Callable[[str], None]


def run(
    path: str,
    *,
    pairs: int = 2,
    until: int = 0,
    seed: int | None = None,
    cache: str = grid.DEFAULT_CACHE,
    allow_code: bool = False,
    say: Say = lambda text: None,
    show: display.Display | None = None,
) -> dict[str, Any]:
    """Verifies a submission.

    Args:
      path: of its directory; nothing is written there.
      pairs: how many (run, generation) are computed again; 0 for the metrics of its samples alone.
      until: no generation beyond this one is; 0 for no such limit.
      seed: of their choice, below 2^53; by default one that nobody knows beforehand. The report holds it.
      cache: directory of feature networks and prepared data.
      allow_code: whether a class that is the submission's method is imported, and so executed with all that its module
        does; it has to be installed here.
      say: told, in lines, what is done and what it will cost.
      show: where the progress of the re-run goes; nowhere by default.

    Returns:
      Plain JSON: "schema", "benchmark", "submission_sha256", "task", "task_sha256", "device", "seed", "pairs", "runs"
      (of the task), "rule", "samples", "barred" (why no run was computed again that was to be), "rows" (a line for each
      number of each row that was compared, see `agreement.judge`), "leaning" (see `leaning.judge`), "notes" (what it
      cannot tell), "passed", "status" (one of `board.STATUSES`; None where no generation after the first was re-run and
      nothing was wrong) and "reason".

    Raises:
      UserError: it cannot be read, or nothing of it can be verified here; one line.
    """
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise UserError(f"{path} is no directory: name a submission that `madbench submit` has made")
    if pairs < 0 or until < 0:
        raise UserError(f"--pairs={pairs}, --until={until}: neither can be negative")
    seed = secrets.randbits(32) if seed is None else seed
    if not 0 <= seed < 2**53:
        raise UserError(f"--seed={seed} is not a whole number from 0 to 2^53 - 1")
    device = jax.local_devices()[0]
    report = {
        "schema": SCHEMA,
        "benchmark": __version__,
        "submission_sha256": "",
        "task": "",
        "task_sha256": "",
        "device": {"kind": device.device_kind, "platform": device.platform, "count": jax.device_count()},
        "seed": seed,
        "pairs": [],
        "runs": 0,
        "rule": "",
        "samples": "",
        "barred": "",
        "rows": [],
        "leaning": [],
        "notes": [],
    }
    given = submission.Submission(folder)
    failed = [finding for finding in checks.findings(given) if not finding.ok]
    with contextlib.suppress(UserError):
        report["submission_sha256"] = hashlib.sha256(given.manifest_bytes).hexdigest()
    if failed:
        return _verdict(report, f"check {failed[0].name}: {failed[0].message}")

    task = given.task
    report |= {
        "task": task.id,
        "task_sha256": task.sha256,
        "runs": len(task.runs),
        "rule": agreement.rule(given.result.environment, report["device"]),
    }
    report["samples"] = "recomputed" if given.samples else "left out"
    report["barred"] = barred = verify_method.barred(given, allow_code, cache) if pairs else ""
    pairs = 0 if barred else pairs
    chosen = choose(task.runs, task.config["generations"], pairs, until, f"{report['submission_sha256']} {seed}")
    if not chosen and not given.samples:
        raise UserError(f"{path} has no samples, and {barred or '--pairs=0'}: there is nothing to verify")
    report["pairs"] = [dict(zip(results.PLACE, pair, strict=True)) for pair in chosen]
    report["notes"] = _notes(report, task, given)
    rows = {results.place(row): row for row in given.rows}
    reason = ""
    if given.samples:
        say(f"computing the metrics of {len(given.samples)} packed samples again")
        report["rows"] += _recompute(given, rows, report["rule"], cache)
    if chosen:
        say(_cost(chosen, task, given.timing))
        lines, reason = _rerun(chosen, rows, given, report["rule"], cache, show or display.Nothing())
        report["rows"] += lines
    report["leaning"] = leaning.judge(report["rows"], task.evaluator["metrics"])
    if submission.Submission(folder).manifest_bytes != given.manifest_bytes:
        raise UserError(f"{path} was changed while it was verified; run it again")
    return _verdict(report, reason)


def choose(
    runs: list[tuple[str, float, int]], generations: int, pairs: int, until: int, entropy: str
) -> list[tuple[str, float, int, int]]:
    """Which runs are computed again, up to which generation: (loop, λ, seed, t), in the order of the grid.

    Runs are drawn uniformly, without replacement. Their generations are drawn from 2 on with probabilities
    proportional to t: a late row rests on all before it, and an invented one is found only by a re-run that gets there.
    All of it costs at most the share `pairs` / runs of the submission.

    Args:
      runs: (loop, λ, seed) of the task's grid.
      generations: T.
      pairs: how many; all runs where there are fewer.
      until: the last generation to draw; 0 for T.
      entropy: what the choice follows from.
    """
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(entropy.encode()).digest()))
    last = min(until or generations, generations)
    times = np.arange(min(2, last), last + 1)
    picked = sorted(rng.permutation(len(runs))[:pairs])
    return [
        (*runs[i], int(t)) for i, t in zip(picked, rng.choice(times, len(picked), p=times / times.sum()), strict=True)
    ]


def _cost(chosen: list, task: Task, timing: list[dict[str, Any]]) -> str:
    """What the re-run will take, said before: run-generations, and the time that the submission claims for as many."""
    last = max(pair[-1] for pair in chosen)
    count, whole = len(chosen) * last, len(task.runs) * task.config["generations"]
    named = ", ".join(results.slug(*pair[:3]) for pair in chosen)
    seconds = sum(row[f"{phase}_seconds"] for row in timing for phase in results.PHASES if phase != "compile")
    took = f"the submission took {display.duration(seconds / whole * count)} for as many"
    costs = f"{count} of {whole} run-generations; {took}, compilation not counted"
    return f"running again, to generation {last}: {named} ({costs})"


# ---- from the packed samples -----------------------------------------------------------------------------------------


def _recompute(given: submission.Submission, rows: dict, rule: str, cache: str) -> list[dict[str, Any]]:
    """Lines of `agreement.judge` for each packed set, but those of runs that diverged: these claim nothing."""
    described = {name: info["kind"] for name, info in given.task.evaluator["metrics"].items()}
    keys = [key for key in sorted(given.samples) if any(rows[key][name] is not None for name in described)]
    lines = []
    for key, found in measured(given, keys, cache):
        kinds = {name: described[name] for name in found}
        limits = {
            name: agreement.SAMPLES[rule].at(kind, 1, given.task.evaluator["n_samples"]) for name, kind in kinds.items()
        }
        where = {"what": "samples"} | dict(zip(results.PLACE, key, strict=True))
        lines += agreement.judge(where, kinds, rows[key], found, limits)
    return lines


def measured(
    given: submission.Submission, keys: Iterable[submission.Key], cache: str = grid.DEFAULT_CACHE
) -> Iterator[tuple[submission.Key, dict[str, float | None]]]:
    """The metrics of packed samples, by the task's reference and features, but for metrics that need a training set.

    Args:
      given: has samples.
      keys: of `given.samples`.
      cache: directory of feature networks and prepared data.

    Raises:
      UserError: the features are other ones here than the task's; one line.
    """
    task = given.task
    job = grid.prepare(configs.from_plain(task.config), cache=cache, only=task.runs[:1])
    source = job.source
    evaluator = Evaluator([metric for metric in job.generation.evaluator.metrics if not metric.needs_training])
    extractor = _extractor(source, task, cache)
    reference = jax.numpy.asarray(extractor.extract(np.asarray(source.reference.x)))

    @jax.jit
    def states(generated, reference, labels):
        return evaluator.states(Comparison(generated, reference, labels))

    for key in keys:
        seen = extractor.extract(given.array(key))
        with jax.enable_x64(True):
            found = evaluator.compute(states(seen, reference, source.reference.y))
        yield key, found


def _extractor(source: Any, task: Task, cache: str) -> Extractor:
    """The task's feature network.

    Raises:
      UserError: here it is another one than the task's; one line.
    """
    name = task.config["metrics"]["features"]
    examples = source.examples if features.trained(name) else None
    extractor = features.build(name, examples, source.num_classes, cache)
    if extractor.label != task.evaluator["features"]:
        raise UserError(
            f"{task.id} is measured with features {task.evaluator['features']}, and here they are {extractor.label}"
        )
    return extractor


# ---- from the config -------------------------------------------------------------------------------------------------


def _rerun(
    chosen: list, rows: dict, given: submission.Submission, rule: str, cache: str, show: display.Display
) -> tuple[list[dict[str, Any]], str]:
    """Lines of `agreement.judge` for all generations of the chosen runs, up to the latest that was chosen; and what
    else is wrong, as a sentence, or "".

    The runs are one small fleet in the shapes of the whole grid, so that they meet the numbers of the submission's.
    """
    last, task = max(pair[-1] for pair in chosen), given.task
    config = configs.from_plain(verify_method.config(given) | {"generations": last, "n_grid": 0, "keep_checkpoints": 1})
    how = {"only": [pair[:3] for pair in chosen], "spread": task.config["generations"]}
    with tempfile.TemporaryDirectory(prefix="madbench-verify-") as folder:
        experiment.run(config, folder, cache=cache, show=show, **how)
        found = list(results.read_rows(pathlib.Path(folder) / "metrics.jsonl"))
        reason = verify_method.misdescribed(given, pathlib.Path(folder))
    label = found[0]["features"]
    if label != task.evaluator["features"]:
        raise UserError(f"{task.id} is measured with features {task.evaluator['features']}, and here they are {label}")
    kinds = {name: info["kind"] for name, info in task.evaluator["metrics"].items()}
    lines = []
    for row in found:
        key = results.place(row)
        where = dict(zip(results.PLACE, key, strict=True))
        limits = agreement.rerun(task, rule, key[:2], key[3], rows.values())
        lines += agreement.judge({"what": "re-run"} | where, kinds, rows.get(key), row, limits)
        lines += verify_method.accounts(where, given, rule, rows.get(key), row, rows.values())
    return lines, reason


# ---- the report ------------------------------------------------------------------------------------------------------


def _notes(report: dict[str, Any], task: Task, given: submission.Submission) -> list[str]:
    """What this verification cannot tell."""
    notes = []
    last = task.config["generations"]
    if not given.samples:
        notes.append("the samples were left out of this copy, so no metric was computed again from them")
    if report["barred"]:
        notes.append(f"no run was computed again: {report['barred']}")
    if report["pairs"]:
        reached = max(pair["generation"] for pair in report["pairs"])
        share = len(report["pairs"]) / len(task.runs)
        notes.append(f"{share:.0%} of the runs were computed again, to generation {reached} of {last}")
        if task.config["model"]["family"] not in agreement.RERUN:
            notes.append(
                "rounding alone makes another run of this family: a re-run is compared as another seed's would be, and "
                "tells only what lies outside the spread over seeds"
            )
    if report["rule"] == agreement.OTHER:
        notes.append("this device rounds otherwise than the submission's, so that the wider tolerances apply")
    return notes


def _verdict(report: dict[str, Any], reason: str) -> dict[str, Any]:
    """The report with "passed", "status" and "reason"."""
    wrong = [line for line in report["rows"] if not line["ok"]]
    if wrong and not reason:
        first = wrong[0]
        name = f"{results.slug(first['loop'], first['bias'], first['seed'])}, generation {first['generation']}"
        reason = (
            f"{first['what']}: {len(wrong)} of {len(report['rows'])} values differ; {first['metric']} of {name} is "
            f"{_number(first['claimed'])} and was found {_number(first['found'])}: {first['why']}"
        )
    leans = [found for found in report["leaning"] if not found["ok"]]
    if leans and not reason:
        reason = f"re-run: {leaning.sentence(leans[-1])}"
    later = any(line["what"] == "re-run" and line["generation"] > 1 for line in report["rows"])
    re_run = RE_RUN if report["rule"] == agreement.SAME else RE_RUN_OTHER
    status = INVALIDATED if reason else re_run if later else None
    return report | {"passed": not reason, "status": status, "reason": reason}


def record(path: str, report: dict[str, Any]) -> None:
    """Writes the report beside the submission, for the leaderboard.

    Raises:
      UserError: it says nothing that the leaderboard could show; one line.
    """
    if report["status"] is None:
        needed = "--record needs a re-run of generation 2 or later: leave --pairs at 1 or more, --until at 2"
        is_barred = f"nothing is recorded, and its status stays self-reported: {report['barred']}"
        raise UserError(is_barred if report["barred"] else needed)
    results.write_object(pathlib.Path(path) / submission.VERIFICATION, dict(sorted(report.items())))


def lines(report: dict[str, Any], verbose: bool = False) -> list[str]:
    """The report for people: values that differ, or all; how many agree, what cannot be told, and the verdict."""
    shown = [("what", "run", "t", "metric", "claimed", "found", "difference (fd: of ln fd)", "tolerance", "")]
    for row in report["rows"]:
        if row["ok"] and not verbose:
            continue
        run = results.slug(row["loop"], row["bias"], row["seed"])
        numbers = (_number(row[name]) for name in ("claimed", "found", "difference", "tolerance"))
        verdict = "ok" if row["ok"] else f"NO: {row['why']}"
        shown.append((row["what"], run, str(row["generation"]), row["metric"], *numbers, verdict))
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    text = text if len(shown) > 1 else []
    for what in dict.fromkeys(row["what"] for row in report["rows"]):
        those = [row["ok"] for row in report["rows"] if row["what"] == what]
        text.append(f"{what}: {sum(those)} of {len(those)} values agree")
    for found in report["leaning"]:
        verdict = "ok" if found["ok"] else "NO"
        mean, most = (f"{found[name] / leaning.DEVIATIONS:+.0%}" for name in ("mean", "limit"))
        text.append(f"leaning: {found['metric']} {mean} of the tolerance, at most {most}: {verdict}")
    text += [f"note: {note}" for note in report["notes"]]
    unseen = "could see no run again, and its status stays self-reported; metrics of the packed samples agree"
    passed = unseen if report["barred"] else "passed"
    verdict = passed if report["passed"] else f"failed: {report['reason']}"
    return [*text, f"verify {verdict} (seed {report['seed']})"]


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.5g}"
