"""Configs: complete from the start, resolved to plain values, and refused in one line where they make no sense."""

import inspect
import json
import re

import pytest
from ml_collections import ConfigDict

from madbench import grid
from madbench.config import base, resolve
from madbench.data import SOURCES
from madbench.models import FAMILIES


def changed(source="digits", family="diffusion", **fields) -> ConfigDict:
    """A base config with fields set whatever their type; `data__n_reference` is `config.data.n_reference`."""
    plain = base(source, family).to_dict()
    for name, value in fields.items():
        *path, last = name.split("__")
        inner = plain
        for part in path:
            inner = inner[part]
        inner[last] = value
    return ConfigDict(plain)


def refused(function, config, message) -> str:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        function(config)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# -------------------------------------------------------------------------------------------------------------- base


def test_a_base_of_nothing_known_is_refused():
    refused(base, "nowhere", "unknown dataset 'nowhere'; config.data.source is one of digits, ")
    refused(lambda family: base(family=family), "none", "unknown model family 'none'; config.model.family is one of ")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_config_is_complete(source, family):
    """Every keyword with a default of the source and the family is there to be overridden."""
    import importlib

    config = base(source, family)
    for module, function, found in (
        (SOURCES[source], "load", config.data),
        (FAMILIES[family], "build", config.model),
    ):
        signature = inspect.signature(getattr(importlib.import_module(module), function))
        for name, parameter in signature.parameters.items():
            if parameter.default is not inspect.Parameter.empty:
                assert found[name] == parameter.default, name
    assert config.data.source == source
    assert config.model.family == family
    plain = resolve(config)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["seeds"] == [0, 1, 2]


def test_a_family_lists_the_fields_of_the_dataclass_behind_it():
    model = base("digits", "diffusion").model
    for name, value in {"steps": 1000, "batch_size": 128, "epochs": 0.0, "sigma_max": 80.0, "network": "mlp"}.items():
        assert model[name] == value
    assert not {"net", "shape", "num_classes", "group"} & set(model)
    assert dict(base("gaussian", "gaussian").model) == {"family": "gaussian", "ddof": 1}


def test_resolving_leaves_the_config_alone():
    config = base()
    before = config.to_dict()
    resolve(config)["metrics"]["names"].append("more")
    assert config.to_dict() == before


# ----------------------------------------------------------------------------------------------------------- resolve


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [(1, [0]), (4, [0, 1, 2, 3]), ((7, 3), [7, 3]), ([5], [5]), ((2**32 - 1,), [2**32 - 1])],
)
def test_seeds_are_how_many_or_which(seeds, expected):
    config = base()
    config.seeds = seeds
    assert resolve(config)["seeds"] == expected


@pytest.mark.parametrize(
    ("loops", "expected"),
    [
        (("replace",), ["replace"]),
        (["replace", "accumulate"], ["replace", "accumulate"]),
        (("replace,accumulate",), ["replace", "accumulate"]),
        (("fresh_data(n_fresh=1, n_synthetic=2), replace",), ["fresh_data(n_fresh=1,n_synthetic=2)", "replace"]),
        (('memory_k(memory="all")', "replace"), ['memory_k(memory="all")', "replace"]),
    ],
)
def test_loops_split_at_commas_outside_parentheses(loops, expected):
    assert resolve(changed(loops=loops))["loops"] == expected


def test_biases_become_floats():
    assert resolve(changed(biases=(1, 0.5)))["biases"] == [1.0, 0.5]
    assert type(resolve(changed(biases=(1,)))["biases"][0]) is float


