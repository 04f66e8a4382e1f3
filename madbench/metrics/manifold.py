"""Precision, recall, density and coverage by k-nearest-neighbour balls, k = 5, not counting the point itself."""

from madbench.metrics.comparison import Comparison, K
from madbench.metrics.metric import Share, ShareMetric


class _OfManifolds(ShareMetric):
    direction = "higher"
    min_samples = K + 1


class Precision(_OfManifolds):
    """Share of generated points inside the reference manifold, boundaries included: quality. Chunks: generated."""

    name = "precision"
    label = "precision"
    cite = "Kynkäänniemi et al. 2019, arXiv 1904.06991, equation 2, first part"

    def state(self, comparison: Comparison) -> Share:
        return Share.of(comparison.cross.closed > 0)


class Recall(_OfManifolds):
    """Share of reference points inside the generated manifold, boundaries included: diversity. Chunks: reference."""

    name = "recall"
    label = "recall"
    cite = "Kynkäänniemi et al. 2019, arXiv 1904.06991, equation 2, second part"

    def state(self, comparison: Comparison) -> Share:
        return Share.of(comparison.cross.reached)


class Density(_OfManifolds):
    """Mean number of reference balls that hold a generated point, over k: quality. Chunks: generated.

    1 in expectation for equal distributions, and without a bound.
    """

    name = "density"
    label = "density"
    kind = "positive"
    most = float("inf")
    cite = "Naeem et al. 2020, arXiv 2002.09797, equation 4"
    note = "Density: 1 is expected of equal distributions, and more of samples that crowd where real ones are dense."

    def state(self, comparison: Comparison) -> Share:
        return Share.of(comparison.cross.open, K)


class Coverage(_OfManifolds):
    """Share of reference points whose ball holds a generated point: diversity. Merged, the mean over subsets of the
    reference; not the value of the whole, as the balls of fewer points are larger.

    For equal distributions of n reference and m generated samples, 1 - Π_{i=1..k} (n-i)/(m+n-i) in expectation.
    """

    name = "coverage"
    label = "coverage"
    cite = "Naeem et al. 2020, arXiv 2002.09797, equation 5; its expectation: lemma 2"

    def state(self, comparison: Comparison) -> Share:
        return Share.of(comparison.cross.covered)
