"""Generators that cheat or fail, judged by every metric: which metric exposes which.

python benchmarks/degenerate.py

Digits through the LeNet, on the CPU, in half a minute: 597 samples of each generator against the reference part, and
597 real ones as its training set. A value is *exposed*, and bold in the table, where it lies outside the floor's 5th to
95th percentile on the worse side.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from madbench import data, floors
from madbench.grid import DEFAULT_CACHE
from madbench.metrics import METRICS, Comparison, Evaluator, Known, Training, features, select
from madbench.randomness import Role, key_for


class Real(NamedTuple):
    """Real samples in NumPy: what the generator was trained on, and as many that it never saw."""

    training: np.ndarray  # [n, *shape]
    labels: np.ndarray  # [n]
    held_out: np.ndarray  # [n, *shape]
    held_out_labels: np.ndarray  # [n]


def one_with_noise(real: Real, rng) -> np.ndarray:
    noise = 0.1 * real.training.std() * rng.normal(size=real.training.shape)
    return real.held_out[:1] + noise


def noise(real: Real, rng) -> np.ndarray:
    return rng.uniform(real.training.min(), real.training.max(), size=real.training.shape)


def half_the_classes(real: Real, rng) -> np.ndarray:
    few = real.held_out[real.held_out_labels <= np.median(np.unique(real.labels))]
    return few[np.arange(len(real.training)) % len(few)]


def towards_the_classes(real: Real, rng) -> np.ndarray:
    means = np.stack([real.training[real.labels == y].mean(axis=0) for y in real.labels])
    return means + 0.5 * (real.training - means)


# Real ones come first: the yardstick. All others ought to be exposed.
GENERATORS: dict[str, Callable[[Real, np.random.Generator], np.ndarray]] = {
    "real": lambda real, rng: real.held_out,
    "constant: the mean": lambda real, rng: np.repeat(real.training.mean(axis=0, keepdims=True), len(real.training), 0),
    "constant: a real image": lambda real, rng: np.repeat(real.held_out[:1], len(real.training), 0),
    "one image and noise": one_with_noise,
    "copy of the training set": lambda real, rng: real.training,
    "pure noise": noise,
    "half the classes": half_the_classes,
    "halfway to the class means": towards_the_classes,
}


class Verdict(NamedTuple):
    """A metric's value, and whether it is worse than nearly all real sets'."""

    value: float
    exposed: bool


def judge(source: Any, extractor: Any) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Verdict]]]:
    """(floors by metric, verdicts by generator and metric), for all metrics that such data have."""
    reference = extractor(source.reference.x)
    n = reference.shape[0]
    known = Known(source.modes, source.moments, source.num_classes, training=True)
    evaluator = Evaluator(select([name for name in METRICS if not METRICS[name].refusal(known)], known))
    found = floors.measure(source, extractor, reference, evaluator)

    drawn = source.at(source.order(key_for(0, 0, Role.DATA)), jnp.arange(2 * n))
    x, y = np.asarray(drawn.x), np.asarray(drawn.y)
    real = Real(x[:n], y[:n], x[n:], y[n:])
    bounds = source.bounds or (-np.inf, np.inf)
    see = jax.jit(lambda x: extractor(x).astype(jnp.float32))
    program = jax.jit(lambda a, b, y, t: evaluator.states(Comparison(a, b, y, Training(t, jnp.int32(n)))))
    training = see(jnp.asarray(real.training))
    verdicts = {}
    for name, generate in GENERATORS.items():
        samples = np.clip(generate(real, np.random.default_rng(0)), *bounds).astype(np.float32)
        generated = see(jnp.asarray(samples))
        with jax.enable_x64(True):
            values = evaluator.compute(program(generated, reference, source.reference.y, training))
        verdicts[name] = {m.name: Verdict(values[m.name], exposed(m, values[m.name], found)) for m in evaluator.metrics}
    return found, verdicts


def exposed(metric: Any, value: float, found: dict[str, dict[str, float]]) -> bool:
    low, high = found[metric.name]["p5"], found[metric.name]["p95"]
    return value > high if metric.direction == "lower" else value < low


def table(found: dict[str, dict[str, float]], verdicts: dict[str, dict[str, Verdict]]) -> str:
    """Markdown: a row a metric, a column a generator."""
    arrow = lambda name: "↓" if METRICS[name].direction == "lower" else "↑"
    lines = ["| metric | floor, 5–95 % | " + " | ".join(verdicts) + " |", "|" + "---|" * (len(verdicts) + 2)]
    for name, floor in found.items():
        cells = [verdict[name] for verdict in verdicts.values()]
        shown = [f"**{v:.3g}**" if bad else f"{v:.3g}" for v, bad in cells]
        lines.append(f"| {name} {arrow(name)} | {floor['p5']:.3g} to {floor['p95']:.3g} | " + " | ".join(shown) + " |")
    counts = [str(sum(bad for _, bad in row.values())) for row in verdicts.values()]
    return "\n".join([*lines, "| exposed by | | " + " | ".join(counts) + " |"])


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    source = data.load("digits")
    cache = os.environ.get("MADBENCH_CACHE", DEFAULT_CACHE)
    print(table(*judge(source, features.build("lenet", source.pool, source.num_classes, cache))))


if __name__ == "__main__":
    main()
