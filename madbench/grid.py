"""From a resolved config to a job: the grid of runs, the model, the plan. Checks everything and writes nothing."""

import dataclasses
import functools
from collections.abc import Collection
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench import accounting, budget, cost, data, feasible, fleet, loops, models, strategies, treating
from madbench import config as configs
from madbench import machine as machines
from madbench.errors import UserError
from madbench.generation import Cell, Generation, Kept, Pace, Shared, Work, see
from madbench.metrics import Evaluator, Known, features, select
from madbench.metrics.features import Extractor
from madbench.runs import Run
from madbench.streaming import plan as streaming

DEFAULT_CACHE = data.DEFAULT_CACHE


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything about a run of `madbench run` that is known before it starts.

    Attributes:
      config: resolved, plain values.
      source: of real samples.
      runs: the grid: loops outer, then λ, then seeds; of a share, its own.
      family: the model family, for the plan's groups of devices.
      generation: what the fleet maps.
      plan: how runs are laid on devices.
      costs: `cost.Cost` of one run by phase, of one call: begin, fit (a segment), where a strategy fits twice refine,
        finish, evaluate.
      notes: for the user, one line each.
      feature_dim: numbers in a sample's features.
      whole: the runs of the whole grid.
      shard: (i, n) where this is share i, from 1, of n.
      machine: the devices it is planned for.
      refusal: why such a job cannot run on them, of one that is only planned; one line, or "".
      accounts: what a generation costs, by loop.
      paced: whether runs have optimizer steps of their own, by loop, fewer than the family's.
    """

    config: dict[str, Any]
    source: data.Source
    runs: list[Run]
    family: models.Family
    generation: Generation
    plan: fleet.Plan
    costs: dict[str, cost.Cost]
    notes: list[str]
    feature_dim: int
    whole: list[Run]
    shard: tuple[int, int] | None
    machine: machines.Machine
    refusal: str = ""
    accounts: dict[str, accounting.Account] = dataclasses.field(default_factory=dict)
    paced: bool = False

    @property
    def generations(self) -> int:
        return self.config["generations"]

    @cached_property
    def planned(self) -> list[dict[str, Any]]:
        """The cells of the tables, in order: each loop and λ, crossed with seeds and generations.

        With the settings that the loop's name stands for: a preset's defaults may change, what was run may not.
        """
        cells = {(r.loop.name, r.bias): r for r in self.whole}.values()
        settings = lambda loop: {k: v for k, v in dataclasses.asdict(loop).items() if k not in ("name", "bias")}
        return [{"loop": r.loop.name, "bias": r.bias, "settings": settings(r.loop)} for r in cells]

    def cells(self, runs: list[Run]) -> Cell:
        """`Cell` with arrays `[run]`."""
        of_loop = {loop: Pace(np.int32(a.steps), np.int32(a.extra_steps)) for loop, a in self.accounts.items()}
        pace = lambda run: of_loop[run.loop.name] if self.paced else ()
        each = [Cell(loops.inputs(r.loop), np.float32(r.bias), np.uint32(r.seed), pace(r)) for r in runs]
        return jax.tree.map(lambda *v: _stack(v), *each)

    def shapes(self, runs: int, *, within_fit: bool = False) -> tuple[Kept, Work | None]:
        """Shapes of the state of `runs` runs, on the host; between generations there is no `Work`."""
        kept = self.generation.blank(self.source)
        work = None
        if within_fit:
            t = jax.ShapeDtypeStruct((), np.int32)
            shared = Shared(_shapes(self.source), None, None)
            cell = jax.tree.map(lambda a: jax.ShapeDtypeStruct((), a.dtype), self.cells(self.runs[:1]))
            work = jax.eval_shape(self.generation.begin, shared, cell, kept, t)
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct((runs, *s.shape), s.dtype), (kept, work))

    def blank(self, runs: int) -> Kept:
        """The state of `runs` runs before generation 1, on the host."""
        kept = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), self.shapes(runs)[0])
        return kept._replace(alive=np.ones_like(kept.alive))

    @property
    def drifts(self) -> bool:
        """Whether samples are drawn over the true density: points on a line or a plane."""
        return _drifts(self.source)

    @property
    def calls(self) -> int:
        """Of the fit program, in one segment."""
        return self.family.steps // self.family.segments // self.plan.steps_per_call if self.plan.steps_per_call else 1

    def fit_flops(self) -> int:
        """Matrix-product FLOPs of one run's fit in one generation."""
        return self.costs["fit"].flops * self.family.segments

    def extra_fit_flops(self) -> int:
        """Of a strategy's second fit, with the samples for it."""
        return self.costs["refine"].flops if "refine" in self.costs else 0

    @property
    def strategy(self) -> dict[str, Any]:
        """The strategy as readers of results know it: name, settings, what it consumes, where it comes from."""
        treatment = self.generation.treatment
        named = {"name": self.config["strategy"], "equal_cost": self.config["equal_cost"]}
        return named | strategies.describe(None if treatment is None else treatment.strategy)

    def sample_flops(self) -> int:
        """Of its sampling; the feature network's are left out."""
        return self.costs["finish"].flops


