"""From what a generation hands over to its rows: one for each run, with the metrics and what they cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from madbench import grid, results
from madbench.errors import UserError


def make(
    job: grid.Job, features: str, runs: Sequence[grid.Run], generation: int, states: Any, out: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The rows of one generation, in the order of `runs`.

    Args:
      job: of these runs.
      features: label of the feature extractor.
      runs: of the wave.
      generation: from 1.
      states: of the metrics, `[run, ...]`.
      out: as `Generation.finish` hands it over, `[run]`.
    """
    evaluator = job.generation.evaluator
    found = []
    for i, each in enumerate(runs):
        alive, account = bool(out["alive"][i]), job.accounts[each.loop.name]
        values = evaluator.compute(jax.tree.map(lambda a, i=i: a[i], states))
        copied = out.get("pool_memorization")
        found.append(
            results.row(
                task=job.config["task"],
                model=job.config["model"]["family"],
                loop=each.loop.name,
                bias=each.bias,
                seed=each.seed,
                generation=generation,
                n_real=int(out["n_real"][i]),
                n_synthetic=int(out["n_synthetic"][i]),
                n_samples=job.generation.n_samples,
                status="ok" if alive else "diverged",
                account={
                    "strategy": job.config["strategy"],
                    "equal_cost": job.config["equal_cost"],
                    "flops": account.flops(generation),
                    "n_real_seen": int(out["n_real_seen"][i]),
                    "extra_parameters": account.parameters,
                    "pool_memorization": None if copied is None or not alive else float(copied[i]),
                },
                metrics=values if alive else dict.fromkeys(values),
                metric_versions=evaluator.versions,
                features=features,
            )
        )
    return found


def check_pools(job: grid.Job, runs: Sequence[grid.Run], generation: int, out: Mapping[str, Any]) -> None:
    """Refuses to go on with runs of whose samples a strategy let none pass; what was done before is saved.

    Raises:
      UserError: one line.
    """
    if "n_passed" not in out:
        return
    for i, each in enumerate(runs):
        if out["alive"][i] and each.loop.n_synthetic and not out["n_passed"][i]:
            raise UserError(
                f"config.strategy={job.config['strategy']!r}: everything is filtered out: of the "
                f"{each.loop.n_synthetic:,} samples of generation {generation} of loop {each.loop.name}, "
                f"λ = {each.bias:g}, seed {each.seed}, none passes; loosen it, in another --workdir"
            )
