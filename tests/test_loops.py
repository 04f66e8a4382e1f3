"""What each generation eats, against a plain-Python oracle that shares nothing with `compose`.

The oracle keeps, for each past generation, a queue of its stored samples that is refilled only when it is empty.
"""

import dataclasses
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench import data, loops
from madbench.data.source import EndlessSource, FiniteSource, split
from madbench.randomness import Role, key_for
from madbench.samples import Samples
from madbench.training_set import TrainingSet

T = 8
N = 12

# Loops whose synthetic samples divide evenly among every memory they meet in T generations (12 by 1, 2, 3, 4), …
EVEN = (
    "fully_synthetic",
    "fully_synthetic(bias=0.5)",
    "synthetic_augmentation",
    "synthetic_augmentation(accumulate=True)",
    "synthetic_augmentation(n_fixed=5, n_synthetic=3)",
    "fresh_data",
    "fresh_data(n_initial=18, n_fresh=6)",
    "fresh_data(n_initial=4, n_fresh=6, n_synthetic=7)",
    "fresh_data(n_synthetic=0)",
    "fresh_data(budget=9)",
    "memory_k(memory=1)",
    "memory_k(memory=2)",
    "memory_k(memory=3)",
    "memory_k(memory=4)",
    "memory_k(memory=3, accumulate=True)",
    "memory_k(memory=3, budget=5)",
    "replace",
    "replace(n_fixed=4, n_fresh=3, memory=2, n_synthetic=10)",
    "accumulate",
    "accumulate(memory=2)",
    "accumulate_subsample",
    "accumulate_subsample(budget=7, n_fresh=2)",
    "accumulate_subsample(budget=1000)",
    "fixed_ratio",
    "fixed_ratio(ratio=0.5)",
    "fixed_ratio(ratio=2, n_fixed=6)",
    "fixed_ratio(ratio=0)",
)
# … and loops where a remainder is left over.
RAGGED = (
    "memory_k",
    "memory_k(memory='all')",
    "memory_k(memory=3, n_synthetic=10)",
    "memory_k(memory=4, n_synthetic=7)",
    "memory_k(memory=5, n_synthetic=3)",
    "fresh_data(memory=6, n_synthetic=11)",
)
GRID = EVEN + RAGGED
LOOPS = {text: loops.parse(text, N) for text in GRID}
BUDGETED = tuple(text for text in GRID if LOOPS[text].budget)


# ---------------------------------------------------------------------------------------------------- the oracle


def oracle(loop: loops.Loop, generations: int) -> list[tuple[Counter, Counter]]:
    """For each generation the union before any budget: Counter of real positions, Counter of (generation, row)."""
    unions, next_fresh, queues = [], loop.n_initial, {}
    for t in range(1, generations + 1):
        if t == 1:
            unions.append((Counter(range(loop.n_initial)), Counter()))
            continue
        real = list(range(loop.n_fixed)) + list(range(next_fresh, next_fresh + loop.n_fresh))
        next_fresh += loop.n_fresh
        past = list(range(t - 1, 0, -1))  # the most recent first
        if loop.memory != "all":
            past = past[: loop.memory]
        synthetic = []
        for i, g in enumerate(past):
            if loop.accumulate:
                synthetic += [(g, row) for row in range(loop.n_synthetic)]
                continue
            share = loop.n_synthetic // len(past) + (i < loop.n_synthetic % len(past))
            for _ in range(share):
                if not queues.get(g):
                    queues[g] = list(range(loop.n_synthetic))
                synthetic.append((g, queues[g].pop(0)))
        unions.append((Counter(real), Counter(synthetic)))
    return unions


# ---------------------------------------------------------------------------------------- composing and decoding


def tagged_source(n: int) -> FiniteSource:
    """`n` real samples; the value of each is its own index."""
    tag = Samples(jnp.arange(n, dtype=jnp.float32)[:, None], jnp.arange(n, dtype=jnp.int32) % 10)
    return FiniteSource(tag, tag, name="tags", num_classes=10, bounds=None, fingerprint={})


def synthetic_tag(generation, row):
    return -(1000.0 * generation + row + 1)


