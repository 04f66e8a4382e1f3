"""The config of `madbench phase`: its fields, their checks, and the grid of cells that it stands for."""

import copy
import dataclasses
import math
from typing import Any

from ml_collections import config_dict

from madbench import config as configs
from madbench.checks import check_number, check_whole
from madbench.errors import UserError

EXACT_METRICS = ("w2", "mean")  # distances of the fitted Gaussian itself, without samples
COVARIANCES = ("full", "diagonal")
_AS_IN_RUN = ("task", "data", "model", "biases", "seeds", "metrics", "fleet", "keep_checkpoints")
_START = "start configs from madbench.phase.base()"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One point of the map: a loop that gets `n_real` new real and `n_synthetic` synthetic samples each generation.

    Attributes:
      n_real: n_r.
      n_synthetic: n_s, drawn from the model before.
      bias: λ.
    """

    n_real: int
    n_synthetic: int
    bias: float

    @property
    def share(self) -> float:
        """a = n_s / (n_r + n_s): how much of a loop's past is left after one more generation."""
        return self.n_synthetic / (self.n_real + self.n_synthetic)


def base(source: str = "gaussian", family: str = "gaussian") -> config_dict.ConfigDict:
    """A complete config of `madbench phase`, and what `--config.…` can override.

    `task`, `data`, `model`, `biases`, `seeds`, `metrics`, `fleet` and `keep_checkpoints` are those of `madbench run`.

    Raises:
      UserError: an unknown source or family; one line.
    """
    run = configs.base(source=source, family=family)
    config = config_dict.ConfigDict()
    for name in ("task", "data", "model"):
        config[name] = run[name]
    config.n_real = (100,)  # n_r: new real samples in each generation
    config.n_synthetic = ()  # n_s, as numbers ...
    config.ratios = (0.0, 1.0)  # ... and as multiples of each n_r; the map holds both
    config.max_ratio = 0.0  # leaves out cells with n_s above so many n_r; 0: none
    config.biases = (1.0,)  # λ in (0, 1]
    config.seeds = config_dict.FieldReference(8, field_type=object)  # how many, or which
    config.metric = "w2"  # Gaussian on gaussian: w2, or mean; elsewhere one of metrics.names
    config.covariance = "full"  # of a Gaussian loop with w2 or mean; diagonal: d loops of one dimension each
    config.forget = 0.01  # share of its start that a loop still holds when averaging begins
    config.averaged = 8  # generations that are averaged after that, by seed
    config.real_only = ()  # sizes of the purely real fits that n_e is read from; (): chosen to cover the map
    config.metrics = {"names": ("fd",), "features": "raw"}  # of trained families
    config.fleet = run.fleet
    config.keep_checkpoints = run.keep_checkpoints
    return config


def resolve(config: config_dict.ConfigDict) -> dict[str, Any]:
    """Plain values for JSON, checked.

    Raises:
      UserError: a field is missing, unknown, or of the wrong kind; one line.
    """
    plain = copy.deepcopy(config.to_dict())
    known = base().to_dict()
    for name in sorted(plain.keys() ^ known.keys()):
        raise UserError(f"config.{name} is {'unknown' if name in plain else 'missing'}; {_START}")
    if not isinstance(plain["data"], dict) or not isinstance(plain["model"], dict):
        raise UserError(f"config.data and config.model must hold fields; {_START}")
    run = configs.base().to_dict() | {name: plain[name] for name in _AS_IN_RUN}
    checked = configs.resolve(config_dict.ConfigDict(run, convert_dict=True))
    plain |= {name: checked[name] for name in _AS_IN_RUN}

    for name, least, most in (("n_real", 2, 10**9), ("n_synthetic", 0, 10**9), ("real_only", 2, 10**9)):
        plain[name] = _numbers(
            plain[name], name, lambda v, least=least, most=most: type(v) is int and least <= v <= most
        )
    plain["ratios"] = _numbers(plain["ratios"], "ratios", lambda v: type(v) in (int, float) and 0 <= v <= 10**6)
    if not plain["n_real"]:
        raise UserError("config.n_real is empty: the map needs at least one size")
    if not plain["n_synthetic"] and not plain["ratios"]:
        raise UserError("config.n_synthetic and config.ratios are both empty: the map needs sizes of synthetic data")
    check_number("config", plain["max_ratio"], "max_ratio", least=0)
    check_number("config", plain["forget"], "forget", above=0, below=1)
    check_whole("config", 2, averaged=plain["averaged"])
    if plain["covariance"] not in COVARIANCES:
        raise UserError(f"config.covariance must be one of {', '.join(COVARIANCES)}, not {plain['covariance']!r}")
    if len(plain["seeds"]) < 2:
        raise UserError("config.seeds: an effective size has no uncertainty with one seed; ask for two or more")
    if not is_exact(plain):
        _check_trained(plain)
    if not cells(plain):
        raise UserError("config.max_ratio leaves no cell; raise it, or lower config.n_synthetic")
    return plain


def _check_trained(plain: dict[str, Any]) -> None:
    names = plain["metrics"]["names"]
    if plain["metric"] in EXACT_METRICS:
        raise UserError(
            f"config.metric={plain['metric']} is a distance of Gaussians on the source gaussian; for "
            f"{plain['model']['family']} on {plain['data']['source']} choose one of config.metrics.names: "
            f"{', '.join(names)}"
        )
    if plain["metric"] not in names:
        raise UserError(f"config.metric={plain['metric']} is not measured; config.metrics.names: {', '.join(names)}")


def _numbers(value: Any, name: str, fits) -> list:
    """A list of numbers, sorted, each once."""
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise UserError(f"config.{name} must be a list of numbers, not {value!r}")
    for each in value:
        if isinstance(each, bool) or not fits(each):
            raise UserError(f"config.{name} holds {each!r}, which is no number of its range")
    return sorted(set(value))


def is_exact(config: dict[str, Any]) -> bool:
    """Whether the loops are Gaussians on the Gaussian, measured by their fit: those need no samples."""
    gaussian = config["model"]["family"] == "gaussian" and config["data"]["source"] == "gaussian"
    return gaussian and config["metric"] in EXACT_METRICS


def cells(config: dict[str, Any]) -> list[Cell]:
    """The map of a resolved config: λ outer, then n_r, then n_s ascending."""
    most = config["max_ratio"] or math.inf
    found = []
    for bias in config["biases"]:
        for n_real in config["n_real"]:
            sizes = {*config["n_synthetic"], *(round(ratio * n_real) for ratio in config["ratios"])}
            found += [Cell(n_real, n, bias) for n in sorted(sizes) if n <= most * n_real]
    return found


def burn_in(cell: Cell, forget: float) -> int:
    """Generations after which a loop holds no more than `forget` of its start, which fades as a^t.

    Rounded up to a geometric ladder, so that a map has few different lengths, and no cell's depends on the others.
    """
    if not cell.n_synthetic:
        return 1
    least = math.log(forget) / math.log(cell.share)
    return max(1, math.ceil(2 ** (math.ceil(2 * math.log2(max(least, 1))) / 2)))
