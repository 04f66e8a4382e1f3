from madbench.config import base


def get_config(experiment="fresh"):
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
    elif experiment == "memory":
        config.data.dimension = 10
        config.n_initial = 1000
        config.loops = tuple(f"fresh_data(n_fresh=1000,n_synthetic=10000,memory={k})" for k in (1, 5, 20))
        config.biases = (1.0,)
        config.seeds = 5
        config.generations = 50
    else:
        raise ValueError(f"unknown experiment {experiment!r}; choose gaussian.py:fresh or gaussian.py:memory")
    return config