def read_tags(values) -> tuple[Counter, Counter]:
    real, synthetic = Counter(), Counter()
    for value in np.asarray(values, np.int64).ravel().tolist():
        if value >= 0:
            real[value] += 1
        else:
            synthetic[divmod(-value - 1, 1000)] += 1
    return real, synthetic


def simulate(texts, shapes, source, order, generations=T, seed=0):
    """Runs all `texts` as one vmapped program and reads each training set through `TrainingSet`.

    Returns:
      ({(text, t): (values of the members, size, counts())}, how often the program was traced)
    """
    traces = []

    @jax.jit
    def generation(inputs, t, keys, memory):
        traces.append(1)

        def one(inputs, key, memory):
            address, size = loops.compose(inputs, t, key, shapes)
            training_set = TrainingSet(address, size, source, order, memory, jax.random.key(0))
            samples, weight = training_set.everything()
            rows = jnp.arange(shapes.rows)
            new = Samples(synthetic_tag(t, rows)[:, None].astype(jnp.float32), rows % 10)
            return samples, weight, size, training_set.counts(), loops.remember(memory, new, t)

        return jax.vmap(one)(inputs, keys, memory)

    stacked = jax.tree.map(lambda *v: jnp.asarray(v), *(loops.inputs(LOOPS[text]) for text in texts))
    memory = Samples(
        jnp.full((len(texts), shapes.slots, shapes.rows, 1), jnp.nan),  # what was never written must never be read
        jnp.full((len(texts), shapes.slots, shapes.rows), -1, jnp.int32),
    )
    sets = {}
    for t in range(1, generations + 1):
        keys = jnp.stack([key_for(seed, t, Role.COMPOSE)] * len(texts))
        samples, weight, size, counts, memory = generation(stacked, jnp.int32(t), keys, memory)
        for i, text in enumerate(texts):
            member = np.asarray(weight[i]) == 1
            assert np.asarray(weight[i])[~member].tolist() == [0.0] * (len(member) - member.sum())
            values = np.asarray(samples.x[i])[member]
            assert np.isfinite(values).all(), f"{text}: a slot was read that no generation had written"
            sets[text, t] = values, int(size[i]), tuple(int(c[i]) for c in counts)
    return sets, len(traces)


@pytest.fixture(scope="module")
def grid():
    shapes = loops.dims(list(LOOPS.values()), T)
    return simulate(GRID, shapes, tagged_source(500), jnp.arange(500))


def union_of(text, t):
    """The oracle's union for generation `t`: the training set itself where the loop has no budget."""
    return oracle(LOOPS[text], T)[t - 1]


# ------------------------------------------------------------------------------------------------ the composition


def test_a_whole_grid_of_loops_is_one_program(grid):
    _, traces = grid
    assert traces == 1


@pytest.mark.parametrize("text", [text for text in GRID if text not in BUDGETED])
def test_real_samples_are_those_of_the_oracle(grid, text):
    for t in range(1, T + 1):
        assert read_tags(grid[0][text, t][0])[0] == union_of(text, t)[0], f"generation {t}"


@pytest.mark.parametrize("text", [x for x in GRID if x not in BUDGETED])
def test_synthetic_samples_are_those_of_the_oracle(grid, text):
    for t in range(1, T + 1):
        assert read_tags(grid[0][text, t][0])[1] == union_of(text, t)[1], f"generation {t}"


@pytest.mark.parametrize("text", GRID)
def test_sizes_and_counts_match_the_loop(grid, text):
    loop = LOOPS[text]
    for t in range(1, T + 1):
        values, size, counts = grid[0][text, t]
        real, synthetic = read_tags(values)
        assert len(values) == size == loop.size(t)
        assert counts == (real.total(), synthetic.total())
        union_real, union_synthetic = union_of(text, t)
        assert loop.union(t) == (union_real.total(), union_synthetic.total())


@pytest.mark.parametrize("text", GRID)
def test_no_sample_is_twice_in_one_training_set(grid, text):
    for t in range(1, T + 1):
        real, synthetic = read_tags(grid[0][text, t][0])
        assert max((real + synthetic).values()) == 1


