"""Whether a job can be run, and what is odd about it: refusals in one line each, and notes, before anything starts."""

import contextlib
import dataclasses
from typing import Any

from madbench import loops, models
from madbench.data.source import at_most_a_third
from madbench.errors import UserError
from madbench.runs import Run


def check_names(runs: list[Run]) -> None:
    """Refuses runs whose files would have one name: "ratio=1e+1" and "ratio=1e-1", or one loop in two spellings."""
    names: dict[str, Run] = {}
    for run in runs:
        name = run.slug
        if name in names:
            raise UserError(
                f"loops {names[name].loop.name} and {run.loop.name} would share the files of {name}; write numbers and "
                "quotes in another way, or leave one out"
            )
        names[name] = run


def same_loops(parsed: list[loops.Loop]) -> list[str]:
    """A note on each loop that has another's settings: presets of different papers may agree."""
    return [
        f"loops {other.name} and {loop.name} are the same loop under two names"
        for i, loop in enumerate(parsed)
        for other in parsed[:i]
        if dataclasses.replace(other, name=loop.name) == loop
    ]


def without_effect(given: models.Given, family: models.Family, settings: dict[str, Any]) -> list[str]:
    """A note on each setting of the model that was changed and changes nothing: another word made it idle."""
    defaults = models.FAMILIES.settings(settings["family"])
    notes = []
    for name in (name for name, value in settings.items() if name in defaults and value != defaults[name]):
        # A default of 0 may stand for what is given: then another number tells whether any would do.
        others = [defaults[name], *([2 * settings[name]] if type(settings[name]) in (int, float) else [])]
        with contextlib.suppress(UserError):  # another does not go with the rest: so it matters
            if all(models.build(given=given, **settings | {name: other}) == family for other in others):
                notes.append(f"config.model.{name}={settings[name]!r} changes nothing beside the other settings")
    return notes


def check_reference(metrics, source) -> None:
    n_reference = source.reference.x.shape[0]
    for metric in metrics:
        if n_reference < metric.min_samples:
            raise UserError(
                f"config.data.n_reference must be at least {metric.min_samples} for {metric.name}, not {n_reference}"
            )


def check_real_data(parsed, source, generations: int, reuse: bool) -> list[str]:
    """Refuses loops that need more real samples than there are."""
    if source.available is None:
        return []
    n_reference = source.reference.x.shape[0]
    total = n_reference + source.available
    if 2 * n_reference > source.available:
        raise UserError(
            f"config.data.n_reference={n_reference} leaves {source.available} of the {total} samples to train on, and "
            f"the metrics' floors draw two real sets of that size from them; {at_most_a_third(total)}"
        )
    notes = []
    for loop in parsed:
        needed = loop.real_needed(generations)
        if loop.n_initial > source.available or (needed > source.available and not reuse):
            reusable = ", or set config.data.reuse_fresh=True" if loop.n_initial <= source.available else ""
            raise UserError(
                f"loop {loop.name} needs {needed} real samples ({loop.n_initial} initial, then {loop.n_fresh} fresh in "
                f"each of {generations - 1} generations), and the training pool of {source.name} has "
                f"{source.available}; lower n_initial, n_fresh or generations{reusable}"
            )
        if needed > source.available:
            notes.append(f"loop {loop.name} meets fresh samples more than once: {needed} of {source.available}")
    return notes


def check_family(family, plain, parsed, runs) -> None:
    for loop in parsed:
        for t in range(1, plain["generations"] + 1):
            size = loop.size(t)
            if size < family.min_samples:
                raise UserError(
                    f"loop {loop.name}: generation {t} trains on {size} sample(s), and {plain['model']['family']} "
                    f"needs at least {family.min_samples}; let the loop have more, or change the model's settings"
                )
            if size < family.batch_size:
                raise UserError(
                    f"loop {loop.name}: generation {t} trains on {size} samples, fewer than "
                    f"config.model.batch_size={family.batch_size}; lower that, or let the loop have more (n_initial, …)"
                )
    biased = [run for run in runs if run.bias != 1]
    if biased and family.bias_refusal:
        raise UserError(
            f"λ={biased[0].bias:g} has no meaning for this {plain['model']['family']}: {family.bias_refusal}; "
            "set config.biases=(1.0,)"
        )
