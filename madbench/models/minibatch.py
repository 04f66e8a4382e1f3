"""What families share that learn from minibatches: the loop over steps, the learning rate, the average of weights."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from madbench.errors import UserError
from madbench.models.family import Given, State, check_number, check_whole
from madbench.samples import Samples

# In the samples that are drawn at a time: 341 images of 32x32x3, 85 of 64x64x3. Networks hold many times as much.
SAMPLED_NUMBERS = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Minibatch:
    """A family that is fitted by optimizer steps. Its state has a field `step`, and a subclass says what a step does.

    Attributes:
      given: what the data and the plan say.
      steps: optimizer steps of one fit; where `epochs` is set, those of the largest training set's fit.
      epochs: 0 for the same steps whatever the training set's size (PROTOCOL, section 2); otherwise each fit draws
        `epochs` times the samples of its own set.
      batch_size: samples per step, drawn uniformly with replacement.
      learning_rate: after warm-up and before the decay to 0.
      warmup: share of the steps in which the learning rate rises linearly.
      sample_batch: samples drawn at a time; 0 for 4096 small ones, and fewer large ones, by their size in memory.
      ema_exponent: γ of EDM2's power-function average of the weights; 16.97 is a relative width of 0.05.
      batches: that one step takes.
    """

    given: Given
    steps: int = 1000
    epochs: float = 0.0
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: float = 0.05
    ema_exponent: float = 16.97
    sample_batch: int = 0

    min_samples = 1
    batches = 1
    takes_weights = True
    takes_steps = True
    knows_labels = True

    def __post_init__(self):
        check_whole(1, steps=self.steps, batch_size=self.batch_size)
        check_whole(0, sample_batch=self.sample_batch)
        check_number(self.learning_rate, "learning_rate", above=0)
        check_number(self.warmup, "warmup", least=0, below=1)
        check_number(self.epochs, "epochs", least=0)
        check_number(self.ema_exponent, "ema_exponent", least=0)
        if self.batch_size % self.given.group.size:
            devices = f"a run's {self.given.group.size} devices"
            raise UserError(f"config.model.batch_size={self.batch_size} must be a multiple of {devices}")
        if self.epochs and self.given.capacity:
            a_step = self.batches * self.batch_size
            object.__setattr__(self, "steps", math.ceil(self.epochs * self.given.capacity / a_step))

    def step(self, key: jax.Array, batch: Samples, state: State, rate: jax.Array) -> tuple[State, jax.Array]:
        """One optimizer step on `batch` at learning rate `rate`: the new state, without its `step`, and the loss."""
        raise NotImplementedError

    @property
    def segments(self) -> int:
        return parts(self.steps)

    def fit(self, key: jax.Array, training_set: Any, state: State) -> tuple[State, jax.Array]:
        """`steps / segments` optimizer steps, or as many as the plan asks for."""
        a_step = self.batches * self.batch_size
        own = getattr(training_set, "steps", None)
        total = (
            jnp.ceil(self.epochs * training_set.size / a_step) if self.epochs else self.steps if own is None else own
        )

        def one(state, _):
            batch = training_set.batch(state.step, self.batches * self.batch_size)
            rate = self.rate((state.step + 0.5) / total)  # at the middle of the step, so that one step alone learns
            new, loss = self.step(jax.random.fold_in(key, state.step), batch, state, rate)
            new = new._replace(step=state.step + 1)
            if self.epochs or own is not None:  # a shorter fit is over sooner; it waits for the others
                new = jax.tree.map(lambda a, b: jnp.where(state.step < total, a, b), new, state)
            return new, loss

        n = self.given.steps_per_call or self.steps // self.segments
        if self.given.steps_per_call == 1:  # not a loop of one step either
            state, loss = one(state, None)
            return state, loss[None]
        state, losses = jax.lax.scan(one, state, length=n)
        return state, losses.reshape(parts(losses.shape[0]), -1).mean(axis=1)

    def rate(self, progress: jax.Array) -> jax.Array:
        """The learning rate at a share of the fit: a linear warm-up, then a half cosine to 0."""
        rise = jnp.minimum(progress / self.warmup, 1.0) if self.warmup else 1.0
        return self.learning_rate * rise * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(progress, 1.0)))

    def average(self, ema: Any, params: Any, step: jax.Array) -> Any:
        """The average of the weights after step `step` (from 0): EDM2 (arXiv 2312.02696), equation 127."""
        keep = (1 - 1 / (step + 1)) ** (self.ema_exponent + 1)
        return jax.tree.map(lambda e, p: keep * e + (1 - keep) * p, ema, params)

    def map_rows(self, function: Callable[[Any], jax.Array], rows: Any) -> jax.Array:
        """`function(rows)` for a row-wise function: at most `sample_batch` rows at a time, each device its part."""
        most = self.sample_batch or max(min(4096, SAMPLED_NUMBERS // math.prod(self.given.shape)), 1)

        def in_chunks(rows):
            if jax.tree.leaves(rows)[0].shape[0] <= most:
                return function(rows)
            one = lambda row: function(jax.tree.map(lambda a: a[None], row))[0]
            return jax.lax.map(one, rows, batch_size=most)

        return self.given.group.map_rows(in_chunks, rows)


def moved(params: Any, update: Any, rate: jax.Array) -> Any:
    """`params - rate * update`."""
    return jax.tree.map(lambda p, u: p - rate * u, params, update)


def parts(n: int) -> int:
    """The largest divisor of `n` up to 10."""
    return next(p for p in range(10, 0, -1) if n % p == 0)


class Trained(NamedTuple):
    """The state of a model with one loss, a frozen pytree; see `models.family.State`.

    Attributes:
      params: weights under training.
      ema: the average of those that samples are drawn with.
      optimizer: Adam's moments.
      step: int32 scalar, optimizer steps taken in this generation.
    """

    params: Any
    ema: Any
    optimizer: Any
    step: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneLoss(Minibatch):
    """A family that descends one loss with Adam, and samples with an average of its weights."""

    sampled_with = ("ema",)

    def begin(self, params: Any) -> Trained:
        """The state of a new model."""
        return Trained(params, self.sampled(params), self.adam.init(params), jnp.int32(0))

    def descend(self, state: Trained, loss: Callable[[Any], jax.Array], rate: jax.Array) -> tuple[Trained, jax.Array]:
        """One step of Adam down `loss(params)`, the mean over this device's part of the batch; also its value."""
        value, gradient = self.given.group.mean(jax.value_and_grad(loss)(state.params))
        update, optimizer = self.adam.update(gradient, state.optimizer)
        params = moved(state.params, update, rate)
        ema = self.average(state.ema, self.sampled(params), state.step)
        return Trained(params, ema, optimizer, state.step), value

    def sampled(self, params: Any) -> Any:
        """The weights that samples are drawn with."""
        return params

    @property
    def adam(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(b1=0.9, b2=0.99)
