"""Curation: of K samples people choose one, by a reward, and what they chose is what the next model learns from.

Source: Ferbach et al. 2024, "Self-Consuming Generative Models with Curated Data Provably Optimize Human Preferences",
arXiv 2407.09499, section 2.1: among x_1 … x_K the chosen one is x_k with the probability exp r(x_k) / Σ_j exp r(x_j)
(Bradley and Terry). Its density is p(x) H(x) with

  H(x) = E[K exp r(x) / (exp r(x) + Σ_{j<K} exp r(x_j))],    H -> exp r(x) / E exp r  for K -> ∞    (lemma 2.1, 2.2):

in a fully synthetic loop the expected exp r rises and its variance falls to 0, and real data hold both (section 2).

Rewards:
  confidence   `scale` times log p(label | sample) of a classifier of the real samples of generation 1 (the paper's
               CIFAR-10 experiment rewards by a classifier too);
  quadratic    -`scale` ‖x‖²/2, for which everything is known of a Gaussian: with K -> ∞, N(0, σ²) becomes
               N(0, σ²/(1 + `scale` σ²)).
"""

import dataclasses

import jax
import jax.numpy as jnp

from madbench.checks import check_number, check_whole
from madbench.errors import UserError
from madbench.samples import Samples
from madbench.strategies.classifier import Classifier, log_confidence, train
from madbench.strategies.strategy import Strategy

_REWARDS = ("confidence", "quadratic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class KChoice(Strategy):
    """One of K by its reward.

    Attributes:
      candidates: K.
      reward: "confidence" or "quadratic".
      scale: of the reward.
    """

    candidates: int = 4
    reward: str = "confidence"
    scale: float = 1.0

    cite = "Ferbach et al. 2024, arXiv 2407.09499"

    def __post_init__(self):
        check_whole("k_choice", 1, candidates=self.candidates)
        check_number("k_choice", self.scale, "scale", least=0)
        if self.reward not in _REWARDS:
            raise UserError(f"k_choice.reward must be one of {', '.join(_REWARDS)}, not {self.reward!r}")

    @property
    def reads_real(self):
        return self.reward == "confidence"

    @property
    def needs_labels(self):
        return self.reward == "confidence"

    def init(self, key, real, member):
        return train(self._net, key, real, member) if self.reads_real else ()

    def select(self, key, candidates, member, state):
        n = candidates.y.shape[0]
        if self.reward == "confidence":
            reward = self.scale * log_confidence(self._net, state, candidates.x, candidates.y)
        else:
            reward = -self.scale / 2 * jnp.sum(candidates.x.reshape(self.candidates, n, -1) ** 2, axis=2)
        # the largest of r plus Gumbel noise is a draw with the probabilities of Bradley and Terry; noise by place
        noise = jax.random.gumbel(key, (n, self.candidates)).T
        chosen = jnp.argmax(reward + noise, axis=0)
        return Samples(candidates.x[chosen, jnp.arange(n)], candidates.y)

    @property
    def _net(self) -> Classifier:
        return Classifier(self.given.num_classes)
