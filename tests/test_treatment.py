"""Strategies at work: none changes nothing, costs are counted and paid, and runs are the same however they are run."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_loops import drive

from madbench import experiment, grid, pool_copies, results, treating
from madbench.config import base
from madbench.errors import UserError
from madbench.models.family import Given
from madbench.samples import Samples
from madbench.strategies import Strategy, build

METRICS = ("fd",)  # each of the others takes longer to compile than a job to run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selects(Strategy):
    """Lets in what would enter without it."""

    candidates: int = 2

    def select(self, key, candidates, member, state):
        return Samples(candidates.x[0], candidates.y)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectsWithWeights(Selects):
    """The same, with weights that are all alike."""

    def select(self, key, candidates, member, state):
        return Samples(candidates.x[0], candidates.y), jnp.ones(member.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weighs(Strategy):
    """All alike."""

    def weigh(self, is_real, n_real, n_synthetic):
        return jnp.full(is_real.shape, 3.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extrapolates(Strategy):
    """Not at all."""

    extra_fit: float = 0.5

    def extrapolate(self, fitted, tuned):
        return fitted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guides(Strategy):
    """Nowhere else."""

    extra_fit: float = 0.5

    def guide(self, fitted, tuned, x, level, state):
        return fitted


IDENTITIES = (Selects, SelectsWithWeights, Weighs, Extrapolates, Guides)


def digits(strategy="none", **changes):
    """A diffusion of 8x8 digits that trains in a moment."""
    config = base("digits", "diffusion")
    config.task, config.n_initial, config.n_grid = "treated", 96, 0
    config.loops, config.seeds, config.generations = ("fully_synthetic", "synthetic_augmentation"), 2, 2
    config.model.update(width=16, depth=1, steps=20, batch_size=32, sampler_steps=4)
    config.metrics.update(features="raw", names=METRICS)
    config.update(strategy=strategy, equal_cost=False)
    config.update(changes)
    return config


def run(config, path, **how):
    experiment.run(config, str(path), **how)
    return list(results.read_rows(path / "metrics.jsonl"))


def numbers(rows):
    return [[row[name] for name in METRICS] for row in rows]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, compiled):
    return run(digits(), tmp_path_factory.mktemp("plain") / "w")


# ---- none, and identities --------------------------------------------------------------------------------------------


def test_none_is_no_part_of_the_program():
    job = grid.prepare(digits())
    assert job.generation.treatment is None
    assert set(job.costs) == {"begin", "fit", "finish", "evaluate"}
    kept, work = job.shapes(1, within_fit=True)
    assert (kept.weight, kept.strategy, work.weight, work.strategy, work.tuned) == ((),) * 5


def test_without_a_strategy_configs_are_what_they_were():
    plain = grid.prepare(digits()).config
    before = {name: value for name, value in plain.items() if name not in results.STRATEGY}
    assert results.config_hash(plain) == results.config_hash(before)
    assert results.config_hash(plain | {"equal_cost": True}) == results.config_hash(plain)
    assert results.config_hash(plain | {"strategy": "golden_ratio"}) != results.config_hash(plain)


@pytest.mark.parametrize("kind", IDENTITIES, ids=lambda kind: kind.__name__)
def test_hooks_that_change_nothing_change_nothing(kind, plain, tmp_path):
    """To the bit, but for the guided sampler, which is another program: its sums may be taken in another order."""
    rows = run(digits(f"{__name__}:{kind.__name__}"), tmp_path / "w")
    if kind is Guides:
        assert np.allclose(numbers(rows), numbers(plain), rtol=1e-5)
    else:
        assert numbers(rows) == numbers(plain)
    assert {row["strategy"] for row in rows} == {f"{__name__}:{kind.__name__}"}
    assert all(row["flops"] >= other["flops"] for row, other in zip(rows, plain, strict=True))


# ---- accounts --------------------------------------------------------------------------------------------------------


def test_the_account_of_none_is_the_fit_and_the_pool():
    job = grid.prepare(digits())
    account = job.accounts["fully_synthetic"]
    assert account.steps == 20
    assert account.step * 20 == job.fit_flops()
    drawn = account.flops(1) - job.fit_flops()
    assert drawn == pytest.approx(96 * job.sample_flops() / job.generation.n_drawn, rel=1e-6)
    assert account.flops(1) == account.flops(2)


@pytest.mark.parametrize(
    ("strategy", "extra"),
    [
        ("random_subsample(candidates=3)", lambda a: 2 * a.sample),
        ("golden_ratio", lambda a: 0),
        ("neon(extra_fit=0.25)", lambda a: 5 * a.step + a.sample),
        ("sims(extra_fit=0.5)", lambda a: 10 * a.step + 2 * a.sample),
    ],
)
def test_what_a_strategy_adds_is_counted(strategy, extra):
    before = grid.prepare(digits()).accounts["fully_synthetic"]
    after = grid.prepare(digits(strategy)).accounts["fully_synthetic"]
    assert after.flops(2) - before.flops(2) == pytest.approx(extra(before), rel=1e-6, abs=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Laborious(Extrapolates):
    """Computes in every hook."""

    def weigh(self, is_real, n_real, n_synthetic):
        return jnp.ones(is_real.shape) + 0 * (jnp.ones((32, 64)) @ jnp.ones((64, 16))).sum()

    def extrapolate(self, fitted, tuned):
        return jax.tree.map(lambda a: a + 0 * (jnp.ones((8, 8)) @ jnp.ones((8, 8))).sum(), fitted)


def test_what_hooks_compute_is_counted():
    plain = grid.prepare(digits(f"{__name__}:Extrapolates")).accounts["fully_synthetic"]
    account = grid.prepare(digits(f"{__name__}:Laborious")).accounts["fully_synthetic"]
    leaves = len(jax.tree.leaves(grid.prepare(digits()).generation.family.init(jax.random.key(0)).params))
    assert account.hooks == 2 * 32 * 64 * 16 + leaves * 2 * 8**3
    assert account.flops(2) - plain.flops(2) == account.hooks


def test_a_verifier_is_paid_once_and_its_parameters_are_counted():
    account = grid.prepare(digits("verifier(candidates=2)")).accounts["fully_synthetic"]
    layers = 64 * 128 + 128 * 128 + 128 * 10
    assert account.parameters == layers + 128 + 128 + 10
    # one sample to begin with; 300 steps of 128: forward, and backward but for the gradient of the first layer's input
    assert account.init == 2 * layers + 300 * 2 * 128 * (3 * layers - 64 * 128)
    assert account.flops(1) - account.flops(2) == account.init
    assert account.hooks == 2 * 2 * 96 * layers


def test_rows_carry_the_account(plain, tmp_path):
    config = digits("verifier(by='distance',candidates=2)", loops=("fully_synthetic", "fresh_data(n_fresh=64)"))
    rows = run(config, tmp_path / "w")
    for row in rows:
        fresh = 64 * (row["generation"] - 1) if row["loop"] != "fully_synthetic" else 0
        assert row["n_real_seen"] == 96 + fresh  # the verifier's, in each generation
        assert row["extra_parameters"] == 96 * (64 + 1) + 96
        assert 0 <= row["pool_memorization"] <= 1
        assert row["equal_cost"] is False
    assert all(row["equal_cost"] for row in plain)  # of none, whatever the config says
    told = json.loads((tmp_path / "w" / "reference.json").read_text())["strategy"]
    assert told["settings"] == {"by": "distance", "candidates": 2}
    assert told["consumes"] == ["the real samples of generation 1", "2 candidates for each sample of the pool"]


# ---- equal cost ------------------------------------------------------------------------------------------------------


LOOPS = ("fully_synthetic", "fresh_data(n_synthetic=64,n_fresh=64)")


def larger(strategy, **changes):
    config = digits(strategy, **{"equal_cost": True, "loops": LOOPS, "generations": 4} | changes)
    config.model.update(width=64, steps=400, batch_size=64)
    return grid.prepare(config)


@pytest.mark.parametrize("strategy", ["verifier(candidates=2)", "neon(extra_fit=0.25)", "sims", "random_subsample"])
def test_at_equal_cost_no_loop_costs_more_than_without(strategy):
    """And hardly less: every loop has steps of its own, which do not depend on the others."""
    job, plain = larger(strategy), larger("none")
    total = lambda job, loop: sum(job.accounts[loop].flops(t) for t in range(1, 5))
    ratios = [total(job, loop) / total(plain, loop) for loop in LOOPS]
    assert max(ratios) <= 1
    assert min(ratios) > 0.98
    low, high = (job.accounts[loop].steps for loop in LOOPS)
    assert 0 < low <= high <= job.family.steps < 400
    assert job.config["model"]["steps"] == 400
    (note,) = [note for note in job.notes if "optimizer steps" in note]
    steps = f"{low} to {high}, by loop," if low < high else low
    assert note.startswith(f"{strategy}: {steps} of 400 optimizer steps")
    alone = larger(strategy, loops=LOOPS[:1])
    assert (alone.accounts[LOOPS[0]], alone.paced) == (job.accounts[LOOPS[0]], True)


def test_runs_of_different_steps_are_what_they_are_alone(tmp_path):
    """A fit of fewer steps than the grid's waits for the others."""
    settings = {"equal_cost": True, "seeds": 1, "generations": 2}
    config = digits("random_subsample(candidates=2)", loops=LOOPS, **settings)
    alone = digits("random_subsample(candidates=2)", loops=LOOPS[:1], **settings)
    for each in (config, alone):
        each.model.steps = 60
    steps = [account.steps for account in grid.prepare(config).accounts.values()]
    assert steps[0] < steps[1]
    both = [row for row in run(config, tmp_path / "both") if row["loop"] == LOOPS[0]]
    assert np.allclose(numbers(both), numbers(run(alone, tmp_path / "alone")), rtol=1e-4)


