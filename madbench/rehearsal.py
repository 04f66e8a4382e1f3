"""A strategy's hooks, run once on real samples before anything is trained: what shapes cannot tell."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench.errors import UserError
from madbench.models import sampled_weights
from madbench.samples import Samples, decode
from madbench.strategies import Strategy, trial
from madbench.treatment import Treatment


def rehearse(treatment: Treatment, name: str, source: Any) -> None:
    """Runs the hooks once before anything is trained: `init` on real samples, `select` on others, the best that it will
    ever see, `extrapolate` on a new model's weights, and `guide` on noise.

    Raises:
      UserError: no sample passes, or what comes back is not finite; one line.
    """
    own, has, where = treatment.strategy, treatment.has, f"config.strategy={name!r}"
    finite = lambda tree: all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))
    state = jax.jit(treatment.init)(source, source.order(jax.random.key(0)), jnp.uint32(0), treatment.n_initial)
    if any(bool(jnp.isnan(leaf).any()) for leaf in jax.tree.leaves(state)):  # infinity may stand for padding
        raise UserError(f"{where}: init returns numbers that are not finite")
    if has("select"):
        candidates, member = _real_candidates(own, source)
        found = jax.jit(own.select)(jax.random.key(0), candidates, member, state)
        samples, weights = (found, ()) if isinstance(found, Samples) else found
        trial.check_pool(name, weights)
        if not finite(samples.x):
            raise UserError(f"{where}: select returns samples that are not finite")
        if samples.y.min() < 0 or samples.y.max() >= max(source.num_classes, 1):
            raise UserError(f"{where}: select returns labels that the data have not")
    if has("extrapolate"):

        def extrapolated(key):
            fitted = sampled_weights(treatment.family, treatment.family.init(key))
            return own.extrapolate(fitted, jax.tree.map(lambda a: 1.01 * a + 0.01, fitted))

        if not finite(jax.jit(extrapolated)(jax.random.key(0))):
            raise UserError(f"{where}: extrapolate returns numbers that are not finite")
    if has("guide"):
        fitted, tuned, x = jax.random.normal(jax.random.key(0), (3, 16, *source.shape))
        level = jnp.asarray(1, treatment.family.level_dtype)
        if not finite(jax.jit(own.guide)(fitted, tuned if own.extra_fit else None, x, level, state)):
            raise UserError(f"{where}: guide returns numbers that are not finite")


def _real_candidates(strategy: Strategy, source: Any) -> tuple[Samples, jax.Array]:
    """Candidates as `select` gets them, of the reference: each in a place of its class, as generated ones are."""
    x, y = (np.asarray(leaf) for leaf in source.reference)
    classes, count = max(source.num_classes, 1), strategy.candidates
    of_class = [own if len(own := np.flatnonzero(y == label)) else np.arange(len(y)) for label in range(classes)]
    each = max(1, min(256 // classes, min(map(len, of_class)) // count))  # different ones, where there are as many
    place = np.stack([np.resize(own, (count, each)) for own in of_class], axis=2).reshape(count, -1)
    labels = np.arange(place.shape[1], dtype=np.int32) % classes
    return Samples(jnp.asarray(decode(x[place])), jnp.asarray(labels)), jnp.ones(place.shape[1], jnp.bool)
