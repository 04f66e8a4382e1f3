"""The fleet: plans by hand count, arrays there and back, and one grid that gives the same answer however it is laid."""

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import pytest

from madbench import grid, models
from madbench.config import base
from madbench.fleet import AXIS, Fleet, Plan, make_plan, memory_limit
from madbench.generation import Kept, Shared
from madbench.metrics import features
from madbench.randomness import Role, key_for

# ------------------------------------------------------------------------------------------------------------- plans

# (runs, devices, settings) -> (devices used, group_size, runs_per_device, wave_size, waves)
PLANS = {
    "one device holds all": ((18, 1, {}), (1, 1, 18, 18, 1)),
    "one run on one device": ((1, 1, {"batch_size": 8}), (1, 1, 1, 1, 1)),
    "runs divide among devices": ((18, 3, {}), (3, 1, 6, 18, 1)),
    "the last device has fewer": ((7, 4, {}), (4, 1, 2, 7, 1)),
    "as many runs as devices": ((4, 4, {"batch_size": 8}), (4, 1, 1, 4, 1)),
    "pairs of devices share runs, two stay idle": ((3, 8, {"batch_size": 32}), (6, 2, 1, 3, 1)),
    "all devices share one run": ((1, 4, {"batch_size": 32}), (4, 4, 1, 1, 1)),
    "too few spare devices to share": ((3, 4, {"batch_size": 32}), (3, 1, 1, 3, 1)),
    "a group's size divides the batch": ((1, 4, {"batch_size": 6}), (3, 3, 1, 1, 1)),
    "a prime batch": ((2, 8, {"batch_size": 7}), (2, 1, 1, 2, 1)),
    "a smaller group leaves devices": ((2, 8, {"batch_size": 6}), (6, 3, 1, 2, 1)),
    "an exact fit cannot be shared": ((2, 8, {"batch_size": 0}), (2, 1, 1, 2, 1)),
    "memory for four runs": ((10, 1, {"bytes_per_run": 20, "bytes_shared": 15, "bytes_limit": 100}), (1, 1, 4, 4, 3)),
    "waves are of even size": ((9, 1, {"bytes_per_run": 1, "bytes_limit": 8}), (1, 1, 5, 5, 2)),
    "memory that suffices": ((4, 1, {"bytes_per_run": 20, "bytes_shared": 20, "bytes_limit": 100}), (1, 1, 4, 4, 1)),
    "no known limit": ((10, 2, {"bytes_per_run": 2**60}), (2, 1, 5, 10, 1)),
    "a cap on runs": ((32, 3, {"max_runs_per_device": 6}), (3, 1, 6, 16, 2)),
    "a cap that does not bind": ((8, 4, {"max_runs_per_device": 6}), (4, 1, 2, 8, 1)),
    "an earlier start's wave": ((10, 2, {"wave_size": 4}), (2, 1, 2, 4, 3)),
    "an earlier wave on more devices": ((6, 8, {"wave_size": 2, "batch_size": 8}), (8, 4, 1, 2, 3)),
}


@pytest.mark.parametrize("name", PLANS)
def test_plans_by_hand_count(name):
    (runs, devices, settings), expected = PLANS[name]
    plan = make_plan(runs, devices, **settings)
    found = plan.devices, plan.group_size, plan.runs_per_device, plan.wave_size, plan.waves
    assert found == expected
    assert plan.groups == plan.devices // plan.group_size


def test_every_plan_holds_every_run_once_and_stays_within_its_means():
    for runs in (1, 2, 3, 5, 8, 13):
        for devices in (1, 2, 4, 7):
            for batch_size in (0, 6, 8):
                for cap in (0, 1, 3):
                    plan = make_plan(runs, devices, batch_size=batch_size, max_runs_per_device=cap)
                    laid = [run for wave in range(plan.waves) for run in plan.wave(wave)]
                    assert laid == list(range(runs)), plan
                    assert plan.devices <= devices
                    assert plan.groups * plan.runs_per_device >= plan.wave_size
                    assert (plan.groups - 1) * plan.runs_per_device < plan.wave_size, "a device of padding alone"
                    assert not cap or plan.runs_per_device <= cap
                    assert plan.group_size == 1 or batch_size % plan.group_size == 0
                    assert plan.group_size == 1 or plan.runs_per_device == 1
                    again = make_plan(
                        runs, devices, batch_size=batch_size, max_runs_per_device=cap, wave_size=plan.wave_size
                    )
                    assert again.runs_per_device <= plan.runs_per_device, "resuming needs no more memory"
                    assert again.waves == plan.waves


