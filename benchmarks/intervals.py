"""How often confidence intervals over few seeds hold the true mean slope, and how wide they are.

    python benchmarks/intervals.py [--draws=4000]

Slopes are drawn from a normal distribution, and from two skewed ones; each interval claims 95 %. "Width" is the median
of widths relative to Student's. The percentile, expanded percentile (Hesterberg, arXiv 1411.5279) and BCa intervals,
and the bootstrap t, are over all resamples of 3 and 5 runs, and over 1,999 of 10; the beta bootstrap t (Owen,
arXiv 2508.10083) is the one in `madbench.verdict`. Takes half a minute.
"""

import argparse
import itertools
import math

import numpy as np
from scipy import special

from madbench.verdict import trend

NORMAL = {"normal": lambda rng, shape: rng.standard_normal(shape)}
SKEWED = {
    f"lognormal, σ = {s:g}": lambda rng, shape, s=s: np.exp(s * rng.standard_normal(shape)) - math.exp(s * s / 2)
    for s in (0.5, 1.0)
}
LEVELS = np.array([0.5 - trend.CONFIDENCE / 2, 0.5 + trend.CONFIDENCE / 2])


def resamples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the runs `[resample, n]` and the resamples' probabilities."""
    if n > 5:
        counts = np.random.default_rng(7).multinomial(n, [1 / n] * n, size=1999)
        return counts / n, np.full(len(counts), 1 / len(counts))
    counts = np.array([c for c in itertools.product(range(n + 1), repeat=n) if sum(c) == n])
    return counts / n, np.exp(special.gammaln(n + 1) - special.gammaln(counts + 1).sum(axis=1)) / n**n


def quantiles(values: np.ndarray, probability: np.ndarray, levels: np.ndarray) -> np.ndarray:
    order = np.argsort(values)
    reached = np.cumsum(probability[order])
    return values[order][np.minimum(np.searchsorted(reached, levels - 1e-12), len(values) - 1)]


def intervals(x: np.ndarray, shares: np.ndarray, probability: np.ndarray) -> dict[str, tuple[float, float]]:
    """Every interval of the mean of the sorted `x [run]`."""
    n, mean, error = x.size, x.mean(), x.std(ddof=1) / math.sqrt(x.size)
    means = shares @ x
    expanded = special.ndtr(math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, LEVELS))
    from_mean = x - mean
    tie = np.isclose(means, mean, rtol=0, atol=1e-12)
    shift = special.ndtri(probability[(means < mean) & ~tie].sum() + probability[tie].sum() / 2)
    skew = (from_mean**3).sum() / (6 * (from_mean**2).sum() ** 1.5)
    z = shift + special.ndtri(LEVELS)
    spread = shares @ from_mean**2 - (means - mean) ** 2
    flat = spread < 1e-12 * np.ptp(x) ** 2
    studentized = np.where(tie, 0.0, np.where(means > mean, np.inf, -np.inf))  # as it is without any spread
    studentized[~flat] = (means - mean)[~flat] / np.sqrt(spread[~flat] / (n - 1))
    t = quantiles(studentized, probability, LEVELS)
    return {
        "Student's t": trend.t_interval(x),
        "percentile": tuple(quantiles(means, probability, LEVELS)),
        "expanded percentile": tuple(quantiles(means, probability, expanded)),
        "BCa": tuple(quantiles(means, probability, special.ndtr(shift + z / (1 - skew * z)))),
        "bootstrap t": (mean - t[1] * error, mean - t[0] * error),
        "beta bootstrap t": trend.bootstrap_interval(x),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=4000)
    draws = parser.parse_args().draws
    print("| slopes | interval | n = 3: holds | width | n = 5: holds | width | n = 10: holds | width |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for name, draw in (NORMAL | SKEWED).items():
        texts: dict[str, list[str]] = {}
        for n in (3, 5, 10):
            shares, probability = resamples(n)
            rng = np.random.default_rng(1)
            found = [intervals(x, shares, probability) for x in np.sort(draw(rng, (draws, n)))]
            for kind in found[0]:
                low, high = np.array([each[kind] for each in found]).T
                widths = (high - low) / np.array([np.subtract(*each["Student's t"][::-1]) for each in found])
                holds = np.mean((low <= 0) & (high >= 0))
                texts.setdefault(kind, []).extend([f"{holds:.1%}", f"{np.median(widths):.2f}".replace("inf", "∞")])
        for kind, columns in texts.items():
            print(f"| {name} | {kind} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
