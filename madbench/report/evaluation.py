"""What `madbench evaluate` prints: the metrics of two sets as markdown, CSV or JSON."""

import json
from typing import Any

from madbench.report.aggregate import MISSING
from madbench.report.text import Grid, escape_markdown, markdown_table, style
from madbench.results import MetricInfo
from madbench.tabular import to_csv


def render(found: dict[str, Any], format: str) -> str:
    """What `evaluate.run` found, ending in a newline; `format` is among `FORMATS`."""
    return FORMATS[format](found)


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _csv(found: dict[str, Any]) -> str:
    return to_csv([_record(found, name) for name in found["metrics"]])


def _record(found: dict[str, Any], name: str) -> dict[str, Any]:
    """One metric, with what is needed to compare it with another's: every line can be read alone."""
    entry = found["metrics"][name]
    floor = entry["floor"] or {}
    return {
        "metric": name,
        "value": entry["value"],
        **{f"floor_{key}": floor.get(key) for key in ("mean", "p5", "p95")},
        "direction": entry["direction"],
        "version": entry["version"],
        "n_samples": found["n_samples"],
        "features": found["features"],
        "real": found["real"]["path"],
        "generated": found["generated"]["path"],
        "benchmark": found["benchmark"],
    }


def _markdown(found: dict[str, Any]) -> str:
    infos = {name: _info(name, entry) for name, entry in found["metrics"].items()}
    draws = found["floor_draws"]
    header = ["metric", "value"] + ["real data"] * (draws > 0) + ["5th percentile", "95th percentile"] * (draws > 1)
    rows = []
    for name, info in infos.items():
        entry = found["metrics"][name]
        bounds = [(entry["floor"] or {}).get(key) for key in ("mean", "p5", "p95")][: len(header) - 2]
        rows.append([info.title, *(_number(info, value) for value in (entry["value"], *bounds))])
    notes = [
        f"{found['n_samples']:,} samples of each: {found['generated']['path']} against {found['real']['path']}; "
        f"features {found['features']}; madbench {found['benchmark']}.",
        _floor_note(found),
        *_bias_note(found),
        *(info.note for info in infos.values() if info.note),
    ]
    table = markdown_table(Grid("", header, rows, "l" + "r" * (len(header) - 1)))
    return table + "\n\n" + "\n".join(f"- {escape_markdown(note)}" for note in notes) + "\n"


def _floor_note(found: dict[str, Any]) -> str:
    draws, n, real = found["floor_draws"], found["n_samples"], found["real"]["samples"]
    if not draws and real >= 2 * n:
        return "No floor was asked for."
    if not draws:
        swapped = "; are the two sets swapped?" if real < found["generated"]["samples"] else "."
        return f"No floor: of {real:,} real samples no {n:,} are left beside the reference to be judged{swapped}"
    times = f"the mean of {draws} draws" if draws > 1 else "one draw"
    return f"Real data: {times} of {n:,} real samples beside the reference, judged as if generated."


def _bias_note(found: dict[str, Any]) -> list[str]:
    n, d = found["n_samples"], found["dimension"]
    if n >= d or "fd" not in found["metrics"]:
        return []
    return [f"FD of {n:,} samples in {d:,} dimensions is mostly bias: read it beside its floor, or take KID."]


def _info(name: str, entry: dict[str, Any]) -> MetricInfo:
    return MetricInfo(name, **{key: value for key, value in entry.items() if key not in ("value", "floor")})


def _number(info: MetricInfo, value: float | None) -> str:
    return MISSING if value is None else style(info, value).format(value)


FORMATS = {"md": _markdown, "csv": _csv, "json": _json}
