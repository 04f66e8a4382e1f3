"""What the papers say of their strategies, tried on the runs of `benchmarks/strategies.py`, which calls this at its
end.

A claim is a contrast: a strategy less none, or less the control `random_subsample`, which draws as many candidates
and takes one blindly; of a metric, in some generations, over some loops, at each λ by itself. Papers sample without
bias, as λ = 1 does; a smaller λ, which has lost diversity from the beginning, is a question of ours and a family of
its own. A seed is the independent unit: its differences are averaged over loops first; then come Student's t
interval, the two-sided paired t-test, and Holm's correction over all claims of a family of models, a budget and a λ,
whether they were run or not. A claim *holds* where the corrected test finds the sign that the paper says, and is
*contradicted* where it finds the other; else it is *open*, and its interval says how large it could be; where runs
are missing or diverged there is *no answer*.

Papers give every method a training of its own, so that a claim is tried with all optimizer steps first. At equal cost
the question is another one: whether the method is worth its price. Settings were searched at equal cost and λ = 1.

Not tried: that selection for entropy slows memorization, which its paper measures between what a model draws and its
own training set (`pool_memorization` looks at the pool, and at real samples of generation 1); that curation shifts
the shares of classes, which are given here; and where a loop fine-tunes, as in the paper on correction: these start
from scratch.

What was known when: the signs were written down after the search on other seeds, and before the runs of the reported
ones, but for those of the golden ratio and Neon. That λ are told apart, and what a hostile reviewer found of the
first list (levels that were called prevention, a measure of memorization that was none), came after the first
verifier's runs at equal cost. The GAN's reported runs came when the diffusion model's results were known; its claims
and settings are from before.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench import grid, results, verdict
from madbench.errors import UserError
from madbench.report import comparison
from madbench.samples import Samples, decode
from madbench.strategies import classifier

FULLY, AUGMENTED, FRESH = LOOPS = ("fully_synthetic", "synthetic_augmentation", "fresh_data")
FROM_REAL = (FULLY, FRESH)  # of generation 1, in which fully synthetic loops and augmentation are one model
FIRST, MEAN, LAST, CHANGE = "first", "mean", "last", "change"  # generation 1; mean over 2 to T; T; T less 1
CONTROL = "random_subsample"
_OF_ANY = {
    "golden_ratio": "golden_ratio",
    "real_weight": "golden_ratio(weight=0.8)",
    "verifier": "verifier(candidates=2)",
    "verifier_by_distance": "verifier(by='distance',candidates=2)",
    "projection": "projection(strength=0.5,clusters=16)",  # of those that copy less: see `projection_onto_samples`
    "projection_onto_samples": "projection(strength=2.0,clusters=32)",
    "random_subsample": "random_subsample(candidates=2)",
    "k_choice": "k_choice(candidates=2,scale=4.0)",
    "entropy_selection": "entropy_selection(candidates=2)",
    "neon": "neon(weight=1.0,extra_fit=0.1,extra_rate=0.1)",
}
CHOSEN = {  # settings, by family and name
    "diffusion": _OF_ANY | {"sims": "sims(weight=1.0,extra_fit=0.1)"},
    "gan": _OF_ANY
    | {"k_choice": "k_choice(candidates=2,scale=1.0)", "neon": "neon(weight=0.25,extra_fit=0.1,extra_rate=0.1)"},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A contrast with the sign that a paper says.

    Attributes:
      paper: its arXiv number.
      says: what it claims, as far as it can be tried here.
      strategy, against: names in `CHOSEN`, or "none".
      metric: "fd", "precision", "recall"; or "reward" and "spread", mean and standard deviation of K-choice's reward.
      sign: of strategy less `against` if the claim is true; of the logarithm of FD.
      when: `FIRST`, `MEAN`, `LAST` or `CHANGE`.
      loops: over which differences are averaged.
    """

    paper: str
    says: str
    strategy: str
    against: str
    metric: str
    sign: int
    when: str = MEAN
    loops: Sequence[str] = LOOPS


def _claims(paper: str, strategy: str, *claims: dict[str, Any]) -> list[Claim]:
    return [Claim(paper=paper, strategy=strategy, **claim) for claim in claims]


def _of_verifier(strategy: str, kind: str) -> list[Claim]:
    """The paper's are of labels and texts; that they carry over to images is ours."""
    return _claims(
        "2406.07515", strategy,
        {"says": f"verified samples ({kind}) make better models than unverified ones", "against": CONTROL,
         "metric": "fd", "sign": -1},
        {"says": f"which draw better samples ({kind})", "against": CONTROL, "metric": "precision", "sign": 1},
        {"says": f"and lose less from generation to generation than without ({kind})", "against": "none",
         "metric": "fd", "when": CHANGE, "sign": -1},
    )  # fmt: skip


