"""`madbench verify`: computes parts of a submission again, and compares.

Two things are done with a submission that passes its checks. The metrics are computed again from the samples that are
packed with it; and some of its runs, which nobody could know beforehand, are trained again from the task's config and
seeds through their first generations. Nothing that decides what is computed comes from the submission: config, seeds,
source, feature network and metrics are the task's. docs/verify.md says what that can show and what it cannot.
"""

import contextlib
import hashlib
import pathlib
import secrets
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from madbench import __version__, display, experiment, grid, results
from madbench import config as configs
from madbench.errors import UserError
from madbench.leaderboard import agreement, checks, submission
from madbench.metrics import Comparison, Evaluator, features
from madbench.metrics.features import Extractor

SCHEMA = 1
Say = Callable[[str], None]


def run(
    path: str,
    *,
    pairs: int = 2,
    until: int = 0,
    seed: int | None = None,
    cache: str = grid.DEFAULT_CACHE,
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
      say: told, in lines, what is done and what it will cost.
      show: where the progress of the re-run goes; nowhere by default.

    Returns:
      Plain JSON: "schema", "benchmark", "submission_sha256", "task", "task_sha256", "device", "seed", "pairs", "rule",
      "samples", "rows" (a line for each metric of each row that was compared, see `agreement.judge`), "notes" (what it
      cannot tell), "passed", "status" ("re-run" or "invalidated"; None where nothing was re-run and nothing was wrong)
      and "reason".

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
        "rule": "",
        "samples": "",
        "rows": [],
        "notes": [],
    }
    failed = [finding for finding in checks.run(path) if not finding.ok]
    with contextlib.suppress(OSError):
        report["submission_sha256"] = _sha256(folder)
    if failed:
        return _verdict(report, f"check {failed[0].name}: {failed[0].message}")

    given = submission.load(path)
    task = given.task
    report |= {
        "task": task.id,
        "task_sha256": task.sha256,
        "rule": agreement.rule(given.result.environment, report["device"]),
    }
    report["samples"] = "recomputed" if given.samples else "left out"
    chosen = choose(task.runs, task.config["generations"], pairs, until, f"{report['submission_sha256']} {seed}")
    if not chosen and not given.samples:
        raise UserError(f"{path} has no samples and --pairs=0: there is nothing to verify")
    report["pairs"] = [dict(zip(("loop", "bias", "seed", "generation"), pair, strict=True)) for pair in chosen]
    report["notes"] = _notes(report, task, given)
    rows = {(r["loop"], r["bias"], r["seed"], r["generation"]): r for r in given.rows}
    if given.samples:
        say(f"computing the metrics of {len(given.samples)} packed samples again")
        report["rows"] += _recompute(given, rows, report["rule"], cache)
    if chosen:
        say(_cost(chosen, task, given.timing))
        report["rows"] += _rerun(chosen, rows, task, report["rule"], cache, show or display.Nothing())
    if _sha256(folder) != report["submission_sha256"]:
        raise UserError(f"{path} was changed while it was verified; run it again")
    return _verdict(report, "")


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


def _cost(chosen: list, task: Any, timing: list[dict[str, Any]]) -> str:
    """What the re-run will take, said before: run-generations, and the time that the submission claims for as many."""
    last = max(pair[-1] for pair in chosen)
    count, whole = len(chosen) * last, len(task.runs) * task.config["generations"]
    named = ", ".join(results.slug(*pair[:3]) for pair in chosen)
    seconds = 0.0
    for row in timing if isinstance(timing, list) else []:
        parts = (
            [row.get(f"{phase}_seconds") for phase in ("fit", "sample", "evaluate")] if isinstance(row, dict) else []
        )
        seconds += sum(float(part) for part in parts if isinstance(part, (int, float)) and 0 <= part < 1e9)
    took = f"; the submission took {display.duration(seconds / whole * count)} for as many" if seconds else ""
    costs = f"{count} of {whole} run-generations{took}, compilation not counted"
    return f"running again, to generation {last}: {named} ({costs})"


# ---- from the packed samples -----------------------------------------------------------------------------------------


