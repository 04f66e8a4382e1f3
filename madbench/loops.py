"""What each generation eats: the loop specification, its presets, and the composition of a training set.

A loop is data (PROTOCOL, section 2): a handful of numbers that enter the compiled program as inputs. A training set is
composed inside that program as a table of *addresses* with one static length for the whole grid, so every loop of the
literature is the same program.

An address names one sample:
  `p >= 0`   the real sample at position p of the run's stream of real samples. Initial samples are positions
             0 .. n_initial-1; fresh ones follow and are never met twice.
  `p < 0`    row `-1 - p` of the synthetic memory, a ring of generations: row = slot * rows_per_slot + sample.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from madbench.calls import canonical, read_call
from madbench.errors import UserError
from madbench.samples import Samples

ALL = "all"
STARTS = ("scratch", "finetune")
_NO_LIMIT = 2**31 - 1  # of int32, as the program takes it
_LARGEST = 10**9
_SMALLEST_BIAS = 1e-37  # float32 cannot divide by less


@dataclasses.dataclass(frozen=True)
class Loop:
    """One autophagous loop. Field meanings as in PROTOCOL, section 2.

    Attributes:
      name: how the loop is written in a config and in the tables.
      n_initial: real samples of generation 1, which never sees synthetic data.
      n_fixed: how many of those stay in every later training set.
      n_fresh: new real samples, never used before, in each later training set.
      n_synthetic: synthetic samples in each later training set; where the pool accumulates, from each remembered
        generation.
      memory: from how many previous generations the synthetic samples come, or `"all"`.
      accumulate: False: `n_synthetic` in all, spread evenly over the memory; True: from each remembered generation.
      budget: None, or the size to which the union is subsampled uniformly in each generation.
      bias: λ where the loop fixes it, None where the config's `biases` apply.
      start: `"scratch"`, or `"finetune"` from the previous generation's weights.
    """

    name: str
    n_initial: int
    n_fixed: int = 0
    n_fresh: int = 0
    n_synthetic: int = 0
    memory: int | str = 1
    accumulate: bool = False
    budget: int | None = None
    bias: float | None = None
    start: str = "scratch"

    def __post_init__(self):
        for field in ("n_initial", "n_fixed", "n_fresh", "n_synthetic"):
            value = getattr(self, field)
            if type(value) is not int or not 0 <= value <= _LARGEST:
                raise UserError(f"loop {self.name}: {field} must be a whole number from 0 to 10^9, not {value!r}")
        if self.n_initial == 0:
            raise UserError(f"loop {self.name}: generation 1 has no data; set n_initial")
        if self.n_fixed > self.n_initial:
            raise UserError(
                f"loop {self.name}: n_fixed={self.n_fixed} samples cannot stay of n_initial={self.n_initial}"
            )
        if self.n_fixed + self.n_fresh + self.n_synthetic == 0:
            raise UserError(f"loop {self.name}: generations after the first have no data at all")
        if self.memory != ALL and (type(self.memory) is not int or not 1 <= self.memory <= _LARGEST):
            raise UserError(f'loop {self.name}: memory must be a whole number of at least 1, or "all"')
        if type(self.accumulate) is not bool:
            raise UserError(f"loop {self.name}: accumulate must be True or False, not {self.accumulate!r}")
        if self.budget is not None and (type(self.budget) is not int or not 1 <= self.budget <= _LARGEST):
            raise UserError(f"loop {self.name}: budget must be None or a whole number of at least 1")
        if self.bias is not None:
            check_bias(self.bias, f"loop {self.name}: ")
        if self.start not in STARTS:
            raise UserError(f"loop {self.name}: start must be one of {', '.join(STARTS)}, not {self.start!r}")

    def remembered(self, generation: int) -> int:
        """How many previous generations feed `generation`."""
        before = generation - 1
        return before if self.memory == ALL else min(self.memory, before)

    def union(self, generation: int) -> tuple[int, int]:
        """Real and synthetic samples of `generation` before any budget."""
        if generation == 1:
            return self.n_initial, 0
        n_synthetic = self.n_synthetic * (self.remembered(generation) if self.accumulate else 1)
        return self.n_fixed + self.n_fresh, n_synthetic

    def size(self, generation: int) -> int:
        """Samples in the training set of `generation`."""
        return min(sum(self.union(generation)), self.budget or _NO_LIMIT)

    def real_needed(self, generations: int) -> int:
        """Different real samples that the loop meets in `generations` generations."""
        return self.n_initial + (generations - 1) * self.n_fresh


def check_bias(bias: float, where: str = "") -> None:
    """Raises UserError unless λ lies in (0, 1]."""
    if isinstance(bias, bool) or not isinstance(bias, (int, float)) or not _SMALLEST_BIAS <= bias <= 1:
        raise UserError(f"{where}the sampling bias λ must lie in (0, 1], not {bias!r}")


# name -> (n_initial, settings) -> fields. Sources: arXiv 2307.01850 (the paper), 2404.01413, 2410.16713, 2310.00429.
PRESETS = {
    # The paper, section 3.
    "fully_synthetic": lambda n: {"n_synthetic": n},
    # The paper, section 4; with accumulate=True as for FFHQ, n_s = (t-1) n.
    "synthetic_augmentation": lambda n: {"n_fixed": n, "n_synthetic": n},
    # The paper, section 5; n_initial may differ from n_fresh.
    "fresh_data": lambda n: {"n_fresh": n, "n_synthetic": n},
    # The paper, appendix: synthetic samples from the K previous models.
    "memory_k": lambda n: {"n_synthetic": n, "memory": 5},
    # Gerstgrasser et al. 2024, Kazdan et al. 2024.
    "replace": lambda n: {"n_synthetic": n},
    "accumulate": lambda n: {"n_fixed": n, "n_synthetic": n, "accumulate": True},
    "accumulate_subsample": lambda n: {"n_fixed": n, "n_synthetic": n, "accumulate": True, "budget": n},
    # Bertrand et al. 2023: n_synthetic = ratio * n_fixed, each model fine-tuned from the one before.
    "fixed_ratio": lambda n: {"n_fixed": n, "start": "finetune"},
}
_SETTINGS = tuple(f.name for f in dataclasses.fields(Loop) if f.name != "name")


def parse(text: str, n_initial: int) -> Loop:
    """Reads `"fresh_data(n_fresh=100)"`: a preset's name, with settings where wanted.

    Settings are the fields of `Loop`; `fixed_ratio` also takes `ratio`. Where `accumulate` is set and `memory` is not,
    all generations are remembered.

    Args:
      text: the loop as written in `config.loops`.
      n_initial: `config.n_initial`, from which a preset's sizes follow unless the text sets its own.

    Raises:
      UserError: with one line that says what is wrong and what would be right.
    """
    name, settings = _read_call(text)
    if name not in PRESETS:
        raise UserError(f"unknown loop {name!r}; choose from {', '.join(PRESETS)}")
    name_of_loop = canonical(text)
    ratio = settings.pop("ratio", None) if name == "fixed_ratio" else None
    unknown = [key for key in settings if key not in _SETTINGS]
    if unknown:
        raise UserError(f"loop {name_of_loop}: unknown setting {unknown[0]!r}; choose from {', '.join(_SETTINGS)}")
    n_initial = settings.setdefault("n_initial", n_initial)
    fields: dict[str, Any] = PRESETS[name](n_initial) | settings
    if name == "fixed_ratio":
        if ratio is not None and "n_synthetic" in settings:
            raise UserError(f"loop {name_of_loop}: ratio and n_synthetic say the same thing; set one of them")
        ratio = 1 if ratio is None else ratio
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio <= _LARGEST:
            raise UserError(f"loop {name_of_loop}: ratio must be a number of at least 0, not {ratio!r}")
        if type(fields["n_fixed"]) is int:
            fields.setdefault("n_synthetic", round(ratio * fields["n_fixed"]))
    if fields.get("accumulate"):
        fields.setdefault("memory", ALL)
    return Loop(name=name_of_loop, **fields)


def _read_call(text: str) -> tuple[str, dict[str, Any]]:
    hint = 'write a preset, with settings where wanted: "fresh_data(n_fresh=100)"'
    if not isinstance(text, str):
        raise UserError(f"loop {text!r} is not a name; {hint}")
    try:
        name, settings = read_call(text)
    except ValueError:
        raise UserError(f"cannot read loop {text!r}; {hint}") from None
    if not name.isidentifier():
        raise UserError(f"cannot read loop {text!r}; {hint}")
    return name, settings


class LoopInputs(NamedTuple):
    """A loop as the compiled program takes it: int32 scalars, and booleans for `accumulate` and `finetune`."""

    n_initial: Any
    n_fixed: Any
    n_fresh: Any
    n_synthetic: Any
    memory: Any
    accumulate: Any
    budget: Any
    finetune: Any


def inputs(loop: Loop) -> LoopInputs:
    """The numbers of `loop`, with "all" and "none" as the largest int32."""
    return LoopInputs(
        n_initial=loop.n_initial,
        n_fixed=loop.n_fixed,
        n_fresh=loop.n_fresh,
        n_synthetic=loop.n_synthetic,
        memory=_NO_LIMIT if loop.memory == ALL else loop.memory,
        accumulate=loop.accumulate,
        budget=loop.budget or _NO_LIMIT,
        finetune=loop.start == "finetune",
    )


@dataclasses.dataclass(frozen=True)
class Dims:
    """The static shapes that serve every loop of a grid.

    Attributes:
      generations: T.
      union: largest union of real and synthetic samples, before budgets.
      capacity: largest training set, after budgets.
      slots: generations that the synthetic memory holds.
      rows: synthetic samples per slot.
      budgets: whether any loop has a budget; without one, nothing is shuffled.
    """

    generations: int
    union: int
    capacity: int
    slots: int
    rows: int
    budgets: bool


def dims(loops: list[Loop], generations: int) -> Dims:
    """The smallest shapes into which every training set of `loops` fits."""
    times = range(1, generations + 1)
    return Dims(
        generations=generations,
        union=max(sum(loop.union(t)) for loop in loops for t in times),
        capacity=max(loop.size(t) for loop in loops for t in times),
        slots=max(1, *(loop.remembered(generations) if loop.n_synthetic else 0 for loop in loops)),
        rows=max(1, *(loop.n_synthetic for loop in loops)),
        budgets=any(loop.budget for loop in loops),
    )


def compose(loop: LoopInputs, t: jax.Array, key: jax.Array, shapes: Dims) -> tuple[jax.Array, jax.Array]:
    """The training set of generation `t` as addresses. Traceable.

    Where synthetic samples are spread over a memory of m generations, each gives every m-th of them, and each
    generation's stored samples are consumed like a stream: what one training set took, the next continues after, and
    starts over only when all were used. In a full memory that equals drawing anew from each remembered model.

    Args:
      loop: the loop's numbers.
      t: int32 scalar, the generation, from 1.
      key: for the budget's uniform subsample, without replacement.
      shapes: the grid's static shapes.

    Returns:
      (address int32 `[capacity]`, size int32 scalar): entries from `size` on are not part of the set.
    """
    n_real_first = jnp.where(t == 1, loop.n_initial, loop.n_fixed)
    n_fresh = jnp.where(t == 1, 0, loop.n_fresh)
    n_real = n_real_first + n_fresh
    remembered = jnp.minimum(loop.memory, t - 1)
    n_synthetic = jnp.where(remembered > 0, loop.n_synthetic * jnp.where(loop.accumulate, remembered, 1), 0)
    total = n_real + n_synthetic
    size = jnp.minimum(total, loop.budget)

    member = jnp.arange(shapes.union, dtype=jnp.int32)
    if shapes.budgets:
        score = jnp.where(member < total, jax.random.uniform(key, (shapes.union,)), jnp.inf)
        member = jnp.where(total > loop.budget, jnp.argsort(score).astype(jnp.int32), member)
    member = member[: shapes.capacity]

    position = jnp.where(member < n_real_first, member, loop.n_initial + (t - 2) * n_fresh + member - n_real_first)

    rank = jnp.maximum(member - n_real, 0)
    per_generation = jnp.maximum(loop.n_synthetic, 1)
    spread = jnp.maximum(remembered, 1)
    age = jnp.where(loop.accumulate, rank // per_generation, rank % spread)  # 0: the previous generation
    taken = _taken(loop, t, shapes)[jnp.minimum(age, shapes.slots - 1)]
    row = jnp.where(loop.accumulate, rank, taken + rank // spread) % per_generation
    slot = (t - 2 - age) % shapes.slots
    address = jnp.where(member < n_real, position, -1 - (slot * shapes.rows + row))
    return address.astype(jnp.int32), size.astype(jnp.int32)


def _taken(loop: LoopInputs, t: jax.Array, shapes: Dims) -> jax.Array:
    """What earlier training sets took from the generation of each age at `t`, int32 `[slots]`."""
    age = jnp.arange(shapes.slots, dtype=jnp.int32)

    def add(j, total):  # it had age j in training set t - age + j
        spread = jnp.clip(t - age + j - 1, 1, loop.memory)
        share = -(-jnp.maximum(loop.n_synthetic - j, 0) // spread)
        return total + jnp.where(j < age, share, 0)

    return jax.lax.fori_loop(0, shapes.slots - 1, add, jnp.zeros_like(age))


def remember(memory: Samples, new: Samples, t: jax.Array) -> Samples:
    """Writes generation `t`'s synthetic samples into its slot.

    Args:
      memory: `x [slots, rows, *shape]`, `y [slots, rows]`.
      new: at least `rows` samples; the first `rows` are kept.
      t: int32 scalar, the generation, from 1.
    """
    slots, rows = memory.y.shape
    slot = (t - 1) % slots
    return jax.tree.map(lambda m, n: m.at[slot].set(n[:rows].astype(m.dtype)), memory, new)
