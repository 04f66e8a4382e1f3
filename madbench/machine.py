"""The devices a job is planned for: those that are here, or, for a dry run, those of a cluster."""

import dataclasses
import re

import jax

from madbench import fleet, processes
from madbench.errors import UserError

# Memory in GiB and dense bfloat16 TFLOP/s of a device, as their makers publish them; for the v5p and v4 of a chip.
KINDS = {
    "A100": (80, 312),
    "H100": (80, 989),
    "H200": (141, 989),
    "v4": (32, 275),
    "v5e": (16, 197),
    "v5p": (95, 459),
    "v6e": (32, 918),
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices of one kind.

    Attributes:
      hosts: processes.
      devices: of all hosts.
      platform: as JAX names it.
      memory: bytes of a device that a plan may use; 0 where unknown.
      flops: of a device in a second, as published; 0 for those that are here and can be measured.
      name: for people; "" for those that are here.
    """

    hosts: int
    devices: int
    platform: str
    memory: int
    flops: float = 0.0
    name: str = ""


def here(memory_fraction: float) -> Machine:
    """The devices of all processes; a plan is one for all, so the smallest memory counts."""
    limit = fleet.memory_limit(jax.local_devices()[0], memory_fraction)
    limit = min(processes.exchange(limit))
    return Machine(jax.process_count(), len(fleet.all_devices()), jax.local_devices()[0].platform, limit)


def parse(text: str, memory_fraction: float) -> Machine:
    """Reads "4x8 H100": hosts, devices of each, and their kind.

    Raises:
      UserError: it is not of this form; one line.
    """
    found = re.fullmatch(r"(\d+)x(\d+) ?([a-zA-Z]\w*)?", text.strip())
    kinds = {kind.lower(): kind for kind in KINDS}
    known = f"the kinds are {', '.join(KINDS)}"
    if not found or not int(found[1]) * int(found[2]):
        raise UserError(f"--on={text!r} is not HOSTSxDEVICES and a kind, as in '4x8 H100'; {known}")
    if not found[3]:
        raise UserError(f"--on={text!r} lacks the kind of the devices, as in '{found[0]} H100'; {known}")
    if found[3].lower() not in kinds:
        raise UserError(f"--on={text!r}: nothing is known of devices of the kind {found[3]!r}; {known}")
    kind = kinds[found[3].lower()]
    gib, tflops = KINDS[kind]
    platform = "tpu" if kind.startswith("v") else "gpu"
    hosts, each = int(found[1]), int(found[2])
    memory = int(memory_fraction * gib * 2**30)
    return Machine(
        hosts, hosts * each, platform, memory, tflops * 1e12, f"{hosts} host{'s'[: hosts > 1]} x {each} {kind}"
    )
