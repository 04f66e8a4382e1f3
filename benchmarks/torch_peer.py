"""The PyTorch loop as `fleet.py` sees it: starts it, and checks that it does the same work."""

import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from madbench import grid
from madbench.models import Group
from madbench.networks import ResidualMLP
from madbench.samples import Samples
from madbench.training_set import GatheredSet

VERIFY_STEPS = 11  # a prime beyond 10: the family then makes all of them in one call of its fit
TOLERANCE = 1e-5  # of the network's output, relative to its largest value where that exceeds 1
TOLERANCE_TRAINED = 1e-3  # of what training changed, relative, in the Euclidean norm
HOW_TO_GET_TORCH = "no torch in this Python; pip install torch, or --torch_python=PATH of a Python with it"


@dataclasses.dataclass(frozen=True)
class Peer:
    """The PyTorch loop, in a process of its own.

    Attributes:
      python: that has torch; "" for this one, where it has.
      steps: optimizer steps of each run in one stretch.
      repeats: measurements.
      seconds: each repeats its stretches for about this long.
    """

    python: str
    steps: int
    repeats: int
    seconds: float

    @property
    def why_not(self) -> str:
        """Why there is nothing to start, or ""."""
        return "" if self.python or importlib.util.find_spec("torch") else HOW_TO_GET_TORCH

    def run(self, spec: dict[str, Any], folder: pathlib.Path, arrays: dict[str, Any]) -> dict[str, Any]:
        """Runs `torch_loop.py` to its end, while this process waits.

        Raises:
          RuntimeError: it failed; with its last line.
        """
        np.savez(folder / "data.npz", **arrays)
        (folder / "spec.json").write_text(json.dumps(spec))
        python = self.python or sys.executable
        command = [python, str(pathlib.Path(__file__).with_name("torch_loop.py")), str(folder / "spec.json")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise RuntimeError(f"{python} did not start: {error.strerror}") from error
        if done.returncode:
            raise RuntimeError(f"{python} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        return json.loads(done.stdout)


def spec_of(job: grid.Job, peer: Peer, folder: pathlib.Path, *, verify: bool) -> dict[str, Any]:
    """What `torch_loop.py` needs to know of a job."""
    family = job.family
    given = family.given
    names = "batch_size learning_rate warmup label_dropout ema_exponent sigma_data p_mean p_std"
    return {
        **{name: getattr(family, name) for name in names.split()},
        "num_classes": given.num_classes,
        "bounds": given.bounds,
        "dimension": int(np.prod(given.shape)),
        "width": family.net.width,
        "depth": family.net.depth,
        "total_steps": family.steps,
        "steps": peer.steps,
        "repeats": peer.repeats,
        "seconds": peer.seconds,
        "platform": jax.default_backend(),
        "verify": verify,
        "data": str(folder / "data.npz"),
        "answer": str(folder / "answer.npz"),
    }


def real_samples(job: grid.Job) -> Samples:
    """The training set of generation 1, on the host, flat."""
    source = job.source
    real = source.at(source.order(jax.random.key(0)), jnp.arange(job.config["n_initial"]))
    return Samples(np.asarray(real.x).reshape(len(real.y), -1), np.asarray(real.y))


def measure(job: grid.Job, peer: Peer) -> dict[str, Any]:
    """The report of `torch_loop.py`, or {"note": why there is none}."""
    why_not = peer.why_not or _other_network(job)
    if why_not:
        return {"note": f"not measured: {why_not}"}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        try:
            return peer.run(spec_of(job, peer, folder, verify=False), folder, real_samples(job)._asdict())
        except RuntimeError as error:
            return {"note": f"not measured: {error}"}


def _other_network(job: grid.Job) -> str:
    return "" if isinstance(job.family.net, ResidualMLP) else "the PyTorch loop knows config.model.network=mlp alone"


def verify(job: grid.Job, peer: Peer) -> bool:
    """Same weights, inputs and draws for both: compares outputs, then a short training in every part of the state."""
    why_not = peer.why_not or _other_network(job)
    if why_not:
        print(why_not)
        return False
    family = dataclasses.replace(alone(job.family), steps=VERIFY_STEPS)
    given = family.given
    n, shape = family.batch_size, given.shape
    state = family.init(jax.random.key(1))
    leaves, tree = jax.tree.flatten(state.params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    # Added noise: no layer is all zeros, as some are at first.
    params = tree.unflatten([p + 0.03 * jax.random.normal(k, p.shape) for k, p in zip(keys, leaves, strict=True)])
    state = state._replace(params=params, ema=params)
    x_key, noise_key, label_key, fit_key = jax.random.split(jax.random.key(3), 4)
    x, noise = jax.random.normal(x_key, (n, *shape)), jax.random.normal(noise_key, (n,))
    label = jax.random.randint(label_key, (n,), 0, given.num_classes + 1)
    real = real_samples(job)
    samples = Samples(real.x.reshape(-1, *shape), real.y)
    training_set = GatheredSet(jax.tree.map(jnp.asarray, samples), jnp.int32(len(real.y)), jax.random.key(4))

    with jax.default_matmul_precision("highest"):
        out = jax.jit(family.net.apply)({"params": params}, x, noise, label)
        trained, curve = jax.jit(family.fit)(fit_key, training_set, state)
    draws = [draw(family, fit_key, step, training_set) for step in range(VERIFY_STEPS)]
    given = {
        **by_name("params", params),
        **{"x": np.asarray(x).reshape(n, -1), "noise": noise, "label": label},
        **{f"draw/{name}": np.stack([d[name] for d in draws]) for name in draws[0]},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        spec = spec_of(job, peer, folder, verify=True) | {"total_steps": VERIFY_STEPS}
        try:
            report = peer.run(spec, folder, given)
        except RuntimeError as error:
            print(error)
            return False
        answer = dict(np.load(folder / "answer.npz"))

    out = np.asarray(out).reshape(n, -1)
    checks = [("output of the network", np.abs(answer["out"] - out).max() / max(1, np.abs(out).max()), TOLERANCE)]
    before = by_name("", params)
    for part, ours in (("params", trained.params), ("ema", trained.ema)):
        ours = by_name("", ours)
        size = sum(np.square(ours[k] - before[k]).sum() for k in ours)
        error = sum(np.square(answer[part + k] - ours[k]).sum() for k in ours)
        checks.append((f"{part} after {VERIFY_STEPS} steps", np.sqrt(error / size), TOLERANCE_TRAINED))
    loss = float(curve.mean())
    checks.append((f"loss over {VERIFY_STEPS} steps", abs(answer["losses"].mean() / loss - 1), TOLERANCE_TRAINED))
    print(f"jax {jax.__version__} on {jax.default_backend()}, torch {report['torch']} on {report['device']}")
    for what, error, limit in checks:
        print(f"{what:24} relative difference {error:.1e}, at most {limit:.0e}: {'ok' if error <= limit else 'WRONG'}")
    return all(error <= limit for _, error, limit in checks)


def alone(family: Any) -> Any:
    """The family of a run that has a device to itself."""
    return dataclasses.replace(family, given=dataclasses.replace(family.given, group=Group()))


def draw(family: Any, fit_key: jax.Array, step: int, training_set: GatheredSet) -> dict[str, np.ndarray]:
    """The random numbers of one step, as `Edm` draws them."""
    label_key, sigma_key, noise_key = jax.random.split(jax.random.fold_in(fit_key, step), 3)
    n, given = family.batch_size, family.given
    batch = training_set.batch(step, n)
    hidden = jax.random.bernoulli(label_key, family.label_dropout if given.num_classes else 0.0, (n,))
    found = {
        "x": batch.x.reshape(n, -1),
        "label": jnp.where(hidden, given.num_classes, batch.y),
        "sigma": jnp.exp(family.p_mean + family.p_std * jax.random.normal(sigma_key, (n,))),
        "noise": jax.random.normal(noise_key, batch.x.shape).reshape(n, -1),
    }
    return {name: np.asarray(value) for name, value in found.items()}


def by_name(prefix: str, params: Any) -> dict[str, np.ndarray]:
    """`{"params/Dense_0/kernel": …}`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {prefix + "/" + "/".join(k.key for k in path): np.asarray(leaf) for path, leaf in leaves}