@pytest.mark.parametrize("text", GRID)
def test_fresh_samples_are_never_used_again(grid, text):
    loop = LOOPS[text]
    seen = set(range(loop.n_initial))
    for t in range(2, T + 1):
        real = set(read_tags(grid[0][text, t][0])[0])
        fresh = {p for p in real if p >= loop.n_initial}
        assert real - fresh <= set(range(loop.n_fixed))
        assert not fresh & seen
        seen |= fresh
    assert max(seen) < loop.real_needed(T)


def test_real_needed_is_what_the_oracle_meets():
    for loop in LOOPS.values():
        met = set().union(*(real for real, _ in oracle(loop, T)))
        assert loop.real_needed(T) == max(met) + 1 == len(met)


@pytest.mark.parametrize("text", [x for x in GRID if not LOOPS[x].accumulate and x not in BUDGETED])
def test_synthetic_samples_are_spread_evenly_over_the_memory(grid, text):
    loop = LOOPS[text]
    for t in range(2, T + 1):
        synthetic = read_tags(grid[0][text, t][0])[1]
        share = Counter(g for g, _ in synthetic.elements())
        remembered = range(max(1, t - loop.memory) if loop.memory != "all" else 1, t)
        assert set(share) <= set(remembered)
        shares = [share[g] for g in remembered]
        assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(
    ("memory", "n_synthetic"),
    [(2, 12), (3, 12), (4, 12), (4, 7), (3, 10), (5, 12)],
)
def test_in_a_full_memory_each_stored_sample_is_used_exactly_once(memory, n_synthetic):
    """`compose` promises that spreading then equals drawing anew from each remembered model."""
    loop = loops.parse(f"memory_k(memory={memory}, n_synthetic={n_synthetic})", N)
    shapes = loops.dims([loop], 2 * memory)
    used = Counter()  # of generation K, whose whole life K+1 .. 2K lies where the memory is full
    compose = jax.jit(lambda t: loops.compose(loops.inputs(loop), t, jax.random.key(0), shapes))
    for t in range(memory + 1, 2 * memory + 1):
        address, size = compose(jnp.int32(t))
        row = -1 - np.asarray(address)[: int(size)]
        slot = (memory - 1) % shapes.slots
        used.update((row[row // shapes.rows == slot] % shapes.rows).tolist())
    assert used == Counter(range(n_synthetic))


def test_stored_samples_keep_labels_in_equal_numbers(grid):
    """Rows carry labels 0 .. 9, 0, 1, …: what a generation gives to a training set must not favour a class."""
    for text in ("memory_k(memory=2)", "memory_k(memory=3)", "memory_k(memory=4)"):
        for t in range(2, T + 1):
            rows_of = {}
            for g, row in read_tags(grid[0][text, t][0])[1]:
                rows_of.setdefault(g, []).append(row % 4)
            for rows in rows_of.values():
                tally = [rows.count(label) for label in range(4)]
                assert max(tally) - min(tally) <= 1


# ------------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize("text", BUDGETED)
def test_a_budget_keeps_a_part_of_the_union_without_repeats(grid, text):
    for t in range(1, T + 1):
        real, synthetic = read_tags(grid[0][text, t][0])
        union_real, union_synthetic = union_of(text, t)
        assert real <= union_real
        assert synthetic <= union_synthetic
        assert real.total() + synthetic.total() == min(LOOPS[text].budget, union_real.total() + union_synthetic.total())


def test_a_budget_keeps_every_member_equally_often():
    """Inclusion counts over 4000 keys: each within 5 standard deviations of budget / union, and their spread too."""
    loop = loops.parse("accumulate_subsample(budget=6, n_synthetic=4)", 8)
    shapes = dataclasses.replace(loops.dims([loop], 4), union=40)  # padding that must never be drawn
    keys = jax.random.split(jax.random.key(3), 4000)
    address, size = jax.jit(
        jax.vmap(lambda key: loops.compose(loops.inputs(loop), jnp.int32(4), key, shapes)), static_argnums=()
    )(keys)
    assert set(np.asarray(size).tolist()) == {6}
    _, count = np.unique(np.asarray(address)[:, :6], return_counts=True)
    assert len(count) == 8 + 3 * 4
    p = 6 / 20
    assert np.abs(count - 4000 * p).max() < 5 * np.sqrt(4000 * p * (1 - p))
    # Without replacement: pairs are included together with probability 6*5 / (20*19), not p².
    first, second = np.unique(np.asarray(address)[:, :6])[[0, -1]]
    together = np.sum((address[:, :6] == first).any(1) & (address[:, :6] == second).any(1))
    q = 6 * 5 / (20 * 19)
    assert abs(int(together) - 4000 * q) < 4 * np.sqrt(4000 * q * (1 - q))


def test_budgets_of_different_generations_draw_differently(grid):
    text = "accumulate_subsample"
    kept = [frozenset(read_tags(grid[0][text, t][0])[0]) for t in range(2, T + 1)]
    assert len(set(kept)) > 1


# ------------------------------------------------------------------------------------- independence of the grid


@pytest.mark.parametrize(
    "text",
    [
        "fully_synthetic",
        "fresh_data(n_initial=4, n_fresh=6, n_synthetic=7)",
        "memory_k(memory=3, n_synthetic=10)",
        "memory_k(memory='all')",
        "accumulate(memory=2)",
        "accumulate_subsample",
        "accumulate_subsample(budget=7, n_fresh=2)",
    ],
)
def test_a_loop_alone_composes_what_it_composes_in_a_grid(grid, text):
    """Same members in the same order, whatever shapes the neighbours need: batches are drawn by index."""
    alone, _ = simulate((text,), loops.dims([LOOPS[text]], T), tagged_source(500), jnp.arange(500))
    for t in range(1, T + 1):
        np.testing.assert_array_equal(alone[text, t][0], grid[0][text, t][0])


def test_more_generations_leave_the_first_ones_alone(grid):
    shapes = loops.dims(list(LOOPS.values()), T + 5)
    longer, _ = simulate(GRID, shapes, tagged_source(500), jnp.arange(500), generations=4)
    for (text, t), (values, *_) in longer.items():
        np.testing.assert_array_equal(values, grid[0][text, t][0])


def test_dims_are_the_smallest_that_fit():
    for loop in LOOPS.values():
        shapes = loops.dims([loop], T)
        unions = oracle(loop, T)
        sizes = [real.total() + synthetic.total() for real, synthetic in unions]
        assert shapes.union == max(sizes)
        assert shapes.capacity == max(min(size, loop.budget or size) for size in sizes)
        assert shapes.rows == max(loop.n_synthetic, 1)
        if loop.n_synthetic == 0 or loop.n_synthetic >= loop.remembered(T):  # each remembered generation gives some
            assert shapes.slots == max((t - g for t, (_, s) in enumerate(unions, 1) for g, _ in s), default=1)
        assert shapes.budgets == (loop.budget is not None)


def test_one_generation_needs_no_memory():
    assert loops.dims([LOOPS["accumulate"]], 1).slots == 1


# -------------------------------------------------------------------------------------------- memory and reading


def test_the_ring_keeps_precisely_the_last_generations():
    slots, rows = 3, 4
    memory = Samples(jnp.zeros((slots, rows, 2)), jnp.zeros((slots, rows), jnp.int32))
    for t in range(1, 9):
        new = Samples(jnp.full((rows + 2, 2), float(t)).at[:, 1].set(jnp.arange(rows + 2)), jnp.full(rows + 2, t))
        memory = loops.remember(memory, new, jnp.int32(t))
        kept = sorted(set(np.asarray(memory.x[..., 0]).ravel().tolist()) - {0.0})
        assert kept == [float(g) for g in range(max(1, t - slots + 1), t + 1)]
        newest = np.asarray(memory.y == t).any(axis=1)
        assert newest.sum() == 1
        np.testing.assert_array_equal(memory.x[newest][0, :, 1], np.arange(rows))


def small_set(size=5, capacity=8):
    source = tagged_source(20)
    memory = Samples(jnp.asarray([[[-1.0], [-2.0]], [[-1001.0], [-1002.0]]]), jnp.asarray([[7, 8], [5, 6]], jnp.int32))
    address = jnp.asarray([3, -1, 0, -4, -2, 19, 19, 19][:capacity], jnp.int32)
    order = (jnp.arange(20) + 2) % 20
    return TrainingSet(address, jnp.int32(size), source, order, memory, jax.random.key(0))


def test_addresses_read_real_samples_by_position_and_memory_by_row():
    samples, weight = small_set().everything()
    np.testing.assert_array_equal(samples.x[:5, 0], [5.0, -1.0, 2.0, -1002.0, -2.0])
    np.testing.assert_array_equal(samples.y[:5], [5, 7, 2, 6, 8])
    np.testing.assert_array_equal(weight, [1, 1, 1, 1, 1, 0, 0, 0])
    assert samples.x.dtype == jnp.float32
    assert samples.y.dtype == jnp.int32


def test_rows_are_the_members_in_order():
    np.testing.assert_array_equal(small_set().rows(jnp.asarray([3, 0, 3])).x[:, 0], [-1002.0, 5.0, -1002.0])


def test_batches_are_uniform_over_the_members_and_never_touch_padding():
    values, count = np.unique(small_set().batch(0, 5000).x, return_counts=True)
    assert sorted(values.tolist()) == [-1002.0, -2.0, -1.0, 2.0, 5.0]
    assert np.abs(count - 1000).max() < 5 * np.sqrt(5000 * 0.2 * 0.8)


def test_batches_keep_sample_and_label_together():
    batch = small_set().batch(1, 200)
    label = {5.0: 5, -1.0: 7, 2.0: 2, -1002.0: 6, -2.0: 8}
    assert [label[v] for v in np.asarray(batch.x[:, 0]).tolist()] == np.asarray(batch.y).tolist()


def test_counts_leave_padding_out():
    assert tuple(map(int, small_set().counts())) == (2, 3)


def test_image_sets_are_read_like_vectors():
    image = jnp.arange(4 * 2 * 2, dtype=jnp.float32).reshape(4, 2, 2, 1)
    pool = Samples(image, jnp.arange(4, dtype=jnp.int32))
    source = FiniteSource(pool, pool, name="i", num_classes=4, bounds=(-1.0, 1.0), fingerprint={})
    memory = Samples(-image[None, :2], jnp.zeros((1, 2), jnp.int32))
    address = jnp.asarray([2, -2], jnp.int32)
    samples, _ = TrainingSet(address, jnp.int32(2), source, jnp.arange(4), memory, jax.random.key(0)).everything()
    np.testing.assert_array_equal(samples.x, jnp.stack([image[2], -image[1]]))


def test_an_endless_source_gives_the_same_sample_at_the_same_position():
    tag = Samples(jnp.zeros((1, 1)), jnp.zeros((1,), jnp.int32))
    source = EndlessSource(tag, "e", 0, None, {}, lambda key: Samples(jax.random.normal(key, (1,)), jnp.int32(0)))
    order = source.order(jax.random.key(0))
    memory = Samples(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1), jnp.int32))

    def read(address):
        return TrainingSet(jnp.asarray(address), jnp.int32(3), source, order, memory, jax.random.key(0)).everything()[0]

    first, second = read([0, 1, 2]).x, read([2, 5, 0]).x
    np.testing.assert_array_equal(first[jnp.asarray([2, 0])], second[jnp.asarray([0, 2])])
    assert len(np.unique(np.concatenate([first, second]))) == 4


# ---------------------------------------------------------------------------------------------------- provenance


def test_no_reference_sample_of_the_digits_is_ever_trained_on():
    """Every digit carries its index in the file through split, order, composition and reading."""
    digits = data.load("digits")
    n, n_reference = 1797, digits.reference.y.shape[0]
    tags = np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1)
    tagged = split(
        tags, np.zeros(n, np.int32), name="d", version="1", num_classes=10, n_reference=n_reference, split_seed=0
    )
    from sklearn.datasets import load_digits

    images = (load_digits().images[..., None] / 8 - 1).astype(np.float32)

    def index_of(part):
        return np.asarray(part.x, np.int64).ravel()

    np.testing.assert_array_equal(digits.pool.x, images[index_of(tagged.pool)])
    np.testing.assert_array_equal(digits.reference.x, images[index_of(tagged.reference)])

    reference = set(index_of(tagged.reference).tolist())
    flat = FiniteSource(Samples(tagged.pool.x.reshape(-1, 1), tagged.pool.y), tagged.reference, "d", 10, None, {})
    texts = ("fresh_data", "fresh_data(n_initial=18, n_fresh=6)", "accumulate_subsample", "synthetic_augmentation")
    for seed in (0, 1):
        order = flat.order(key_for(seed, 0, Role.DATA))
        sets, _ = simulate(texts, loops.dims([LOOPS[x] for x in texts], T), flat, order, seed=seed)
        met = set()
        for values, *_ in sets.values():
            met |= set(read_tags(values)[0])
        assert len(met) == N * T  # of fresh_data; what the other loops meet lies within
        assert met.isdisjoint(reference)
        assert met <= set(range(n))


