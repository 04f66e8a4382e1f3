"""README.md of a submission, for people: made from its manifest and its rows, and never read by the program."""

import shlex
from typing import Any

from madbench import results
from madbench.leaderboard import costs, score, tasks
from madbench.leaderboard.markdown import escaped
from madbench.report import table
from madbench.results import Result


def render(manifest: dict[str, Any], task: tasks.Task, result: Result) -> str:
    """README.md of a submission, from its manifest and its rows."""
    summary = manifest["summary"]
    resistance, speed = summary["resistance"], summary["speed"]
    per_hour = "not known" if speed["per_hour"] is None else f"{speed['per_hour']:,.0f} loop-generations per hour"
    ends = f"{100 * score.CONFIDENCE:g} %: {resistance['low']:.1f} to {resistance['high']:.1f}"
    size = f"{len(task.runs)} runs of {task.config['generations']} generations"
    about = {
        "task": f"{escaped(task.title)} (`{task.id}`), {size}",
        "method against collapse": escaped(manifest["method"]),
        **_strategy(manifest, task, result),
        "resistance": f"{resistance['score']:.1f} ({ends}) of 100",
        "speed": f"{per_hour}, compilation included",
        "hardware": escaped(manifest["hardware"]),
        "contact": escaped(manifest["contact"]),
        "link": manifest["url"] and f"<{manifest['url']}>",
        "note": escaped(manifest["note"]),
        "madbench": manifest["benchmark"],
    }
    lines = [f"# {escaped(manifest['name'])}", ""]
    lines += [f"- **{name}**: {text}" for name, text in about.items() if text]
    scores = [
        f"| `{c['loop']}` | {c['bias']:g} | {c['score']:.1f} | {c['finished']} of {c['planned']} |"
        for c in summary["cells"]
    ]
    lines += ["", "## Resistance", "", "| loop | λ | score | loop-generations |", "|---|--:|--:|--:|", *scores]
    lines += ["", "## The standard table", "", table.render([result], "md").rstrip(), ""]
    lines += [
        "## To reproduce",
        "",
        "```",
        f"madbench run --task={task.name}{_flag(manifest)} --workdir=DIR",
        f"madbench submit DIR --name={manifest['name']} --out=SUBMISSION",
        "madbench check SUBMISSION",
        "```",
        "`madbench verify` on this directory recomputes the metrics from its samples and runs parts of it again.",
    ]
    return "\n".join(lines) + "\n"


def _strategy(manifest: dict[str, Any], task: tasks.Task, result: Result) -> dict[str, str]:
    """What is said of a method besides its name; nothing where there is none."""
    strategy = manifest.get("strategy", manifest["method"])
    if strategy == results.NO_STRATEGY:
        return {}
    told = result.reference.get("strategy", costs.UNTOLD)  # it may fail its checks
    return {"strategy": escaped(strategy)} | {
        name: escaped(text) for name, text in costs.facts(costs.of(task, result.rows), told)
    }


def _flag(manifest: dict[str, Any]) -> str:
    """How `madbench run` is told of the strategy; within a block of code, on a line of it, nothing is markup."""
    strategy = manifest.get("strategy", manifest["method"])
    return "" if strategy == results.NO_STRATEGY else f" {shlex.quote(f'--config.strategy={strategy}')}"
