"""One metric's trend over the generations of a cell: a number per run, its mean, tests and confidence intervals.

A seed is the independent unit, generations are not: every interval and test is over the runs' numbers.

The bootstrap interval is Owen's beta bootstrap t (arXiv 2508.10083). Each replicate gives run i a weight wᵢ drawn from
Beta(1/2, 3/2), whose deviation is its mean, as that of a resample's counts is about, and studentizes the weighted mean:
t* = (x̄* - x̄) / √(s*²/(n - 1)), x̄* = Σwᵢxᵢ/Σwᵢ, s*² = Σwᵢ(xᵢ - x̄*)²/Σwᵢ. The interval reaches from x̄ - t*₀.₉₇₅ s/√n to
x̄ - t*₀.₀₂₅ s/√n. Resampling itself does not serve with so few seeds: of three runs, a ninth of the resamples have no
spread to studentize by, which makes every bootstrap-t interval infinite, and percentile or BCa intervals hold the truth
in three of four cases. `benchmarks/intervals.py` measures all of these.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np
from scipy import special

from madbench.verdict.values import logarithm

SIGNIFICANCE = 0.05  # of the one-sided tests that a verdict rests on
CONFIDENCE = 0.95  # of the two-sided intervals
MIN_SEEDS = 3

TOO_FEW_SEEDS = "too few seeds"
TOO_FEW_GENERATIONS = "too few generations"

SLOPE = "slope"  # least squares against the generation
LATE = "late_slope"  # the same over the second half of the generations
CHANGE = "change"  # from generation 1 to the last

_REPLICATES = 8192  # and as many with the weights reversed; fewer of more than 32 runs, whose interval needs fewer


class Interval(NamedTuple):
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Trend:
    """One metric's trend over generations.

    Attributes:
      metric: its name.
      statistic: SLOPE, per generation; LATE, the same over the generations after the first half of those planned; or
        CHANGE, from generation 1 to the last that a run has.
      is_log: of the metric's natural logarithm.
      worse: 1 where a rise is for the worse, -1 where a fall is.
      values: the statistic of each usable run, in the order of the seeds. A run is usable with values at two
        generations or more; for CHANGE, the first among them.
      p_value: of the one-sided t-test that the mean is for the worse; None where it could not be made.
      t_interval: two-sided, of the mean, by Student's t; None as above.
      bootstrap: the same by the beta bootstrap t.
      undecided: why there are none, or "".
    """

    metric: str
    statistic: str
    is_log: bool
    worse: int
    values: tuple[float, ...]
    p_value: float | None
    t_interval: Interval | None
    bootstrap: Interval | None
    undecided: str = ""

    @property
    def mean(self) -> float | None:
        """Over usable runs; None without any."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    @property
    def worsens(self) -> bool:
        return self.p_value is not None and self.p_value < SIGNIFICANCE


def measure(metric: str, values: np.ndarray, *, worse: int, is_log: bool = False, statistic: str = SLOPE) -> Trend:
    """The trend of `values [seed, generation]`, NaN where missing; the rest as in `Trend`."""
    values = logarithm(values) if is_log else values
    per_run = {SLOPE: _slope, LATE: _late_slope, CHANGE: _change}[statistic]
    found = tuple(value for run in values if (value := per_run(run)) is not None)
    shared = (metric, statistic, is_log, worse, found)
    if len(found) >= MIN_SEEDS:
        # Sorted, so that the seeds' order shows nowhere, not even in rounding.
        x = np.sort(found)
        return Trend(*shared, p_value(worse * x), t_interval(x), bootstrap_interval(x))
    only_one_generation = not found and not np.isnan(values).all()
    return Trend(*shared, None, None, None, TOO_FEW_GENERATIONS if only_one_generation else TOO_FEW_SEEDS)


def _slope(run: np.ndarray) -> float | None:
    """Least-squares slope of one run `[generation]` over its finite generations; None with fewer than two."""
    (t,) = np.nonzero(~np.isnan(run))
    if t.size < 2:
        return None
    from_mean = t - t.mean()
    # Measured from the first value, a constant run has a slope of exactly 0.
    return float(from_mean @ (run[t] - run[t[0]]) / (from_mean @ from_mean))


def _late_slope(run: np.ndarray) -> float | None:
    """`_slope` without the first half of the generations, rounded down."""
    return _slope(run[run.size // 2 :])


def _change(run: np.ndarray) -> float | None:
    """The last finite value of one run `[generation]` less generation 1's; None without both."""
    (t,) = np.nonzero(~np.isnan(run))
    return float(run[t[-1]] - run[0]) if t.size > 1 and t[0] == 0 else None


def p_value(x: np.ndarray) -> float:
    """One-sided one-sample t-test of a positive mean. Values that are all equal leave no doubt about their sign."""
    if np.ptp(x) == 0:
        return 0.0 if x[0] > 0 else 1.0
    return float(special.stdtr(x.size - 1, -x.mean() / _standard_error(x)))


def t_interval(x: np.ndarray) -> Interval:
    """Two-sided confidence interval of the mean of `x [run]`, by Student's t."""
    half = special.stdtrit(x.size - 1, 0.5 + CONFIDENCE / 2) * _standard_error(x)
    return Interval(float(x.mean() - half), float(x.mean() + half))


def bootstrap_interval(x: np.ndarray) -> Interval:
    """Two-sided confidence interval of the mean of `x [run]`, sorted, by the beta bootstrap t (see above).

    The same for the same values: its weights are fixed. Their finite number moves a bound by 1 to 3 % of the width.
    """
    if np.ptp(x) == 0:
        return Interval(float(x[0]), float(x[0]))
    weights = _weights(x.size)
    from_mean = (x - x.mean()) / np.ptp(x)
    shift = weights @ from_mean
    # A replicate with almost all weight on one run has a spread of rounding; it lies far beyond the quantiles.
    spread = np.maximum(weights @ from_mean**2 - shift**2, 1e-15)
    low, high = np.quantile(shift / np.sqrt(spread / (x.size - 1)), (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    error = _standard_error(x)
    return Interval(float(x.mean() - high * error), float(x.mean() - low * error))


@functools.cache
def _weights(n: int) -> np.ndarray:
    """Weights of the replicates, float64 `[replicate, n]`, each row summing to 1.

    If a point is uniform on the unit disc, the square of a coordinate has Beta(1/2, 3/2): r²cos²φ with r², φ uniform.
    From a bit generator's raw numbers, which no release of NumPy changes. Each row also comes reversed, so that the
    interval of -x is that of x, mirrored.
    """
    replicates = max(1024, min(_REPLICATES, 2**18 // n))
    uniform = (np.random.PCG64(0).random_raw((2, replicates, n)) >> np.uint64(11)) * 2.0**-53
    weights = uniform[0] * np.cos(2 * np.pi * uniform[1]) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    return np.concatenate([weights, weights[:, ::-1]])


def _standard_error(x: np.ndarray) -> float:
    return float(x.std(ddof=1) / math.sqrt(x.size))
