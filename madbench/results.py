"""The one format on disk: written by `experiment`, read by everything that shows results. Imports no JAX.

A workdir holds (schema version 2; rows of version 1 lack what is said of strategies):
  config.json       {"sha256", "config"}: the resolved config and its canonical JSON's hash; of a share "shard": [i, n]
  environment.json  versions, devices, plan, hash of the source code, fingerprint of the dataset
  reference.json    feature network, samples per metric, what each metric is (`MetricInfo`), and the floors: each metric
                    between disjoint real samples
  metrics.jsonl     one row per (run, generation); only what is deterministic
  timing.jsonl      one row per (wave, generation): seconds by phase, floating-point operations
  samples/SLUG/generation-0001.npz, of the generations of `sampled_generations`
                    images: x uint8 [n, height, width, channels], the fixed-noise grid
                    points on a line or a plane: x float32 [n_samples, d], what the metrics saw; not always finite
  samples/SLUG/measured-0001.npz, with `config.keep_samples`, of `measured_generations`
                    x [n_samples, *shape], what the metrics saw: images uint8, others float32
  samples/real.npz
                    as many images of the reference, x likewise: what pictures show beside those of the grid
  samples/density.npz
                    such points, where the true density is known: axes float64 [d, points], its grid; density float64
                    [points] or [points, points], at (axes[0, i], axes[1, j])
  checkpoints/, table.md, pictures
Numbers are numbers; what does not exist is null. JSON is strict: no NaN, no Infinity.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from madbench import __version__
from madbench.errors import UserError

SCHEMA = 2
NO_STRATEGY = "none"
STRATEGY = ("strategy", "equal_cost")  # fields of a config that say what is done against collapse
# What every row has, in the order of the columns, and its types; the metrics come before "metric_versions".
COLUMNS = {
    "schema": int,
    "benchmark": str,
    "task": str,
    "model": str,
    "loop": str,
    "bias": (int, float),
    "seed": int,
    "generation": int,
    "n_real": int,
    "n_synthetic": int,
    "n_samples": int,
    "status": str,
    "metric_versions": dict,
    "features": str,
}
# What rows have since schema 2, and what stands for it in older ones, which had no strategies.
ACCOUNT = {
    "strategy": NO_STRATEGY,  # against collapse, with its settings
    "equal_cost": True,  # whether its generations cost what they do without, at most
    "flops": None,  # of matrix products, that the generation cost the run; see `accounting`
    "n_real_seen": None,  # different real samples behind the generation: in its training set, or read by the strategy
    "extra_parameters": 0,  # numbers that the strategy holds beside the model
    # Share of the pool's new samples that are as near to a real sample of generation 1 as the closest 5 % of these are
    # to another; null where the strategy leaves the pool as it is.
    "pool_memorization": None,
}
# What tells a row from the others of its workdir.
PLACE = ("loop", "bias", "seed", "generation")
# What the time of a generation is spent on: "PHASE_seconds" in timing.jsonl.
PHASES = ("compile", "fit", "sample", "evaluate")
# Fields of a config that say how it is run and not what: a job may go on under others.
_HOW = ("fleet", "keep_checkpoints", "keep_samples")


class ResultError(UserError):
    """A workdir that cannot be read; the message is one line for the user."""


@dataclasses.dataclass(frozen=True)
class MetricInfo:
    """What a reader of results has to know of a metric; from `reference.json`, where its writer says it.

    Attributes:
      name: of its column in the rows.
      version: of its convention.
      label: its name for people.
      direction: "lower" or "higher" is better. Where higher is, the floor between real samples is a ceiling, and its
        5th percentile is the bound that counts.
      kind: how its values are shown and followed:
        "distance"  0 or above, on a logarithmic axis; its trend is that of its logarithm
        "share"     in [0, 1]
        "count"     whole, from 0
        "positive"  0 or above, without a bound
        "number"    of any sign
      most: the largest value that there can be; None where there is none.
      note: what its name does not say, in one sentence; may be "".
    """

    name: str
    version: int
    label: str
    direction: str
    kind: str
    most: float | None
    note: str

    @property
    def title(self) -> str:
        """Its label with an arrow in the direction of better: "FD ↓", "recall ↑"."""
        return f"{self.label} {'↑' if self.direction == 'higher' else '↓'}"


_INFO = {
    "version": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "label": lambda v: isinstance(v, str),
    "direction": lambda v: v in ("lower", "higher"),
    "kind": lambda v: v in ("distance", "share", "count", "positive", "number"),
    "most": lambda v: v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)),
    "note": lambda v: isinstance(v, str),
}


def _metric_info(path: pathlib.Path, name: str, reference: dict[str, Any]) -> MetricInfo:
    known = reference.get("metrics")
    if not isinstance(known, dict):
        raise ResultError(f"{path} was written by an earlier development version of madbench; run it again")
    found = known.get(name)
    if not isinstance(found, dict):
        raise ResultError(f"{path / 'reference.json'} does not say what the metric {name!r} is")
    for field, is_right in _INFO.items():
        if not is_right(found.get(field)):
            raise ResultError(f"{path / 'reference.json'}, metric {name!r}: {field} is {found.get(field)!r}")
    return MetricInfo(name, **{field: found[field] for field in _INFO})


def row(
    *,
    task: str,
    model: str,
    loop: str,
    bias: float,
    seed: int,
    generation: int,
    n_real: int,
    n_synthetic: int,
    n_samples: int,
    status: str,
    metrics: dict[str, float | None],
    metric_versions: dict[str, int],
    features: str,
    account: dict[str, Any] = ACCOUNT,
) -> dict[str, Any]:
    """One row of `metrics.jsonl`.

    Args:
      task, model, loop, bias, seed, generation: which run and generation.
      n_real, n_synthetic: composition of the training set.
      n_samples: generated samples, and as many reference samples, behind each metric.
      status: "ok", or "diverged" from the first generation whose model or samples are not finite; metrics are null.
      metrics: values by name.
      metric_versions: by name.
      features: label of the feature extractor.
      account: the columns of `ACCOUNT`, or some of them.
    """
    return {
        "schema": SCHEMA,
        "benchmark": __version__,
        "task": task,
        "model": model,
        "loop": loop,
        "bias": bias,
        "seed": seed,
        "generation": generation,
        "n_real": n_real,
        "n_synthetic": n_synthetic,
        "n_samples": n_samples,
        "status": status,
        **ACCOUNT,
        **account,
        **metrics,
        "metric_versions": metric_versions,
        "features": features,
    }


@dataclasses.dataclass(frozen=True)
class Result:
    """A workdir as its readers see it.

    Attributes:
      path: of the workdir.
      config: the resolved config.
      reference: content of reference.json.
      environment: content of environment.json.
      rows: content of metrics.jsonl, in the order of the file.
      shares: which shares of the job, from 1, these rows are; empty where they are the whole.
      split: of how many shares.
    """

    path: pathlib.Path
    config: dict[str, Any]
    reference: dict[str, Any]
    environment: dict[str, Any]
    rows: list[dict[str, Any]]
    shares: tuple[int, ...] = ()
    split: int = 0

    @functools.cached_property
    def metrics(self) -> dict[str, MetricInfo]:
        """The metrics by name, in the order of the config.

        Raises:
          ResultError: reference.json does not say what they are; one line.
        """
        try:
            names = list(self.config["metrics"]["names"])
        except (KeyError, TypeError):
            raise ResultError(f"{self.path / 'config.json'} names no metrics") from None
        return {name: _metric_info(self.path, name, self.reference) for name in names}


def load(path: str | os.PathLike) -> Result:
    """Reads a workdir.

    Raises:
      ResultError: it is no workdir, is of another schema, has no rows yet, or is damaged; one line.
    """
    path = pathlib.Path(path)
    if not (path / "config.json").is_file():
        raise ResultError(f"{path} is not a workdir of madbench: it has no config.json")
    if (path / "phase.csv").is_file() and not (path / "reference.json").exists():
        raise ResultError(f"{path} is a map of `madbench phase`, which has no standard table; see its phase.md")
    config, reference, environment = (
        _read_object(path / f"{name}.json") for name in ("config", "reference", "environment")
    )
    rows = list(read_rows(path / "metrics.jsonl"))
    if not rows:
        raise ResultError(f"{path} has no results yet; finish its first generation with `madbench run`")
    if any(r.get("schema") not in range(1, SCHEMA + 1) for r in rows):
        raise ResultError(f"{path} was written in another schema than {SCHEMA}; read it with the madbench it names")
    rows = [ACCOUNT | r for r in rows]
    if not isinstance(config.get("config"), dict):
        raise ResultError(f"{path / 'config.json'} holds no config")
    for number, found in enumerate(rows, start=1):
        for name, kind in COLUMNS.items():
            if not isinstance(found.get(name), kind) or isinstance(found[name], bool):
                raise ResultError(f"{path / 'metrics.jsonl'}, line {number}: {name} is {found.get(name)!r}")
    result = Result(path, config["config"], reference, environment, rows, *_shares(path, config))
    _ = result.metrics  # refused here, whatever the result is read for
    return result


def _shares(path: pathlib.Path, config: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    shard = config.get("shard")
    if shard is None:
        return (), 0
    if not (isinstance(shard, list) and [type(i) for i in shard] == [int, int] and 1 <= shard[0] <= shard[1]):
        raise ResultError(f"{path / 'config.json'}: shard is {shard!r}, not [i, n]")
    return (shard[0],), shard[1]


def _parse(text: str | bytes) -> Any:
    """Strict JSON: Python's own reader would let NaN and Infinity pass."""

    def refuse(constant):
        raise ValueError(f"{constant} is no number of JSON")

    return json.loads(text, parse_constant=refuse)