# ------------------------------------------------------------------------------------------------------- parsing


def test_presets_are_those_of_the_protocol():
    expected = {
        "fully_synthetic": {"n_fixed": 0, "n_fresh": 0, "n_synthetic": N, "memory": 1, "accumulate": False},
        "synthetic_augmentation": {"n_fixed": N, "n_fresh": 0, "n_synthetic": N, "memory": 1, "accumulate": False},
        "fresh_data": {"n_fixed": 0, "n_fresh": N, "n_synthetic": N, "memory": 1, "accumulate": False},
        "memory_k": {"n_fixed": 0, "n_fresh": 0, "n_synthetic": N, "accumulate": False},
        "replace": {"n_fixed": 0, "n_fresh": 0, "n_synthetic": N, "memory": 1, "accumulate": False},
        "accumulate": {
            "n_fixed": N,
            "n_fresh": 0,
            "n_synthetic": N,
            "memory": "all",
            "accumulate": True,
            "budget": None,
        },
        "accumulate_subsample": {
            "n_fixed": N,
            "n_fresh": 0,
            "n_synthetic": N,
            "memory": "all",
            "accumulate": True,
            "budget": N,
        },
        "fixed_ratio": {
            "n_fixed": N,
            "n_fresh": 0,
            "n_synthetic": N,
            "memory": 1,
            "accumulate": False,
            "start": "finetune",
        },
    }
    assert set(loops.PRESETS) == set(expected)
    for name, fields in expected.items():
        loop = loops.parse(name, N)
        assert {key: getattr(loop, key) for key in fields} == fields
        assert loop.n_initial == N
        assert loop.bias is None
        assert loop.start == fields.get("start", "scratch")


