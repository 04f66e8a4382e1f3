"""The suite's own feature network: a small LeNet classifier (LeCun et al. 1998) for images up to 32x32.

It is trained once on the real training pool, deterministically, and cached by the hash of everything it depends on.
Other versions of JAX, and other processors, round differently and end in other weights, whose numbers cannot be
compared. For the bundled digits, on which tasks of the leaderboard are built, the weights are a part of the suite.
Features are the 84 activations before the last layer (F6 in the paper). MAD (arXiv 2307.01850) judges MNIST on
"features of LeNet" without saying which layer, nor how it was trained; this file pins both.
"""

import hashlib
import json
import os
import pathlib
import warnings
import zipfile
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from madbench.errors import UserError
from madbench.metrics.features.extractor import Extractor
from madbench.samples import decode

VERSION = 1
DIM = 84
BUNDLED = pathlib.Path(__file__).parent / "bundled"
RECIPE = {
    "version": VERSION,
    "steps": 500,
    "batch_size": 128,
    "learning_rate": 6e-3,
    "weight_decay": 1e-2,
    "seed": 0,
}


class LeNet(nn.Module):
    """`x [n, height, width, channels] -> (features [n, 84], logits [n, num_classes])`."""

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        kernel = 3 if max(x.shape[1:3]) < 16 else 5
        for channels in (16, 32):
            x = _halve(nn.relu(nn.Dense(channels)(_patches(x, kernel))))
        x = nn.relu(nn.Dense(120)(x.reshape(x.shape[0], -1)))
        features = nn.relu(nn.Dense(DIM)(x))
        return features, nn.Dense(self.num_classes)(features)


def _patches(x: jax.Array, side: int) -> jax.Array:
    """The `side` x `side` neighbourhood of each pixel along the channels: a convolution is then a matrix product."""
    reach = side // 2
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(side) for j in range(side)]
    return jnp.concatenate(shifts, axis=-1)


def _halve(x: jax.Array) -> jax.Array:
    """The maximum of each 2x2 square; an odd last row or column is dropped."""
    n, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def check(shape: tuple[int, ...], num_classes: int) -> None:
    """Raises UserError unless there are small labelled images to train on."""
    if len(shape) != 3 or not 4 <= min(shape[:2]) <= max(shape[:2]) <= 32:
        raise UserError(f"features 'lenet' see images of 4x4 to 32x32, not {shape}; try 'raw'")
    if num_classes < 2:
        raise UserError("features 'lenet' are trained on labels, and these data have none; try 'raw'")


def dim(shape: tuple[int, ...], cache: str = "") -> int:
    """Number of features."""
    return DIM


def build(pool, num_classes: int, cache: str) -> Extractor:
    """Loads the network trained on `pool` from what is bundled or from `cache`, or trains it and stores it there."""
    x, y = np.asarray(pool.x), np.asarray(pool.y)
    digest = hashlib.sha256(json.dumps([RECIPE, x.shape, num_classes], sort_keys=True).encode())
    digest.update(x if x.flags.c_contiguous else x.tobytes())
    digest.update(y.tobytes())
    bundled = BUNDLED / f"lenet-{digest.hexdigest()[:16]}.npz"
    digest.update(f"{jax.__version__} {jax.default_backend()}".encode())
    path = pathlib.Path(cache) / f"lenet-{digest.hexdigest()[:16]}.npz"
    like = jax.eval_shape(LeNet(num_classes).init, jax.random.key(0), decode(x[:1]))["params"]
    params = _load(bundled, like)
    if params is None:
        params = _load(path, like)
    if params is None:
        params = jax.tree.map(np.asarray, train(x, y, num_classes))
        try:
            _store(path, params)
        except OSError as error:
            warnings.warn(
                f"cannot keep the feature network in {path.parent} ({error.strerror}); it is trained anew each time "
                "unless --cache names a directory that can be written",
                stacklevel=2,
            )
    weights = hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(params))).hexdigest()
    return Extractor(params=params, function=_features, label=f"lenet-{VERSION}:{weights[:12]}")


def _features(params, x: jax.Array) -> jax.Array:
    return LeNet(params["Dense_4"]["bias"].shape[-1]).apply({"params": params}, x)[0]


def train(x: np.ndarray, y: np.ndarray, num_classes: int):
    """Adam with decoupled weight decay and a cosine schedule, batches shifted by up to one pixel.

    Args:
      x: `[n, height, width, channels]`, float32 in [-1, 1] or uint8.
      y: int32 `[n]`.
      num_classes: of `y`.
    """
    net = LeNet(num_classes)
    key = jax.random.key(RECIPE["seed"])
    params = net.init(key, decode(x[:1]))["params"]
    schedule = optax.cosine_decay_schedule(RECIPE["learning_rate"], RECIPE["steps"])
    optimizer = optax.adamw(schedule, weight_decay=RECIPE["weight_decay"])
    labels = jnp.asarray(y)
    black = 0 if x.dtype == np.uint8 else -1.0
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=black)

    def loss(params, image, label):
        return optax.softmax_cross_entropy_with_integer_labels(
            net.apply({"params": params}, decode(image))[1], label
        ).mean()

    @jax.jit
    def step(params, state, i):
        index_key, shift_key = jax.random.split(jax.random.fold_in(key, i + 1))
        index = jax.random.randint(index_key, (RECIPE["batch_size"],), 0, x.shape[0])
        row, column = jax.random.randint(shift_key, (2,), 0, 3)  # one shift a batch: a shift an image is slow
        image = jax.lax.dynamic_slice(padded[index], (0, row, column, 0), (RECIPE["batch_size"], *x.shape[1:]))
        update, state = optimizer.update(jax.grad(loss)(params, image, labels[index]), state, params)
        return optax.apply_updates(params, update), state

    state = optimizer.init(params)
    for i in range(RECIPE["steps"]):
        params, state = step(params, state, jnp.int32(i))
    return params


def _load(path: pathlib.Path, like):
    """The cached weights, or None where there are none, or the file is damaged or of another network."""
    params: dict = {}
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            for name in file.files:
                layer, leaf = name.split("/")
                params.setdefault(layer, {})[leaf] = file[name]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    describe = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
    return params if describe(params) == describe(like) else None


def _store(path: pathlib.Path, params) -> None:
    """Written beside its place and moved there whole, so that no reader meets half a file."""
    flat = {f"{layer}/{leaf}": value for layer, leaves in params.items() for leaf, value in leaves.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with open(draft, "wb") as file:
        np.savez(file, **flat)
    os.replace(draft, path)
