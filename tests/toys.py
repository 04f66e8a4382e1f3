"""Toy data and toy models that several test files share, and ways to fit and draw from them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from madbench.data.source import FiniteSource
from madbench.models.edm import Edm
from madbench.models.family import Given, Group
from madbench.samples import Samples
from madbench.training_set import TrainingSet

CLASSES = 4


def training_set(x, y=None, size=None) -> TrainingSet:
    """`x` as a training set of real samples; rows from `size` on are padding."""
    x = jnp.asarray(x, jnp.float32)
    y = jnp.zeros(len(x), jnp.int32) if y is None else jnp.asarray(y, jnp.int32)
    pool = Samples(x, y)
    source = FiniteSource(pool, pool, name="t", num_classes=CLASSES, bounds=None, fingerprint={})
    memory = Samples(jnp.zeros((1, 1, *x.shape[1:])), jnp.zeros((1, 1), jnp.int32))
    address = jnp.arange(len(x), dtype=jnp.int32)
    return TrainingSet(address, jnp.int32(len(x) if size is None else size), source, address, memory, jax.random.key(7))


def four_clouds(n=512, spread=0.25, seed=0):
    """Four overlapping clouds around the corners of a square; standard deviation 0.5 in each coordinate."""
    y = np.arange(n) % CLASSES
    centre = np.sqrt(0.25 - spread**2) * np.asarray([[1, 1], [1, -1], [-1, 1], [-1, -1]])[y]
    return (centre + spread * np.random.default_rng(seed).normal(size=(n, 2))).astype(np.float32), y


def fit(family, key, data, segments=None):
    """Initialized and fitted, all segments in one traceable call."""
    init_key, fit_key = jax.random.split(key)
    segments = family.segments if segments is None else segments
    state, curves = jax.lax.scan(
        lambda state, _: family.fit(fit_key, data, state), family.init(init_key), length=segments
    )
    return state, curves.ravel()


@functools.cache
def compiled(family):
    """Families are hashable: one program each for all tests."""
    return jax.jit(family.init), jax.jit(family.fit)


@functools.cache
def sampler(family, n):
    return jax.jit(lambda key, state, bias: family.sample(key, state, n, bias))


def draw(family, state, n, bias=1.0, seed=9):
    return jax.tree.map(np.asarray, sampler(family, n)(jax.random.key(seed), state, jnp.float32(bias)))


class Stub(nn.Module):
    """A network with one parameter that returns what it is given, so that preconditioning can be read off."""

    what: str

    @nn.compact
    def __call__(self, x, noise, label):
        gain = self.param("gain", nn.initializers.ones, ())
        rows = (-1, *(1,) * (x.ndim - 1))
        return (
            gain
            * {
                "zero": jnp.zeros_like(x),
                "one": jnp.ones_like(x),
                "input": x,
                "noise": jnp.broadcast_to(noise.reshape(rows), x.shape),
                "label": jnp.broadcast_to(label.astype(jnp.float32).reshape(rows), x.shape),
            }[self.what]
        )


def diffusion(net="zero", num_classes=0, shape=(2,), bounds=None, group=None, **settings):
    net = Stub(net) if isinstance(net, str) else net
    return Edm(given=Given(shape, num_classes, bounds, group=group or Group()), net=net, **settings)


class Linear(nn.Module):
    """A network that learns and compiles fast."""

    @nn.compact
    def __call__(self, x, noise, label):
        return nn.Dense(x.shape[1])(jnp.concatenate([x, noise[:, None], jax.nn.one_hot(label, CLASSES + 1)], axis=1))


def tiny(steps=10, **settings):
    """With ten steps, each segment is one step: every parameter on the way can be seen."""
    return diffusion(Linear(), CLASSES, steps=steps, **({"batch_size": 8} | settings))


def path(family, data=None, calls=None):
    """The state after each call of `fit`."""
    data = training_set(*four_clouds(64)) if data is None else data
    init, step = compiled(family)
    states, curves = [init(jax.random.key(0))], []
    for _ in range(family.segments if calls is None else calls):
        state, curve = step(jax.random.key(1), data, states[-1])
        states.append(state)
        curves.append(curve)
    return states, curves