REFUSED = [
    ({"loops": ()}, "config.loops must be a list that is not empty"),
    ({"loops": "replace"}, "config.loops must be a list that is not empty, not 'replace'"),
    ({"loops": (3,)}, "config.loops holds 3"),
    ({"loops": ("replace", "replace")}, "loop 'replace' is repeated in config.loops"),
    ({"loops": ("replace,accumulate,replace",)}, "loop 'replace' is repeated"),
    ({"loops": ("fresh_data(n_fresh=1)", "fresh_data( n_fresh = 1 )")}, "is repeated in config.loops"),
    ({"loops": ("fresh_data(n_fresh=1)", "fresh_data(\tn_fresh=1)")}, "is repeated in config.loops"),
    ({"loops": ("fresh_data(n_fresh=1",)}, "unbalanced parentheses"),
    ({"loops": ("fresh_data)",)}, "unbalanced parentheses"),
    ({"biases": ()}, "config.biases must be a list"),
    ({"biases": 1.0}, "config.biases must be a list"),
    ({"biases": (0.0,)}, "λ must lie in (0, 1], not 0.0"),
    ({"biases": (1.5,)}, "λ must lie in (0, 1], not 1.5"),
    ({"biases": (1e-50,)}, "λ must lie in (0, 1], not 1e-50"),
    ({"biases": (float("nan"),)}, "λ must lie in (0, 1], not nan"),
    ({"biases": ("1",)}, "λ must lie in (0, 1], not '1'"),
    ({"biases": (True,)}, "λ must lie in (0, 1], not True"),
    ({"biases": (1.0, 0.5, 1)}, "λ 1.0 is repeated in config.biases"),
    ({"seeds": 0}, "config.seeds must be at least 1, not 0"),
    ({"seeds": -1}, "config.seeds must be at least 1, not -1"),
    ({"seeds": 20260101}, "for that one seed, write (20260101,)"),
    ({"seeds": ()}, "config.seeds must be a list"),
    ({"seeds": 1.5}, "config.seeds must be a list"),
    ({"seeds": True}, "config.seeds must be a list"),
    ({"seeds": "3"}, "config.seeds must be a list"),
    ({"seeds": (1, 2, 1)}, "seed 1 is repeated in config.seeds"),
    ({"seeds": (-1,)}, "a seed is a whole number from 0 to 2^32 - 1, not -1"),
    ({"seeds": (2**32,)}, "a seed is a whole number"),
    ({"seeds": (1.0,)}, "a seed is a whole number"),
    ({"seeds": (True,)}, "a seed is a whole number"),
    ({"generations": 0}, "config.generations must be a whole number of at least 1, not 0"),
    ({"generations": 2.0}, "config.generations must be a whole number"),
    ({"generations": "5"}, "config.generations must be a whole number"),
    ({"generations": True}, "config.generations must be a whole number"),
    ({"n_initial": 0}, "config.n_initial must be a whole number of at least 1"),
    ({"n_initial": None}, "config.n_initial must be a whole number"),
    ({"n_grid": -1}, "config.n_grid must be a whole number of at least 0"),
    ({"keep_checkpoints": 0}, "config.keep_checkpoints must be a whole number of at least 1"),
    ({"fleet__max_runs_per_device": -1}, "config.fleet.max_runs_per_device must be a whole number of at least 0"),
    ({"fleet__memory_fraction": 0.0}, "config.fleet.memory_fraction must lie in (0, 1]"),
    ({"fleet__memory_fraction": 1.1}, "config.fleet.memory_fraction must lie in (0, 1]"),
    ({"fleet__memory_fraction": float("nan")}, "config.fleet.memory_fraction must lie in (0, 1]"),
    ({"fleet__memory_fraction": "half"}, "config.fleet.memory_fraction must lie in (0, 1]"),
    ({"task": ""}, "config.task must be a name"),
    ({"task": 3}, "config.task must be a name"),
    ({"metrics__names": ()}, "config.metrics.names must be a list"),
    ({"metrics__names": "fd"}, "config.metrics.names must be a list"),
    ({"metrics": 3}, "config.metrics must hold fields"),
    ({"fleet": None}, "config.fleet must hold fields"),
    ({"data": "digits"}, "config.data must hold fields"),
    ({"model": ()}, "config.model must hold fields"),
    ({"data__reuse_fresh": "yes"}, "config.data.reuse_fresh must be True or False, not 'yes'"),
    ({"stepz": 3}, "config.stepz is unknown"),
    ({"metrics__k": 3}, "config.metrics.k is unknown"),
    ({"fleet__devices": 3}, "config.fleet.devices is unknown"),
]


@pytest.mark.parametrize(
    ("fields", "message"), REFUSED, ids=[f"{i}-{next(iter(f))}" for i, (f, _) in enumerate(REFUSED)]
)
def test_configs_that_make_no_sense_are_refused_in_one_line(fields, message):
    refused(resolve, changed(**fields), message)


@pytest.mark.parametrize(
    "name",
    [
        "task",
        "seeds",
        "data",
        "metrics.names",
        "fleet.memory_fraction",
        "data.source",
        "data.reuse_fresh",
        "model.family",
    ],
)
def test_missing_fields_are_named(name):
    plain = base().to_dict()
    *path, last = name.split(".")
    inner = plain
    for part in path:
        inner = inner[part]
    del inner[last]
    refused(resolve, ConfigDict(plain), f"config.{name} is missing; start configs from madbench.config.base()")


# ----------------------------------------------------------------------------------------------------------- prepare


def small(source="digits", family="diffusion", **fields):
    defaults = {"n_initial": 100, "generations": 3, "seeds": 1, "metrics__features": "raw", "data__n_reference": 100}
    if family == "diffusion":
        defaults |= {"model__width": 16, "model__depth": 1, "model__steps": 20, "model__batch_size": 32}
    return changed(source, family, **defaults | fields)


