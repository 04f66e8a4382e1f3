"""Model families: promises that every family keeps, tested once for all. A new family joins with a line in `CASES`."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import CLASSES, compiled, draw, fit, four_clouds, training_set

from madbench import experiment, models, results
from madbench.checkpoints import Checkpoints, Progress
from madbench.config import base
from madbench.models.family import Given, Group


@dataclasses.dataclass(frozen=True)
class Case:
    """A family as these tests use it.

    Attributes:
      settings: a model that learns the four clouds in seconds.
      short: what to change for tests that need no good model.
      num_classes: 0 where the family is unconditional.
      biases: three values of λ, falling.
      variant: of the family, where it has several cases.
    """

    family: str
    settings: dict[str, Any]
    short: dict[str, Any]
    num_classes: int
    biases: tuple[float, float, float] = (1.0, 0.6, 0.3)
    variant: str = ""

    @property
    def name(self):
        return " ".join(filter(None, (self.family, self.variant)))

    def build(self, short=True, group=None, **more):
        settings = self.settings | (self.short if short else {}) | more
        capacity = 64 if short else 512  # of the sets that these tests fit
        return models.build(self.family, Given((2,), self.num_classes, None, capacity, group or Group()), **settings)


CASES = {
    "gaussian": Case("gaussian", {}, {}, num_classes=0),
    "diffusion": Case(
        "diffusion",
        {"width": 32, "depth": 1, "steps": 600, "batch_size": 128, "learning_rate": 5e-3, "sampler_steps": 12},
        {"steps": 20, "width": 8, "batch_size": 16, "sampler_steps": 4},
        num_classes=CLASSES,
    ),
    "diffusion ddpm": Case(
        "diffusion",
        {"parameterization": "ddpm", "width": 32, "depth": 1, "steps": 800, "batch_size": 128,
         "learning_rate": 5e-3, "timesteps": 100, "beta_max": 0.1},
        {"steps": 20, "width": 8, "batch_size": 16, "timesteps": 4, "beta_max": 0.99},
        num_classes=CLASSES,
        variant="ddpm",
    ),
    "gan": Case(
        "gan",
        {"width": 32, "depth": 2, "discriminator_width": 64, "discriminator_depth": 1, "style": 16, "latent": 8,
         "steps": 1000, "batch_size": 128, "learning_rate": 5e-3, "r1": 0.1, "r2": 0.1},
        {"steps": 20, "width": 8, "discriminator_width": 8, "batch_size": 16},
        num_classes=CLASSES,
    ),
    "mixture": Case("mixture", {"components": 4}, {"iterations": 20}, num_classes=0),
    "kde": Case("kde", {}, {}, num_classes=0, biases=(1.0, 0.5, 0.01)),  # the variance is 1 + λ/8 of the data's
    "flow": Case(
        "flow",
        {"couplings": 4, "width": 16, "depth": 1, "steps": 400, "batch_size": 128, "learning_rate": 1e-2},
        {"steps": 20, "couplings": 2, "width": 8, "batch_size": 16},
        num_classes=CLASSES,
    ),
    "vae": Case(
        "vae",
        {"width": 32, "depth": 1, "latent": 2, "decoder_noise": True,
         "steps": 600, "batch_size": 128, "learning_rate": 5e-3},
        {"steps": 20, "width": 8, "batch_size": 16},
        num_classes=CLASSES,
    ),
}  # fmt: skip


every_family = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@functools.cache
def fitted(name):
    """A case's family, its first state, fitted state and loss curve."""
    family, key = CASES[name].build(short=False), jax.random.key(0)
    state, curve = jax.jit(lambda key, data: fit(family, key, data))(key, training_set(*four_clouds()))
    return family, compiled(family)[0](jax.random.split(key)[0]), state, curve


def moments_distance(samples, x, y, num_classes):
    """Largest error of a class's mean and standard deviation, in units of the data's standard deviation 0.5."""
    worst = 0.0
    for label in range(max(num_classes, 1)):
        ours = samples.x[samples.y == label]
        theirs = x[y == label] if num_classes else x
        worst = max(worst, np.abs(ours.mean(0) - theirs.mean(0)).max(), np.abs(ours.std(0) - theirs.std(0)).max())
    return worst / 0.5


@every_family
def test_attributes_are_those_of_the_protocol(case):
    family = case.build()
    for name, least in (("segments", 1), ("steps", 0), ("batch_size", 0), ("min_samples", 1)):
        assert type(getattr(family, name)) is int, name
        assert getattr(family, name) >= least, name
    assert family.bias_refusal == ""
    assert "λ" in family.bias_meaning
    hash(family)  # a static argument of compiled programs


