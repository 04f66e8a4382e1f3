"""Does the generator repeat its training set? Distances to it, against distances within it."""

import jax.numpy as jnp

from madbench.metrics.comparison import Comparison
from madbench.metrics.metric import Share, ShareMetric

QUANTILE = 0.05  # of the training samples' distances to one another


class _OfTraining(ShareMetric):
    """A share of the generated samples, over which it may be chunked."""

    min_samples = 2
    needs_training = True


class Memorization(_OfTraining):
    """Share of generated samples closer to a training sample than training samples are to each other (ours).

    "Closer": at most as far from the nearest training sample as the closest 5 % of training samples are from their
    nearest other. New real samples are as far from the training set as its samples are from one another, so 5 % of
    them are expected to count; copies all do.
    """

    name = "memorization"
    label = "memorization"
    direction = "lower"
    cite = "ours; after Alaa et al. 2022, arXiv 2102.08921, section 3.3, and Meehan et al. 2020, arXiv 2004.05675"
    note = (
        "Memorization (ours): share of generated samples as near to a training sample as the closest 5 % of training "
        "samples are to one another; 0.05 is expected of new real samples."
    )

    def state(self, comparison: Comparison) -> Share:
        radii, size = jnp.sort(comparison.training_radii), comparison.training.size
        rank = jnp.maximum(jnp.floor(QUANTILE * size).astype(jnp.int32), 1)  # of sorted radii, padding last
        squared = comparison.nearest_training[1]
        return Share.of(squared <= radii[rank - 1])


class Authenticity(_OfTraining):
    """Share of generated samples farther from their nearest training sample than that is from its nearest other.

    About a half is expected of new real samples, none of copies.
    """

    name = "authenticity"
    label = "authenticity"
    direction = "higher"
    cite = "Alaa et al. 2022, arXiv 2102.08921, section 3.3"
    note = (
        "Authenticity: share of generated samples farther from their nearest training sample than that is from its "
        "nearest other."
    )

    def state(self, comparison: Comparison) -> Share:
        index, squared = comparison.nearest_training
        return Share.of(squared > jnp.asarray(comparison.training_radii)[index])
