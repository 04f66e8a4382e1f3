"""What every feature extractor is."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Extractor:
    """A frozen map from samples to features, a pytree whose weights are inputs of the compiled program.

    Attributes:
      params: the weights.
      function: `(params, x [n, *shape]) -> float32 [n, dim]`. Traceable.
      label: name, version and hash, as in every result row: "lenet-1:0123456789ab".
    """

    params: Any
    function: Callable[[Any, jax.Array], jax.Array] = dataclasses.field(metadata={"static": True})
    label: str = dataclasses.field(metadata={"static": True})

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.function(self.params, x)