CLAIMS = [
    *_of_verifier("verifier", "classifier"),
    *_of_verifier("verifier_by_distance", "distance"),
    *_claims(
        "2407.09499", "k_choice",
        {"says": "without real data, curation raises the reward", "against": CONTROL, "metric": "reward",
         "when": LAST, "loops": (FULLY,), "sign": 1},
        {"says": "and its spread vanishes", "against": CONTROL, "metric": "spread", "when": LAST, "loops": (FULLY,),
         "sign": -1},
        {"says": "and diversity with it", "against": CONTROL, "metric": "recall", "loops": (FULLY,), "sign": -1},
    ),
    *_claims(
        "2402.07087", "projection",
        {"says": "correction makes better models where synthetic samples augment real ones", "against": "none",
         "metric": "fd", "loops": (AUGMENTED,), "sign": -1},
        {"says": "which lose less from generation to generation", "against": "none", "metric": "fd", "when": CHANGE,
         "loops": (AUGMENTED,), "sign": -1},
    ),
    *_claims(
        "2408.16333", "sims",
        {"says": "guidance away from its own samples improves a model", "against": "none", "metric": "fd",
         "when": FIRST, "loops": FROM_REAL, "sign": -1},
        {"says": "which loses less from generation to generation, where synthetic samples augment real ones",
         "against": "none", "metric": "fd", "when": CHANGE, "loops": (AUGMENTED,), "sign": -1},
    ),
    *_claims(
        "2510.03597", "neon",
        {"says": "extrapolation away from its own samples improves a model", "against": "none", "metric": "fd",
         "when": FIRST, "loops": FROM_REAL, "sign": -1},
        {"says": "at the expense of precision", "against": "none", "metric": "precision", "when": FIRST,
         "loops": FROM_REAL, "sign": -1},
        {"says": "and for recall", "against": "none", "metric": "recall", "when": FIRST, "loops": FROM_REAL,
         "sign": 1},
    ),
    *_claims(
        "2502.18049", "golden_ratio",
        {"says": "optimal weights beat pooling, where real samples are new in each generation", "against": "none",
         "metric": "fd", "when": LAST, "loops": (FRESH,), "sign": -1},
        {"says": "and beat another weight of real samples, 0.8", "against": "real_weight", "metric": "fd",
         "when": LAST, "loops": (FRESH,), "sign": -1},
    ),
    *_claims(
        "2509.16499", "entropy_selection",
        {"says": "selection for entropy makes better models than as many samples not selected", "against": CONTROL,
         "metric": "fd", "sign": -1},
        {"says": "and more diverse ones", "against": CONTROL, "metric": "recall", "sign": 1},
    ),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tried:
    """A claim and what the runs of one λ say of it; `of` are the settings of strategy and `against`."""

    claim: Claim
    bias: float
    of: tuple[str, str]
    effect: comparison.Effect

    @property
    def verdict(self) -> str:
        if self.effect.p_value is None:
            return "no answer"
        return {"better": "holds", "worse": "contradicted", "": "open"}[self.effect.finding]


def try_all(
    workdirs: Mapping[tuple[str, bool], pathlib.Path],
    chosen: Mapping[str, str],
    *,
    equal_cost: bool,
    free: Collection[str] = (),
) -> list[Tried]:
    """Every claim of a strategy that was chosen, at each λ; those whose runs are not there have no effect.

    Args:
      workdirs: by strategy, as `config.strategy` spells it, and budget.
      chosen: settings by name; of others there is no claim.
      equal_cost: the budget.
      free: strategies that give up next to nothing at equal cost, and were run but once; none always is one.
    """
    read = _read(workdirs)
    biases = sorted({bias for result in read.values() for bias in result.config["biases"]}, reverse=True)
    find = lambda name: read.get((name, equal_cost or name in ("none", *free)))
    values = functools.cache(lambda name, metric: _values(find(name), metric))
    found = []
    for bias in biases:
        mine = []
        for claim in CLAIMS:
            if claim.strategy not in chosen:
                continue
            of = (chosen[claim.strategy], chosen.get(claim.against, claim.against))
            is_log = claim.metric == "fd"
            effect = comparison.Effect(is_log=is_log, better=claim.sign, undecided="not run")
            if all(find(name) is not None for name in of):
                treated, against = (_contrasted(values(name, claim.metric), claim, bias) for name in of)
                effect = comparison.effect(treated - against, is_log=is_log, better=claim.sign)
            mine.append(Tried(claim, bias, of, effect))
        corrected = comparison.holm([tried.effect.p_value for tried in mine])
        found += [
            dataclasses.replace(tried, effect=dataclasses.replace(tried.effect, p_holm=p, family=len(mine)))
            for tried, p in zip(mine, corrected, strict=True)
        ]
    return found


def by_bias(
    workdirs: Mapping[tuple[str, bool], pathlib.Path], metrics: Sequence[str] = ("fd", "precision", "recall")
) -> list[dict[str, Any]]:
    """Each strategy against none at each λ, over all loops and generations 2 to T: plain values, not corrected.

    A mean over λ may hide that a strategy helps at one and harms at another.
    """
    read = _read(workdirs)
    values = functools.cache(lambda place, metric: _values(read[place], metric))
    over_all = lambda place, metric, bias: np.mean(
        [v[:, 1:].mean(axis=1) for (_, b), v in values(place, metric).items() if b == bias], axis=0
    )
    found = []
    for place, result in read.items():
        for bias in () if place[0] == "none" else sorted(result.config["biases"], reverse=True):
            for metric in metrics:
                differences = over_all(place, metric, bias) - over_all(("none", True), metric, bias)
                effect = comparison.effect(differences, is_log=metric == "fd", better=-1 if metric == "fd" else 1)
                where = {"strategy": place[0], "equal_cost": place[1], "bias": bias, "metric": metric}
                found.append(where | _numbers(effect))
    return found


def _read(workdirs: Mapping[tuple[str, bool], pathlib.Path]) -> dict[tuple[str, bool], results.Result]:
    """The same, read. Runs are paired by their places among loops, λ, seeds and generations, which have to be the same.

    Raises:
      UserError: they are not, or a loop has two settings; one line.
    """
    read = {place: results.load(path) for place, path in workdirs.items()}
    plans = [[result.config[name] for name in ("loops", "biases", "seeds", "generations")] for result in read.values()]
    if any(plan != plans[0] for plan in plans):
        raise UserError("runs of other loops, λ, seeds or generations are no pairs")
    if len({loop.partition("(")[0] for loop in plans[0][0]}) < len(plans[0][0]):
        raise UserError("claims are of one setting of each loop")
    return read


def _contrasted(values: Mapping[tuple[str, float], np.ndarray], claim: Claim, bias: float) -> np.ndarray:
    """The statistic of each seed, `[seed]`, over loops."""
    statistic = {
        FIRST: lambda v: v[:, 0],
        MEAN: lambda v: v[:, 1:].mean(axis=1),
        LAST: lambda v: v[:, -1],
        CHANGE: lambda v: v[:, -1] - v[:, 0],
    }[claim.when]
    return np.mean([statistic(values[loop, bias]) for loop in claim.loops], axis=0)


def _values(result: results.Result, metric: str) -> dict[tuple[str, float], np.ndarray]:
    """By loop and λ `[seed, generation]`, NaN where missing; logarithms of FD."""
    if metric in ("reward", "spread"):
        return _rewards(result, metric)
    config, rows = result.config, verdict.group(result.rows)
    found = {}
    for loop in config["loops"]:
        for bias in config["biases"]:
            mine = [row for cell, each in rows.items() if (cell.loop, cell.bias) == (loop, bias) for row in each]
            values = verdict.matrix(mine, metric, sorted(config["seeds"]), config["generations"])
            found[loop.partition("(")[0], bias] = verdict.logarithm(values) if metric == "fd" else values
    return found


def _rewards(result: results.Result, metric: str) -> dict[tuple[str, float], np.ndarray]:
    """Mean or standard deviation of r = log p(label | sample), of what the metrics saw in the first generation and the
    last; of others NaN. As `_values`.

    The judge is none of the strategies': a classifier of the held-out samples, which none of them sees.
    """
    config, finite = result.config, _values(result, "fd")
    source = grid.open_source(config, grid.DEFAULT_CACHE, silent=True)
    net = classifier.Classifier(source.num_classes)
    real = Samples(*map(jnp.asarray, (decode(source.reference.x), source.reference.y)))
    params = classifier.train(net, jax.random.key(0), real, jnp.ones(real.y.shape, bool))
    judge = jax.jit(lambda x, y: classifier.log_confidence(net, params, x[None], y)[0])
    summary = {"reward": np.mean, "spread": np.std}[metric]
    found = {}
    for loop in config["loops"]:
        for bias in config["biases"]:
            values = np.full_like(finite[loop.partition("(")[0], bias], np.nan)
            for i, seed in enumerate(sorted(config["seeds"])):
                for generation in results.measured_generations(config["generations"]):
                    folder = result.path / "samples" / results.slug(loop, bias, seed)
                    file = folder / f"measured-{generation:04d}.npz"
                    if file.exists():
                        x = decode(np.load(file)["x"])
                        y = np.arange(x.shape[0]) % source.num_classes  # labels go round
                        values[i, generation - 1] = summary(judge(x, y))
            dead = np.isnan(finite[loop.partition("(")[0], bias])
            found[loop.partition("(")[0], bias] = np.where(dead, np.nan, values)
    return found


def plain(by_budget: Mapping[str, Sequence[Tried]]) -> list[dict[str, Any]]:
    """Values for JSON, of what `try_all` found at each budget."""
    return [{"budget": budget} | _plain(tried) for budget, found in by_budget.items() for tried in found]


def _numbers(effect: comparison.Effect) -> dict[str, Any]:
    return {
        "is_log": effect.is_log,
        "mean": effect.mean,
        "interval": effect.interval,
        "p_value": effect.p_value,
    }


def _plain(tried: Tried) -> dict[str, Any]:
    effect = tried.effect
    return {
        **dataclasses.asdict(tried.claim),
        "bias": tried.bias,
        "of": tried.of,
        **_numbers(effect),
        "p_holm": effect.p_holm,
        "family": effect.family,
        "verdict": tried.verdict,
        "undecided": effect.undecided,
    }
