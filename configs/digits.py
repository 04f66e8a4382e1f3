"""The digits task: forty-five diffusion models, three loops x three λ x five seeds, through ten generations.

    madbench run --config=configs/digits.py --workdir=runs/digits

Expected time: 26 minutes on two idle CPU cores.
Expected result, generation 1 -> 10: fully synthetic, λ = 1, FD 2.1 -> 26, precision .98 -> .94, recall .92 -> .19; at
λ = 0.8 FD 1.6 -> 9.3, recall .91 -> .15; at λ = 0.5 FD 2.0 -> 12, recall .87 -> .20. Half real data (augmentation)
holds FD at 5.5, 2.6 and 3.5; 80 fresh images a generation beside 400 synthetic ones at 12, 6.5 and 13. The floor of FD
is 1.9.
"""

from madbench.config import base


def get_config():
    config = base(source="digits", family="diffusion")
    config.task = "digits"
    config.n_initial = 800
    config.loops = (
        "fully_synthetic",
        "synthetic_augmentation",
        "fresh_data(n_initial=480,n_fresh=80,n_synthetic=400)",  # 480 + 9 * 80 = 1200: the whole training pool
    )
    config.biases = (1.0, 0.8, 0.5)
    config.seeds = 5
    config.generations = 10
    config.model.width = 384
    config.model.depth = 1
    config.model.batch_size = 256
    config.model.steps = 600
    config.model.learning_rate = 1e-2
    config.model.p_mean = -0.6
    config.model.sigma_min = 0.01
    config.model.sigma_max = 20.0
    config.model.rho = 5.0
    config.model.sampler_steps = 24
    return config
