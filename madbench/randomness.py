"""Where every random number comes from.

One integer seed per run. Each key is derived by folding (seed, generation, role) into it and never threaded through
earlier draws, so a resumed run and an uninterrupted one are the same run, and runs of one seed under different loops
share their random numbers: generation 1 is then the same model in each, which makes comparisons between loops paired.

Arrays drawn per sample must not depend on the grid that a run is part of, although shapes are padded to the largest
loop of the grid. JAX's partitionable threefry gives that: the first rows of `normal(key, (n, d))` are the same for
every n, to the bit for uniform and integer draws and to rounding (1e-7 relative, where a vector unit's last, shorter
lanes take another path) for normal ones. A test guards it.
"""

import enum

import jax


class Role(enum.IntEnum):
    """What a key is for. Values are part of the protocol: changing one changes every published row."""

    DATA = 0  # the order in which a run meets real samples
    COMPOSE = 1  # which part of the union a budget keeps
    INIT = 2  # initial weights
    FIT = 3  # noise, dropout
    SAMPLE = 4  # the synthetic samples of a generation
    GRID = 5  # the fixed noise of the sample grid, the same in each generation
    FLOOR = 6  # real samples that stand in for generated ones
    REFERENCE = 7  # the reference samples of an endless source
    BATCH = 8  # which samples of its training set a step sees
    EXAMPLES = 9  # real samples of an endless source that feature networks are trained on
    STRATEGY = 10  # what a strategy makes once for a run: a verifier, clusters
    CANDIDATES = 11  # samples among which a strategy selects, beside those that would enter the pool without it
    SELECT = 12  # its choice among them
    EXTRA_FIT = 13  # its second fit: the samples, the batches, the noise
    LOOK = 14  # which samples of a large pool are looked at, whether they are copies


def key_for(seed: jax.Array | int, generation: jax.Array | int, role: Role) -> jax.Array:
    """The key of one role in one generation of one run; generation 0 stands for the whole run."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), generation), int(role))
