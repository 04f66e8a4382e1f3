"""Strategies that cheat, and the columns that expose them, or do not: docs/strategies.md says which, this shows it.

On digits, in a fully synthetic loop of the Gaussian family, which compiles fast and cannot copy by itself.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench import data, experiment, grid, results
from madbench.config import base
from madbench.errors import UserError
from madbench.samples import Samples
from madbench.strategies import Strategy

N, GENERATIONS = 300, 3
frozen = dataclasses.dataclass(frozen=True, kw_only=True)


@frozen
class Copies(Strategy):
    """Real samples of generation 1, as they are, mirrored, or under noise."""

    noise: float = 0.0
    mirrored: bool = False

    reads_real = True

    def init(self, key, real, member):
        return real, jnp.sum(member)

    def select(self, key, candidates, member, state):
        real, size = state
        copied = jax.tree.map(lambda leaf: leaf[jnp.arange(candidates.y.shape[0]) % size], real)
        x = copied.x[:, :, ::-1] if self.mirrored else copied.x
        return Samples(x + self.noise * jax.random.normal(key, x.shape), copied.y)


@frozen
class Undeclared(Copies):
    """The same, without saying so."""

    reads_real = False


@frozen
class Constant(Strategy):
    """One sample, over and over."""

    def select(self, key, candidates, member, state):
        return Samples(jnp.zeros(candidates.x.shape[1:]), candidates.y)


@frozen
class Hidden(Strategy):
    """Real samples that its own code brings along: the training pool, or what is held out."""

    part: str = "pool"

    def select(self, key, candidates, member, state):
        hidden = getattr(data.load("digits", n_reference=N), self.part)
        index = jax.random.randint(key, candidates.y.shape, 0, len(hidden.y))
        return Samples(*(jnp.asarray(leaf)[index] for leaf in hidden))


@frozen
class Greedy(Strategy):
    """Many candidates, for each of which it asks a network that it hides from the count of parameters."""

    candidates: int = 1
    width: int = 1

    def select(self, key, candidates, member, state):
        n = candidates.y.shape[0]
        hidden = jnp.ones((64, self.width))
        score = jnp.sum(candidates.x.reshape(self.candidates, n, 64) @ hidden, axis=2)
        return Samples(candidates.x[jnp.argmax(score, axis=0), jnp.arange(n)], candidates.y)


def config(strategy, family="gaussian"):
    found = base("digits", family)
    found.strategy = strategy if strategy[0].islower() else f"{__name__}:{strategy}"
    found.data.n_reference, found.n_initial, found.generations, found.seeds = N, N, GENERATIONS, 1
    found.metrics.features, found.n_grid = "raw", 0
    found.metrics.names = ("fd", "recall", "coverage", "vendi", "effective_rank")
    return found


@pytest.fixture(scope="module")
def rows(compiled, tmp_path_factory, feature_cache):
    """The rows of a job under a strategy, by generation; each is run once."""
    known = {}

    def run(strategy):
        if strategy not in known:
            path = tmp_path_factory.mktemp("cheat") / "work"
            experiment.run(config(strategy), str(path), only=[("fully_synthetic", 1.0, 0)])
            known[strategy] = list(results.read_rows(path / "metrics.jsonl"))
        return known[strategy]

    return run


def column(rows, name):
    return np.asarray([row[name] for row in rows], float)


def account(strategy, **changes):
    """(what a generation of a job costs, the job); nothing is trained."""
    given = config(strategy)
    given.update(changes)
    job = grid.prepare(given)
    return job.accounts["fully_synthetic"], job


def test_an_honest_strategy_shows_how_columns_look(rows):
    """Diversity is lost slowly, the pool holds no copies, and no real sample is seen after generation 1."""
    found = rows("random_subsample")
    assert (column(found, "pool_memorization") < 0.05).all()
    assert column(found, "n_real_seen").tolist() == [N, 0, 0]
    assert column(found, "effective_rank").min() > 30
    assert (np.diff(column(found, "fd")) > 0).all()


def test_copies_of_real_samples_are_exposed(rows):
    """By three columns, although the loop is fully synthetic and nothing is lost."""
    found = rows("Copies")
    assert column(found, "n_real").tolist() == [N, 0, 0]
    assert column(found, "n_real_seen").tolist() == [N, N, N]
    assert (column(found, "pool_memorization") > 0.99).all()
    assert (column(found, "extra_parameters") >= N * 64).all()
    assert column(found, "fd")[-1] < 1.1 * column(found, "fd")[0]  # which is what the cheat is for
    assert column(rows("random_subsample"), "fd")[-1] > 1.5 * column(found, "fd")[-1]


def test_copies_that_were_changed_are_exposed_by_what_was_read(rows):
    """Noise that hides them from the column of copies costs quality, as mirroring does; and both read real samples."""
    little, much, mirrored = rows("Copies(noise=0.1)"), rows("Copies(noise=0.5)"), rows("Copies(mirrored=True)")
    assert (column(little, "pool_memorization") > 0.9).all()
    for found in (much, mirrored):
        assert (column(found, "pool_memorization") < 0.05).all()
        assert column(found, "fd")[1:].min() > 2 * column(found, "fd")[0]
    for found in (little, much, mirrored):
        assert column(found, "n_real_seen").tolist() == [N, N, N]
        assert (column(found, "extra_parameters") >= N * 64).all()


def test_constants_are_exposed_by_diversity(rows):
    found = rows("Constant")
    assert column(found, "recall")[0] > 0.3
    for name in ("recall", "coverage", "effective_rank"):
        assert (column(found, name)[1:] <= 0.02).all()
    assert (column(found, "vendi")[1:] <= 1.01).all()
    assert (column(found, "fd")[1:] > 10 * column(found, "fd")[0]).all()


def test_real_samples_that_are_not_declared_are_not_given():
    with pytest.raises(UserError, match=r"init fails: TypeError: .*NoneType"):
        account("Undeclared")


def test_data_that_its_code_brings_along_show_as_numbers_that_it_holds(rows):
    """What they are does not show: of the pool some are copies of generation 1's, and of held-out samples none. What
    shows is that a loop without real data loses nothing; whose code it is has to be read."""
    pool, held_out = rows("Hidden"), rows("Hidden(part='reference')")
    assert (column(pool, "pool_memorization") > 0.2).all()
    assert (column(held_out, "pool_memorization") < 0.1).all()
    for found in (pool, held_out):
        assert column(found, "n_real_seen").tolist() == [N, 0, 0]
        assert (column(found, "extra_parameters") >= N * (64 + 1)).all()
        assert column(found, "fd")[1:].max() < 1.3 * column(found, "fd")[0]
        assert column(rows("random_subsample"), "fd")[-1] > 1.5 * column(found, "fd")[-1]


def test_candidates_and_hidden_networks_are_paid_for():
    none, _ = account("none")
    many, job = account("Greedy(candidates=1000)")
    assert many.flops(2) > 100 * none.flops(2)
    assert "costs more" in job.notes[-1]  # an exact fit has no steps that it could give up
    wide, _ = account("Greedy(width=4096)")
    assert wide.flops(2) == none.flops(2) + 2 * N * 64 * 4096
    assert wide.parameters == 0  # it is made anew in each call, and not held
