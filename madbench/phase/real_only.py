"""The distance of a fit to n purely real samples, as a function of n, and that curve inverted: effective sample sizes.

For Gaussians, per dimension: E ‖μ‖² = 1/n; and E (μ² + (σ - 1)²) = 1/n + E σ² + 1 - 2 E σ with E σ² = (n-1)/(n-ddof)
and E σ = c₄(n) √E σ², c₄(n) = √(2/(n-1)) Γ(n/2) / Γ((n-1)/2). A full covariance has no closed form in d > 1: its curve
is simulated.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import gammaln


@dataclasses.dataclass(frozen=True)
class Curve:
    """Mean distances at sizes, made monotone: where a larger sample is not nearer, neighbours are pooled.

    Attributes:
      size: float64 `[node]`, ascending.
      distance: float64 `[node]`, falling.
      relative_error: standard error of the distance over the distance, `[node]`; 0 in closed form.
    """

    size: np.ndarray
    distance: np.ndarray
    relative_error: np.ndarray

    def sizes_at(self, distance: np.ndarray) -> np.ndarray:
        """n with that expected distance, by monotone cubic interpolation in log-log; NaN outside the curve."""
        distance = np.asarray(distance, np.float64)
        if len(self.size) < 2:
            return np.full(distance.shape, np.nan)
        inverse = PchipInterpolator(-np.log(self.distance), np.log(self.size), extrapolate=False)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.exp(inverse(-np.log(distance)))

    def distance_at(self, size: float) -> float:
        """The expected distance of a real-only fit of that size; NaN outside the curve."""
        if len(self.size) < 2:
            return math.nan
        forward = PchipInterpolator(np.log(self.size), np.log(self.distance), extrapolate=False)
        return float(np.exp(forward(math.log(size))))

    def error_at(self, distance: np.ndarray) -> np.ndarray:
        """The curve's relative standard error near a distance."""
        return np.interp(-np.log(distance), -np.log(self.distance), self.relative_error)


def curve(sizes: Sequence[float], distances: Sequence[float], errors: Sequence[float] | None = None) -> Curve:
    """From mean distances at ascending sizes, and their standard errors where they are estimates."""
    x, y = np.log(np.asarray(sizes, np.float64)), np.log(np.asarray(distances, np.float64))
    e = np.zeros_like(y) if errors is None else np.asarray(errors, np.float64) / np.exp(y)
    pools: list[tuple[float, float, float, int]] = []
    for node in zip(x, y, e, np.ones(len(x), int), strict=True):
        pools.append(node)
        while len(pools) > 1 and pools[-1][1] >= pools[-2][1]:  # pool adjacent violators
            (x1, y1, e1, n1), (x2, y2, e2, n2) = pools[-2:]
            n = n1 + n2
            mean = lambda a, b, n1=n1, n2=n2, n=n: (n1 * a + n2 * b) / n
            pools[-2:] = [(mean(x1, x2), mean(y1, y2), math.hypot(n1 * e1, n2 * e2) / n, n)]
    x, y, e, _ = (np.asarray(column) for column in zip(*pools, strict=True))
    return Curve(np.exp(x), np.exp(y), e)


def closed_form(metric: str, dimension: int, ddof: int, sizes: np.ndarray) -> np.ndarray:
    """E distance of a fit with a diagonal covariance (any, where the metric is "mean") to `sizes` real samples."""
    n = np.asarray(sizes, np.float64)
    if metric == "mean":
        return dimension / n
    c4 = np.sqrt(2 / (n - 1)) * np.exp(gammaln(n / 2) - gammaln((n - 1) / 2))
    variance = (n - 1) / (n - ddof)
    return dimension * (1 / n + variance + 1 - 2 * c4 * np.sqrt(variance))


def ladder(least: int, most: float, steps_per_decade: int) -> list[int]:
    """Whole sizes in nearly geometric progression, from `least` to `most` or just above."""
    steps = max(1, math.ceil(math.log10(max(most / least, 1)) * steps_per_decade))
    return sorted({math.ceil(least * (most / least) ** (i / steps)) for i in range(steps + 1)})
