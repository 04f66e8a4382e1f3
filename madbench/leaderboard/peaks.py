"""How many FLOPs a second a kind of device can do at most, as its vendor publishes it: what a claimed speed may need.

Dense matrix products in bfloat16 or float16, the fastest that JAX multiplies float32 with unless told otherwise, of a
whole chip or board; a core of it is less. Speeds beyond twice that (`MARGIN`) are of another device than was named.
"""

import re
from collections.abc import Mapping
from typing import Any

MARGIN = 2
# TFLOP/s by a part of JAX's `device_kind`, which stands there as words of their own. The longest one that fits counts.
_PEAKS = {
    "TPU v2": 45, "TPU v3": 123, "TPU v4": 275, "TPU v4 lite": 138, "TPU v5": 459, "TPU v5p": 459,
    "TPU v5 lite": 197, "TPU v5e": 197, "TPU v6 lite": 918, "TPU v6e": 918, "TPU7x": 2307, "TPU v7": 2307,
    "P100": 21, "V100": 130, "T4": 65, "A2": 18, "A10": 125, "A10G": 125, "A16": 72, "A30": 165, "A40": 150,
    "A100": 312, "L4": 121, "L40": 181, "L40S": 362, "H20": 148, "H100": 989, "H200": 989, "GH200": 989,
    "B200": 2250, "B300": 2500, "GB200": 2500, "GB300": 2500, "RTX 3090": 142, "RTX 4090": 330, "RTX 5090": 419,
    "RTX A6000": 155, "MI210": 181, "MI250": 383, "MI250X": 383, "MI300X": 1307, "MI325X": 1307, "MI355X": 2500,
}  # fmt: skip
_UNKNOWN = 10_000  # four times the fastest of these
_CORE = 0.32  # of a CPU: two products of 16 float32 a cycle, which are 64 FLOPs, at 5 GHz
_MOST_CORES = 512  # where the processor is not named with their number


def most(environment: Mapping[str, Any]) -> float:
    """FLOPs a second that no job goes beyond on the devices that its starts name.

    Args:
      environment: content of environment.json, of its form.
    """
    starts = [environment, *environment.get("resumed_with", [])]
    return MARGIN * max(_of_start(start) for start in starts)


def _of_start(start: Mapping[str, Any]) -> float:
    device = start["device"]
    if device["platform"] == "cpu":  # its devices share the cores, and each process may be on another machine
        cores = re.match(r"(\d{1,4}) cores? of ", start["processor"])
        return 1e12 * _CORE * (max(int(cores[1]), 1) if cores else _MOST_CORES) * start["processes"]
    return 1e12 * peak(device["kind"]) * device["count"]


def peak(kind: str) -> float:
    """TFLOP/s of one device; of an unknown one what none has yet."""
    fits = [name for name in _PEAKS if re.search(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", kind, re.IGNORECASE)]
    return _PEAKS[max(fits, key=len)] if fits else _UNKNOWN


def seconds(flops: float, environment: Mapping[str, Any]) -> float:
    """The least time that so many FLOPs take there."""
    return flops / most(environment) if flops else 0.0
