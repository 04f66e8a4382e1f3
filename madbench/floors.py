"""The floor beside every metric: the same metric between disjoint real samples of the same size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench.metrics import Evaluator
from madbench.randomness import Role, key_for

REPEATS = 40


def measure(source: Any, extractor: Any, reference: jax.Array, evaluator: Evaluator) -> dict[str, dict[str, float]]:
    """Judges real samples as if they were generated.

    Each of 40 draws takes as many samples as the reference has from the training pool and compares them with the
    reference. From a finite pool the draws overlap, so their spread is a little too small.

    Args:
      source: of real samples.
      extractor: of features.
      reference: float32 features `[n, feature]`.
      evaluator: the metrics.

    Returns:
      For each metric {"mean", "p5", "p95"} over the draws.
    """

    def draw(repeat):
        order = source.order(key_for(0, repeat, Role.FLOOR))
        samples = source.at(order, jnp.arange(reference.shape[0], dtype=jnp.int32))
        return extractor(samples.x).astype(jnp.float32)

    repeats = jnp.arange(REPEATS)
    features = jax.jit(lambda: jax.lax.map(draw, repeats))()
    with jax.enable_x64(True):
        states = jax.jit(lambda f, r: jax.lax.map(lambda one: evaluator.states(one, r), f))(features, reference)
    states = jax.tree.map(np.asarray, states)
    values = [evaluator.compute(jax.tree.map(lambda a, i=i: a[i], states)) for i in range(REPEATS)]
    floors = {}
    for metric in evaluator.metrics:
        drawn = np.asarray([v[metric.name] for v in values])
        p5, p95 = np.percentile(drawn, (5, 95))
        floors[metric.name] = {"mean": float(drawn.mean()), "p5": float(p5), "p95": float(p95)}
    return floors
