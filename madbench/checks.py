"""Checks of single settings of a config, each with one line for the user."""

import math
from typing import Any

from madbench.errors import UserError


def check_whole(group: str, least: int, **settings: Any) -> None:
    """Raises UserError unless each of `settings` (of `group`, "config.data") is a whole number of at least `least`."""
    for name, value in settings.items():
        if type(value) is not int or value < least:
            raise UserError(f"{group}.{name} must be a whole number of at least {least}, not {value!r}")


def check_number(
    group: str,
    value: Any,
    name: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Raises UserError unless `GROUP.NAME` is a finite number with least <= value, above < value < below."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{group}.{name} must be a number, not {value!r}")
    if math.isfinite(value) and least <= value and above < value < below:
        return
    limits = [f"at least {least:g}"] * (least > -math.inf) + [f"above {above:g}"] * (above > -math.inf)
    limits += [f"below {below:g}"] * (below < math.inf)
    limits += ["finite"] * (not math.isfinite(value))
    raise UserError(f"{group}.{name} must be {' and '.join(limits)}, not {value!r}")
