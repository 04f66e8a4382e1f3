"""How much synthetic data is safe for a Gaussian: effective sample size over n_r, n_s and λ, d = 100.

    madbench phase --config=configs/phase.py --workdir=runs/phase

Expected time: 1m 30s on two CPU cores.
Expected result: @
"""

from madbench.phase import base


def get_config():
    config = base(source="gaussian", family="gaussian")
    config.task = "phase"
    config.data.dimension = 100
    config.n_real = (32, 56, 100, 180, 320, 560, 1000, 1800, 3200, 5600, 10000, 18000, 32000)
    config.n_synthetic = (0, 10, 18, 32, 56, 100, 180, 320, 560, 1000, 1800, 3200, 5600, 10000, 18000, 32000)
    config.ratios = ()
    config.max_ratio = 10.0
    config.biases = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
    config.seeds = 8
    config.averaged = 6
    return config