def test_what_costs_nothing_keeps_its_steps():
    job = grid.prepare(digits("golden_ratio", equal_cost=True))
    assert job.family.steps == 20
    assert not [note for note in job.notes if "steps" in note]


def test_what_costs_all_is_refused():
    with pytest.raises(UserError, match=r"costs as much as all 20 optimizer steps .*\(loop .*equal_cost=False"):
        grid.prepare(digits("verifier", equal_cost=True))


def test_epochs_cannot_be_given_up():
    config = digits("neon", equal_cost=True)
    config.model.epochs = 20.0
    with pytest.raises(UserError, match=r"config\.model\.epochs sets those"):
        grid.prepare(config)


def test_exact_fits_have_nothing_to_give_up():
    config = base("gaussian", "gaussian")
    config.data.dimension, config.metrics.features, config.strategy = 2, "raw", "random_subsample"
    assert any("fits of this model are exact" in note for note in grid.prepare(config).notes)


# ---- however it is run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["projection(clusters=2)", "sims(extra_fit=0.5)"])
def test_a_run_goes_on_with_what_its_strategy_made(strategy, tmp_path):
    """The state made in generation 1 lies in the checkpoint; what is lost is computed again, the same to the bit."""
    config = digits(strategy, generations=3, loops=("fully_synthetic",))
    whole = run(config, tmp_path / "whole")
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "whole", again)
    newest = sorted((again / "checkpoints").glob("wave*.json"))[-1]
    newest.unlink()  # without its manifest, a checkpoint does not count
    assert run(config, again) == whole


