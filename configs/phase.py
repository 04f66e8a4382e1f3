"""How much synthetic data is safe for a Gaussian: effective sample size over n_r, n_s and λ, d = 100.

    madbench phase --config=configs/phase.py --workdir=runs/phase

Expected time: 1m 30s on two CPU cores.
Expected result, in phase.md and phase.png: at λ = 1 synthetic data always helps, n_e / n_r up to 3.1 (n_r = 32); at
λ = 0.8, 0.7 and 0.5 it helps up to n_s = 1200, 740 and 370 at n_r = 320, and up to 2370, 1160 and 450 at n_r = 32000,
where the threshold levels off: its limit is [4 (2-λ) + (d+1) (2-λ²) - 1.5 (d+1) (1-λ)] / (1-λ)², which is 2800, 1250
and 430.
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
