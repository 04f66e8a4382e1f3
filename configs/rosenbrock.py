"""The paper's normalizing flow on the 2-D Rosenbrock density (arXiv 2307.01850, appendix).

    madbench run --config=configs/rosenbrock.py --workdir=runs/rosenbrock

10,000 samples a generation, 16 generations, 8 couplings of width 64, λ in {1, 0.75}, three seeds.

Expected time: 2 to 3 minutes on two idle CPU cores, by the rate of a large matrix product (17 % of it); 4m 41s while
other jobs ran on them (load 7 to 12).
Expected result, generation 1 -> 16, fully synthetic: at λ = 1 FD .015 -> .073 and precision and recall stay at their
floors of .99 (stable); at λ = 0.75 FD .28 -> 7.0, precision 1.00, recall .99 -> .14, half of it gone after 8
generations (MAD, loses diversity). The floor of FD is .027, its 95th percentile .081.
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
