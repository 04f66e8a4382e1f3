"""Strategies against collapse, on equal terms: one through three loops x two λ x five seeds, eight generations.

    madbench run --config=configs/strategies.py --workdir=runs/none                                     diffusion
    madbench run --config=configs/strategies.py --workdir=runs/sims --config.strategy='sims(weight=0.5)'
    madbench run --config=configs/strategies.py:gan --workdir=runs/gan-none                             GAN
    madbench compare runs/none runs/sims                                                                against none

A job is one strategy, because a strategy is a part of the compiled program; `python benchmarks/strategies.py` runs
them all and compares them.

Expected time: 6 minutes a strategy on two idle CPU cores, for they all cost the same; of the GAN about half as long.
Expected result of none, diffusion, generation 1 -> 8, λ = 1: fully synthetic FD 3.2 -> 31, precision .97 -> .93,
recall .92 -> .27; half real data FD 8.3, recall .89; fresh data FD 2.8 -> 12, recall .75. What strategies make
of it: docs/strategies_compared.md.
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
            width=96,
            depth=2,
            style=32,
            discriminator_width=96,
            discriminator_depth=1,
            batch_size=64,
            steps=800,
            learning_rate=8e-3,
            ema_exponent=8.0,
        )
    return config
