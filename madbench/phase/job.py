"""The job of `madbench phase`: config -> cells -> distances -> effective sizes -> `phase.csv`, and its pictures."""

import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from madbench import checkpoints, data, display, fleet, models, results, tabular
from madbench.grid import DEFAULT_CACHE
from madbench.phase import gaussian, settings, trained
from madbench.phase.real_only import Curve, closed_form, curve, ladder
from madbench.report import phase as report
from madbench.verdict import CONFIDENCE
from madbench.watch import Watch

_REAL_ONLY_DRAWS = 4  # times as many for each point of a simulated curve as for a cell
_DRIFT = 0.01, 0.001  # converged: the averaged halves differ by less than 1 %, or with a p above 0.1 %
_DIGITS = 6  # of the numbers in phase.csv


@dataclasses.dataclass(frozen=True)
class Found:
    """What a back end hands over.

    Attributes:
      distances: float64 `[cell, seed, averaged]`, NaN where a run diverged.
      curves: λ -> the real-only curve its cells are compared with.
    """

    distances: np.ndarray
    curves: dict[float, Curve]


def run(config: Any, workdir: str, *, cache: str = DEFAULT_CACHE, show: display.Display | None = None) -> str:
    """Measures a map and writes it: `config.json`, `phase.csv`, `phase.md`, `phase.png`, `phase.svg`.

    Args:
      config: `ConfigDict` as `madbench.phase.base` makes it.
      workdir: where all of it goes; a trained family's jobs lie in its folders `loops` and `real`.
      cache: directory of trained feature networks and prepared data.
      show: where progress goes.

    Returns:
      The table of thresholds, markdown.

    Raises:
      UserError: the config or the workdir cannot be used; one line.
      experiment.Stopped: on SIGTERM or Ctrl-C in a trained family's job, after saving; the same call goes on.
    """
    plain = _checked(config, cache)
    path = pathlib.Path(workdir)
    lock = checkpoints.claim(path, plain)
    show = show or display.make()
    try:
        watch = Watch()
        found = (_simulated if settings.is_exact(plain) else _trained)(plain, path, cache, show)
        rows = effective(plain, found)
        results.write_text(path / "phase.csv", tabular.to_csv(rows))
        text = report.write(path, rows, _title(plain))
        show.say(f"wrote phase.csv, phase.md and pictures into {path}; {display.duration(watch.lap('all'))} in all")
        return text
    finally:
        show.close()
        lock.release()


def _checked(config: Any, cache: str) -> dict[str, Any]:
    plain = settings.resolve(config)
    if settings.is_exact(plain):  # the same refusals as where samples are drawn
        data.load(**{name: value for name, value in plain["data"].items() if name != "reuse_fresh"})
        models.FAMILIES.check(plain["model"]["family"], {k: v for k, v in plain["model"].items() if k != "family"})
        models.FAMILIES.find("gaussian")(models.Given((1,), 0, None, 1), ddof=plain["model"]["ddof"])
    else:
        trained.prepare(plain, cache)
    return plain


def _title(plain: dict[str, Any]) -> str:
    size = f", d = {plain['data']['dimension']}" if "dimension" in plain["data"] else ""
    kind = f", {plain['covariance']} covariance" if settings.is_exact(plain) else ""
    names = {"w2": "squared 2-Wasserstein distance", "mean": "squared distance of the means", "fd": "FD"}
    metric = names.get(plain["metric"], plain["metric"])
    drawn = "" if settings.is_exact(plain) or set(plain["biases"]) == {1} else " of samples drawn with λ"
    return f"{plain['task']}: {plain['model']['family']}{size}{kind}; {metric}{drawn}"


# ------------------------------------------------------------------------------------------------ the two back ends


def simulation(plain: dict[str, Any]) -> gaussian.Simulation:
    """The map's loops."""
    cells = settings.cells(plain)
    fits = [] if _has_closed_form(plain) else _fits(_real_sizes(plain, cells))
    return _simulation(plain, cells, fits, plain["averaged"])


def _fits(sizes: list[int]) -> list[settings.Cell]:
    """Purely real fits as cells: λ scales synthetic samples alone."""
    return [settings.Cell(n, 0, 1.0) for n in sizes]