@every_family
def test_a_fitted_model_is_closer_to_the_data_than_a_new_one(case):
    family, first, state, curve = fitted(case.name)
    x, y = four_clouds()
    before, after = (moments_distance(draw(family, s, 1000), x, y, case.num_classes) for s in (first, state))
    assert after < 0.3
    assert after < before / 3
    assert np.isfinite(curve).all()
    if family.steps:
        assert curve[-1] < curve[0]


@every_family
def test_bias_one_leaves_the_distribution_alone(case):
    """Overall moments against the data, within what a small model and 1000 samples allow."""
    family, _, state, _ = fitted(case.name)
    x, _ = four_clouds()
    samples = draw(family, state, 1000).x
    assert np.abs(samples.mean(0) - x.mean(0)).max() < 0.08
    np.testing.assert_allclose(samples.std(0), x.std(0), rtol=0.1)


@every_family
def test_a_smaller_bias_means_less_diversity(case):
    """Variance around the mean of each class, at three values of λ with the same noise."""
    family, _, state, _ = fitted(case.name)

    def spread(bias):
        samples = draw(family, state, 1000, bias)
        return np.mean([samples.x[samples.y == label].var(0).mean() for label in np.unique(samples.y)])

    one, some, little = (spread(bias) for bias in case.biases)
    assert one > 1.05 * some > 1.05**2 * little


@every_family
def test_first_samples_do_not_depend_on_how_many_follow(case):
    family, _, state, _ = fitted(case.name)
    many = draw(family, state, 37, 0.7)
    for n in (1, 8):
        few = draw(family, state, n, 0.7)
        np.testing.assert_allclose(few.x, many.x[:n], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(few.y, many.y[:n])


@every_family
def test_labels_come_in_turn_and_in_equal_numbers(case):
    family, _, state, _ = fitted(case.name)
    samples = draw(family, state, 22)
    np.testing.assert_array_equal(samples.y, np.arange(22) % max(case.num_classes, 1))
    assert samples.y.dtype == np.int32
    assert samples.x.dtype == np.float32
    assert samples.x.shape == (22, 2)


@functools.cache
def programs(family):
    """A whole run, and several at once: (key, training set, λ) -> (state, curve, samples)."""

    def run(key, data, bias):
        state, curve = fit(family, key, data)
        return state, curve, family.sample(key, state, 9, bias)

    return jax.jit(run), jax.jit(jax.vmap(run))


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


RUNS = 3


KEYS = jax.random.split(jax.random.key(5), RUNS)


BIASES = jnp.asarray([1.0, 0.8, 0.5])


SETS = [training_set(*four_clouds(64, seed=seed), size=size) for seed, size in ((1, 64), (2, 40), (3, 17))]


@every_family
def test_fit_and_sample_are_functions_of_their_key(case):
    run, _ = programs(case.build())
    once, again, other = (run(KEYS[i], SETS[0], BIASES[1])[2].x for i in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1e-3


@every_family
def test_a_run_alone_equals_the_same_run_under_vmap(case):
    """Three runs with their own keys, sets of their own sizes, and λ; each alone gives the same model and samples."""
    run, together = programs(case.build())
    mapped = together(KEYS, stack(SETS), BIASES)
    for i in range(RUNS):
        alone = run(KEYS[i], SETS[i], BIASES[i])
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(mapped), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=1e-3, atol=1e-4)


@every_family
def test_a_run_with_nan_parameters_leaves_its_neighbours_alone(case):
    """NaN comes in through the second run's samples and reaches all that it learns."""
    _, together = programs(case.build())
    nan = training_set(np.full((64, 2), np.nan, np.float32), size=40)
    mixed, clean = (together(KEYS, stack([SETS[0], middle, SETS[2]]), BIASES) for middle in (nan, SETS[1]))
    assert all(not np.isfinite(leaf[1]).all() for leaf in jax.tree.leaves(mixed[0].params))
    assert not np.isfinite(mixed[2].x[1]).any()
    for a, b in zip(jax.tree.leaves(mixed), jax.tree.leaves(clean), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[[0, 2]], np.asarray(b)[[0, 2]])


@every_family
def test_padding_is_never_trained_on(case):
    """Rows beyond `size` may hold anything finite."""
    run, _ = programs(case.build())
    x, y = four_clouds(64)
    spoiled = x.copy()
    spoiled[40:] = 1e6
    a, b = (run(KEYS[0], training_set(values, y, size=40), BIASES[0]) for values in (x, spoiled))
    jax.tree.map(np.testing.assert_array_equal, a, b)


@every_family
def test_init_depends_on_its_key_alone_and_carries_params(case):
    init, _ = compiled(case.build())
    a, b = init(jax.random.key(0)), init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.leaves(a.params)


steps_of_their_own = pytest.mark.parametrize("name", [n for n, case in CASES.items() if "steps" in case.settings])


@steps_of_their_own
def test_sampling_in_chunks_equals_sampling_at_once(name):
    whole, chunks = (CASES[name].build(sample_batch=batch) for batch in (0, 4))
    state = compiled(whole)[1](KEYS[0], SETS[0], compiled(whole)[0](KEYS[1]))[0]
    a, b = draw(whole, state, 11, 0.6), draw(chunks, state, 11, 0.6)
    np.testing.assert_allclose(a.x, b.x, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(a.y, b.y)
    assert len(np.unique(a.x)) > 11  # rows differ: of their own noise


@steps_of_their_own
def test_a_group_of_devices_computes_what_one_device_does(name):
    """A run whose batch two devices share, twice side by side, against the run alone."""
    data = training_set(*four_clouds(64))
    case, group = CASES[name], Group(axis="device", members=((0, 1), (2, 3)))
    alone, shared = (case.build(group=g, steps=10, batch_size=8) for g in (None, group))

    def run(family):
        def one(key):
            state, curve = fit(family, key, data, segments=3)
            return state.ema, curve, family.sample(key, state, 5, 0.7)

        return one

    keys = jax.random.split(jax.random.key(3), 2)
    spread = jax.pmap(run(shared), axis_name="device")(jnp.repeat(keys, 2))
    run_alone = jax.jit(run(alone))
    for i in range(2):
        expected = jax.tree.leaves(run_alone(keys[i]))
        for a, b in zip(expected, jax.tree.leaves(spread), strict=True):
            both = np.asarray(b)[2 * i : 2 * i + 2]
            np.testing.assert_allclose(both[0], a, rtol=1e-3, atol=1e-4)
            np.testing.assert_array_equal(both[0], both[1])


@every_family
def test_a_fit_that_goes_on_from_a_checkpoint_is_the_fit(case, tmp_path):
    """Stopped after its first segment, or after a fit of one; the rest and the samples are the same to the bit."""
    family = case.build()
    data = training_set(*four_clouds(64))
    init, step = compiled(family)
    begun = step(KEYS[0], data, init(KEYS[1]))[0]
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1)
    checkpoints.save(Progress(0, 1, 1), jax.tree.map(np.asarray, begun))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), begun)
    ((progress, restored),) = checkpoints.restore(lambda _: shapes, pytest.fail)
    assert progress == Progress(0, 1, 1)
    ends = []
    for state in (begun, jax.tree.map(jnp.asarray, restored)):
        for _ in range(family.segments - 1):
            state, _ = step(KEYS[0], data, state)
        ends.append((state, draw(family, state, 9, 0.8)))
    jax.tree.map(np.testing.assert_array_equal, *ends)
    if family.steps:
        assert int(ends[0][0].step) == family.steps


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize(
    "settings", [{"no_such_setting": 1}, {"shape_": 3}, {"ddof": 3, "width": 0}], ids=["unknown", "typo", "bad"]
)
def test_settings_that_do_not_fit_are_refused_in_one_line(family, settings):
    with pytest.raises(ValueError, match=r"config\.model") as caught:
        models.build(family, Given((2,), 0), **settings)
    assert "\n" not in str(caught.value)


