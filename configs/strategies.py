"""Strategies against collapse, on equal terms: one through three loops x two λ x five seeds, eight generations.

    madbench run --config=configs/strategies.py --workdir=runs/none                                     diffusion
    madbench run --config=configs/strategies.py --workdir=runs/sims --config.strategy='sims(weight=0.5)'
    madbench run --config=configs/strategies.py:gan --workdir=runs/gan-none                             GAN
    madbench compare runs/none runs/sims                                                                against none

A job is one strategy, because a strategy is a part of the compiled program; `python benchmarks/strategies.py` runs
them all and compares them.
"""

from madbench.config import base, choose


def get_config(words=""):
    family = choose(words, family=("diffusion", "gan"))["family"]
    config = base(source="digits", family=family)
    config.task = f"strategies-{family}"
    config.n_initial = 600
    config.loops = (
        "fully_synthetic",
        "synthetic_augmentation",
        "fresh_data(n_initial=360,n_fresh=120,n_synthetic=360)",  # 360 + 7 * 120 = 1200: the whole training pool
    )
    config.biases = (1.0, 0.5) if family == "diffusion" else (1.0, 0.8)
    config.seeds = 5
    config.generations = 8
    if family == "diffusion":
        config.model.update(
            width=320,
            depth=1,
            batch_size=256,
            steps=300,
            learning_rate=1.2e-2,
            p_mean=-0.6,
            sigma_min=0.01,
            sigma_max=20.0,
            rho=5.0,
            sampler_steps=20,
        )
    else:
        config.model.update(
            width=64,
            depth=2,
            style=32,
            discriminator_width=64,
            discriminator_depth=1,
            batch_size=128,
            steps=500,
            learning_rate=4e-3,
        )
    return config
