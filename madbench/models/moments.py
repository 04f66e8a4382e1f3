"""Mean and covariance of a training set, and the symmetric root through which covariances are sampled."""

import jax
import jax.numpy as jnp


def mean_and_covariance(x: jax.Array, weight: jax.Array, ddof: int = 1) -> tuple[jax.Array, jax.Array]:
    """Sample mean `[d]` and covariance `[d, d]` of the members of a set.

    Args:
      x: float32 `[n, d]`, finite where the weight is 0.
      weight: float32 `[n]`, 1 for members and 0 for padding; or any weights from 0 on whose sum is the size.
      ddof: the scatter is divided by the size less `ddof`, where weights differ by Σw less `ddof` Σw²/Σw: with 1, the
        expected covariance is that of the samples for any weights.
    """
    size = weight.sum()
    mean = jnp.matmul(weight, x, precision="highest") / size
    centred = (x - mean) * jnp.sqrt(weight)[:, None]
    divisor = size - ddof * jnp.sum(weight**2) / size
    return mean, jnp.matmul(centred.T, centred, precision="highest") / divisor


def symmetric_root(covariance: jax.Array) -> jax.Array:
    """R = Rᵀ with R R = Σ, `[d, d]`, by `eigh`, so that a rank-deficient covariance has one too.

    Negative eigenvalues, which an extrapolated covariance may have, count as 0.
    """
    if covariance.shape[0] == 1:
        return jnp.sqrt(jnp.maximum(covariance, 0))
    value, vector = jnp.linalg.eigh(covariance)
    # the symmetric root: eigenvectors of close eigenvalues turn with the last bit of Σ, the root does not
    rounding = value[-1] * value.shape[0] * jnp.finfo(value.dtype).eps
    value = jnp.where(value > rounding, value, 0.0)
    return jnp.matmul(vector * jnp.sqrt(value), vector.T, precision="highest")
