"""Maximum mean discrepancies: unbiased estimates over all pairs, so that equal distributions scatter about 0."""

import jax
import jax.numpy as jnp
import numpy as np

from madbench.metrics.comparison import Comparison
from madbench.metrics.metric import Metric


class _Discrepancy(Metric):
    """E k(x, x') + E k(y, y') - 2 E k(x, y), a U-statistic over the pairs of different samples.

    Chunks are subsets of both sets; their merged value is the mean over subsets, as it is customary for KID.
    """

    direction = "lower"
    kind = "number"
    min_samples = 2
    kernel: str  # a field of `PairSums`

    def state(self, comparison: Comparison) -> jax.Array:
        """(the estimate, 1), float64 `[2]`: a sum over subsets and their number."""
        n, m = comparison.generated.shape[0], comparison.reference.shape[0]
        generated, reference, across = (getattr(sums, self.kernel) for sums in comparison.pair_sums)
        estimate = generated / (n * (n - 1)) + reference / (m * (m - 1)) - 2 * across / (n * m)
        return jnp.stack([estimate, jnp.ones_like(estimate)])

    def merge(self, a, b):
        return a + b

    def compute(self, state) -> float:
        total, subsets = np.asarray(state, np.float64)
        return float(total / subsets)


class KernelDistance(_Discrepancy):
    """KID: the squared MMD of the kernel (x·y/d + 1)³, on all samples, which has the least variance.

    "KID" strictly where the features are Inception's. Other code averages random subsets of 1,000.
    """

    name = "kid"
    label = "KID"
    kernel = "cubic"
    cite = "Bińkowski et al. 2018, arXiv 1801.01401, section 3.2 (kernel) and Gretton et al. 2012, equation 3"
    note = "KID: unbiased over all pairs, so it scatters about 0 for equal distributions, below it too."


class GaussianDiscrepancy(_Discrepancy):
    """The squared MMD of the kernel exp(-‖x - y‖²/2σ²), 2σ² the mean squared distance between reference samples.

    CMMD is this with CLIP's features, normalized, and σ = 10; a width of the data's own serves any features (ours),
    and depends on the reference alone, so that generations compare.
    """

    name = "mmd"
    label = "MMD²"
    kernel = "gaussian"
    cite = "Jayasumana et al. 2024, arXiv 2401.09603, equation 4; Gretton et al. 2012, equation 3"
    note = (
        "MMD²: Gaussian kernel, 2σ² the mean squared distance between two reference samples (ours); unbiased, so it "
        "scatters about 0 for equal distributions."
    )
