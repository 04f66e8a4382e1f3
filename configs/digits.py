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