def _recompute(given: submission.Submission, rows: dict, rule: str, cache: str) -> list[dict[str, Any]]:
    """Lines of `agreement.judge` for each packed set."""
    task = given.task
    job = grid.prepare(configs.from_plain(task.config), cache=cache, only=task.runs[:1])
    source = job.source
    metrics = [metric for metric in job.generation.evaluator.metrics if not metric.needs_training]
    evaluator = Evaluator(metrics)
    extractor = _extractor(source, task, cache)
    reference = jax.numpy.asarray(extractor.extract(np.asarray(source.reference.x)))
    n = job.generation.n_samples
    kinds = {metric.name: task.evaluator["metrics"][metric.name]["kind"] for metric in metrics}

    limits = {name: agreement.SAMPLES[rule].at(kind, 1, n) for name, kind in kinds.items()}

    @jax.jit
    def judge(generated, reference, labels):
        return evaluator.states(Comparison(generated, reference, labels))

    lines = []
    for key in sorted(given.samples):
        where = {"what": "samples"} | dict(zip(("loop", "bias", "seed", "generation"), key, strict=True))
        row = rows.get(key)
        if row is not None and all(row.get(name) is None for name in kinds):
            continue  # it diverged: that claims nothing, and scores nothing
        seen = extractor.extract(given.array(key))
        with jax.enable_x64(True):
            found = evaluator.compute(judge(seen, reference, source.reference.y))
        lines += agreement.judge(where, kinds, row, found, limits)
    return lines


def _extractor(source: Any, task: Any, cache: str) -> Extractor:
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


def _rerun(chosen: list, rows: dict, task: Any, rule: str, cache: str, show: display.Display) -> list[dict[str, Any]]:
    """Lines of `agreement.judge` for all generations of the chosen runs, up to the latest that was chosen.

    The runs are one small fleet in the shapes of the whole grid, so that they meet the numbers of the submission's.
    """
    last = max(pair[-1] for pair in chosen)
    config = configs.from_plain(task.config | {"generations": last, "n_grid": 0, "keep_checkpoints": 1})
    with tempfile.TemporaryDirectory(prefix="madbench-verify-") as folder:
        experiment.run(config, folder, cache=cache, show=show, only=[pair[:3] for pair in chosen])
        found = list(results.read_rows(pathlib.Path(folder) / "metrics.jsonl"))
    label = found[0]["features"]
    if label != task.evaluator["features"]:
        raise UserError(f"{task.id} is measured with features {task.evaluator['features']}, and here they are {label}")
    kinds = {name: info["kind"] for name, info in task.evaluator["metrics"].items()}
    lines = []
    for row in found:
        key = tuple(row[name] for name in ("loop", "bias", "seed", "generation"))
        where = {"what": "re-run"} | dict(zip(("loop", "bias", "seed", "generation"), key, strict=True))
        limits = agreement.rerun(task, rule, key[:2], key[3], rows.values())
        lines += agreement.judge(where, kinds, rows.get(key), row, limits)
    return lines


# ---- the report ------------------------------------------------------------------------------------------------------


def _notes(report: dict[str, Any], task: Any, given: Any) -> list[str]:
    """What this verification cannot tell."""
    notes = []
    last = task.config["generations"]
    if not given.samples:
        notes.append("the samples were left out of this copy, so no metric was computed again from them")
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
    status = "invalidated" if reason else "re-run" if report["pairs"] else None
    return report | {"passed": not reason, "status": status, "reason": reason}


def record(path: str, report: dict[str, Any]) -> None:
    """Writes the report beside the submission, for the leaderboard.

    Raises:
      UserError: it says nothing that the leaderboard could show; one line.
    """
    if report["status"] is None:
        raise UserError("--record needs a re-run: leave --pairs at 1 or more")
    results.write_object(pathlib.Path(path) / submission.VERIFICATION, dict(sorted(report.items())))


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people: a line for each value that was compared, what cannot be told, and the verdict."""
    shown = [("what", "run", "t", "metric", "claimed", "found", "difference (fd: of ln fd)", "tolerance", "")]
    for row in report["rows"]:
        run = results.slug(row["loop"], row["bias"], row["seed"])
        numbers = (_number(row[name]) for name in ("claimed", "found", "difference", "tolerance"))
        verdict = "ok" if row["ok"] else f"NO: {row['why']}"
        shown.append((row["what"], run, str(row["generation"]), row["metric"], *numbers, verdict))
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    text = text if report["rows"] else []
    text += [f"note: {note}" for note in report["notes"]]
    verdict = "passed" if report["passed"] else f"failed: {report['reason']}"
    return [*text, f"verify {verdict} (seed {report['seed']})"]


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.5g}"


def _sha256(folder: pathlib.Path) -> str:
    return hashlib.sha256((folder / submission.MANIFEST).read_bytes()).hexdigest()
