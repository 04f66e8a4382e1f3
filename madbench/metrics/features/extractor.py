"""What every feature extractor is."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from madbench.samples import decode


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
        return self.function(self.params, decode(x))

    def extract(self, x: np.ndarray, most: int = 4096) -> np.ndarray:
        """Features `[n, dim]` of `x [n, *shape]`, n > 0, both on the host; at most `most` samples in one call.

        Images may be uint8, as they are stored: the device decodes them.
        """
        size = min(self.batch or most, len(x))
        return self.extract_parts((x[i : i + size] for i in range(0, len(x), size)), size)

    def extract_parts(self, parts: Iterable[np.ndarray], size: int) -> np.ndarray:
        """Features of samples that come in parts of at most `size`: one program, all local devices take turns."""
        devices = jax.local_devices()
        params = [jax.device_put(self.params, device) for device in devices]
        found: list[np.ndarray] = []
        under_way: collections.deque = collections.deque()
        for i, part in enumerate(parts):
            padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
            k = i % len(devices)
            under_way.append((len(part), _call(self.function, params[k], jax.device_put(padded, devices[k]))))
            if len(under_way) > len(devices):
                n, features = under_way.popleft()
                found.append(np.asarray(features)[:n])
        found += [np.asarray(features)[:n] for n, features in under_way]
        return np.concatenate(found)


@functools.partial(jax.jit, static_argnums=0)
def _call(function: Callable, params: Any, x: jax.Array) -> jax.Array:
    return function(params, decode(x))
