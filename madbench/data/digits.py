"""scikit-learn's bundled handwritten digits: 1,797 real 8x8 images, nothing to download.

The test part of the UCI "Optical Recognition of Handwritten Digits" set (Alpaydin and Kaynak, 1998), CC BY 4.0.
"""

import numpy as np

from madbench.data.source import FiniteSource, split


def load(n_reference: int = 597, split_seed: int = 0) -> FiniteSource:
    """The digits as float32 `[n, 8, 8, 1]` in [-1, 1] with labels 0..9.

    Args:
      n_reference: images kept for the metrics; the other 1797 - n_reference are the training pool.
      split_seed: of the one permutation that separates the two.
    """
    from sklearn.datasets import load_digits  # slow to import

    digits = load_digits()
    x = (digits.images[..., None] / 8.0 - 1.0).astype(np.float32)
    y = digits.target.astype(np.int32)
    return split(x, y, name="digits", version="1", num_classes=10, n_reference=n_reference, split_seed=split_seed)
