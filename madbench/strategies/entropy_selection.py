"""Selection for entropy: the samples that lie farthest from one another enter the pool.

Source: Shi et al. 2025, "A Closer Look at Model Collapse: From a Generalization-to-Memorization Perspective",
arXiv 2509.16499: training sets lose entropy from generation to generation, and with it models begin to memorize. The
entropy of a set is estimated by the distances of its points to their nearest neighbours (Kozachenko and Leonenko), and
kept up by greedy selection: the point that is farthest from all that are selected is selected next.

Setting: the paper selects in a space of features, from everything that earlier generations left, real and synthetic;
here each generation's candidates are selected from, within each class, by the distance between the samples themselves.
"""

import dataclasses

import jax
import jax.numpy as jnp

from madbench.checks import check_whole
from madbench.strategies import by_class
from madbench.strategies.strategy import Strategy


@dataclasses.dataclass(frozen=True, kw_only=True)
class EntropySelection(Strategy):
    """Greedy selection of the farthest.

    Attributes:
      candidates: drawn for each sample that is selected.
    """

    candidates: int = 2

    cite = "Shi et al. 2025, arXiv 2509.16499"

    def __post_init__(self):
        check_whole("entropy_selection", 2, candidates=self.candidates)

    def select(self, key, candidates, member, state):
        def choose(places):
            own, known = candidates.x[:, places], member[places]
            n = known.shape[0]
            known = jnp.broadcast_to(known, (self.candidates, n)).ravel()
            return farthest(own.reshape(self.candidates * n, -1), known, n)

        return by_class.chosen(candidates, choose, member, self.given.num_classes)


def farthest(x: jax.Array, member: jax.Array, k: int) -> jax.Array:
    """Indices int32 `[k]` of points that are chosen one after the other, each the farthest from those before.

    The first is the first point; of points at the same distance the first. Beyond the members, others follow.

    Args:
      x: float32 `[n, d]`, n at least k.
      member: bool `[n]`.
      k: how many.
    """

    def choose(carry, _):
        distance, last = carry
        distance = jnp.minimum(distance, jnp.sum((x - x[last]) ** 2, axis=1)).at[last].set(-jnp.inf)
        following = jnp.argmax(jnp.where(member, distance, jnp.where(distance < 0, -jnp.inf, -1.0)))
        return (distance, following), last

    start = (jnp.full(x.shape[0], jnp.inf), jnp.int32(0))
    _, chosen = jax.lax.scan(choose, start, length=k)
    return chosen
