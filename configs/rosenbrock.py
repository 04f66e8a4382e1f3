"""The paper's normalizing flow on the 2-D Rosenbrock density (arXiv 2307.01850, appendix)."""

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
