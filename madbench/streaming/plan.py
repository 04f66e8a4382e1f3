"""Whether a job's data are streamed, how many steps' batches go to the device at once, and what that costs."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from madbench import cost
from madbench.errors import UserError
from madbench.generation import Generation
from madbench.samples import Samples
from madbench.streaming.programs import Batches, StreamedGeneration

AT_ONCE = 2**26  # bytes of one run's batches that go to the device in one call
MOST_STEPS = 32  # of one call


def streams(setting: str, family: Any, needed: int, limit: int, resident: str = "") -> bool:
    """Whether to stream.

    Args:
      setting: `config.fleet.streaming`.
      family: the model family.
      needed: bytes of one run with all its data on the device.
      limit: bytes of a device, 0 where unknown.
      resident: what needs all data on the device; "" where nothing does.

    Raises:
      UserError: streaming is asked for, and the family reads whole training sets; one line.
    """
    if setting == "always" and not family.steps:
        raise UserError(
            "config.fleet.streaming='always' needs a model that learns from minibatches; this one reads its whole "
            "training set at once"
        )
    if setting == "always" and resident:
        raise UserError(f"config.fleet.streaming='always' does not go with {resident}, which needs all data at hand")
    if resident:
        return False
    return setting == "always" or (setting == "auto" and bool(family.steps) and 0 < limit < needed)


def steps_at_once(family: Any, source: Any) -> int:
    """Steps of one call: a divisor of a segment's."""
    segment = family.steps // family.segments
    one = math.prod(source.shape) * source.stored.itemsize * family.batches * family.batch_size
    most = max(1, min(MOST_STEPS, AT_ONCE // one))
    return next(n for n in range(min(most, segment), 0, -1) if segment % n == 0)


def batches(family: Any, source: Any, steps: int) -> Batches:
    """Shapes of what one run reads in `steps` steps."""
    size = (steps, family.batches * family.batch_size)
    x = jax.ShapeDtypeStruct((*size, *source.shape), source.stored)
    whole = jax.ShapeDtypeStruct(size, jnp.int32)
    return Batches(Samples(x, whole), whole)


def streamed(generation: Generation) -> StreamedGeneration:
    """The same generation, in pieces; features are taken by the host."""
    fields = {name: getattr(generation, name) for name in generation.__dataclass_fields__}
    return StreamedGeneration(**fields | {"features_on_host": True})


def costs(
    generation: StreamedGeneration, source: Any, shapes: tuple, resident: dict[str, cost.Cost], steps: int
) -> dict[str, cost.Cost]:
    """As those of the `resident` job by phase, with the memory of a streamed one.

    Args:
      generation: whose functions are called.
      source: of real samples.
      shapes: (shared, cell, t) as the functions take them.
      resident: costs with all data on the device; the operations are the same.
      steps: whose batches go to the device at once; one call's are in use while the next one's arrive.
    """
    shared, cell, t = shapes
    kept = generation.blank(source)
    work = jax.eval_shape(generation.begin, shared, cell, kept, t)
    rows = batches(generation.family, source, steps)
    number, flag = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.bool)
    pieces = {
        "begin": [(generation.begin, kept)],
        "fit": [(generation.addresses, work), (generation.fit, (work, rows))],
        "finish": [(generation.sample, (work, number)), (generation.close, (kept, work, flag))],
    }
    more = {"fit": cost.tree_bytes(rows)}
    found = dict(resident)
    for phase, functions in pieces.items():
        peak = max(cost.estimate(function, shared, cell, carry, t).peak_bytes for function, carry in functions)
        found[phase] = resident[phase]._replace(peak_bytes=peak + more.get(phase, 0))
    return found
