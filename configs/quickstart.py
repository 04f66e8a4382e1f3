"""Eighteen small diffusion models eat their own digits: the suite's first minutes.

    madbench run --config=configs/quickstart.py --workdir=runs/quickstart

Expected time: 2m 30s on two CPU cores, compilation included.
Expected result, fully synthetic, generation 1 -> 5: at λ = 1 FD 3.3 -> 17, precision .97 -> .96, recall .93 -> .54;
at λ = 0.5 FD 2.5 -> 7.9, recall .85 -> .41. Half real data (augmentation) holds FD at 6.6 and 3.8. The floor of FD
is 1.9.
"""

from madbench.config import base


def get_config():
    config = base(source="digits", family="diffusion")
    config.task = "quickstart"
    config.n_initial = 600
    config.loops = ("fully_synthetic", "synthetic_augmentation", "fresh_data(n_fresh=150,n_synthetic=450)")
    config.biases = (1.0, 0.5)
    config.seeds = 3
    config.generations = 5
    config.model.width = 320
    config.model.depth = 1
    config.model.batch_size = 256
    config.model.steps = 300
    config.model.learning_rate = 1.2e-2
    config.model.p_mean = -0.6
    config.model.sigma_min = 0.01
    config.model.sigma_max = 20.0
    config.model.rho = 5.0
    config.model.sampler_steps = 20
    return config
