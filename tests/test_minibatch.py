"""What families that take steps share: segments, epochs, learning rate, averages, groups of devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import diffusion, draw, four_clouds, path, tiny, training_set

from madbench import models
from madbench.models.edm import Edm
from madbench.models.family import Given
from madbench.models.minibatch import Trained


def test_the_average_has_the_weights_of_a_power_function():
    """EDM2, equation 8: weights proportional to t^γ. Integrated over each step: (i/T)^(γ+1) - ((i-1)/T)^(γ+1)."""
    gamma = 2.5
    states, _ = path(tiny(ema_exponent=gamma, warmup=0.0))
    assert len(states) == 11
    i = np.arange(1, 11)
    weight = ((i / 10) ** (gamma + 1)) - ((i - 1) / 10) ** (gamma + 1)
    assert weight.sum() == pytest.approx(1)
    leaves = [jax.tree.leaves(s.params) for s in states[1:]]
    for k, average in enumerate(jax.tree.leaves(states[-1].ema)):
        direct = sum(w * np.float64(leaf[k]) for w, leaf in zip(weight, leaves, strict=True))
        np.testing.assert_allclose(average, direct, rtol=1e-4, atol=1e-6)


def test_samples_are_drawn_with_the_average():
    family = tiny()
    state = path(family, calls=3)[0][-1]
    poisoned = state._replace(params=jax.tree.map(lambda a: a * jnp.nan, state.params))
    np.testing.assert_array_equal(draw(family, state, 5).x, draw(family, poisoned, 5).x)


def test_the_learning_rate_rises_linearly_and_falls_as_half_a_cosine():
    model = diffusion(learning_rate=3e-3, warmup=0.2)
    progress = np.linspace(0, 1, 21)
    expected = 3e-3 * np.minimum(progress / 0.2, 1) * (1 + np.cos(np.pi * progress)) / 2
    np.testing.assert_allclose([model.rate(jnp.float32(p)) for p in progress], expected, rtol=1e-5, atol=1e-9)
    assert float(model.rate(jnp.float32(1.5))) == pytest.approx(0, abs=1e-9)
    assert float(diffusion(learning_rate=3e-3, warmup=0.0).rate(jnp.float32(0))) == pytest.approx(3e-3)


def test_steps_are_adams_at_the_scheduled_rate():
    """Adam's first step is the sign of the gradient, so without warm-up a weight moves by the rate or not at all."""
    family = tiny(warmup=0.0, learning_rate=1e-3)
    before, after = (jax.tree.leaves(s.params) for s in path(family, calls=1)[0])
    moved = np.concatenate([np.abs(np.float64(a) - np.float64(b)).ravel() for a, b in zip(before, after, strict=True)])
    big = moved[moved > 1e-5]
    assert len(big) >= 10
    np.testing.assert_allclose(big, 1e-3, rtol=0.02)


def test_a_fit_in_segments_is_one_fit():
    """The state carries its step: ten calls of four steps walk through the steps of one call of forty."""
    family = tiny(steps=40)
    assert family.segments == 10
    states, curves = path(family)

    class Whole(Edm):
        segments = 1

    whole = Whole(**{f.name: getattr(family, f.name) for f in dataclasses.fields(family)})
    state, curve = jax.jit(whole.fit)(jax.random.key(1), training_set(*four_clouds(64)), states[0])
    assert [int(s.step) for s in states] == list(range(0, 41, 4))
    assert int(state.step) == 40
    for a, b in zip(jax.tree.leaves(states[-1]), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    parts = np.asarray([c.mean() for c in curves])
    np.testing.assert_allclose(parts, curve.reshape(10, -1).mean(1), rtol=1e-3)


@pytest.mark.parametrize(("steps", "segments"), [(1, 1), (7, 7), (10, 10), (11, 1), (24, 8), (1000, 10)])
def test_segments_divide_the_steps(steps, segments):
    assert diffusion(steps=steps).segments == segments


def test_epochs_stop_smaller_sets_early():
    """Two passes over 24 and over 40 samples in batches of 8 are 6 and 10 steps; then nothing moves any more."""
    family = tiny(epochs=2.0)
    for size, steps in ((40, 10), (24, 6), (1, 1)):
        states, _ = path(family, training_set(*four_clouds(64), size=size))
        assert [int(s.step) for s in states] == [min(i, steps) for i in range(11)]
        jax.tree.map(np.testing.assert_array_equal, states[steps], states[-1])


def test_epochs_count_all_batches_of_a_step():
    settings = {"objective": "wgan_gp", "critic_steps": 4, "batch_size": 8, "epochs": 2.0}
    assert models.build("gan", Given((2,), 0, capacity=320), **settings).steps == 20


def test_epochs_give_each_set_its_own_whole_schedule():
    """A set of 24 with two epochs trains as it would alone with six steps."""
    data = training_set(*four_clouds(64), size=24)
    waiting, alone = path(tiny(epochs=2.0), data)[0][-1], path(tiny(steps=6), data)[0][-1]
    for a, b in zip(jax.tree.leaves(waiting), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_without_epochs_every_set_trains_for_the_same_steps():
    states, _ = path(tiny(), training_set(*four_clouds(64), size=3))
    assert int(states[-1].step) == 10


def test_a_state_is_a_tuple_of_arrays_with_params():
    state = tiny().init(jax.random.key(0))
    assert isinstance(state, Trained)
    assert int(state.step) == 0
    jax.tree.map(np.testing.assert_array_equal, state.params, state.ema)
