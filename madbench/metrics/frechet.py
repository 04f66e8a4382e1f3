"""The Fréchet distance between Gaussians fitted to features (Dowson and Landau 1982; FID: Heusel et al. 2017)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Moments(NamedTuple):
    """Count `[]`, mean `[d]` and scatter Σ(x-μ)(x-μ)ᵀ `[d, d]`, in float64."""

    count: jax.Array
    mean: jax.Array
    scatter: jax.Array


def moments(features: jax.Array) -> Moments:
    """Moments of `features [n, d]`, in float64: a collapsed set's zero eigenvalues must not drown in rounding."""
    x = features.astype(jnp.float64)
    mean = x.mean(axis=0)
    centred = x - mean
    return Moments(jnp.asarray(x.shape[0], jnp.float64), mean, centred.T @ centred)


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Moments of the union (Chan, Golub and LeVeque 1983)."""
    count = a.count + b.count
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.count / count)
    scatter = a.scatter + b.scatter + delta[:, None] * delta[None, :] * (a.count * b.count / count)
    return Moments(count, mean, scatter)


def frechet(a: Moments, b: Moments) -> float:
    """‖μ₁-μ₂‖² + tr(Σ₁ + Σ₂ - 2(Σ₁^½ Σ₂ Σ₁^½)^½), covariances with ddof = 1.

    Through `eigh` of symmetric matrices with eigenvalues clipped at 0: exact also where a covariance is singular,
    where Schur-based matrix square roots are badly wrong.
    """
    covariance_a, covariance_b = a.scatter / (a.count - 1), b.scatter / (b.count - 1)
    value, vector = np.linalg.eigh(covariance_a)
    root = (vector * np.sqrt(np.maximum(value, 0))) @ vector.T
    product = root @ covariance_b @ root
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
    cross = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    delta = a.mean - b.mean
    return float(max(delta @ delta + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross, 0.0))


class FrechetDistance:
    """FD; called FID only where the features are Inception's. May be chunked over generated samples.

    The reference's moments travel with the first chunk's state only in value: merging keeps them.
    """

    name = "fd"
    version = 1
    direction = "lower"
    most = math.inf
    min_samples = 2
    cite = "Dowson and Landau 1982, equation 4; Heusel et al. 2017, arXiv 1706.08500, equation 6"

    def state(self, generated, reference):
        return moments(generated), moments(reference)

    def merge(self, a, b):
        return merge_moments(a[0], b[0]), a[1]

    def compute(self, state) -> float:
        generated, reference = (Moments(*(np.asarray(v, np.float64) for v in m)) for m in state)
        return frechet(generated, reference)