def test_settings_that_change_nothing_are_told():
    config = small(model__heads=3, model__timesteps=600, model__width=30)
    notes = [note.partition("=")[0] for note in grid.prepare(config).notes if "changes nothing" in note]
    assert notes == ["config.model.heads", "config.model.timesteps"]
    config = small(model__heads=3, model__timesteps=600, model__width=30, model__network="transformer")
    config.model.parameterization = "ddpm"
    assert not [note for note in grid.prepare(config).notes if "heads" in note or "timesteps" in note]


def test_presets_that_agree_are_told():
    job = grid.prepare(small(loops=("replace", "fully_synthetic", "memory_k(memory=1)", "accumulate")))
    assert job.notes[0] == "loops replace and fully_synthetic are the same loop under two names"
    assert len([note for note in job.notes if "two names" in note]) == 3


def test_planned_cells_keep_what_a_name_stood_for():
    (cell,) = grid.prepare(small(loops=("memory_k",))).planned
    assert cell["loop"] == "memory_k"
    assert cell["settings"]["memory"] == 5
    assert cell["settings"]["n_synthetic"] == 100


def test_a_grid_is_loops_then_biases_then_seeds():
    job = grid.prepare(
        small(loops=("replace", "fully_synthetic(bias=0.7)", "accumulate"), biases=(1.0, 0.5), seeds=(4, 2))
    )
    found = [(run.loop.name, run.bias, run.seed) for run in job.runs]
    assert found == [
        ("replace", 1.0, 4),
        ("replace", 1.0, 2),
        ("replace", 0.5, 4),
        ("replace", 0.5, 2),
        ("fully_synthetic(bias=0.7)", 0.7, 4),
        ("fully_synthetic(bias=0.7)", 0.7, 2),
        ("accumulate", 1.0, 4),
        ("accumulate", 1.0, 2),
        ("accumulate", 0.5, 4),
        ("accumulate", 0.5, 2),
    ]
    assert [(cell["loop"], cell["bias"]) for cell in job.planned] == list(dict.fromkeys(f[:2] for f in found))
    cells = job.cells(job.runs)
    assert cells.seed.tolist() == [4, 2] * 5
    assert cells.bias.dtype == "float32"
    assert cells.loop.memory.dtype == "int32"
    assert cells.loop.n_fixed.tolist() == [0] * 6 + [100] * 4
    assert job.generations == 3
    assert job.fit_flops() == job.costs["fit"].flops * job.family.segments
    assert job.sample_flops() == job.costs["finish"].flops > 0


def test_epochs_set_the_steps_of_the_largest_training_set():
    """Two passes over 200 samples in batches of 32 are 12.5 steps."""
    job = grid.prepare(small(loops=("synthetic_augmentation",), model__epochs=2.0))
    assert job.family.steps == 13


