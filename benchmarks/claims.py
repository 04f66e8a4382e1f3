"""What the papers say of their strategies, tried on the runs of `benchmarks/strategies.py`, which calls this at its
end.

A claim is a contrast: a strategy less none, or less the control `random_subsample`, which draws as many candidates
and takes one blindly; of a metric, in some generations, over some loops, at each λ by itself: papers sample without
bias, as λ = 1 does, and a smaller λ has lost diversity already. The signs were written down before the runs of the
reported seeds were made, all but the golden ratio's; that λ are told apart, after the first verifier's were seen,
which helps at one and harms at the other. A seed is the independent unit: its differences are averaged over loops
first; then come Student's t interval, the two-sided paired t-test, and Holm's correction over all claims and λ of a
family of models and a budget. A claim *holds* where the corrected test finds the sign that the paper says, and is
*contradicted* where it finds the other; else it is *open*: the runs do not tell.

Papers give every method a training of its own, so that a claim is tried with all optimizer steps first. At equal cost
the question is another one: whether the method is worth its price.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from madbench import grid, results, verdict
from madbench.report import comparison
from madbench.report.text import probability
from madbench.results import MetricInfo
from madbench.samples import Samples
from madbench.strategies import classifier

FULLY, AUGMENTED, FRESH = LOOPS = ("fully_synthetic", "synthetic_augmentation", "fresh_data")
WITH_REAL = (AUGMENTED, FRESH)
FIRST, MEAN, LAST = "first", "mean", "last"  # generation 1; the mean over generations 2 to T; T
CONTROL = "random_subsample"
REWARD_SCALE = 4.0  # that of K-choice in `benchmarks/strategies.CHOSEN`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A contrast with the sign that a paper says.

    Attributes:
      paper: its arXiv number.
      says: what it claims, as far as it can be tried here.
      strategy, against: names in `benchmarks/strategies.CHOSEN`, or "none".
      metric: "fd", "precision", "recall", "pool_memorization" or "reward".
      sign: of strategy less `against` if the claim is true; of the logarithm of FD.
      when: `FIRST`, `MEAN` or `LAST`.
      loops: over which differences are averaged.
      less: loops over which the same is taken, and subtracted.
    """

    paper: str
    says: str
    strategy: str
    against: str
    metric: str
    sign: int
    when: str = MEAN
    loops: Sequence[str] = LOOPS
    less: Sequence[str] = ()


def _claims(paper: str, strategy: str, *claims: dict[str, Any]) -> list[Claim]:
    return [Claim(paper=paper, strategy=strategy, **claim) for claim in claims]


