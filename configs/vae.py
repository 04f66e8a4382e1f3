"""A VAE on the digits: eighteen models, three loops x two λ x three seeds, through six generations.

The first demonstrations of model collapse trained a VAE on MNIST (Shumailov et al., Nature 2024, arXiv 2305.17493).
Samples are the decoder's mean, as usual for images; `models/vae.py` has figures for both.

    madbench run --config=configs/vae.py --workdir=runs/vae

Expected time: 2m 50s on two CPU cores.
Expected result, generation 1 -> 6: fully synthetic, λ = 1, FD 2.6 -> 10, precision .97 -> .99, recall .85 -> .40; at
λ = 0.7 FD 2.9 -> 15, recall .76 -> .04. Half real data (augmentation) holds FD at 4.0 and 4.7, recall at .81 and .61;
80 fresh images a generation beside 400 synthetic ones at 6.5 and 8.2, recall at .56 and .29. The verdict is MAD, loses
diversity, everywhere. The floor of FD is 1.9, of precision .97, of recall .96.
"""

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
