"""What PyTorch's own implementations make of networks and images that a formula gives, for tests of the features.

Tests compare with these functions where PyTorch is installed, and always with `tests/data/features.npz`, which
    python tests/torch_references.py
writes: it needs torch, torchvision, torch-fidelity, transformers and timm, and nothing of madbench.
"""

import pathlib
import zlib

import numpy as np

STORED = pathlib.Path(__file__).parent / "data" / "features.npz"
# name -> samples, height, width, channels
IMAGES = {"small": (2, 32, 32, 3), "grey": (2, 28, 40, 1), "large": (1, 310, 330, 3)}
# name -> settings of a DINOv2 network; `meta` interpolates position embeddings as Meta's code does
TRANSFORMERS = {
    "plain": {"image_size": 224, "use_swiglu_ffn": False, "meta": False},
    "resized": {"image_size": 70, "use_swiglu_ffn": False, "meta": False},
    "meta": {"image_size": 70, "use_swiglu_ffn": False, "meta": True},
    "gated": {"image_size": 518, "use_swiglu_ffn": True, "meta": True},
}
SIZES = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 14, "mlp_ratio": 4}


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 in [-1, 1) from the name alone; raw bits of a bit generator are the same in every NumPy."""
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    return ((bits >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)).reshape(shape)


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of a state dict such that activations keep their size from layer to layer, and nothing is trivial."""
    value = uniform(name, shape)
    if name.endswith(("running_var", "lambda1", "gamma")):
        return 1 + value / 2
    if len(shape) > 1 and name.endswith("weight"):
        return value * np.float32((6 / np.prod(shape[1:])) ** 0.5)
    return value / 4 + np.float32(name.endswith("weight"))


def inception_state(like, prefix: str = "") -> dict[str, np.ndarray]:
    """The state dict that `inception` fills, from `inception_network.expected()`: names and shapes are PyTorch's."""
    if "conv" not in like:
        parts = [inception_state(value, f"{prefix}{key}.") for key, value in like.items()]
        return {name: value for part in parts for name, value in part.items()}
    height, width, inputs, outputs = like["conv"]["kernel"].shape
    shapes = {"conv.weight": (outputs, inputs, height, width)}
    shapes |= {f"bn.{leaf}": (outputs,) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return {prefix + leaf: weights(prefix + leaf, shape) for leaf, shape in shapes.items()}


def levels(name: str) -> np.ndarray:
    """uint8 images `[n, height, width, channels]`: ramps that wrap around, so that there are smooth parts and edges."""
    n, i, j, c = np.indices(IMAGES[name])
    return ((7 * i + 13 * j + (n + 2) * (i * j) // 16 + 50 * c) % 256).astype(np.uint8)


def samples(name: str) -> np.ndarray:
    """The same images as samples in [-1, 1]."""
    return (levels(name) / 127.5 - 1).astype(np.float32)


def channels_first(name: str):
    """uint8 tensor `[n, 3, height, width]`."""
    import torch

    x = np.broadcast_to(levels(name), (*IMAGES[name][:3], 3))
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def fill(module):
    """The module with `weights` in all its tensors."""
    import torch

    state = {k: torch.from_numpy(weights(k, tuple(v.shape))) for k, v in module.state_dict().items() if v.ndim}
    module.load_state_dict(state, strict=False)
    return module.eval()


def inception(path: pathlib.Path):
    """torch-fidelity's extractor; its state dict is stored at `path` as PyTorch stored files before 1.6."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Extractor

    if not path.exists():
        load, Extractor.load_state_dict = Extractor.load_state_dict, lambda self, state: None
        try:
            torch.save({}, path)
            empty = Extractor("inception", ["2048"], str(path))
        finally:
            Extractor.load_state_dict = load
        torch.save(fill(empty).state_dict(), path, _use_new_zipfile_serialization=False)
    return Extractor("inception", ["2048"], str(path))


def inception_inputs(name: str) -> np.ndarray:
    """`[n, 299, 299, 3]`, what that extractor's network is given."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x as resize

    x = (resize(channels_first(name).float(), (299, 299), align_corners=False) - 128) / 128
    return x.numpy().transpose(0, 2, 3, 1)


def dinov2(name: str):
    """transformers' network; "meta" with position embeddings interpolated by the call that Meta's code makes."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    settings = dict(TRANSFORMERS[name])
    meta = settings.pop("meta")
    model = Dinov2Model(Dinov2Config(**SIZES, **settings))
    table = model.embeddings.position_embeddings

    def interpolate(embeddings, height, width):
        old = settings["image_size"] // 14
        grid = table[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
        factors = tuple((side // 14 + 0.1) / old for side in (height, width))
        grid = torch.nn.functional.interpolate(grid, scale_factor=factors, mode="bicubic")
        return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)

    if meta:
        model.embeddings.interpolate_pos_encoding = interpolate
    return _fill_as_stored(model)


def _fill_as_stored(model):
    """`fill` under the names that tensors have in the file, which are not those within transformers."""
    import tempfile

    from safetensors.numpy import load_file, save_file

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        path = pathlib.Path(folder) / "model.safetensors"
        save_file({k: weights(k, v.shape) for k, v in load_file(path).items()}, path, {"format": "pt"})
        filled = type(model).from_pretrained(folder)
    model.load_state_dict(filled.state_dict())
    return model.eval()


def dinov2_inputs(name: str) -> np.ndarray:
    """`[n, 224, 224, 3]`, by the transforms of dgm-eval."""
    return transform(channels_first(name).numpy().transpose(0, 2, 3, 1))


def transform(x: np.ndarray) -> np.ndarray:
    """The same for uint8 images `[n, height, width, 3]`."""
    from PIL import Image
    from torchvision import transforms

    steps = transforms.Compose(
        [
            transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return np.stack([steps(Image.fromarray(image)).numpy().transpose(1, 2, 0) for image in x])


def features(model, x: np.ndarray) -> np.ndarray:
    """Of a transformer, for `x [n, 224, 224, 3]`."""
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).pooler_output.numpy()


def stored() -> dict[str, np.ndarray]:
    """What the file should hold."""
    import tempfile

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        network = inception(pathlib.Path(folder) / "inception.pth")
    for name in IMAGES:
        found[f"inception/{name}"] = network(channels_first(name))[0].numpy()[:, ::64]
        found[f"inception_inputs/{name}"] = inception_inputs(name)[:, 3::59, 5::59]
        found[f"dinov2_inputs/{name}"] = dinov2_inputs(name)[:, 3::43, 5::43]
    for name in TRANSFORMERS:
        found[f"dinov2/{name}"] = features(dinov2(name), dinov2_inputs("small"))[:, ::4]
    return found


if __name__ == "__main__":
    np.savez_compressed(STORED, **stored())
    print(f"{STORED}: {STORED.stat().st_size} bytes")
