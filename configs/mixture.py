"""Twenty-five modes on a grid, and a Gaussian mixture that forgets them (arXiv 2307.01850).

    madbench run --config=configs/mixture.py --workdir=runs/mixture

Each generation fits 25 components by EM to 500 samples. A mode that a fully synthetic loop once failed to draw is gone,
whatever the model: with n samples, neutral drift leaves about m (1 - exp(-2n / (mt))) of m modes after t generations.
Fresh data bring lost modes back. The paper goes on for 2000 generations: --config.generations=2000.

Expected time: 1m 04s on two CPU cores, for 15 runs.
Expected result, generation 1 -> 200: fully synthetic, 25 modes -> 4.4 (21.2 at generation 20, 12.8 at 50, 8.2 at 100;
drift says 21.6, 13.8, 8.2, and 4.5 at 200), FD .28 -> 13 ± 10, recall .96 -> .11: MAD, loses diversity. With the
initial data kept (augmentation) all 25 stay, and FD .18 and recall .95 with them. All 25 also stay with 100 fresh
samples beside 400 synthetic ones, but for single draws of 24; recall settles at .915, and the verdict is stable. The
floor of FD is .065.
"""

from madbench.config import base


def get_config():
    config = base(source="mixture", family="mixture")
    config.task = "mixture"
    config.data.update(n_reference=500, split_seed=1)
    config.model.iterations = 20  # from k-means++ on modes this far apart, more change nothing
    config.n_initial = 500
    config.loops = ("fully_synthetic", "synthetic_augmentation", "fresh_data(n_fresh=100,n_synthetic=400)")
    config.biases = (1.0,)
    config.seeds = 5
    config.generations = 200
    config.metrics.names = ("fd", "precision", "recall", "modes")
    config.metrics.features = "raw"
    config.n_grid = 0
    return config
