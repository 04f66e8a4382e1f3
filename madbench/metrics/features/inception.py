"""InceptionV3's 2,048 pool features, with the weights and the preprocessing behind the published FIDs.

The weights are TensorFlow's of December 2015 in the PyTorch file of pytorch-fid, which torch-fidelity has under another
name. Samples become 8-bit levels as in an image file, are resized to 299x299 as TensorFlow 1 does, and scaled by
(level - 128) / 128: what the original FID code (Heusel et al. 2017) and torch-fidelity do. pytorch-fid resizes with
centred pixels, so its FIDs differ slightly.
"""

import jax

from madbench.errors import UserError
from madbench.metrics.features import images, torch_file, weights
from madbench.metrics.features import inception_network as network
from madbench.metrics.features.extractor import Extractor

VERSION = 1
BATCH = 32
DIM = network.DIM
# One file under two names; 95,628,359 bytes.
FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SOURCE = (
    f"{FILES[0]} (sha256 {SHA256}) from the release 'fid_weights' of pytorch-fid, "
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILES[0]}"
)


def check(shape: tuple[int, ...], num_classes: int) -> None:
    """Raises UserError unless there are images to see."""
    images.check("inception", shape)


def dim(shape: tuple[int, ...], cache: str = "", path: str = "") -> int:
    """Number of features."""
    return network.DIM


def build(pool, num_classes: int, cache: str, path: str = "") -> Extractor:
    """Reads the weights from `path`, or from `cache` under their public names.

    Raises:
      UserError: the file is missing or another one; one line.
    """
    file = weights.locate("inception", path, cache, FILES, SOURCE)
    found = weights.digest(file)
    if found != SHA256:
        raise UserError(
            f"{file} is not the file of the FID weights: its sha256 begins with {found[:16]}, not {SHA256[:16]}; "
            f"get {SOURCE}"
        )
    return extractor(torch_file.read(file), found)


def extractor(state, digest: str) -> Extractor:
    """The extractor of a state dict. The label has the first digits of `digest`, the sha256 of its file."""
    return Extractor(network.from_torch(state), _features, f"inception-{VERSION}:{digest[:12]}", BATCH)


def prepare(x: jax.Array) -> jax.Array:
    """`[n, height, width, 1 or 3]` in [-1, 1] -> float32 `[n, 299, 299, 3]`, as the network takes it."""
    return (images.resize_bilinear(images.levels(x), network.SIDE) - 128.0) / 128.0


def _features(params, x: jax.Array) -> jax.Array:
    return network.Inception().apply({"params": params}, prepare(x))
