"""Endless digits: what fresh real data do to a loop, with as many of them as are asked for and nothing to download.

    madbench run --config=configs/warped_digits.py --workdir=runs/warped-digits
    madbench run --config=configs/warped_digits.py:tiny --workdir=runs/warped-tiny     the same in small, to look at

Expected time: by its 1.1e14 FLOPs, 20 minutes on two idle CPU cores; tiny: two minutes of processor time.
Expected result of tiny, λ = 1, generation 1 -> 3: fully synthetic, FD 20 -> 58, recall .94 -> .66; half real data, old
(augmentation) or new (fresh data), FD 20 -> 37, recall .94 -> .86 and .89; the verdict is MAD, loses diversity, in all
three. The floor of FD is 9.6, with 200 samples behind it.
"""

from madbench.config import base, choose


def get_config(words=""):
    size = choose(words, size=("full", "tiny"))["size"]
    config = base(source="warped_digits", family="diffusion")
    config.task = "warped-digits"
    config.n_initial = 2000
    config.loops = (
        "fully_synthetic",
        "synthetic_augmentation",
        "fresh_data(n_fresh=2000,n_synthetic=2000)",
    )
    config.biases = (1.0, 0.8)
    config.seeds = 3
    config.generations = 5
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
    if size == "tiny":
        config.task = "warped-digits-tiny"
        config.data.resolution = 16
        config.data.n_reference = 200
        config.n_initial = 400
        config.loops = ("fully_synthetic", "synthetic_augmentation", "fresh_data(n_fresh=400,n_synthetic=400)")
        config.biases = (1.0,)
        config.generations = 3
        config.model.update(width=128, batch_size=128, steps=300, sampler_steps=12)
    return config