CLAIMS = [
    *_claims(
        "2406.07515", "verifier",
        {"says": "what a classifier verifies makes better models than what it does not see",
         "against": CONTROL, "metric": "fd", "sign": -1},
        {"says": "verification by a classifier holds off collapse", "against": "none", "metric": "fd", "sign": -1},
    ),
    *_claims(
        "2406.07515", "verifier_by_distance",
        {"says": "the same of a verifier by distance", "against": CONTROL, "metric": "fd", "sign": -1},
        {"says": "verification by distance holds off collapse", "against": "none", "metric": "fd", "sign": -1},
    ),
    *_claims(
        "2407.09499", "k_choice",
        {"says": "without real data, curation raises the reward", "against": CONTROL, "metric": "reward",
         "when": LAST, "loops": (FULLY,), "sign": 1},
        {"says": "without real data, curation costs diversity", "against": CONTROL, "metric": "recall",
         "loops": (FULLY,), "sign": -1},
        {"says": "real data in the loop keep diversity under curation", "against": CONTROL, "metric": "recall",
         "loops": WITH_REAL, "less": (FULLY,), "sign": 1},
    ),
    *_claims(
        "2402.07087", "projection",
        {"says": "correction stabilises loops that keep real data", "against": "none", "metric": "fd",
         "loops": (AUGMENTED,), "sign": -1},
        {"says": "and those without real data", "against": "none", "metric": "fd", "loops": (FULLY,), "sign": -1},
    ),
    *_claims(
        "2408.16333", "sims",
        {"says": "guidance away from its own samples improves a model", "against": "none", "metric": "fd",
         "when": FIRST, "sign": -1},
        {"says": "and prevents MAD where synthetic samples augment real ones", "against": "none", "metric": "fd",
         "loops": (AUGMENTED,), "sign": -1},
    ),
    *_claims(
        "2510.03597", "neon",
        {"says": "extrapolation away from its own samples improves a model", "against": "none", "metric": "fd",
         "when": FIRST, "sign": -1},
        {"says": "at the expense of precision", "against": "none", "metric": "precision", "when": FIRST, "sign": -1},
        {"says": "and for recall", "against": "none", "metric": "recall", "when": FIRST, "sign": 1},
    ),
    *_claims(
        "2502.18049", "golden_ratio",
        {"says": "golden-ratio weights beat pooling real and synthetic samples", "against": "none", "metric": "fd",
         "loops": WITH_REAL, "sign": -1},
        {"says": "and beat a larger weight of real samples, 0.8", "against": "real_weight", "metric": "fd",
         "loops": WITH_REAL, "sign": -1},
    ),
    *_claims(
        "2509.16499", "entropy_selection",
        {"says": "selection for entropy makes better models than as many samples not selected", "against": CONTROL,
         "metric": "fd", "sign": -1},
        {"says": "and more diverse ones", "against": CONTROL, "metric": "recall", "sign": 1},
        {"says": "and fewer copies of training samples", "against": CONTROL, "metric": "pool_memorization",
         "sign": -1},
    ),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tried:
    """A claim and what the runs of one λ say of it."""

    claim: Claim
    bias: float
    setting: str
    effect: comparison.Effect

    @property
    def verdict(self) -> str:
        if not self.effect.finding:
            return "open"
        return "holds" if self.effect.mean * self.claim.sign > 0 else "contradicted"


def try_all(
    workdirs: Mapping[tuple[str, bool], pathlib.Path], chosen: Mapping[str, str], *, equal_cost: bool
) -> list[Tried]:
    """Every claim whose runs are there.

    Args:
      workdirs: by strategy, as `config.strategy` spells it, and budget.
      chosen: settings by name.
      equal_cost: the budget; strategies that cost nothing have but the first.
    """
    find = lambda name: workdirs.get((setting := chosen.get(name, name), equal_cost), workdirs.get((setting, True)))
    found = []
    for claim in CLAIMS:
        paths = [find(name) for name in (claim.strategy, claim.against)]
        if None not in paths:
            info = MetricInfo(
                claim.metric, 1, claim.metric, "lower" if claim.metric == "fd" else "higher",
                "distance" if claim.metric == "fd" else "share", None, "",
            )  # fmt: skip
            treated, against = (_contrasted(path, claim) for path in paths)
            for bias in treated:
                effect = comparison.measure(treated[bias] - against[bias], info)
                found.append(Tried(claim, bias, chosen[claim.strategy], effect))
    corrected = comparison.holm([tried.effect.p_value for tried in found])
    return [
        dataclasses.replace(tried, effect=dataclasses.replace(tried.effect, p_holm=p, family=len(found)))
        for tried, p in zip(found, corrected, strict=True)
    ]


def _contrasted(path: pathlib.Path, claim: Claim) -> dict[float, np.ndarray]:
    """The statistic of each seed, `[seed]`, over loops, by λ."""
    values = _values(path, claim.metric)
    statistic = {
        FIRST: lambda v: v[:, 0],
        MEAN: lambda v: v[:, 1:].mean(axis=1),
        LAST: lambda v: v[:, -1],
    }[claim.when]
    over = lambda loops, bias: np.mean(
        [statistic(v) for (loop, b), v in values.items() if loop in loops and b == bias], axis=0
    )
    biases = sorted({bias for _, bias in values}, reverse=True)
    return {b: over(claim.loops, b) - (over(claim.less, b) if claim.less else 0.0) for b in biases}


@functools.cache
def _values(path: pathlib.Path, metric: str) -> dict[tuple[str, float], np.ndarray]:
    """By loop and λ `[seed, generation]`; logarithms of FD."""
    result = results.load(path)
    if metric == "reward":
        return _rewards(result)
    seeds, generations = sorted(result.config["seeds"]), result.config["generations"]
    found = {}
    for cell, rows in verdict.group(result.rows).items():
        values = verdict.matrix(rows, metric, seeds, generations)
        found[cell.loop.partition("(")[0], cell.bias] = verdict.logarithm(values) if metric == "fd" else values
    return found


def _rewards(result: results.Result) -> dict[tuple[str, float], np.ndarray]:
    """E exp r of what the metrics saw in the first and the last generation, other generations NaN, as `_values`.

    r is K-choice's, but its judge is a classifier of its own: of the held-out samples, which no strategy sees.
    """
    config = result.config
    source = grid.open_source(config, grid.DEFAULT_CACHE, silent=True)
    net = classifier.Classifier(source.num_classes)
    real = Samples(jax.numpy.asarray(source.reference.x), jax.numpy.asarray(source.reference.y))
    params = classifier.train(net, jax.random.key(0), real, jax.numpy.ones(real.y.shape, bool))
    confidence = jax.jit(functools.partial(classifier.log_confidence, net))
    found = {}
    for loop in config["loops"]:
        for bias in config["biases"]:
            values = np.full((len(config["seeds"]), config["generations"]), np.nan)
            for i, seed in enumerate(sorted(config["seeds"])):
                for generation in results.measured_generations(config["generations"]):
                    folder = result.path / "samples" / results.slug(loop, bias, seed)
                    x = np.load(folder / f"measured-{generation:04d}.npz")["x"]
                    y = np.arange(x.shape[0]) % source.num_classes  # labels go round
                    values[i, generation - 1] = np.exp(REWARD_SCALE * confidence(params, x[None], y)).mean()
            found[loop.partition("(")[0], bias] = values
    return found


# ------------------------------------------------------------------------------------------------------------- as text


def plain(by_budget: Mapping[str, Sequence[Tried]]) -> list[dict[str, Any]]:
    """Values for JSON, of what `try_all` found at each budget."""
    return [{"budget": budget} | _plain(tried) for budget, found in by_budget.items() for tried in found]


def markdown(found: Sequence[Tried]) -> Iterable[str]:
    """The lines of a table of one budget: a row for each claim, a column for each λ."""
    biases = sorted({tried.bias for tried in found}, reverse=True)
    yield "| claim | tried as | " + " | ".join(f"λ = {bias:g}" for bias in biases) + " |"
    yield "|---|---|" + "---|" * len(biases)
    for claim in CLAIMS:
        mine = [tried for bias in biases for tried in found if tried.claim == claim and tried.bias == bias]
        if mine:
            yield f"| {claim.says} ({claim.paper}) | {_tried_as(claim)} | {' | '.join(map(_effect, mine))} |"


def _tried_as(claim: Claim) -> str:
    when = {FIRST: "generation 1", MEAN: "mean from generation 2 on", LAST: "last generation"}[claim.when]
    name = {"fd": "FD"}.get(claim.metric, claim.metric).replace("_", " ")
    where = "all loops" if tuple(claim.loops) == LOOPS else ", ".join(claim.loops)
    less = f" less {', '.join(claim.less)}" if claim.less else ""
    sign = {("fd", -1): "< 1", ("fd", 1): "> 1"}.get((claim.metric, claim.sign), "> 0" if claim.sign > 0 else "< 0")
    return f"{name} of {claim.strategy}, against {claim.against}, {when}, {where}{less}: {sign}"


def _effect(tried: Tried) -> str:
    """ "0.83 (0.75 to 0.92), p = 0.02: **holds**"."""
    effect = tried.effect
    if effect.interval is None:
        return effect.undecided
    change = (lambda x: f"{np.exp(x):.2f}") if effect.is_log else (lambda x: f"{x:+.3f}")
    low, high = map(change, effect.interval)
    p = probability(effect.p_holm)
    return f"**{tried.verdict}**: {change(effect.mean)} ({low} to {high}), p = {p}"


def _plain(tried: Tried) -> dict[str, Any]:
    effect = tried.effect
    return {
        **dataclasses.asdict(tried.claim),
        "bias": tried.bias,
        "setting": tried.setting,
        "is_log": effect.is_log,
        "mean": effect.mean,
        "interval": effect.interval,
        "p_value": effect.p_value,
        "p_holm": effect.p_holm,
        "family": effect.family,
        "verdict": tried.verdict,
    }
