"""Sets of points that metrics are tested on, and ways to get a metric's state and value as jobs get them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from madbench.metrics import METRICS, Comparison, Evaluator, Known, Training, neighbours, screened

# Small tiles, so that small sets have several; one device, as every further one compiles anew.
SCREENED = screened.Engine(tuple(jax.local_devices()[:1]), tile=16)
# The metrics that any two sets have.
PLAIN = tuple(name for name, metric in METRICS.items() if not metric.needs_training and not metric.refusal(Known()))


def cloud(n, d, seed, scale=1.0, shift=0.0):
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale + shift).astype(np.float32)


def low_rank(n, d, rank, seed):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + 3).astype(np.float32)


def grid_points(seed, n, side=4, d=2):
    """Whole-number points: distances are exact, and many of them tie."""
    return np.random.default_rng(seed).integers(0, side, size=(n, d)).astype(np.float32)


def clusters(n, d, seed, count, radius):
    """Tight clusters, far apart for their size: what a generator with few modes makes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(count, d))
    return (centres[rng.integers(0, count, n)] + radius * rng.normal(size=(n, d))).astype(np.float32)


# For moments and spectra: (generated, reference); mostly of one shape, so that they share programs.
CLOUDS = {
    "one dimension": (cloud(60, 1, 0), cloud(50, 1, 1, 2.0, 1.0)),
    "full rank": (cloud(60, 8, 0), cloud(50, 8, 1, 1.5, 0.3)),
    "correlated": (cloud(60, 8, 0) @ cloud(8, 8, 5), cloud(50, 8, 1)),
    "far from the origin": (cloud(60, 8, 0, 1.0, 1000.0), cloud(50, 8, 1, 1.1, 1000.5)),
    "both of low rank": (low_rank(60, 8, 3, 0), low_rank(50, 8, 4, 1)),
    "one of low rank": (low_rank(60, 8, 2, 0), cloud(50, 8, 1)),
    "fewer samples than dimensions": (cloud(10, 30, 0), cloud(12, 30, 1, 1.2)),
    "duplicated": (np.repeat(cloud(10, 8, 0), 6, 0), cloud(50, 8, 1)),
    "two samples": (cloud(2, 8, 0), cloud(2, 8, 1)),
    "collapsed to a point": (np.ones((60, 8), np.float32), cloud(50, 8, 1)),
    "tiny scale": (cloud(60, 8, 0, 1e-6), cloud(50, 8, 1, 2e-6)),
}

# For neighbours: (generated, reference).
PAIRS = {
    "overlapping": (cloud(40, 3, 0), cloud(37, 3, 1, 0.7, 0.5)),
    "one dimension": (cloud(40, 1, 0), cloud(37, 1, 1, 1.0, 2.0)),
    "apart": (cloud(40, 3, 0), cloud(37, 3, 1, 1.0, 100.0)),
    "many dimensions": (cloud(40, 40, 0), cloud(37, 40, 1, 0.9)),
    "ties and duplicates": (grid_points(0, 40), grid_points(1, 37, side=6)),
    "more ties": (grid_points(2, 40, side=3, d=3), grid_points(3, 37, side=3, d=3)),
    "smallest sets": (cloud(6, 3, 0), cloud(6, 3, 1)),
    "collapsed against a cloud": (np.repeat(cloud(1, 3, 0), 40, 0), cloud(37, 3, 1)),
    "two points against a cloud": (np.repeat(cloud(2, 3, 0), 20, 0), cloud(37, 3, 1)),
    "tiny and far from the origin": (cloud(40, 3, 0, 0.01, 50.0), cloud(37, 3, 1, 0.01, 50.01)),
    "tight clusters": (clusters(40, 3, 0, 3, 1e-4), clusters(37, 3, 1, 3, 1e-4)),
    "one sample has diverged": (np.concatenate([cloud(39, 3, 0), cloud(1, 3, 2, 1e9)]), cloud(37, 3, 1)),
}


def take(metrics, generated, reference, labels=None, training=None, engine=neighbours):
    """The states of several metrics as jobs get them: of float32 features, with 64-bit types on, as NumPy.

    Args:
      training: (features, size) or None.
      engine: traced and compiled with `neighbours`; any other runs on the host.
    """
    evaluator = Evaluator(metrics)
    training = None if training is None else Training(np.asarray(training[0], np.float32), np.int32(training[1]))
    sets = (np.asarray(generated, np.float32), np.asarray(reference, np.float32), labels, training)
    with jax.enable_x64(True):
        if engine is neighbours:
            states = program(evaluator.metrics)(*jax.tree.map(jnp.asarray, sets))
        else:
            states = evaluator.states(Comparison(*sets, engine))
    return jax.tree.map(np.asarray, states)


@functools.cache
def program(metrics):
    """One for all tests of these metrics."""
    return jax.jit(lambda *sets: Evaluator(metrics).states(Comparison(*sets)))


def state(metric, generated, reference, **more):
    """One metric's state; `metric` is one, or a name."""
    return take([of(metric)], generated, reference, **more)["states"][of(metric).name]


def value(metric, generated, reference, **more):
    return of(metric).compute(state(metric, generated, reference, **more))


@functools.cache
def of(metric):
    return METRICS[metric].of(Known()) if isinstance(metric, str) else metric


def scores(metrics, generated, reference, **more):
    """The values of several metrics, by one program: {name: value}."""
    return Evaluator(metrics).compute(take(metrics, generated, reference, **more))


def draws(metric, generated, reference):
    """The metric's values over the first axis of both, float64 `[draw]`, by one program."""
    with jax.enable_x64(True):
        program = jax.jit(jax.vmap(lambda a, b: metric.state(Comparison(a, b))))
        states = jax.tree.map(np.asarray, program(jnp.asarray(generated), jnp.asarray(reference)))
    return np.asarray([metric.compute(jax.tree.map(lambda s, i=i: s[i], states)) for i in range(len(generated))])


def chunked(metric, chunks, **more):
    """The merged state of `chunks`, pairs of (generated, reference)."""
    return functools.reduce(metric.merge, (state(metric, *chunk, **more) for chunk in chunks))


def squared(a, b):
    """Squared distances by the differences, float64 `[n, m]`."""
    return ((np.float64(a)[:, None] - np.float64(b)[None]) ** 2).sum(axis=2)


def radii(points, k=5):
    """Squared distance of each point to its k-th other, float64 `[n]`."""
    among = squared(points, points)
    np.fill_diagonal(among, np.inf)
    return np.sort(among, axis=1)[:, k - 1]
