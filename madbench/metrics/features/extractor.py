"""What every feature extractor is."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Extractor:
    """A frozen map from samples to features, a pytree whose weights are inputs of the compiled program.

    Attributes:
      params: the weights.
      function: `(params, x [n, *shape]) -> float32 [n, dim]`. Traceable.
      label: name, version and hash, as in every result row: "lenet-1:0123456789ab".
      batch: samples that large networks take in one call, for memory's sake; 0 where any number will do.
    """

    params: Any
    function: Callable[[Any, jax.Array], jax.Array] = dataclasses.field(metadata={"static": True})
    label: str = dataclasses.field(metadata={"static": True})
    batch: int = dataclasses.field(default=0, metadata={"static": True})

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.function(self.params, x)

    def extract(self, x: np.ndarray) -> np.ndarray:
        """Features `[n, dim]` of `x [n, *shape]`, both on the host: one program, called for `batch` at a time."""
        batch = min(self.batch or len(x), len(x))
        params = jax.device_put(self.params)
        found = []
        for start in range(0, len(x), batch):
            part = np.asarray(x[start : start + batch])
            padded = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
            found.append(np.asarray(_call(self.function, params, jnp.asarray(padded)))[: len(part)])
        return np.concatenate(found)


@functools.partial(jax.jit, static_argnums=0)
def _call(function: Callable, params: Any, x: jax.Array) -> jax.Array:
    return function(params, x)