@pytest.mark.parametrize("strategy", ["verifier(candidates=2)", "entropy_selection", "projection(clusters=2)"])
def test_what_is_selected_does_not_depend_on_the_grid(strategy):
    """A larger pool of another loop pads this one's places, and its initial samples those that are read."""
    source = grid.prepare(digits()).source
    order, n, size = jnp.arange(source.available), 34, 90

    def chosen(rows, n_initial):
        treatment = treating.build(build(strategy, Given(source.shape, 10, source.bounds)), None, n_initial=n_initial)
        state = treatment.init(source, order, jnp.uint32(3), jnp.int32(size))
        draw = lambda key, rows: source.at(order, 400 + jnp.arange(rows))
        pool, _ = treatment.select(jnp.uint32(3), jnp.int32(2), draw(None, rows), jnp.int32(n), state, draw)
        return np.asarray(pool.samples.x[:n])

    assert np.array_equal(chosen(n, size), chosen(51, size))
    if strategy != "verifier(candidates=2)":  # whose batches fit to the bit in any case, its sums do not
        assert np.allclose(chosen(n, size), chosen(51, 128), atol=1e-5)


def test_devices_that_share_a_run_agree(tmp_path):
    alone = run(digits("sims(extra_fit=0.5)", loops=("fully_synthetic",), seeds=4), tmp_path / "four")
    shared = run(digits("sims(extra_fit=0.5)", loops=("fully_synthetic",), seeds=1), tmp_path / "one")
    assert np.allclose(numbers(r for r in alone if r["seed"] == 0), numbers(shared), rtol=1e-3)


