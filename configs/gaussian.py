"""The paper's Gaussian experiments (arXiv 2307.01850), with exact fits and exact sampling.

    madbench run --config=configs/gaussian.py --workdir=runs/gaussian
    madbench run --config=configs/gaussian.py:memory --workdir=runs/gaussian-memory

fresh: d = 100, n_r = 100, n_s = 900, n_initial in {100, 1000}, λ in {1, 0.8}, beside the fully synthetic loop.
memory: n_r = 1000, n_s = 10000 from the K previous models. The paper does not give d; here d = 10, and K up to 20.

Expected time: 1m 30s for fresh, 1m for memory, on two CPU cores.
Expected result of fresh, generation 30: at λ = 1 both fresh loops meet at FD 16.8, whatever n_initial, and the fully
synthetic one is at 61; at λ = 0.8 both meet at 28.3, and recall is 0. The floor of FD is 5.3.
Expected result of memory: FD falls from .124 in generation 1 to .10, .089 and .096 at K = 1, 5 and 20, about the floor
of .077; all three are stable.
"""

from madbench.config import base, choose


def get_config(words=""):
    experiment = choose(words, experiment=("fresh", "memory"))["experiment"]
    config = base(source="gaussian", family="gaussian")
    config.task = f"gaussian-{experiment}"
    config.metrics.features = "raw"
    config.n_grid = 0
    if experiment == "fresh":
        config.data.dimension = 100
        config.n_initial = 1000
        config.loops = (
            "fully_synthetic",
            "fresh_data(n_initial=100,n_fresh=100,n_synthetic=900)",
            "fresh_data(n_initial=1000,n_fresh=100,n_synthetic=900)",
        )
        config.biases = (1.0, 0.8)
        config.seeds = 10
        config.generations = 30
    else:
        config.data.dimension = 10
        config.n_initial = 1000
        config.loops = tuple(f"fresh_data(n_fresh=1000,n_synthetic=10000,memory={k})" for k in (1, 5, 20))
        config.biases = (1.0,)
        config.seeds = 5
        config.generations = 50
    return config
