"""Where a job that was stopped goes on: the newest checkpoint that can be used, and the rows before it."""

import itertools
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from madbench import grid, results
from madbench.checkpoints import Checkpoints, Progress
from madbench.errors import UserError
from madbench.generation import Kept, Work
from madbench.streaming import stage as streaming

POOLS = "pools"  # within a workdir: synthetic samples of streamed jobs


def first_plan(path: pathlib.Path) -> tuple[int, bool | None]:
    """Runs of a wave, and whether data were streamed, at the first start in this workdir; 0 and None where none was.

    Raises:
      UserError: environment.json is missing or damaged, and there are checkpoints, which fit no other plan; one line.
    """
    try:
        plan = json.loads((path / "environment.json").read_text())["plan"]
        return int(plan["wave_size"]), int(plan["streamed_steps"]) > 0
    except (OSError, ValueError, KeyError, TypeError):
        if any((path / "checkpoints").glob("wave*.json")):
            raise UserError(
                f"{path / 'environment.json'} is missing or cannot be read, and says how this job was begun; put it "
                "back, or begin anew in another --workdir"
            ) from None
        (path / "environment.json").unlink(missing_ok=True)  # nothing hangs on it
        return 0, None


def as_begun(job: grid.Job, wave_size: int, streamed: bool | None, cache: str) -> grid.Job:
    """The job with the waves of its first start, and its data where they were: checkpoints hold one wave each."""
    if not wave_size:
        return job
    if (wave_size, streamed) == (job.plan.wave_size, job.plan.streamed_steps > 0):
        return job
    begun = {"wave_size": wave_size, "streamed": streamed}
    return grid.prepare(job.config, cache=cache, **begun, shard=job.shard, source=job.source)


def find(
    job: grid.Job, path: pathlib.Path, checkpoints: Checkpoints, say: Callable[[str], None]
) -> tuple[Progress, tuple[Kept, Work | None] | None]:
    """What to do next, and the state to do it from; None to begin a wave. Changes nothing."""
    rows = _rows_in_order(job, path)
    like = lambda progress: job.shapes(len(job.plan.wave(progress.wave)), within_fit=progress.segment > 0)
    found = (Progress(0, 1, 0), None)
    for progress, state in checkpoints.restore(like, lambda text: say(f"warning: {text}")):
        if len(rows) < _rows_before(job, progress):
            say(f"warning: metrics.jsonl lacks rows that checkpoint {progress.name} follows; trying before")
        elif not _has_pools(job, path, progress, state[0]):
            say(f"warning: pools/ lacks samples that checkpoint {progress.name} was saved with; trying before")
        else:
            found = (progress, state)
            break
    progress, state = found
    if progress.generation > job.generations:
        progress, state = Progress(progress.wave + 1, 1, 0), None
    if progress.wave == job.plan.waves:
        say("this job is finished already")
    elif rows or state is not None:
        say(f"resuming at wave {progress.wave + 1}, generation {progress.generation}")
    return progress, state


def _has_pools(job: grid.Job, path: pathlib.Path, progress: Progress, kept: Kept) -> bool:
    """Whether the synthetic samples on disk are those of the checkpoint, where it needs any."""
    if not job.plan.streamed_steps or progress.generation > job.generations:
        return True
    runs = [job.runs[i] for i in job.plan.wave(progress.wave)]
    return streaming.intact(job, path / POOLS, runs, progress.generation, kept)


def cut(job: grid.Job, path: pathlib.Path, progress: Progress) -> None:
    """Leaves the rows before `progress`: later ones will be computed again, the same."""
    timings = list(results.read_rows(path / "timing.jsonl"))
    results.write_rows(path / "metrics.jsonl", _rows_in_order(job, path)[: _rows_before(job, progress)])
    results.write_rows(path / "timing.jsonl", timings[: progress.wave * job.generations + progress.generation - 1])


def check_data(path: pathlib.Path, fingerprint: dict[str, Any]) -> None:
    """Refuses a workdir that was begun with other data.

    Raises:
      UserError: one line.
    """
    try:
        before = json.loads((path / "environment.json").read_text())["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if before != fingerprint:
        raise UserError(f"{path} was begun with other data (see environment.json); choose another --workdir")


def check_features(path: pathlib.Path, label: str) -> None:
    """Refuses to add rows to others that another feature network has measured.

    Raises:
      UserError: one line.
    """
    try:
        before = json.loads((path / "reference.json").read_text())["features"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if before != label and any(True for _ in results.read_rows(path / "metrics.jsonl")):
        raise UserError(
            f"{path} was measured with features {before}, and here they are {label}: another machine, or other "
            "versions, trained them; resume it where it began, or choose another --workdir"
        )


def _rows_in_order(job: grid.Job, path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl up to the first that is not where the job would have written it."""
    identity = lambda row: tuple(row.get(name) for name in ("loop", "bias", "seed", "generation"))
    pairs = zip(results.read_rows(path / "metrics.jsonl"), _order(job), strict=False)
    return [row for row, _ in itertools.takewhile(lambda pair: identity(pair[0]) == pair[1], pairs)]


def _order(job: grid.Job) -> Iterator[tuple[str, float, int, int]]:
    """(loop, λ, seed, generation) of each row of metrics.jsonl."""
    for wave, generation in itertools.product(range(job.plan.waves), range(1, job.generations + 1)):
        for run in (job.runs[i] for i in job.plan.wave(wave)):
            yield run.loop.name, run.bias, run.seed, generation


def _rows_before(job: grid.Job, progress: Progress) -> int:
    plan = job.plan
    earlier = min(progress.wave * plan.wave_size, plan.runs) * job.generations
    return earlier + len(plan.wave(progress.wave)) * (progress.generation - 1)