def _read_object(path: pathlib.Path) -> dict[str, Any]:
    try:
        value = _parse(path.read_text())
        if not isinstance(value, dict):
            raise ValueError("it is not an object")
        return value
    except FileNotFoundError:
        raise ResultError(f"{path} is missing: the run had not begun when it stopped; start it again") from None
    except (OSError, ValueError) as error:
        raise ResultError(f"{path} cannot be read: {error}") from None


def read_rows(path: pathlib.Path) -> Iterable[dict[str, Any]]:
    """The objects of a JSON-lines file, none where it is absent. A last line that a kill cut short is left out."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            value = _parse(line)
            if not isinstance(value, dict) or not line.endswith(b"\n"):
                raise ValueError("not an object on a line of its own")
        except ValueError as error:
            if not line.endswith(b"\n"):
                return
            raise ResultError(f"{path}, line {number}: {error}") from None
        yield value


def append_rows(path: pathlib.Path, rows: Iterable[dict[str, Any]]) -> None:
    """Adds objects to a JSON-lines file; they are on disk when this returns."""
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(r, allow_nan=False) + "\n" for r in rows)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces a file whole: a reader, or a kill, meets the old content or the new."""
    draft = path.with_name(f".{path.name}.tmp")
    with open(draft, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def write_rows(path: pathlib.Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replaces a JSON-lines file whole."""
    write_text(path, "".join(json.dumps(r, allow_nan=False) + "\n" for r in rows))


def write_object(path: pathlib.Path, value: dict[str, Any]) -> None:
    """Replaces a JSON file whole."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def config_hash(config: dict[str, Any]) -> str:
    """sha256 of the canonical JSON (sorted keys, no spaces) of what the config runs."""
    return hashlib.sha256(json.dumps(what(config), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def what(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the fields that say only how it is run; rows do not depend on those.

    Without a strategy nothing is said of strategies: so a config is what it was before there were any.
    """
    idle = STRATEGY if config.get("strategy", NO_STRATEGY) == NO_STRATEGY else ()
    return {name: value for name, value in config.items() if name not in (*_HOW, *idle)}


def place(row: dict[str, Any]) -> tuple[str, float, int, int]:
    """(loop, λ, seed, generation) of a row: `PLACE`."""
    return tuple(row[field] for field in PLACE)


def slug(loop: str, bias: float, seed: int) -> str:
    """A run's name for files: "fresh_data-n_fresh=100-bias0.8-seed1"."""
    safe = re.sub(r"[^\w.=-]+", "-", loop).strip("-")
    return f"{safe}-bias{bias_text(bias)}-seed{seed}"


def bias_text(bias: float) -> str:
    """ "1", "0.8", and every digit where fewer would name another λ."""
    return f"{bias:g}" if float(f"{bias:g}") == bias else repr(bias)


def sampled_generations(generations: int, at_most: int = 50) -> list[int]:
    """The generations whose samples are kept, or shown: all, or `at_most` of them, from the first to the last.

    Beyond that they are in geometric progression, as far as whole numbers allow, for loops change most at first.

    Args:
      generations: T.
      at_most: 2 or more.
    """
    if generations <= at_most:
        return list(range(1, generations + 1))
    chosen = [1]
    for left in range(at_most - 1, 0, -1):
        t = chosen[-1]
        chosen.append(max(t + 1, round(t * (generations / t) ** (1 / left))))
    return chosen


def measured_generations(generations: int) -> tuple[int, ...]:
    """The generations of which `config.keep_samples` keeps what the metrics saw: the first and the last."""
    return (1, generations) if generations > 1 else (1,)