def test_settings_override_and_sizes_follow_n_initial():
    loop = loops.parse(" fresh_data( n_initial = 7, n_fresh=3, bias=0.8 ) ", N)
    assert (loop.n_initial, loop.n_fresh, loop.n_synthetic, loop.bias) == (7, 3, 7, 0.8)
    assert loop.name == "fresh_data(n_initial=7,n_fresh=3,bias=0.8)"


def test_accumulating_remembers_everything_unless_told_otherwise():
    assert loops.parse("synthetic_augmentation(accumulate=True)", N).memory == "all"
    assert loops.parse("synthetic_augmentation(accumulate=True, memory=2)", N).memory == 2


def test_fixed_ratio_scales_with_the_fixed_part():
    assert loops.parse("fixed_ratio(ratio=0.5)", N).n_synthetic == 6
    assert loops.parse("fixed_ratio(ratio=2, n_fixed=6)", N).n_synthetic == 12


BAD_TEXTS = {
    "nonsense": "unknown loop 'nonsense'",
    "fresh_data(n_frehs=3)": "unknown setting 'n_frehs'",
    "replace(name='x')": "unknown setting 'name'",
    "replace(ratio=2)": "unknown setting 'ratio'",
    "replace(**{'n_fresh': 3})": "unknown setting",
    "fresh_data(3)": "cannot read loop",
    "fresh_data(n_fresh=": "cannot read loop",
    "": "cannot read loop",
    "fresh_data(n_fresh=open('x'))": "cannot read loop",
    "a.b(n_fresh=1)": "cannot read loop",
    "replace, accumulate": "cannot read loop",
    "replace(n_initial=0)": "set n_initial",
    "replace(n_initial=-1)": "n_initial must be a whole number",
    "replace(n_initial=2.5)": "n_initial must be a whole number",
    "replace(n_initial='many')": "n_initial must be a whole number",
    "replace(n_fresh=True)": "n_fresh must be a whole number",
    "replace(n_fixed=-1)": "n_fixed must be a whole number",
    "replace(n_synthetic=None)": "n_synthetic must be a whole number",
    "replace(n_fixed=13)": "n_fixed=13 samples cannot stay of n_initial=12",
    "replace(n_synthetic=0)": "no data at all",
    "memory_k(memory=0)": "memory must be",
    "memory_k(memory='some')": "memory must be",
    "memory_k(memory=True)": "memory must be",
    "replace(accumulate=1)": "accumulate must be True or False",
    "replace(budget=0)": "budget must be",
    "replace(budget=1.5)": "budget must be",
    "replace(budget=True)": "budget must be",
    "replace(bias=0)": "must lie in (0, 1]",
    "replace(bias=1.1)": "must lie in (0, 1]",
    "replace(bias=True)": "must lie in (0, 1]",
    "replace(bias='low')": "must lie in (0, 1]",
    "replace(start='warm')": "start must be one of scratch, finetune",
    "replace(start=[])": "start must be one of scratch, finetune",
    "fixed_ratio(ratio=-1)": "ratio must be",
    "fixed_ratio(ratio='x')": "ratio must be",
    "fixed_ratio(ratio=True)": "ratio must be",
}


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bad_loops_are_refused_in_one_line(text):
    with pytest.raises(ValueError, match=re.escape(BAD_TEXTS[text])) as caught:
        loops.parse(text, N)
    assert "\n" not in str(caught.value)