def _simulation(plain, cells, others, measured: int) -> gaussian.Simulation:
    """Of `cells`, through the same programs as the `others`: of the map, or of its real-only fits."""
    functions = gaussian.loops_of(plain, [*cells, *others])
    at_least = max(len(cells), len(others))
    return gaussian.Simulation(functions, cells, plain["seeds"], measured, plain["forget"], at_least)


def _simulated(plain: dict[str, Any], path: pathlib.Path, cache: str, show: display.Display) -> Found:
    loops = simulation(plain)
    begin = time.monotonic()
    show.say(f"{loops.n_loops:,} loops, {loops.generations:,} generations of them in all")
    show.say("preparing: the curve of purely real fits, compilation; this may take a minute")
    show.busy("preparing: real-only curve")
    real = _real_only(plain, loops.cells)
    middle = time.monotonic()
    show.phase(0, 1, 1, 1, "loops")
    distances = loops.run(lambda share: show.advance(share, None))
    seconds = time.monotonic() - middle
    show.say(
        f"real-only curve {middle - begin:.1f} s; loops {seconds:.1f} s: {loops.n_loops / seconds:,.0f} loops/s, "
        f"{loops.generations / seconds:,.0f} loop-generations/s, compilation included"
    )
    return Found(distances, dict.fromkeys(plain["biases"], real))


def _has_closed_form(plain: dict[str, Any]) -> bool:
    return plain["metric"] == "mean" or plain["covariance"] == "diagonal" or plain["data"]["dimension"] == 1


def _real_sizes(plain: dict[str, Any], cells: list[settings.Cell]) -> list[int]:
    """From n = 2 to half again the largest training set: no fit to it can be nearer than a purely real one."""
    most = 1.5 * max(c.n_real + c.n_synthetic for c in cells)
    return plain["real_only"] or ladder(2, most, 100 if _has_closed_form(plain) else 8)


def _real_only(plain: dict[str, Any], cells: list[settings.Cell]) -> Curve:
    sizes = _real_sizes(plain, cells)
    if _has_closed_form(plain):
        d, ddof = plain["data"]["dimension"], plain["model"]["ddof"]
        return curve(sizes, closed_form(plain["metric"], d, ddof, np.asarray(sizes)))
    mean, error = _mean_and_error(_simulation(plain, _fits(sizes), cells, plain["averaged"] * _REAL_ONLY_DRAWS).run())
    return curve(sizes, mean, error)


def _trained(plain: dict[str, Any], path: pathlib.Path, cache: str, show: display.Display) -> Found:
    found = trained.run(plain, path, cache, show)
    curves = {}
    for bias, (sizes, distances) in found.items():
        mean, error = _mean_and_error(distances)
        good = np.isfinite(mean)
        curves[bias] = curve(np.asarray(sizes)[good], mean[good], error[good]) if good.sum() > 1 else curve([1], [1])
    return Found(trained.distances(plain, path, cache), curves)


# ------------------------------------------------------------------------------------------- from distances to sizes


