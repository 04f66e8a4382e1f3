"""Seconds that the feature networks take for 100 images, beside PyTorch where it is installed, and how far they agree.

python benchmarks/features.py [--networks=inception,dinov2] [--images=64]

Weights are those of tests/torch_references.py: a formula's. Resizing is part of the time. PyTorch's networks are
torch-fidelity's and timm's.
"""

import pathlib
import sys
import tempfile
import time

import jax
import numpy as np
from absl import app, flags, logging

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
import torch_references as references

from madbench import fleet
from madbench.metrics.features import dinov2, dinov2_network, inception, inception_network

FLAGS = flags.FLAGS
flags.DEFINE_list("networks", ["inception", "dinov2"], "Which ones; dinov2 is the small one.")
flags.DEFINE_integer("images", 64, "So many, of 32x32 pixels.", lower_bound=1)
flags.DEFINE_integer("repeats", 3, "Measurements, of which the fastest counts.", lower_bound=1)

HEADER = ("network", "images", "s per 100 images", "GFLOP/s", "of matmul", "PyTorch, s per 100", "largest difference")
FLOPS = {"inception": 11.4e9, "dinov2": 12.2e9}  # of one image's matrix products


def small_dinov2() -> dict[str, np.ndarray]:
    """A state dict of ViT-S/14 for 224 pixels under Meta's names."""
    shapes = {"cls_token": (1, 1, 384), "pos_embed": (1, 257, 384)}
    layers = {"patch_embed.proj": (384, 3, 14, 14), "norm": (384,)}
    for i in range(12):
        block = {"norm1": (384,), "norm2": (384,), "attn.qkv": (1152, 384), "attn.proj": (384, 384)}
        block |= {"mlp.fc1": (1536, 384), "mlp.fc2": (384, 1536)}
        layers |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
        shapes |= {f"blocks.{i}.ls{j}.gamma": (384,) for j in (1, 2)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {name: references.weights(name, shape) for name, shape in shapes.items()}


def ours(name: str):
    if name == "dinov2":
        return dinov2.extractor(dinov2_network.canonical(small_dinov2()))
    return inception.extractor(references.inception_state(inception_network.expected()), "0" * 64)


def theirs(name: str, levels: np.ndarray):
    """(features, seconds) of PyTorch's network, or None where it is not installed."""
    try:
        import torch

        if name == "dinov2":
            import timm

            model = references.fill(timm.create_model("vit_small_patch14_dinov2", img_size=224, num_classes=0))
            call = lambda x: model(torch.from_numpy(references.transform(x).transpose(0, 3, 1, 2).copy()))
        else:
            with tempfile.TemporaryDirectory() as folder:
                model = references.inception(pathlib.Path(folder) / "inception.pth")
            call = lambda x: model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))[0]
    except ImportError:
        return None
    with torch.no_grad():
        parts = np.array_split(levels, -(-len(levels) // 32))
        return timed(lambda: np.concatenate([call(part).numpy() for part in parts]))


def timed(function):
    """(its result, seconds of the fastest call); the first call compiles and does not count."""
    result, seconds = function(), []
    for _ in range(FLAGS.repeats):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return result, min(seconds)


def row(name: str, levels: np.ndarray, matmul: float) -> list[str]:
    extractor, n = ours(name), len(levels)
    seen, seconds = timed(lambda: extractor.extract((levels / 127.5 - 1).astype(np.float32)))
    rate = FLOPS[name] * n / seconds
    cells = [name, n, f"{100 * seconds / n:.1f}", f"{rate / 1e9:.0f}", f"{rate / matmul:.0%}"]
    reference = theirs(name, levels)
    if reference is None:
        return [*cells, "not installed", "not installed"]
    difference = np.abs(seen - reference[0]).max() / np.abs(reference[0]).max()
    return [*cells, f"{100 * reference[1] / n:.1f}", f"{difference:.1e}"]


def main(_):
    logging.set_verbosity(logging.ERROR)
    levels = np.random.default_rng(0).integers(0, 256, (FLAGS.images, 32, 32, 3)).astype(np.uint8)
    matmul = fleet.matmul_rate()
    print(f"{jax.devices()[0].device_kind}, {jax.__version__}; a large matrix product {matmul / 1e9:.0f} GFLOP/s\n")
    print("| " + " | ".join(HEADER) + " |\n|---" + "|--:" * (len(HEADER) - 1) + "|")
    for name in FLAGS.networks:
        print("| " + " | ".join(map(str, row(name, levels, matmul))) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