def _shapes(tree: Any) -> Any:
    """Of each array, without touching it: a pool may lie in a file that is larger than memory."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def _stack(values: tuple) -> np.ndarray:
    array = np.asarray(values)
    return array.astype(np.int32) if array.dtype == np.int64 else array


def prepare(
    config: Any,
    *,
    cache: str = DEFAULT_CACHE,
    wave_size: int = 0,
    streamed: bool | None = None,
    shard: tuple[int, int] | None = None,
    only: Collection[tuple[str, float, int]] = (),
    spread: int = 0,
    blank: bool = False,
    on: str = "",
    source: data.Source | None = None,
) -> Job:
    """Checks a config and plans its job.

    Args:
      config: `ConfigDict` as a file under `configs/` makes it, or resolved plain values.
      cache: directory of feature networks and prepared data.
      wave_size: runs per wave where an earlier start of the same job has fixed them.
      streamed: whether training data are streamed, where an earlier start has fixed it.
      shard: (i, n) for share i, from 1, of n: every n-th run, so that shares are even and each has runs of all cells
        that can be shared. Shapes stay those of the whole grid, and so do the rows of a run.
      only: (loop, λ, seed) of these runs alone, where there are any; as for a share, shapes stay those of the whole.
      spread: generations over which a strategy pays for what it makes once; 0 for those of the config.
      blank: the job is only planned: data that are not prepared stay so, see `data.load`; weights may be missing; and
        what exceeds the memory of the devices is `Job.refusal` instead of an error.
      on: devices to plan for instead of those that are here, as `machine.parse` reads them.
      source: of real samples, where it is open already.

    Raises:
      UserError: with one line for the user, whatever is wrong; nothing has been written or trained.
    """
    plain = config if isinstance(config, dict) else configs.resolve(config)
    reuse = plain["data"]["reuse_fresh"]
    fraction = plain["fleet"]["memory_fraction"]
    machine = machines.parse(on, fraction) if on else None  # refused before anything slow
    parsed = [loops.parse(text, plain["n_initial"]) for text in plain["loops"]]
    source = open_source(plain, cache, blank=blank) if source is None else source
    metrics = select(plain["metrics"]["names"], _known(source, plain["metrics"]["features"]))
    feasible.check_reference(metrics, source)
    features.check(plain["metrics"]["features"], source.shape, source.num_classes)
    notes = feasible.same_loops(parsed) + feasible.check_real_data(parsed, source, plain["generations"], reuse)
    runs = _crossed(parsed, plain["biases"], plain["seeds"])
    feasible.check_names(runs)
    shapes = loops.dims(parsed, plain["generations"])

    given = models.Given(source.shape, source.num_classes, source.bounds, shapes.capacity)
    settings = plain["model"]
    family = models.build(given=given, **settings)
    feasible.check_family(family, plain, parsed, runs)
    notes += feasible.without_effect(given, family, settings)
    known = given if getattr(family, "knows_labels", False) else dataclasses.replace(given, num_classes=0)
    strategy = strategies.build(plain["strategy"], known)
    generation = Generation(
        family=family,
        shapes=shapes,
        finetunes=any(loop.start == "finetune" for loop in parsed),
        evaluator=Evaluator(metrics),
        n_samples=source.reference.x.shape[0],
        n_grid=plain["n_grid"] if source.bounds else 0,
        keeps_samples=_drifts(source) or plain["keep_samples"],
        features_on_host=features.on_host(plain["metrics"]["features"]),
    )
    feature_dim = features.dim(plain["metrics"]["features"], source.shape, cache, blank=blank)
    costs = _costs(generation, source, runs[0], feature_dim)
    step = costs["fit"].flops * family.segments / (family.steps or 1)
    over = spread or plain["generations"]
    count = functools.partial(accounting.accounts, source=source, loops=parsed, generations=over, step=step)
    accounts, paced = count(None, family), False
    treat = functools.partial(treating.build, strategy, n_initial=max(loop.n_initial for loop in parsed))
    if (treatment := treat(family)) is not None:
        treating.check(treatment, plain, parsed)
        before, accounts = accounts, count(treatment, family)
        if plain["equal_cost"]:
            accounts, told = budget.pay(treatment, plain, before, accounts, over)
            notes += told
        most = max(account.steps for account in accounts.values())
        paced = min(account.steps for account in accounts.values()) < (family.steps or 1)
        if paced:
            settings = settings | {"steps": _in_ten(most, family.steps)}
            family = models.build(given=given, **settings)
        generation = dataclasses.replace(generation, family=family, treatment=treat(family))
        costs = _costs(generation, source, runs[0], feature_dim, paced)
    whole, runs = runs, _chosen(_share(runs, shard), only)
    machine = machine or machines.here(fraction)
    per_run, common = _memory(generation, source, costs), cost.tree_bytes(source)
    steps = 0
    setting = plain["fleet"]["streaming"] if streamed is None else "always" if streamed else "never"
    if streaming.streams(setting, family, common + per_run, machine.memory, treating.resident(generation.treatment)):
        generation, steps = streaming.streamed(generation), streaming.steps_at_once(family, source)
        shapes = _inputs(source.without_images(), runs[0], feature_dim, paced)
        costs = streaming.costs(generation, source, shapes, costs, steps)
        per_run, common = _memory(generation, source, costs), cost.tree_bytes(source.without_images())
    lay = functools.partial(
        fleet.make_plan,
        len(runs),
        machine.devices,
        batch_size=family.batch_size,
        bytes_per_run=per_run,
        bytes_shared=common,
        wave_size=wave_size,
        convolves=costs["fit"].convolves,
        platform=machine.platform,
        streamed_steps=steps,
        use_all=machine.hosts > 1,
    )
    refusal = ""
    try:
        plan = lay(bytes_limit=machine.memory, max_runs_per_device=plain["fleet"]["max_runs_per_device"])
    except UserError as error:
        if not blank:
            raise
        refusal = str(error)
        plan = dataclasses.replace(lay(max_runs_per_device=1), bytes_limit=machine.memory)
    if plan.group_size > 1 or plan.steps_per_call:
        group = models.Group(fleet.AXIS, plan.members) if plan.group_size > 1 else models.Group()
        given = dataclasses.replace(given, group=group, steps_per_call=plan.steps_per_call)
        family = models.build(given=given, **settings)
        generation = dataclasses.replace(generation, family=family, stepwise=plan.stepwise, treatment=treat(family))
    told = (notes, feature_dim, whole, shard, machine, refusal, accounts, paced)
    return Job(plain, source, runs, family, generation, plan, costs, *told)


def _crossed(parsed: list[loops.Loop], biases: list[float], seeds: list[int]) -> list[Run]:
    """Loops outer, then λ, of those that have none of their own, then seeds."""
    of = lambda loop: biases if loop.bias is None else [loop.bias]
    return [Run(loop, bias, seed) for loop in parsed for bias in of(loop) for seed in seeds]


def _in_ten(steps: int, most: int) -> int:
    """As many steps or a few more, in ten parts, between which progress is shown; runs stop at their own number."""
    return min(-(-steps // 10) * 10, most) if steps >= 10 else steps


def _drifts(source: data.Source) -> bool:
    return source.density is not None and source.shape in ((1,), (2,))


def open_source(config: Any, cache: str, *, blank: bool = False, silent: bool = False) -> data.Source:
    """The source of a config, `ConfigDict` or resolved; what has to be prepared is, unless `blank`.

    It reports what it prepares and leaves out, unless `silent`.
    """
    plain = config if isinstance(config, dict) else configs.resolve(config)
    settings = {name: value for name, value in plain["data"].items() if name != "reuse_fresh"}
    say = {"say": lambda text: None} if silent else {}
    return data.load(**settings, cache=cache, blank=blank, **say)


def _share(runs: list[Run], shard: tuple[int, int] | None) -> list[Run]:
    if shard is None:
        return runs
    i, n = shard
    if n > len(runs):
        raise UserError(f"--shard={i}/{n}: the grid has {len(runs)} runs, and so at most as many shares")
    return runs[i - 1 :: n]


def _chosen(runs: list[Run], only: Collection[tuple[str, float, int]]) -> list[Run]:
    """Those that `only` names, in the order of the grid; all where it names none."""
    found = [run for run in runs if not only or (run.loop.name, run.bias, run.seed) in only]
    if only and len(found) != len(set(only)):
        raise UserError(f"the grid has {len(found)} of the {len(set(only))} runs that were asked for")
    return found


def _memory(generation: Generation, source: data.Source, costs: dict[str, cost.Cost]) -> int:
    """Bytes of one run."""
    return cost.tree_bytes(generation.blank(source)) + max(c.peak_bytes for c in costs.values())


def _known(source: data.Source, feature_name: str) -> Known:
    """Modes and moments are those of the samples; features other than "raw" see them elsewhere."""
    if feature_name != "raw":
        return Known(num_classes=source.num_classes, training=True)
    return Known(source.modes, source.moments, source.num_classes, training=True)


def _inputs(source: data.Source, run: Run, feature_dim: int, paced: bool = False) -> tuple[Shared, Cell, Any]:
    """(shared, cell, t) as the functions of a generation take them; the feature network is left out."""
    shape = lambda tree: jax.eval_shape(lambda: tree)
    blind = Extractor(params=(), function=lambda _, x: jnp.zeros((x.shape[0], feature_dim)), label="")
    shared = Shared(_shapes(source), blind, jax.eval_shape(blind, source.reference.x))
    pace = Pace(jnp.int32(1), jnp.int32(1)) if paced else ()
    cell = shape(Cell(jax.tree.map(jnp.asarray, loops.inputs(run.loop)), jnp.float32(1), jnp.uint32(0), pace))
    return shared, cell, jax.ShapeDtypeStruct((), jnp.int32)


def _costs(generation: Generation, source, run: Run, feature_dim: int, paced: bool = False) -> dict[str, cost.Cost]:
    """Of one run, by tracing; the feature network is not trained for it, so its own cost is left out."""
    shared, cell, t = _inputs(source, run, feature_dim, paced)
    kept: Kept = generation.blank(source)
    work: Work = jax.eval_shape(generation.begin, shared, cell, kept, t)
    more = {}
    if generation.refines:
        more["refine"] = cost.estimate(generation.refine, shared, cell, (kept, work), t)
        fitted = jax.eval_shape(generation.refine, shared, cell, (kept, work), t)
    else:
        fitted = work
    seen = jax.eval_shape(generation.finish, shared, cell, (kept, fitted), t)[1]["seen"]
    seen = see(seen, lambda x: jax.ShapeDtypeStruct((x.shape[0], feature_dim), jnp.float32))
    found = {
        "begin": cost.estimate(generation.begin, shared, cell, kept, t),
        "fit": cost.estimate(generation.fit, shared, cell, (kept, work), t),
        **more,
        "finish": cost.estimate(generation.finish, shared, cell, (kept, fitted), t),
    }
    with jax.enable_x64(True):
        found["evaluate"] = cost.estimate(generation.evaluate, shared, cell, seen, t)
    return found