def _mean_and_error(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over seeds, of each seed's mean: `[cell]` each; NaN where any is missing."""
    each = distances.mean(axis=2)
    return each.mean(axis=1), each.std(axis=1, ddof=1) / math.sqrt(each.shape[1])


def effective(plain: dict[str, Any], found: Found) -> list[dict[str, Any]]:
    """The rows of `phase.csv`, one per cell; see `report.phase` for their meaning."""
    means, errors = _mean_and_error(found.distances)
    seeds = found.distances.shape[1]
    wide = float(special.stdtrit(seeds - 1, 0.5 + CONFIDENCE / 2))
    rows = []
    for cell, mean, error, values in zip(settings.cells(plain), means, errors, found.distances, strict=True):
        real = found.curves[cell.bias]
        half = wide * math.hypot(error / mean, float(real.error_at(mean))) if mean > 0 else math.nan
        size, low, high = (float(v) for v in real.sizes_at(mean * np.exp([0, half, -half])))
        drift, converged = _converged(values)
        rows.append(
            {
                "n_real": cell.n_real,
                "n_synthetic": cell.n_synthetic,
                "bias": cell.bias,
                "distance": _number(mean),
                "n_effective": _number(size),
                "ratio": _number(size / cell.n_real),
                "distance_se": _number(error),
                "n_effective_low": _number(low),
                "n_effective_high": _number(high),
                "admissible": _admissible(cell, mean, half, real),
                "drift": _number(drift),
                "converged": converged,
            }
        )
    return rows


def _number(value: float) -> float | None:
    """Six digits of it, and None where it does not exist."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _admissible(cell: settings.Cell, mean: float, half: float, real: Curve) -> str:
    """ "yes" or "no" where the whole interval, mean · exp(± half), lies on one side of a real-only fit to n_r, else
    "unsure". That says the same as the interval of n_e, and also where n_e lies outside the curve.
    """
    if not cell.n_synthetic:
        return "yes"  # n_e = n_r by definition
    alone = real.distance_at(cell.n_real)
    if mean * math.exp(half) <= alone:
        return "yes"
    return "no" if mean * math.exp(-half) > alone else "unsure"


def _converged(values: np.ndarray) -> tuple[float, str]:
    """Second less first half of the averaged generations, over their mean, `values [seed, averaged]`; and a verdict."""
    half = values.shape[1] // 2
    change = (values[:, -half:].mean(axis=1) - values[:, :half].mean(axis=1)) / values.mean()
    mean, error = float(change.mean()), float(change.std(ddof=1)) / math.sqrt(len(change))
    if not math.isfinite(mean):
        return mean, "no"
    tolerated, p = _DRIFT
    significant = abs(mean) > float(special.stdtrit(len(change) - 1, 1 - p / 2)) * error
    return mean, "no" if significant and abs(mean) > tolerated else "yes"


# ---------------------------------------------------------------------------------------------------------- dry run


def describe(config: Any, cache: str = DEFAULT_CACHE) -> str:
    """The grid, FLOPs, the time they take, and last the resolved config, as text. Writes nothing.

    Raises:
      UserError: whatever is wrong with the config; one line.
    """
    plain = _checked(config, cache)
    cells = settings.cells(plain)
    n_s = [cell.n_synthetic for cell in cells]  # the same sizes for every λ
    lines = [
        f"grid        {len(cells)} cells x {len(plain['seeds'])} seeds: n_r {cells[0].n_real} … {cells[-1].n_real}, "
        f"n_s {min(n_s)} … {max(n_s)}, λ = {', '.join(f'{bias:g}' for bias in plain['biases'])}"
    ]
    config = ["", json.dumps(plain, indent=2)]
    if settings.is_exact(plain):
        return "\n".join(lines + _describe_simulation(simulation(plain)) + config)
    rate = fleet.matmul_rate(1024)
    for name, job in zip(("loops", "real-only"), trained.prepare(plain, cache), strict=True):
        flops = (job.fit_flops() + job.sample_flops()) * job.generations * len(job.runs)
        lines.append(
            f"{name:<11} {len(job.runs)} runs x {job.generations} generations, {flops:.3g} FLOPs, "
            f"{_about(flops / rate)} at the rate of a large matrix product; {job.plan}"
        )
        lines += [f"note        {note}" for note in job.notes]
    return "\n".join(lines + config)


def _describe_simulation(loops: gaussian.Simulation) -> list[str]:
    """With the time of the first call's first generations, scaled up."""
    when, _ = loops.calls[0]
    once = dataclasses.replace(loops, cells=[loops.cells[i] for i in loops.calls[0][1]], measured=2)
    seconds = _timed(lambda: once.run())
    share = once.generations / loops.generations
    return [
        f"loops       {loops.n_loops:,}, each of {min(s.burn for s, _ in loops.calls)} to {when.burn} generations and "
        f"{loops.measured} that are averaged, up to {when.stride} apart",
        f"shapes      {loops.chunk} cells x {len(loops.seeds)} seeds a call, {len(loops.calls)} calls",
        f"FLOPs       {loops.flops():.3g} in matrix products, over {loops.generations:,} loop-generations",
        f"time        {_about(seconds / share)}, from {once.n_loops} loops",
    ]


def _about(seconds: float) -> str:
    return f"about {display.duration(seconds)}" if seconds >= 60 else "under a minute"


def _timed(function: Callable[[], Any]) -> float:
    begin = time.monotonic()
    function()
    return time.monotonic() - begin
