"""DINOv2's class token (Oquab et al., arXiv 2304.07193): 384, 768, 1,024 or 1,536 features.

Preprocessing is that of the evaluation that made it known (Stein et al., arXiv 2306.04675; dgm-eval): 8-bit levels as
in an image file, Pillow's bicubic resizing to 224x224, ImageNet's mean and standard deviation. That work's FD uses the
large network. The file says which network it is: Hugging Face's `model.safetensors`, or Meta's
`dinov2_vit?14_pretrain.pth`.
"""

import hashlib
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
import safetensors
import safetensors.numpy

from madbench.errors import UserError
from madbench.metrics.features import dinov2_network as network
from madbench.metrics.features import images, torch_file, weights
from madbench.metrics.features.extractor import Extractor

VERSION = 1
BATCH = 32
SIDE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
FILES = ("dinov2-large/model.safetensors", "dinov2_vitl14_pretrain.pth")
SOURCE = (
    "model.safetensors from https://huggingface.co/facebook/dinov2-large, or dinov2_vitl14_pretrain.pth from "
    "https://github.com/facebookresearch/dinov2"
)
DIM = 1024  # of the large network, which is the usual one
SIZES = {384: "s14", 768: "b14", 1024: "l14", 1536: "g14"}
CLASS_TOKEN = ("embeddings.cls_token", "cls_token")


def check(shape: tuple[int, ...], num_classes: int) -> None:
    """Raises UserError unless there are images to see."""
    images.check("dinov2", shape)


def dim(shape: tuple[int, ...], cache: str = "", path: str = "") -> int:
    """Number of features, off the file's header.

    Raises:
      UserError: the file is missing, or is none of DINOv2's.
    """
    file = _locate(cache, path)
    shapes = _shapes(file)
    for name in CLASS_TOKEN:
        if shapes.get(name):
            return shapes[name][-1]
    raise _unfit(file, CLASS_TOKEN[0])


def build(pool, num_classes: int, cache: str, path: str = "") -> Extractor:
    """Reads the weights from `path`, or those of the large network from `cache`.

    Raises:
      UserError: the file is missing, or is none of DINOv2's; one line.
    """
    file = _locate(cache, path)
    tensors = _read(file)
    if any("register_tokens" in name for name in tensors):
        raise UserError(f"{file} is DINOv2 with registers; the published evaluations use the networks without them")
    try:
        return extractor(network.canonical(tensors))
    except (KeyError, ValueError, IndexError) as error:
        raise _unfit(file, str(error.args[0] if error.args else error)) from None


def extractor(state: Mapping[str, np.ndarray], offset: float = network.OFFSET) -> Extractor:
    """The extractor of `network.canonical` tensors; the label has their hash, whatever file they came in."""
    params = network.from_torch(state, SIDE, offset)
    model = network.sized(params)
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(name.encode() + np.ascontiguousarray(state[name], np.float32).tobytes())
    size = SIZES.get(model.dim, str(model.dim))
    return Extractor(params, _features, f"dinov2-{size}-{VERSION}:{found.hexdigest()[:12]}", BATCH)


def prepare(x: jax.Array) -> jax.Array:
    """`[n, height, width, 1 or 3]` in [-1, 1] -> float32 `[n, 224, 224, 3]`, as the network takes it."""
    return (images.resize_bicubic(images.levels(x), SIDE) / 255.0 - MEAN) / DEVIATION


def _locate(cache: str, path: str) -> pathlib.Path:
    return weights.locate("dinov2", path, cache, FILES, SOURCE)


def _read(file: pathlib.Path) -> dict[str, np.ndarray]:
    if file.suffix != ".safetensors":
        return torch_file.read(file)
    return _safely(file, lambda: safetensors.numpy.load_file(file))


def _shapes(file: pathlib.Path) -> dict[str, tuple[int, ...]]:
    if file.suffix != ".safetensors":
        return torch_file.shapes(file)

    def read() -> dict[str, tuple[int, ...]]:
        with safetensors.safe_open(file, "numpy") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118

    return _safely(file, read)


def _safely(file: pathlib.Path, read):
    try:
        return read()
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        detail = "".join(letter for letter in str(error) if letter.isprintable())[:120]
        raise UserError(f"cannot read {file}: {detail}") from None


def _unfit(file: pathlib.Path, name: str) -> UserError:
    return UserError(f"{file} does not hold DINOv2's weights: {name!r} is missing, left over, or of another shape")


def _features(params, x: jax.Array) -> jax.Array:
    return network.sized(params).apply({"params": params}, prepare(x))
