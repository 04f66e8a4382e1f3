"""The Fréchet distance between Gaussians fitted to features (Dowson and Landau 1982; FID: Heusel et al. 2017)."""

import contextlib
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg
from scipy.linalg import lapack

from madbench.metrics.comparison import Comparison
from madbench.metrics.metric import Known, Metric
from madbench.metrics.moments import Moments, merge_moments, moments
from madbench.samples import ExactMoments


def frechet(a: Moments, b: Moments) -> float:
    """‖μ₁-μ₂‖² + tr(Σ₁ + Σ₂ - 2(Σ₁^½ Σ₂ Σ₁^½)^½) between NumPy moments, covariances with ddof = 1.

    Exact also where a covariance is singular, where Schur-based matrix square roots are badly wrong.
    """
    return _distance(a.mean - b.mean, a.scatter, b.scatter, a.count - 1, b.count - 1)


def _distance(delta: np.ndarray, a: np.ndarray, b: np.ndarray, over_a: float = 1.0, over_b: float = 1.0) -> float:
    """Of covariances `a / over_a` and `b / over_b`, which are not formed: at 2,048 dimensions each takes 32 MiB.

    With any A = R Rᵀ, the eigenvalues of Rᵀ B R are those of A^½ B A^½; below 0 they are rounding.

    Rounding is relative to the largest, and its square root is added for each one that ought to be 0: of hundreds, as
    in collapsed sets, too much. Where that may be seen in the ninth digit, the singular values of RᵀS, B = S Sᵀ, which
    are those roots themselves, are taken at two to ten times the cost.
    """
    root, triangular = _root(a)
    if triangular:
        product = lapack.dsygst(b.T, root.T, itype=2)[0]  # LᵀBL, its upper triangle, at a quarter of the cost
    else:
        product = root.T @ b @ root
    eigenvalues = linalg.eigvalsh(product, lower=False, driver="evd", overwrite_a=True, check_finite=False)
    eigenvalues = np.maximum(eigenvalues, 0) / (over_a * over_b)
    apart = delta @ delta + np.trace(a) / over_a + np.trace(b) / over_b
    value = apart - 2 * np.sqrt(eigenvalues).sum()
    rounding = 4 * np.finfo(np.float64).eps * eigenvalues.max(initial=0.0)
    if rounding > 0 and (rounding / np.sqrt(np.maximum(eigenvalues, rounding))).sum() > 1e-9 * value:
        roots = np.linalg.svd(root.T @ _root(b)[0], compute_uv=False)
        value = apart - 2 * roots.sum() / np.sqrt(over_a * over_b)
    return float(max(value, 0.0))


def _root(covariance: np.ndarray) -> tuple[np.ndarray, bool]:
    """(R `[d, rank]` with R Rᵀ = Σ, whether it is square and lower triangular).

    By Cholesky's method, with pivots where Σ is not safely regular.

    Either is much faster than `eigh`, and of fewer samples than dimensions R is narrow, and all that follows quick.
    Pivots that rounding alone could have made end it: their square roots would not be small.
    """
    with contextlib.suppress(np.linalg.LinAlgError):
        root = np.linalg.cholesky(covariance)
        pivots = np.diagonal(root)
        if pivots.min() > 1e-5 * pivots.max():
            return root, True
    rounding = len(covariance) * np.finfo(np.float64).eps * np.diagonal(covariance).max()
    factor, order, rank, _ = lapack.dpstrf(covariance, tol=rounding, lower=1)
    root = np.zeros((len(covariance), rank))
    root[order - 1] = np.tril(factor)[:, :rank]
    return root, False


def _to_numpy(state):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)


class FrechetDistance(Metric):
    """FD; called FID only where the features are Inception's. May be chunked over generated samples.

    The reference's moments travel with the first chunk's state only in value: merging keeps them.
    """

    name = "fd"
    label = "FD"
    direction = "lower"
    kind = "distance"
    min_samples = 2
    cite = "Dowson and Landau 1982, equation 4; Heusel et al. 2017, arXiv 1706.08500, equation 6"

    def state(self, comparison: Comparison):
        return comparison.generated_moments, comparison.reference_moments

    def merge(self, a, b):
        return merge_moments(a[0], b[0]), a[1]

    def compute(self, state) -> float:
        return frechet(*_to_numpy(state))


