"""A filter: of more samples than are needed, those enter the pool that a verifier likes best.

Source: Feng et al. 2024, "Beyond Model Collapse: Scaling Up with Synthesized Data Requires Verification",
arXiv 2406.07515: synthetic samples are pruned by a verifier before a model is trained on them, and the model keeps its
performance where the verifier tells good samples from bad ones well enough, even if it could not make them.

Setting: the paper prunes (its section 4) labels and texts of language models and labels of Gaussian mixtures; here
images are pruned, the share 1/`candidates` of each class that has the highest score by one of

  confidence   log p(label | sample) of a classifier of the real samples of generation 1, trained once for a run;
  distance     minus the distance to the nearest real sample of generation 1, of the same class where there are classes.

Both read real samples (the paper's oracle knows the truth; its weaker verifiers are models), which is counted.
"""

import dataclasses

import jax
import jax.numpy as jnp

from madbench.checks import check_whole
from madbench.errors import UserError
from madbench.samples import Samples
from madbench.strategies import by_class
from madbench.strategies.classifier import Classifier, log_confidence, train
from madbench.strategies.distances import squared_distances
from madbench.strategies.strategy import Strategy

_KINDS = ("confidence", "distance")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verifier(Strategy):
    """The best of each class.

    Attributes:
      by: "confidence" or "distance".
      candidates: drawn for each sample that passes.
    """

    by: str = "confidence"
    candidates: int = 4

    reads_real = True
    cite = "Feng et al. 2024, arXiv 2406.07515"

    def __post_init__(self):
        check_whole("verifier", 1, candidates=self.candidates)
        if self.by not in _KINDS:
            raise UserError(f"verifier.by must be one of {', '.join(_KINDS)}, not {self.by!r}")

    @property
    def needs_labels(self):
        return self.by == "confidence"

    def init(self, key, real, member):
        if self.by == "distance":
            return real, member
        return train(self._net, key, real, member)

    def select(self, key, candidates, member, state):
        if self.by == "confidence":
            score = log_confidence(self._net, state, candidates.x, candidates.y)
        else:
            score = jax.lax.map(lambda x: self._nearness(Samples(x, candidates.y), *state), candidates.x)
        return by_class.best(candidates, score, member, self.given.num_classes)

    @property
    def _net(self) -> Classifier:
        return Classifier(self.given.num_classes)

    def _nearness(self, samples: Samples, real: Samples, known: jax.Array) -> jax.Array:
        """Minus the squared distance of each of `samples [n]` to the nearest real one of its class."""
        allowed = known & (samples.y[:, None] == real.y if self.given.num_classes else True)
        return -jnp.where(allowed, squared_distances(samples.x, real.x), jnp.inf).min(axis=1)