def test_weights_are_streamed_too(tmp_path):
    loops = ("fresh_data(n_fresh=64,n_synthetic=96)",)
    resident = run(digits("golden_ratio(weight=0.9)", loops=loops), tmp_path / "resident")
    config = digits("golden_ratio(weight=0.9)", loops=loops)
    config.fleet.streaming = "always"
    streamed = run(config, tmp_path / "streamed")
    assert np.allclose(numbers(streamed), numbers(resident), rtol=1e-4)
    plain = run(digits(loops=loops), tmp_path / "plain")
    first, last = ([row["generation"] == t for row in plain] for t in (1, 2))
    pick = lambda rows, which: [row for row, is_it in zip(numbers(rows), which, strict=True) if is_it]
    assert pick(plain, first) == pick(resident, first)  # all real: nothing to weigh
    assert pick(plain, last) != pick(resident, last)


def test_weights_of_the_pool_count_in_the_next_fit():
    """A Gaussian whose pool has weight 0 below its mean: the next mean is that of a half-normal distribution."""
    found = drive(2, ("fully_synthetic",), 400, ddof=1, seeds=64, strategy=f"{__name__}:UpperHalf")["fully_synthetic"]
    moved = (found[:, 1, 0] - found[:, 0, 0]) / np.sqrt(found[:, 0, 1])
    assert moved.mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.02)
    assert (found[:, 1, 1] / found[:, 0, 1]).mean() == pytest.approx(1 - 2 / np.pi, abs=0.02)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpperHalf(Strategy):
    """Weight 0 below the mean of the pool."""

    def select(self, key, candidates, member, state):
        x = candidates.x[0]
        mean = jnp.sum(jnp.where(member[:, None], x, 0)) / member.sum()
        return Samples(x, candidates.y), (x[:, 0] > mean).astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoNumbers(UpperHalf):
    """One weight that is none, but for real samples, on which it is tried."""

    def select(self, key, candidates, member, state):
        weight = jnp.where(jnp.arange(member.shape[0]) == 3, jnp.nan, 1.0)
        return Samples(candidates.x[0], candidates.y), weight


