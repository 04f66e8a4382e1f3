"""The fit of madbench's diffusion model as a plain, eager PyTorch training loop: one run at a time.

`fleet.py` starts this file, perhaps with another Python: it needs torch and numpy, neither JAX nor madbench. It reads
what to do from a JSON file and prints JSON.
"""

import argparse
import json
import math
import os
import platform
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

FREQUENCIES = 16
CONDITION = 64


class ResidualMLP(nn.Module):
    """`madbench.networks.ResidualMLP`; `dense` lists its layers in the order in which Flax numbers them."""

    def __init__(self, dimension: int, num_labels: int, width: int, depth: int):
        super().__init__()
        self.num_labels = num_labels
        self.condition = nn.Linear(2 * FREQUENCIES + num_labels, CONDITION)
        block = [(CONDITION, 2 * width), (width, width), (width, width)]
        sizes = [(dimension, width), *block * depth, (width, dimension), (CONDITION, dimension)]
        self.dense = nn.ModuleList(nn.Linear(*size) for size in sizes)
        self.register_buffer("frequencies", torch.tensor(np.geomspace(0.5, 8.0, FREQUENCIES), dtype=torch.float32))
        for layer in (self.condition, *self.dense):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
        for layer in self.dense[3:-2:3]:  # the last of each block
            nn.init.normal_(layer.weight, std=(0.1 / width) ** 0.5)
        for layer in self.dense[-2:]:
            nn.init.zeros_(layer.weight)

    def forward(self, x: torch.Tensor, noise: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """`[n, dimension], [n], [n] -> [n, dimension]`."""
        angle = 2 * math.pi * noise[:, None] * self.frequencies
        one_hot = F.one_hot(label, self.num_labels) * self.num_labels**0.5
        condition = F.silu(self.condition(torch.cat([angle.sin(), angle.cos(), one_hot], dim=-1)))
        first, *blocks, last, gain = self.dense
        h = first(x)
        for film, before, after in zip(blocks[::3], blocks[1::3], blocks[2::3], strict=True):
            scale, shift = film(condition).chunk(2, dim=-1)
            h = h + after(F.silu(before(F.silu(h)) * (1 + scale) + shift))
        return last(F.silu(h)) + gain(condition) * x


class Training:
    """One run: the network, Adam, the average of its weights, and the learning rate's schedule."""

    def __init__(self, spec: dict, device: torch.device):
        self.spec = spec
        self.net = ResidualMLP(spec["dimension"], spec["num_classes"] + 1, spec["width"], spec["depth"]).to(device)
        self.start()

    def start(self) -> None:
        """A new optimizer and a new average, at the network's present weights."""
        self.parameters = list(self.net.parameters())
        self.ema = [p.detach().clone() for p in self.parameters]
        self.adam = torch.optim.Adam(self.parameters, lr=0.0, betas=(0.9, 0.99), eps=1e-8)
        self.taken = 0

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Weights by Flax's names, and a new start from them."""
        with torch.no_grad():
            for name, layer in self._named():
                layer.weight.copy_(torch.from_numpy(arrays[f"{name}/kernel"].T.copy()))
                layer.bias.copy_(torch.from_numpy(arrays[f"{name}/bias"]))
        self.start()

    def arrays(self, prefix: str, values: list[torch.Tensor]) -> dict[str, np.ndarray]:
        """`values`, in the order of the parameters, by Flax's names."""
        value = dict(zip(map(id, self.parameters), values, strict=True))
        found = {}
        for name, layer in self._named():
            found[f"{prefix}/{name}/kernel"] = value[id(layer.weight)].detach().cpu().numpy().T
            found[f"{prefix}/{name}/bias"] = value[id(layer.bias)].detach().cpu().numpy()
        return found

    def _named(self):
        yield "Condition_0/Dense_0", self.net.condition
        for index, layer in enumerate(self.net.dense):
            yield f"Dense_{index}", layer

    def draw(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A batch with replacement, some labels hidden, noise levels and noise."""
        spec, n = self.spec, self.spec["batch_size"]
        index = torch.randint(len(x), (n,), device=x.device)
        batch, label = x[index], y[index]
        if spec["num_classes"]:
            hidden = torch.rand(n, device=x.device) < spec["label_dropout"]
            label = torch.where(hidden, spec["num_classes"], label)
        sigma = torch.exp(spec["p_mean"] + spec["p_std"] * torch.randn(n, device=x.device))
        return batch, label, sigma, torch.randn_like(batch)

    def step(self, x: torch.Tensor, label: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """One optimizer step on what `draw` gave; returns the loss, on the device."""
        spec, data = self.spec, self.spec["sigma_data"]
        variance = sigma**2 + data**2
        scale = variance.rsqrt()
        noised = x + sigma[:, None] * noise
        f = self.net(scale[:, None] * noised, sigma.log() / 4, label)
        denoised = (data**2 / variance)[:, None] * noised + (sigma * data * scale)[:, None] * f
        if spec["bounds"]:
            denoised = denoised + (denoised.clamp(*spec["bounds"]) - denoised).detach()
        weight = variance / (sigma * data) ** 2
        loss = (weight * (denoised - x).square().mean(dim=1)).mean()
        self.adam.zero_grad(set_to_none=True)
        loss.backward()

        progress = min((self.taken + 0.5) / spec["total_steps"], 1.0)
        rise = min(progress / spec["warmup"], 1.0) if spec["warmup"] else 1.0
        for group in self.adam.param_groups:
            group["lr"] = spec["learning_rate"] * rise * 0.5 * (1 + math.cos(math.pi * progress))
        self.adam.step()
        self.taken += 1
        keep = (1 - 1 / self.taken) ** (spec["ema_exponent"] + 1)
        with torch.no_grad():
            for average, parameter in zip(self.ema, self.parameters, strict=True):
                average.lerp_(parameter, 1 - keep)
        return loss.detach()


def measure(spec: dict, x: torch.Tensor, y: torch.Tensor) -> dict:
    """Steps per second of `repeats` stretches, each of whole fits of `steps` steps for at least `seconds`."""
    training = Training(spec, x.device)
    with FlopCounterMode(display=False) as counter:
        training.step(*training.draw(x, y))

    def fit() -> float:
        training.start()
        _wait(x.device)
        begin = time.perf_counter()
        losses = [training.step(*training.draw(x, y)) for _ in range(spec["steps"])]
        torch.stack(losses).cpu()
        _wait(x.device)
        return time.perf_counter() - begin

    fit()  # warm-up
    rates = []
    for _ in range(spec["repeats"]):
        seconds = [fit()]
        while sum(seconds) < spec["seconds"]:
            seconds.append(fit())
        rates.append(len(seconds) * spec["steps"] / sum(seconds))
    return {"steps_per_second": rates, "flops_per_step": counter.get_total_flops()}


def verify(spec: dict, given: dict[str, np.ndarray], device: torch.device) -> dict[str, np.ndarray]:
    """The network's output for given weights and inputs, then the weights after training on given draws."""
    training = Training(spec, device)
    training.load({name.removeprefix("params/"): a for name, a in given.items() if name.startswith("params/")})
    tensor = lambda name: torch.from_numpy(given[name]).to(device)
    with torch.no_grad():
        out = training.net(tensor("x"), tensor("noise"), tensor("label").long())
    draws = [tensor(f"draw/{name}") for name in ("x", "label", "sigma", "noise")]
    losses = [training.step(x, label.long(), sigma, noise) for x, label, sigma, noise in zip(*draws, strict=True)]
    after = training.arrays("params", training.parameters) | training.arrays("ema", training.ema)
    return {"out": out.cpu().numpy(), "losses": torch.stack(losses).cpu().numpy(), **after}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", help="JSON file, as fleet.py writes it")
    with open(parser.parse_args().spec) as file:
        spec = json.load(file)
    device = torch.device("cuda" if spec["platform"] == "gpu" and torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    given = dict(np.load(spec["data"]))
    report = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "cores": os.cpu_count(),
    }
    if spec["verify"]:
        np.savez(spec["answer"], **verify(spec, given, device))
    else:
        torch.set_float32_matmul_precision("high")  # TF32 where the GPU has it, XLA's default too; no effect on CPU
        x = torch.from_numpy(given["x"]).to(device)
        report |= measure(spec, x, torch.from_numpy(given["y"]).long().to(device))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
