"""The digits task: forty-five models, three loops x three λ x five seeds, through ten generations.

    madbench run --config=configs/digits.py --workdir=runs/digits              diffusion
    madbench run --config=configs/digits.py:gan --workdir=runs/digits-gan      GAN

Expected time: 26 minutes for diffusion on two idle CPU cores; 1h 10m for the GAN, 400 s a generation.
Expected result, generation 1 -> 10: fully synthetic, λ = 1, FD 2.1 -> 26, precision .98 -> .94, recall .92 -> .19; at
λ = 0.8 FD 1.6 -> 9.3, recall .91 -> .15; at λ = 0.5 FD 2.0 -> 12, recall .87 -> .20. Half real data (augmentation)
holds FD at 5.5, 2.6 and 3.5; 80 fresh images a generation beside 400 synthetic ones at 12, 6.5 and 13. The floor of FD
is 1.9.
Expected result of the GAN, 1 -> 10: fully synthetic, λ = 1, FD 2.3 -> 9.9, precision .95 -> .95, recall .92 -> .43; at
λ = 0.8 FD 2.1 -> 15, precision .98 -> 1.00, recall .84 -> .00; at λ = 0.5 FD 4.6 -> 17, recall .47 -> .00. Half real
data holds FD at 2.2, 3.1 and 15, recall at .89, .75 and .36; 80 fresh images a generation hold it at 5.6, 9.0 and 22,
recall at .71, .43 and .13. Every loop loses diversity but augmentation at λ = 0.5, and none loses quality.
"""

from madbench.config import base, choose


def get_config(words=""):
    family = choose(words, family=("diffusion", "gan"))["family"]
    config = base(source="digits", family=family)
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
    if family == "diffusion":
        config.model.update(
            width=384,
            depth=1,
            batch_size=256,
            steps=600,
            learning_rate=1e-2,
            p_mean=-0.6,
            sigma_min=0.01,
            sigma_max=20.0,
            rho=5.0,
            sampler_steps=24,
        )
    else:
        config.model.update(
            width=128,
            depth=2,
            style=32,
            discriminator_width=128,
            discriminator_depth=2,
            batch_size=256,
            steps=1000,
        )
    return config