BROKEN_TEXTS = [
    "fixed_ratio(ratio=1e999)",
    "fixed_ratio(n_fixed='a')",
    "fixed_ratio(ratio=2, n_synthetic=5)",
    "replace(n_fresh=1, n_fresh=2)",
    "replace(n_fresh={[]: 1})",
    "replace(n_initial=3000000000)",
    "memory_k(memory=3000000000)",
    "replace(\nfoo=1)",
]


@pytest.mark.parametrize("text", BROKEN_TEXTS)
def test_these_bad_loops_are_refused_in_one_line_too(text):
    with pytest.raises(ValueError, match="loop") as caught:
        loops.parse(text, N)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, 3, ["replace"]])
def test_what_is_not_text_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match="is not a name"):
        loops.parse(text, N)


def test_a_name_is_one_line():
    assert loops.parse("replace(\n\tn_fresh=1)", N).name == "replace(n_fresh=1)"


@pytest.mark.parametrize("bias", [1, 1.0, 0.5, 1e-6])
def test_good_biases_pass(bias):
    loops.check_bias(bias)


@pytest.mark.parametrize("bias", [0, -0.5, 1.0000001, float("nan"), float("inf"), None, "1", False])
def test_bad_biases_are_refused(bias):
    with pytest.raises(ValueError, match="λ must lie in"):
        loops.check_bias(bias, "here: ")


def test_inputs_are_the_fields_with_no_limit_as_the_largest_int32():
    values = loops.inputs(LOOPS["accumulate"])
    assert (values.n_initial, values.n_fixed, values.n_fresh, values.n_synthetic) == (N, N, 0, N)
    assert values.memory == values.budget == np.iinfo(np.int32).max
    assert values.accumulate is True
    assert values.finetune is False
    assert loops.inputs(LOOPS["fixed_ratio"]).finetune is True
    assert loops.inputs(LOOPS["accumulate_subsample(budget=7, n_fresh=2)"]).budget == 7
