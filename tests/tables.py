"""What the tests of reports and verdicts say of the metrics in their workdirs, as `reference.json` holds it."""

from madbench.results import MetricInfo


def entry(label, direction="higher", kind="share", most=None, note="", version=1):
    return {
        "version": version, "label": label, "direction": direction, "kind": kind,
        "most": 1.0 if kind == "share" else most, "note": note,
    }  # fmt: skip


KNOWN = {
    "fd": entry("FD", "lower", "distance"),
    "fd_inf": entry("FD∞", "lower", "number"),
    "kid": entry("KID", "lower", "number"),
    "precision": entry("precision"),
    "recall": entry("recall"),
    "coverage": entry("coverage"),
    "density": entry("density", kind="positive"),
    "variance": entry("variance", kind="positive"),
    "modes": entry("modes", kind="count", most=25.0, note="Modes: those that have a generated sample."),
    "classes": entry("classes", kind="count", most=10.0),
}


def infos(*names):
    """name -> `MetricInfo`, as `verdict.judge` takes them."""
    return {name: MetricInfo(name, **KNOWN[name]) for name in names}


def entries(*names):
    """The content of "metrics" in `reference.json`."""
    return {name: dict(KNOWN[name]) for name in names}
