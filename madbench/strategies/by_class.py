"""Selection within each class: pools hold equal numbers of every label, whatever is selected.

Without a strategy the label of place i is i modulo the number of classes, so the places of a class are known before
anything is traced, and so is which of a class's candidates, in any order, goes to which place.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from madbench.samples import Samples


def best(candidates: Samples, score: jax.Array, member: jax.Array, classes: int) -> Samples:
    """The candidates with the highest scores, of each class as many as it has places.

    Args:
      candidates: as in `Strategy.select`.
      score: float32 `[candidates, n]`.
      member: bool `[n]`; candidates for other places are taken for those places alone.
      classes: of the data; 0 where there are none.
    """
    return chosen(candidates, lambda order_of: _ranked(score, member, order_of), classes)


def _ranked(score: jax.Array, member: jax.Array, places: np.ndarray) -> jax.Array:
    """Of the candidates of one class, at `places` (int32 `[m]`), the `m` best: indices into `[candidates * m]`."""
    own = jnp.where(member[places], score[:, places], -jnp.inf)
    return jnp.argsort(-own.ravel(), stable=True)[: len(places)]


def chosen(candidates: Samples, choose: Callable[[np.ndarray], jax.Array], classes: int) -> Samples:
    """The samples that `choose` picks, class by class.

    Args:
      candidates: as in `Strategy.select`.
      choose: places of a class, int32 `[m]`, to indices `[m]` into its candidates, `[candidates, m]` flattened.
      classes: of the data; 0 where there are none.
    """
    n, x = candidates.y.shape[0], candidates.x
    out = candidates.x[0]
    for label in range(min(max(classes, 1), n)):
        places = np.arange(label, n, max(classes, 1))
        own = x[:, places].reshape(-1, *x.shape[2:])
        out = out.at[places].set(own[choose(places)])
    return Samples(out, candidates.y)
