"""On what a job ran: versions, devices, plan, source code, dataset."""

import contextlib
import hashlib
import json
import os
import pathlib
import platform
import re
from collections.abc import Callable
from importlib import metadata

import jax

from madbench import grid, results

PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "scikit-learn"),
    *("tensorflow-datasets", "ml-collections", "absl-py"),
)


def write(path: pathlib.Path, job: grid.Job, warn: Callable[[str], None]) -> None:
    """Writes `environment.json`. A later start elsewhere is added to it under "resumed_with", with a warning."""
    device = jax.local_devices()[0]
    versions = {p: metadata.version(p) for p in PACKAGES}
    environment = {
        "schema": results.SCHEMA,
        "versions": {"madbench": results.__version__, "python": platform.python_version(), **versions},
        "platform": "-".join(filter(None, (platform.system(), platform.machine(), *platform.libc_ver()))),
        "processor": _processor(),
        "device": {"kind": device.device_kind, "platform": device.platform, "count": jax.device_count()},
        "processes": jax.process_count(),
        "plan": {
            name: getattr(job.plan, name)
            for name in (
                "runs",
                "devices",
                "group_size",
                "runs_per_device",
                "wave_size",
                "waves",
                "stepwise",
                "streamed_steps",
            )
        },
        "source_sha256": _source_hash(),
        "dataset": dict(job.source.fingerprint),
    }
    if path.exists():
        before = json.loads(path.read_text())
        if {**before, "resumed_with": None} != {**environment, "resumed_with": None}:
            warn("warning: this start differs from the first in versions, devices or code; see environment.json")
            before.setdefault("resumed_with", []).append(environment)
        environment = before
    results.write_object(path, environment)


def _processor() -> str:
    """ "2 cores of AMD EPYC"."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*: (.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found[1] if found else name
    return f"{os.cpu_count()} cores of {' '.join(name.split())}"


def _source_hash() -> str:
    """sha256 over the package's Python files."""
    root = pathlib.Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