@dataclasses.dataclass(frozen=True, eq=False)
class GaussianDistance(Metric):
    """Squared 2-Wasserstein distance of the Gaussian fitted to the generated samples from the real distribution's own.

    As FD, without the noise of a reference sample. May be chunked over generated samples.

    Attributes:
      exact: moments of the real distribution.
    """

    exact: ExactMoments

    name = "gaussian_w2"
    label = "Gaussian W₂²"
    direction = "lower"
    kind = "distance"
    min_samples = 2
    cite = "Dowson and Landau 1982, equation 4; Givens and Shortt 1984"
    note = "Gaussian W₂²: FD against the real distribution's exact mean and covariance instead of a sample's."

    @classmethod
    def refusal(cls, known: Known) -> str:
        if known.moments is None:
            return (
                "needs a real distribution with known mean and covariance: that of `madbench run` with "
                "config.data.source='gaussian', 'mixture' or 'rosenbrock' and config.metrics.features='raw'; leave it "
                "out elsewhere"
            )
        return ""

    @classmethod
    def of(cls, known: Known):
        return cls(known.moments)

    def state(self, comparison: Comparison) -> Moments:
        return comparison.generated_moments

    def merge(self, a, b):
        return merge_moments(a, b)

    def compute(self, state) -> float:
        fitted = _to_numpy(state)
        return _distance(fitted.mean - self.exact.mean, fitted.scatter, self.exact.covariance, fitted.count - 1)


class FrechetInfinity(Metric):
    """FD extrapolated to infinitely many samples on both sides: its bias falls as 1/n, so a line in 1/n removes it.

    The FDs of the four quarters, of the two halves and of the whole (quarter against quarter, the mean over them) are
    fitted by least squares; the value is the line's intercept. Chong and Forsyth fit 15 random subsets of the generated
    samples, against a reference that is not extrapolated; here both sides are, and every sample serves at every size
    (ours). The quarters are dealt in one fixed shuffled order, lest samples sorted by class make quarters of classes.
    Unbiased distances of equal distributions scatter about 0, below it too. Where quarters have fewer samples than
    features have dimensions, the bias is no line in 1/n, and what is left of it is large. May be chunked over both sets
    alike: quarters of chunks make up the quarters.
    """

    name = "fd_inf"
    label = "FD∞"
    direction = "lower"
    kind = "number"
    min_samples = 8
    cite = "Chong and Forsyth 2020, arXiv 1911.07023, section 3"
    note = "FD∞: FD extrapolated in 1/n to infinitely many samples on both sides; about 0 for equal distributions."

    def state(self, comparison: Comparison):
        return tuple(tuple(_quarters(x)) for x in (comparison.generated, comparison.reference))

    def merge(self, a, b):
        return tuple(tuple(merge_moments(x, y) for x, y in zip(p, q, strict=True)) for p, q in zip(a, b, strict=True))

    def compute(self, state) -> float:
        parts = list(zip(*_to_numpy(state), strict=True))  # (generated, reference) of each quarter
        sizes, values = [], []
        while True:
            sizes.append(np.mean([2 / (1 / g.count + 1 / r.count) for g, r in parts]))
            values.append(np.mean([frechet(g, r) for g, r in parts]))
            if len(parts) == 1:
                return float(np.polynomial.polynomial.polyfit(1 / np.asarray(sizes), values, 1)[0])
            parts = [
                (merge_moments(a[0], b[0]), merge_moments(a[1], b[1]))
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]


def _quarters(x: jax.Array) -> list[Moments]:
    x = jnp.asarray(x)[np.random.default_rng(0).permutation(x.shape[0])]
    cuts = [x.shape[0] * i // 4 for i in range(5)]
    return [moments(x[low:high]) for low, high in itertools.pairwise(cuts)]