def test_members_are_consecutive_devices():
    assert make_plan(3, 8, batch_size=32).members == ((0, 1), (2, 3), (4, 5))
    assert make_plan(8, 8, batch_size=32).members == ()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"bytes_per_run": 2048, "bytes_limit": 1024}, "one run needs about 2 KiB and a device has 1 KiB"),
        ({"bytes_per_run": 1, "bytes_shared": 2048, "bytes_limit": 1024}, "one run needs about 2 KiB"),
        ({"wave_size": 9, "max_runs_per_device": 4}, "runs 9 runs at a time .* the devices here hold 8"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(settings, match):
    with pytest.raises(ValueError, match=match) as caught:
        make_plan(18, 2, **settings)
    assert "\n" not in str(caught.value)


def test_a_plan_says_what_it_does():
    text = str(make_plan(18, 2, bytes_per_run=1024, bytes_shared=512, bytes_limit=10240))
    assert text == "18 runs: pmap over 2 devices, vmap over 9 runs each, 1 wave; about 9.5 KiB of 10 KiB a device"
    assert "2 devices share a run, vmap over 1 run each" in str(make_plan(3, 8, batch_size=4))
    assert "3 waves" in str(make_plan(10, 2, wave_size=4))


def test_the_memory_of_virtual_devices_is_divided_among_them():
    import psutil

    device = jax.devices("cpu")[0]
    free = psutil.virtual_memory().available / jax.local_device_count()
    assert 0.5 * 0.5 * free < memory_limit(device, 0.5) < 1.5 * 0.5 * free


# --------------------------------------------------------------------------------------------- arrays there and back


def plain_plan(groups, group_size, runs_per_device, wave_size) -> Plan:
    return Plan(wave_size, groups * group_size, group_size, runs_per_device, wave_size, 0, 0, 0)


@pytest.mark.parametrize("plan", [(4, 1, 3, 12), (4, 1, 3, 10), (2, 2, 1, 2), (1, 4, 1, 1), (3, 1, 2, 4), (1, 1, 5, 5)])
def test_what_is_spread_is_gathered(plan):
    plan = plain_plan(*plan)
    fleet = Fleet(plan)
    n = plan.wave_size
    tree = {
        "x": np.arange(n * 6, dtype=np.float32).reshape(n, 2, 3),
        "seed": np.arange(n, dtype=np.uint32) + 7,
        "alive": np.arange(n) % 2 == 0,
    }
    spread = fleet.spread(tree)
    for name, leaf in spread.items():
        assert leaf.shape == (plan.devices, plan.runs_per_device, *tree[name].shape[1:])
        assert leaf.dtype == tree[name].dtype
        assert leaf.sharding.device_set == set(jax.local_devices()[: plan.devices])
    back = fleet.gather(spread, n)
    jax.tree.map(np.testing.assert_array_equal, back, tree)
    assert all(isinstance(leaf, np.ndarray) for leaf in back.values())


def test_padding_repeats_the_last_run_and_groups_repeat_theirs():
    padded = Fleet(plain_plan(4, 1, 2, 5)).spread(np.arange(5))
    assert np.asarray(padded).tolist() == [[0, 1], [2, 3], [4, 4], [4, 4]]
    grouped = Fleet(plain_plan(2, 2, 1, 2)).spread(np.arange(2))
    assert np.asarray(grouped).tolist() == [[0], [0], [1], [1]]
    half_full = Fleet(plain_plan(2, 2, 1, 2)).spread(np.arange(1))
    assert np.asarray(half_full).tolist() == [[0], [0], [0], [0]]


def test_share_gives_each_device_its_copy():
    shared = Fleet(plain_plan(3, 1, 1, 3)).share({"a": np.arange(2.0, dtype=np.float32), "b": ()})
    assert np.asarray(shared["a"]).tolist() == [[0.0, 1.0]] * 3
    assert {s.data.shape for s in shared["a"].addressable_shards} == {(1, 2)}


def test_a_program_maps_a_function_of_one_run():
    fleet = Fleet(plain_plan(4, 1, 2, 7))
    program = fleet.program(lambda shared, cell, carry, t: shared * cell + carry["c"] * t)
    cell, carry = np.arange(7, dtype=np.float32), {"c": np.ones(7, np.float32)}
    for t in (1, 2, 3):
        out = program(fleet.share(np.float32(10)), fleet.spread(cell), fleet.spread(carry), np.int32(t))
        np.testing.assert_array_equal(fleet.gather(out, 7), 10 * cell + t)
    assert program.compilations == 1
    assert program.compile_seconds > 0


def test_programs_in_64_bits_are_so_inside_only():
    fleet = Fleet(plain_plan(2, 1, 1, 2))
    program = fleet.program(lambda shared, cell, carry, t: cell.astype("float64") / 3, x64=True)
    zero = fleet.share(np.float32(0))
    out = program(zero, fleet.spread(np.ones(2, np.float32)), fleet.spread(np.zeros(2, np.float32)), np.int32(1))
    assert fleet.gather(out, 2).dtype == np.float64
    assert fleet.gather(out, 2).tolist() == [1 / 3, 1 / 3]
    assert not jax.config.jax_enable_x64


# ----------------------------------------------------------------------------------------------------- whole grids

# Every preset by hand: what generations 1, 2 and 3 eat, (real, synthetic) before any budget.
N = 100
LOOPS = {
    "fully_synthetic": [(N, 0), (0, N), (0, N)],
    "synthetic_augmentation": [(N, 0), (N, N), (N, N)],
    "fresh_data(n_fresh=40,n_synthetic=60)": [(N, 0), (40, 60), (40, 60)],
    "memory_k(memory=2,n_synthetic=80)": [(N, 0), (0, 80), (0, 80)],
    "replace": [(N, 0), (0, N), (0, N)],
    "accumulate": [(N, 0), (N, N), (N, 2 * N)],
    "accumulate_subsample": [(N, 0), (N, N), (N, 2 * N)],
    "fixed_ratio(ratio=0.5)": [(N, 0), (N, N // 2), (N, N // 2)],
}
GENERATIONS = 3


def tiny(loops=tuple(LOOPS), biases=(1.0, 0.5), seeds=(0, 3)) -> grid.Job:
    """Class-conditional diffusion on the digits, as small as it gets."""
    config = base("digits", "diffusion")
    config.n_initial, config.generations, config.n_grid = N, GENERATIONS, 2
    config.loops, config.biases, config.seeds = loops, biases, seeds
    config.data.n_reference = 30
    config.metrics.features = "raw"
    config.model.update({"width": 16, "depth": 1, "steps": 20, "batch_size": 32, "sampler_steps": 4})
    return grid.prepare(config)


def gaussian() -> grid.Job:
    config = base("gaussian", "gaussian")
    config.n_initial, config.generations, config.seeds = 40, GENERATIONS, 3
    config.loops, config.biases = ("fully_synthetic", "accumulate", "memory_k(memory=2)"), (1.0, 0.7)
    config.data.update({"dimension": 3, "n_reference": 50})
    config.metrics.features = "raw"
    return grid.prepare(config)


def lay(job: grid.Job, devices: int, **settings) -> grid.Job:
    """The same job, laid on so many devices; where runs are fewer they share a run."""
    plan = make_plan(len(job.runs), devices, batch_size=job.family.batch_size, **settings)
    family = job.family
    if family.batch_size:
        given = dataclasses.replace(family.given, group=models.Group(AXIS if plan.members else None, plan.members))
        family = dataclasses.replace(family, given=given)
    generation = dataclasses.replace(job.generation, family=family)
    return dataclasses.replace(job, plan=plan, family=family, generation=generation)


@dataclasses.dataclass
class Record:
    """One generation of all runs, on the host, `[run, ...]`."""

    begun: Any  # weights before the fit
    fitted: Any  # and after
    optimizer: Any  # before the fit
    kept: Any
    out: Any  # of finish
    values: list  # of the metrics, one dict per run


class Machine:
    """The programs of a job, and a driver that is as short as it can be."""

    def __init__(self, job: grid.Job):
        generation = job.generation
        self.job, self.fleet = job, Fleet(job.plan)
        extractor = features.build("raw", None, 0, "")
        self.shared = self.fleet.share(Shared(job.source, extractor, extractor(job.source.reference.x)))
        self.programs = {
            "begin": self.fleet.program(generation.begin),
            "fit": self.fleet.program(generation.fit),
            "finish": self.fleet.program(generation.finish),
            "evaluate": self.fleet.program(generation.evaluate, x64=True),
        }

    def compile(self) -> None:
        """All programs side by side, from shapes alone."""
        n, t, programs = self.job.plan.wave_size, np.int32(1), self.programs
        cells, kept = self.fleet.spread(self.job.cells(self.job.runs[:n])), self._blank(n)
        work = programs["begin"].shapes(self.shared, cells, kept, t)
        out = programs["finish"].shapes(self.shared, cells, (kept, work), t)[1]
        carries = {"begin": kept, "fit": (kept, work), "finish": (kept, work), "evaluate": out["seen"]}
        with ThreadPoolExecutor(len(programs)) as pool:
            for done in [pool.submit(programs[k].compile, self.shared, cells, c, t) for k, c in carries.items()]:
                done.result()

    def run(self, edit: Callable[[int, Kept], Kept] = lambda t, kept: kept) -> list[Record]:
        """All waves; `edit` changes what is kept (on the host) before generation t."""
        plan = self.job.plan
        if not any(p.compilations for p in self.programs.values()):
            self.compile()
        waves = [self._wave([self.job.runs[i] for i in plan.wave(w)], edit) for w in range(plan.waves)]
        join = lambda *parts: np.concatenate(parts)
        records = []
        for parts in zip(*waves, strict=True):
            fields = {f.name: [getattr(p, f.name) for p in parts] for f in dataclasses.fields(Record)}
            values = [v for part in fields.pop("values") for v in part]
            records.append(Record(**{k: jax.tree.map(join, *v) for k, v in fields.items()}, values=values))
        return records

    def _blank(self, n):
        blank = self.job.generation.blank(self.job.source)
        blank = jax.tree.map(lambda s: np.zeros((n, *s.shape), s.dtype), blank)
        return self.fleet.spread(blank._replace(alive=np.ones(n, bool)))

    def _wave(self, runs, edit):
        n, generation = len(runs), self.job.generation
        cells = self.fleet.spread(self.job.cells(runs))
        kept = self._blank(n)
        for step in range(1, self.job.generations + 1):
            t = np.int32(step)
            on_host = self.fleet.gather(kept, n)
            edited = edit(step, on_host)
            kept = kept if edited is on_host else self.fleet.spread(edited)
            begun = work = self.programs["begin"](self.shared, cells, kept, t)
            for _ in range(self.job.family.segments):
                work, curve = self.programs["fit"](self.shared, cells, (kept, work), t)
                assert curve.shape[:2] == (self.job.plan.devices, self.job.plan.runs_per_device)
            kept, out = self.programs["finish"](self.shared, cells, (kept, work), t)
            states = self.programs["evaluate"](self.shared, cells, out["seen"], t)
            host = functools.partial(self.fleet.gather, runs=n)
            states = host(states)
            yield Record(
                begun=host(begun.state.params),
                fitted=host(work.state.params),
                optimizer=host(getattr(begun.state, "optimizer", ())),
                kept=host(kept),
                out=host(out),
                values=[generation.evaluator.compute(jax.tree.map(lambda a, i=i: a[i], states)) for i in range(n)],
            )


@functools.cache
def machine(name: str) -> Machine:
    job = tiny() if name.startswith("grid") else gaussian()
    return Machine(lay(job, 4 if name.endswith("four") else 1))


@functools.cache
def outcome(name: str) -> list[Record]:
    return machine(name).run()


def indices(job: grid.Job, loop=None, bias=None, seed=None) -> list[int]:
    """Which runs have this loop, λ and seed."""
    given = lambda run: (loop in (None, run.loop.name), bias in (None, run.bias), seed in (None, run.seed))
    return [i for i, run in enumerate(job.runs) if all(given(run))]


def agree(ours: list[Record], theirs: list[Record], pick=slice(None), atol=2e-3):
    """Samples, features, weights and metrics in every generation, within rounding that training has amplified."""
    for a, b in zip(ours, theirs, strict=True):
        take = lambda tree: jax.tree.map(lambda v: v[pick], tree)
        for x, y in zip(jax.tree.leaves(a.fitted), jax.tree.leaves(take(b.fitted)), strict=True):
            np.testing.assert_allclose(x, y, atol=atol)
        for name in a.out:
            for x, y in zip(jax.tree.leaves(a.out[name]), jax.tree.leaves(take(b.out[name])), strict=True):
                np.testing.assert_allclose(x, y, atol=atol, err_msg=name)
        values = b.values if pick == slice(None) else [b.values[i] for i in pick]
        for x, y in zip(a.values, values, strict=True):
            assert x["fd"] == pytest.approx(y["fd"], rel=0.02)
            assert abs(x["precision"] - y["precision"]) <= 0.1
            assert abs(x["recall"] - y["recall"]) <= 0.1


def test_runs_of_the_grid_differ_by_more_than_the_tolerance():
    """Without this the comparisons below would prove nothing."""
    job, records = machine("grid four").job, outcome("grid four")
    last = records[-1].out["seen"].generated
    for i, j in ((0, 1), (0, 2), (0, len(job.runs) - 1)):
        assert np.abs(last[i] - last[j]).max() > 0.1, (job.runs[i], job.runs[j])
    assert np.isfinite([v["fd"] for r in records for v in r.values]).all()


def test_one_device_and_four_agree():
    agree(outcome("grid one"), outcome("grid four"))


def test_one_device_and_four_agree_on_an_exact_fit():
    agree(outcome("gaussian one"), outcome("gaussian four"), atol=1e-4)


def test_waves_with_padding_agree_with_one_wave(caplog):
    """Waves of six, six, six would be even: here 8, 8 and 2 in nine places; by JAX's own log, four programs in all."""
    job = lay(gaussian(), 3, wave_size=8)
    plan = job.plan
    assert (plan.waves, plan.devices * plan.runs_per_device, len(plan.wave(2))) == (3, 9, 2)
    waves = Machine(job)
    jax.config.update("jax_log_compiles", True)
    try:
        with caplog.at_level(logging.WARNING):
            records = waves.run()
    finally:
        jax.config.update("jax_log_compiles", False)
    agree(records, outcome("gaussian one"), atol=1e-4)
    assert {p.compilations for p in waves.programs.values()} == {1}
    assert sum("Finished XLA compilation" in r.getMessage() for r in caplog.records) == 4


def test_a_run_alone_and_in_a_fleet_agree():
    """Alone, everything is smaller: the memory, the training set, the loops' largest sizes."""
    alone = lay(tiny(("fully_synthetic",), (0.5,), (3,)), 1)
    whole = machine("grid one").job
    assert alone.generation.shapes != whole.generation.shapes
    agree(Machine(alone).run(), outcome("grid one"), indices(whole, "fully_synthetic", 0.5, 3))


def test_devices_that_share_a_run_agree_with_one_device():
    """Two runs on four devices as `prepare` plans them: pairs average their gradients."""
    seeds = (0, 3)
    job = tiny(("synthetic_augmentation",), (0.5,), seeds)
    assert (job.plan.groups, job.plan.group_size) == (2, 2)
    assert job.generation.family.given.group.members == ((0, 1), (2, 3))
    whole = machine("grid one").job
    pick = [i for seed in seeds for i in indices(whole, "synthetic_augmentation", 0.5, seed)]
    agree(Machine(job).run(), outcome("grid one"), pick)


@pytest.mark.parametrize("name", ["grid four", "grid one", "gaussian four"])
def test_every_program_is_compiled_once(name):
    outcome(name)
    assert {k: p.compilations for k, p in machine(name).programs.items()} == dict.fromkeys(
        ("begin", "fit", "finish", "evaluate"), 1
    )


def test_provenance_counts_are_those_of_the_loops():
    job, records = machine("grid four").job, outcome("grid four")
    for t, record in enumerate(records):
        for i, run in enumerate(job.runs):
            found = int(record.out["n_real"][i]), int(record.out["n_synthetic"][i])
            expected = LOOPS[run.loop.name][t]
            assert run.loop.union(t + 1) == expected
            if run.loop.name != "accumulate_subsample" or t == 0:
                assert found == expected, (run, t)
                continue
            n, real = sum(expected), expected[0]
            assert sum(found) == N
            share = real / n
            sd = math.sqrt(N * share * (1 - share) * (n - N) / (n - 1))  # hypergeometric
            assert abs(found[0] - N * share) < 5 * sd, (run, t)
            assert 0 < found[0] < N


def test_generation_one_is_the_same_model_in_every_loop():
    """Runs of one seed share their random numbers, so that comparisons between loops are paired."""
    job, first = machine("grid four").job, outcome("grid four")[0]
    for seed in (0, 3):
        runs = indices(job, seed=seed)
        for leaf in jax.tree.leaves(first.fitted):
            np.testing.assert_allclose(leaf[runs], leaf[runs[:1]].repeat(len(runs), 0), atol=1e-4)


def test_only_fine_tuning_goes_on_from_the_weights_before():
    job, records = machine("grid four").job, outcome("grid four")
    tuned = indices(job, "fixed_ratio(ratio=0.5)")
    others = sorted(set(range(len(job.runs))) - set(tuned))
    new = jax.jit(job.family.init)
    for t, record in enumerate(records, 1):
        for seed in (0, 3):
            fresh = new(key_for(np.uint32(seed), t, Role.INIT)).params
            scratch = others + tuned if t == 1 else others
            for i in (i for i in scratch if job.runs[i].seed == seed):
                jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-6), record.begun, fresh)
        jax.tree.map(lambda a: np.testing.assert_array_equal(a, np.zeros_like(a)), record.optimizer)
    for before, after in itertools.pairwise(records):
        for a, b in zip(jax.tree.leaves(before.fitted), jax.tree.leaves(after.begun), strict=True):
            np.testing.assert_array_equal(a[tuned], b[tuned])
    moved = jax.tree.map(lambda a, b: np.abs(a[tuned] - b[tuned]).max(), record.begun, record.fitted)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_weights_are_kept_only_where_a_loop_fine_tunes():
    job = tiny(("fully_synthetic",), (1.0,), (0,))
    assert job.generation.blank(job.source).params == ()
    assert machine("grid four").job.generation.finetunes


def test_a_run_that_diverges_is_dead_and_disturbs_nobody():
    """NaN in one run's memory before generation 2, and a run that died earlier though its numbers are fine."""
    job, clean = machine("grid four").job, outcome("grid four")
    poisoned = indices(job, "fully_synthetic", 0.5, 3)[0]
    dead = indices(job, "accumulate", 1.0, 0)[0]

    def edit(t, kept):
        if t != 2:
            return kept
        kept = jax.tree.map(np.array, kept)
        kept.memory.x[poisoned] = np.nan
        kept.alive[dead] = False
        return kept

    records = machine("grid four").run(edit)
    others = [i for i in range(len(job.runs)) if i != poisoned]
    for t, (record, reference) in enumerate(zip(records, clean, strict=True), 1):
        expected = [t == 1 or i not in (poisoned, dead) for i in range(len(job.runs))]
        assert record.out["alive"].tolist() == expected
        assert record.kept.alive.tolist() == expected
        assert reference.out["alive"].all()
        for ours, theirs in ((record.out, reference.out), (record.kept, reference.kept)):
            ours, theirs = (jax.tree.leaves(v._replace(alive=()) if isinstance(v, Kept) else v) for v in (ours, theirs))
            for a, b in zip(ours, theirs, strict=True):
                if a.dtype != bool:
                    np.testing.assert_array_equal(a[others], b[others])
        assert [record.values[i] for i in others] == [reference.values[i] for i in others]
        assert (record.values[poisoned]["fd"] is None) == (t > 1)
    assert np.isnan(records[1].out["seen"].generated[poisoned]).any()


def test_samples_of_images_are_clipped_and_the_memory_holds_the_first_of_them():
    for record in outcome("grid four"):
        assert np.abs(record.kept.memory.x).max() <= 1
        assert np.abs(record.out["grid"]).max() <= 1
        assert record.out["grid"].shape[1:] == (2, 8, 8, 1)
    first = outcome("grid four")[0]
    seen = first.out["seen"].generated
    np.testing.assert_array_equal(first.kept.memory.x[:, 0, : seen.shape[1]].reshape(seen.shape), seen)


def test_the_slots_of_the_memory_turn():
    """The grid remembers two generations: after the third its samples lie where the first's did."""
    one, two, three = (record.kept.memory.x for record in outcome("grid four"))
    assert one.shape[1] == 2
    np.testing.assert_array_equal(one[:, 1], np.zeros_like(one[:, 1]))
    np.testing.assert_array_equal(two[:, 0], one[:, 0])
    np.testing.assert_array_equal(three[:, 1], two[:, 1])
    assert np.abs(three[:, 0] - two[:, 0]).max() > 0.1