PREPARE_REFUSED = {
    "too much fresh data": (
        small(loops=("fresh_data(n_fresh=900)",)),
        "loop fresh_data(n_fresh=900) needs 1900 real samples (100 initial, then 900 fresh in each of 2 generations), "
        "and the training pool of digits has 1697",
    ),
    "initial data that is not there": (
        small(n_initial=1698, data__reuse_fresh=True),
        "needs 1698 real samples (1698 initial, then 0 fresh in each of 2 generations)",
    ),
    "a batch larger than the first set": (
        small(model__batch_size=101),
        "loop fully_synthetic: generation 1 trains on 100 samples, fewer than config.model.batch_size=101",
    ),
    "a batch larger than a later set": (
        small(loops=("fully_synthetic(n_synthetic=31)",)),
        "generation 2 trains on 31 samples, fewer than config.model.batch_size=32",
    ),
    "a batch larger than the budget": (
        small(loops=("accumulate_subsample(budget=20)",)),
        "generation 1 trains on 20 samples, fewer than config.model.batch_size=32",
    ),
    "one sample for a variance": (
        small("gaussian", "gaussian", loops=("fully_synthetic(n_synthetic=1)",)),
        "generation 2 trains on 1 sample(s), and gaussian needs at least 2",
    ),
    "guidance without labels": (
        small("gaussian", biases=(1.0, 0.8)),
        "λ=0.8 has no meaning for this diffusion: guidance needs class labels",
    ),
    "a loop's guidance without labels": (
        small("gaussian", loops=("fully_synthetic(bias=0.5)",)),
        "λ=0.5 has no meaning for this diffusion",
    ),
    "a reference of more than half": (
        small(data__n_reference=899),
        "config.data.n_reference=899 leaves 898 of the 1797 samples to train on",
    ),
    "a reference of all": (small(data__n_reference=1797), "must leave training data of the 1797 samples in digits"),
    "a reference of five": (small(data__n_reference=5), "config.data.n_reference must be at least 6"),
    "an endless reference of five": (
        small("gaussian", "gaussian", data__n_reference=5),
        "config.data.n_reference must be at least 6",
    ),
    "a reference as text": (small(data__n_reference="all"), "config.data.n_reference=all must leave"),
    "lenet on vectors": (small("gaussian", metrics__features="lenet"), "features 'lenet' see images of 4x4 to 32x32"),
    "unknown features": (small(metrics__features="vgg"), "unknown features 'vgg'; choose from"),
    "an unknown metric": (small(metrics__names=("fd", "fid")), "unknown metric 'fid'; FID is 'fd' with Inception"),
    "a metric twice": (small(metrics__names=("fd", "fd")), "metric 'fd' is named twice"),
    "an unknown family": (
        small(model__family="oracle"),
        "unknown model family 'oracle'; config.model.family is one of",
    ),
    "an unknown dataset": (small(data__source="faces"), "unknown dataset 'faces'; config.data.source is one of"),
    "an unknown loop": (small(loops=("mobius",)), "unknown loop 'mobius'; choose from fully_synthetic"),
    "an unknown setting of a loop": (small(loops=("replace(n=3)",)), "loop replace(n=3): unknown setting 'n'"),
    "a loop that cannot be read": (small(loops=("replace,,accumulate",)), "cannot read loop ''"),
    "a setting of another family": (
        small(model__family="gaussian"),
        "does not fit family 'gaussian', which",
    ),
    "a setting of another source": (
        small(data__source="gaussian", data__colour="red"),
        "config.data.colour does not fit source 'gaussian', which takes dimension, n_reference, split_seed",
    ),
    "no steps": (small(model__steps=0), "config.model.steps must be a whole number of at least 1, not 0"),
    "no batch, in epochs": (
        small(model__batch_size=0, model__epochs=1.0),
        "config.model.batch_size must be a whole number of at least 1, not 0",
    ),
    "endless epochs": (small(model__epochs=float("inf")), "config.model.epochs must be at least 0 and finite, not inf"),
    "undefined epochs": (
        small(model__epochs=float("nan")),
        "config.model.epochs must be at least 0 and finite, not nan",
    ),
    "negative epochs": (small(model__epochs=-1.0), "config.model.epochs must be at least 0, not -1.0"),
    "epochs as text": (small(model__epochs="two"), "config.model.epochs must be a number, not 'two'"),
    "a bad ddof": (small("gaussian", "gaussian", model__ddof=2), "config.model.ddof must be 0 or 1"),
}


@pytest.mark.parametrize("name", PREPARE_REFUSED)
def test_jobs_that_cannot_be_are_refused_in_one_line(name):
    refused(grid.prepare, *PREPARE_REFUSED[name])


def test_help_that_would_not_help_is_not_offered():
    """No reuse of fresh data provides more initial data than there is."""
    text = refused(grid.prepare, small(n_initial=1698), "needs 1698 real samples")
    assert "reuse_fresh" not in text


def test_fresh_data_may_be_reused_with_a_note():
    job = grid.prepare(small("digits", "gaussian", loops=("fresh_data(n_fresh=900)",), data__reuse_fresh=True))
    assert job.notes == ["loop fresh_data(n_fresh=900) meets fresh samples more than once: 1900 of 1697"]
    assert grid.prepare(small("digits", "gaussian")).notes == []


def test_exactly_enough_real_data_is_enough():
    """100 initial and twice 798 or 799 fresh samples of 1697."""
    assert grid.prepare(small("digits", "gaussian", loops=("fresh_data(n_fresh=798)",))).notes == []
    refused(grid.prepare, small("digits", "gaussian", loops=("fresh_data(n_fresh=799)",)), "needs 1698 real samples")


def test_a_job_too_large_for_its_memory_is_refused_in_one_line():
    config = small("gaussian", "gaussian", data__dimension=2, n_initial=10**9, fleet__memory_fraction=1e-9)
    refused(grid.prepare, config, "one run needs about")


def test_resolved_values_prepare_the_same_job():
    config = small("digits", "gaussian")
    plain = resolve(config)
    again = json.loads(json.dumps(plain))
    assert grid.prepare(again).runs == grid.prepare(config).runs
    assert again == plain


def test_an_earlier_starts_waves_are_kept():
    config = small("digits", "gaussian", seeds=6)
    assert grid.prepare(config).plan.waves == 1
    plan = grid.prepare(config, wave_size=4).plan
    assert (plan.wave_size, plan.waves) == (4, 2)
