"""Feature networks that the host calls: the rows of a run are those of the same network within the program.

The network is a small DINOv2 in a file as the Hugging Face writes it, with patches of 56 pixels: sixteen of them.
"""

import json
import signal

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch_references as references

from madbench import experiment, results
from madbench.config import base
from madbench.display import PlainLines
from madbench.metrics import features

pytestmark = pytest.mark.usefixtures("compiled")

DIM, PATCH, TOKENS = 64, 56, 17
SEEDS = 5
METRICS = ("fd", "memorization")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    dense = {f"attention.attention.{name}": (DIM, DIM) for name in ("query", "key", "value")}
    dense |= {"attention.output.dense": (DIM, DIM), "mlp.fc1": (4 * DIM, DIM), "mlp.fc2": (DIM, 4 * DIM)}
    layer = {f"{name}.weight": shape for name, shape in dense.items()}
    layer |= {f"{name}.bias": shape[:1] for name, shape in dense.items()}
    layer |= {f"norm{i}.{leaf}": (DIM,) for i in "12" for leaf in ("weight", "bias")}
    layer |= {f"layer_scale{i}.lambda1": (DIM,) for i in "12"}
    shapes = {
        "embeddings.cls_token": (1, 1, DIM),
        "embeddings.position_embeddings": (1, TOKENS, DIM),
        "embeddings.patch_embeddings.projection.weight": (DIM, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (DIM,),
        "layernorm.weight": (DIM,),
        "layernorm.bias": (DIM,),
    } | {f"encoder.layer.0.{name}": shape for name, shape in layer.items()}
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1)).astype(np.uint8)
    np.savez(path.parent / "images.npz", x=images)
    safetensors.numpy.save_file({name: references.weights(name, shape) for name, shape in shapes.items()}, path)
    return path


def config(weights, **settings):
    """Loops whose training sets differ in size, so that what metrics of copies see of them is padded."""
    config = base("npz", "gaussian")
    config.task = "host"
    config.data.update(path=str(weights.parent / "images.npz"), n_reference=16)
    config.n_initial = 20
    config.loops = ("fully_synthetic", "fresh_data(n_fresh=6,n_synthetic=8)")
    config.biases = (0.5,)
    config.seeds = SEEDS
    config.generations = 2
    config.n_grid = 0
    config.metrics.update(features=f"dinov2:{weights}", names=METRICS)
    config.fleet.update(settings)
    return config


class Show(PlainLines):
    """Says nothing, and calls `asked` once, when it is told of generation 1."""

    def __init__(self, asked=None):
        super().__init__(interval=0)
        self.asked = asked

    def say(self, text):
        if self.asked and text.startswith("generation 1/"):
            asked, self.asked = self.asked, None
            asked()


def run(config, path, asked=None):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment.workdir_report, "write", lambda found: None)  # pictures are not what is tested
        experiment.run(config, path, cache=str(path.parent), show=Show(asked))
    return path


def read(path):
    """Rows by run and generation."""
    rows = results.load(path).rows
    return {(row["loop"], row["seed"], row["generation"]): row for row in rows}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert {k: v for k, v in found[key].items() if k not in METRICS} == {
            k: v for k, v in row.items() if k not in METRICS
        }
        np.testing.assert_allclose([found[key][m] for m in METRICS], [row[m] for m in METRICS], rtol=1e-3, err_msg=key)


@pytest.fixture(scope="module")
def on_host(weights, tmp_path_factory):
    """Ten runs on four devices, three each: the last one is padded."""
    return run(config(weights), tmp_path_factory.mktemp("host") / "work")


def test_rows_are_those_of_the_network_within_the_program(on_host, weights, tmp_path, monkeypatch):
    rows = read(on_host)
    assert len(rows) == 2 * SEEDS * 2
    assert len({row["fd"] for row in rows.values()}) > SEEDS  # the runs differ, so that mixed-up ones would show
    assert all(row["features"].startswith(f"dinov2-{DIM}-1:") for row in rows.values())
    monkeypatch.setattr(features, "on_host", lambda name: False)
    within = run(config(weights), tmp_path / "work")
    assert_same(rows, read(within))
    floors = [json.loads((path / "reference.json").read_text()) for path in (on_host, within)]
    assert floors[0] == floors[1]


def test_rows_do_not_depend_on_devices_waves_or_stops(on_host, weights, tmp_path, monkeypatch):
    """Three waves of at most four runs on one device, stopped after a generation, beside three runs on each of four."""
    device = jax.local_devices()[0]
    monkeypatch.setattr(jax, "local_devices", lambda *_: [device])
    settings = config(weights, max_runs_per_device=4)
    with pytest.raises(experiment.Stopped):
        run(settings, tmp_path / "work", lambda: signal.raise_signal(signal.SIGTERM))
    assert len(read(tmp_path / "work")) < len(read(on_host))
    assert_same(read(run(settings, tmp_path / "work")), read(on_host))
