"""A verifier: a small classifier of the real samples, with two hidden layers, trained once for a run.

It sees samples as vectors, so that any data will do, and it is matrix products alone: a fleet of runs trains a fleet of
verifiers in one program. Its parameters and its training are counted (`accounting`).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from madbench.samples import Samples

STEPS, BATCH, RATE, DECAY = 300, 128, 3e-3, 1e-2  # AdamW, its rate a cosine to 0


class Classifier(nn.Module):
    """`x [n, *shape] -> logits [n, classes]`."""

    classes: int
    width: int = 128

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = x.reshape(x.shape[0], -1)
        for _ in range(2):
            h = nn.relu(nn.Dense(self.width)(h))
        return nn.Dense(self.classes)(h)


def train(net: Classifier, key: jax.Array, real: Samples, member: jax.Array) -> Any:
    """Weights after `STEPS` steps on cross-entropy, batches drawn uniformly among the members.

    Args:
      net: the classifier.
      key: of weights and batches.
      real: x float32 `[n, *shape]`, y int32 `[n]`.
      member: bool `[n]`, members first.
    """
    begin_key, batch_key = jax.random.split(key)
    params = net.init(begin_key, real.x[:1])["params"]
    optimizer = optax.adamw(optax.cosine_decay_schedule(RATE, STEPS), weight_decay=DECAY)
    size = jnp.sum(member)

    def loss(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(net.apply({"params": params}, x), y).mean()

    def step(carry, i):
        params, moments = carry
        index = jax.random.randint(jax.random.fold_in(batch_key, i), (BATCH,), 0, size)
        update, moments = optimizer.update(jax.grad(loss)(params, real.x[index], real.y[index]), moments, params)
        return (optax.apply_updates(params, update), moments), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(STEPS))
    return params


def log_confidence(net: Classifier, params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """log p(y | x) for `x [m, n, *shape]`, `y [n]`: float32 `[m, n]`."""
    logits = net.apply({"params": params}, x.reshape(-1, *x.shape[2:])).reshape(*x.shape[:2], -1)
    return jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.broadcast_to(y, x.shape[:2])[..., None], axis=-1)[..., 0]