def test_an_unknown_family_is_refused_in_one_line():
    with pytest.raises(ValueError, match="unknown model family 'gan2'") as caught:
        models.build("gan2", Given((2,), 0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("gaussian", "diffusion")])
def test_it_runs_through_its_loops(name, tmp_path):
    """From scratch and fine-tuned, on four devices; the Gaussian and diffusion do in `test_experiment.py`."""
    case = CASES[name]
    config = base("mixture", case.family)
    config.data.update({"n_reference": 40, "modes_per_side": 2})
    config.n_initial, config.generations, config.seeds = 64, 2, 3
    config.loops = ("fully_synthetic", "fixed_ratio")
    config.metrics.update({"names": ("fd", "modes"), "features": "raw"})
    config.model.update(case.settings | case.short)
    experiment.run(config, str(tmp_path / "work"))
    rows = results.load(tmp_path / "work").rows
    assert len(rows) == 2 * 3 * 2
    assert {row["status"] for row in rows} == {"ok"}
    assert all(math.isfinite(row["fd"]) and 0 <= row["modes"] <= 4 for row in rows)
    firsts = [[row["fd"] for row in rows if row["generation"] == 1 and row["loop"] == loop] for loop in config.loops]
    np.testing.assert_allclose(*firsts, rtol=1e-3)  # one seed, one first generation
    lasts = [[row["fd"] for row in rows if row["generation"] == 2 and row["loop"] == loop] for loop in config.loops]
    assert (np.abs(np.subtract(*lasts)) > 1e-6).all()
    assert (tmp_path / "work" / "drift.png").exists()
