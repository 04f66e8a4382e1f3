"""A normalizing flow on the 2-D Rosenbrock density, a curved ridge (arXiv 2307.01850, appendix).

    madbench run --config=configs/rosenbrock.py --workdir=runs/rosenbrock

As in the paper 10,000 samples a generation, 16 generations, 8 couplings of width 64, λ in {1, 0.75}; it does not give
the density's constants, and those of `data/rosenbrock.py` are ours. Three seeds.

Expected time: 1m 40s on two CPU cores.
Expected result, generation 1 -> 16, fully synthetic: at λ = 1 FD .032 -> .034, precision and recall stay at .99; the
verdict is MAD by a hair, since FD's slope is positive over the three seeds and its end just above the floor's 95th
percentile of .032. At λ = 0.75 FD .17 -> 4.0, precision .998 -> .987, recall .985 -> .084, half of it gone after 8
generations: MAD, loses diversity. The floor of FD is .015.
"""

from madbench.config import base


def get_config():
    config = base(source="rosenbrock", family="flow")
    config.task = "rosenbrock"
    config.metrics.features = "raw"
    config.n_grid = 0
    config.n_initial = 10000
    config.loops = ("fully_synthetic",)
    config.biases = (1.0, 0.75)
    config.seeds = 3
    config.generations = 16
    config.model.update(
        couplings=8,
        width=64,
        depth=2,
        batch_size=512,
        steps=400,
        learning_rate=1e-2,
    )
    return config
