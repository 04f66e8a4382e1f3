"""Selection within each class: pools hold equal numbers of every label, whatever is selected.

Without a strategy the label of place i is i modulo the number of classes, so the places of a class are known before
anything is traced, and so is which of a class's candidates, in any order, goes to which place.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from madbench.samples import Samples


def best(candidates: Samples, score: jax.Array, member: jax.Array, classes: int) -> Samples:
    """The candidates with the highest scores, of each class as many as it has places.

    Args:
      candidates: as in `Strategy.select`.
      score: float32 `[candidates, n]`.
      member: bool `[n]`; candidates for other places are taken for those places alone.
      classes: of the data; 0 where there are none.
    """
    return chosen(candidates, lambda places: _ranked(score[:, places], member[places]), member, classes)


def _ranked(score: jax.Array, member: jax.Array) -> jax.Array:
    """Of the candidates of one class with scores `[candidates, m]`, the `m` best: indices into `[candidates * m]`."""
    own = jnp.where(member, score, -jnp.inf)
    return jnp.argsort(-own.ravel(), stable=True)[: member.shape[0]]


def chosen(candidates: Samples, choose: Callable[[slice], jax.Array], member: jax.Array, classes: int) -> Samples:
    """The samples that `choose` picks, class by class, in the order in which they were drawn.

    A pool is read like a stream (`loops.compose`), a part of it at a time: were it sorted by what was chosen for, the
    first training set would get the best, and the next one the rest.

    Args:
      candidates: as in `Strategy.select`.
      choose: the m places of a class, a slice, to indices `[m]` into its candidates, `[candidates, m]` flattened; for
        the run's own places first.
      member: as in `Strategy.select`.
      classes: of the data; 0 where there are none.
    """
    n, x = candidates.y.shape[0], candidates.x
    out = candidates.x[0]
    for label in range(min(max(classes, 1), n)):
        places = slice(label, None, max(classes, 1))
        own = x[:, places].reshape(-1, *x.shape[2:])
        index, count = choose(places), member[places].sum()
        is_own = jnp.arange(index.shape[0]) < count
        index = index[jnp.argsort(jnp.where(is_own, index, index + own.shape[0]), stable=True)]
        out = out.at[places].set(own[index])
    return Samples(out, candidates.y)