def test_weights_that_are_no_numbers_end_a_run_and_are_not_drawn_with(monkeypatch, tmp_path):
    monkeypatch.setattr("madbench.rehearsal.rehearse", lambda *_: None)
    rows = run(digits(f"{__name__}:NoNumbers", loops=("synthetic_augmentation",), seeds=1), tmp_path / "w")
    assert [row["status"] for row in rows] == ["diverged", "diverged"]
    assert [row["pool_memorization"] for row in rows] == [None, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looks(Strategy):
    """Sees what it is given of other loops' samples."""

    reads_real = True
    candidates: int = 2

    def init(self, key, real, member):
        return real.x, member

    def select(self, key, candidates, member, state):
        return Samples(candidates.x[0], candidates.y)


def test_what_is_there_for_other_loops_is_not_shown():
    source = grid.prepare(digits()).source
    treatment = treating.build(Looks(given=Given(source.shape, 10, source.bounds)), None, n_initial=128)
    real, member = treatment.init(source, jnp.arange(source.available), jnp.uint32(0), jnp.int32(96))
    assert (int(member.sum()), real.shape[0]) == (96, 128)
    assert not np.asarray(real)[96:].any()
    assert np.asarray(real)[:96].any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("strategy", ["verifier(by='distance',candidates=2)", "entropy_selection"])
def test_pools_are_not_sorted_by_what_was_selected_for(strategy):
    """A memory of several generations reads a part of each: the first half must be as good as the second."""
    rng = np.random.default_rng(0)
    made = build(strategy, Given((2,)))
    x = jnp.asarray(rng.normal(size=(2, 4000 if "verifier" in strategy else 600, 2)), jnp.float32)
    n = x.shape[1]
    state = (Samples(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32)), jnp.ones(1, bool)) if "verifier" in strategy else ()
    chosen = made.select(jax.random.key(0), Samples(x, jnp.zeros(n, jnp.int32)), jnp.ones(n, bool), state).x
    first, second = (np.square(np.asarray(half)).sum(axis=1) for half in (chosen[: n // 2], chosen[n // 2 :]))
    error = np.sqrt(first.var() / len(first) + second.var() / len(second))
    assert abs(first.mean() - second.mean()) < 4 * error


# ---- memorization of the pool ----------------------------------------------------------------------------------------


def measured(pool, real, n=None, weight=()):
    at = lambda positions: jnp.asarray(real)[positions % len(real)]
    seed, sizes = (jnp.uint32(0), jnp.int32(1)), (jnp.int32(n or len(pool)), jnp.int32(len(real)))
    weight = jnp.asarray(weight, jnp.float32) if len(weight) else ()
    return float(pool_copies.memorization(*seed, jnp.asarray(pool), weight, at, *sizes, len(real)))


def test_copies_are_memorized_and_new_samples_are_not():
    rng = np.random.default_rng(0)
    real, new = rng.normal(size=(2, 500, 8)).astype(np.float32)
    assert measured(real, real) == 1
    assert measured(real + 1e-3, real) == 1
    assert measured(new, real) == pytest.approx(0.05, abs=0.04)
    half = np.concatenate([real[:250], new[:250]])
    assert measured(half, real) == pytest.approx(0.525, abs=0.03)
    assert measured(half, real, n=250) == 1  # what lies beyond is padding
    assert measured(half, real, weight=np.arange(500) < 250) == 1  # nothing else is trained on
    late = np.concatenate([rng.normal(size=(1024, 8)), real, real, real, real, real, real]).astype(np.float32)
    assert measured(late, real) == pytest.approx(3000 / 4024, abs=0.05)  # of a large pool, any are looked at


def test_a_set_larger_than_one_look_is_seen_whole():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(2500, 8)).astype(np.float32)
    assert measured(real[-300:], real) == 1
    distances = np.linalg.norm(real[:1024, None] - real[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    radius = np.sort(distances.min(axis=1))[int(0.05 * 1024) - 1]
    new = rng.normal(size=(400, 8)).astype(np.float32)
    expected = np.mean(np.linalg.norm(new[:, None] - real[None], axis=2).min(axis=1) <= radius)
    assert measured(new, real) == pytest.approx(expected, abs=1e-6)
