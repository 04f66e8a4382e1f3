"""A VAE on the digits."""

from madbench.config import base


def get_config():
    config = base(source="digits", family="vae")
    config.task = "digits-vae"
    config.n_initial = 800
    config.loops = (
        "fully_synthetic",
        "synthetic_augmentation",
        "fresh_data(n_initial=480,n_fresh=80,n_synthetic=400)",  # 480 + 5 * 80 = 880 of the training pool of 1200
    )
    config.biases = (1.0, 0.7)
    config.seeds = 3
    config.generations = 6
    config.model.update(
        width=128,
        depth=1,
        latent=5,
        decoder_noise=False,
        batch_size=128,
        steps=2000,
        learning_rate=1e-2,
    )
    return config
