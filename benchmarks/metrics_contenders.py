"""Who computes what in `metrics.py`, one in each process: needs NumPy and the contender's own packages, no more."""

import json
import pathlib
import time

import numpy as np

K = 5


def madbench_manifold(generated, reference):
    from madbench.evaluate import compare

    return compare(generated, reference, ["precision", "recall", "density", "coverage"])


def madbench_fd(generated, reference):
    from madbench.evaluate import compare

    return compare(generated, reference, ["fd"])


def madbench(generated, reference):
    from madbench.evaluate import compare

    return compare(generated, reference, ["fd", "precision", "recall", "density", "coverage"])


def prdc(generated, reference):
    from prdc import compute_prdc

    return compute_prdc(reference, generated, K)


def scipy_fd(generated, reference):
    import scipy.linalg

    sets = [np.asarray(x, np.float64) for x in (generated, reference)]
    (a, s), (b, t) = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in sets)
    return {"fd": float(np.sum((a - b) ** 2) + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real))}


def fidelity_manifold(generated, reference):
    import torch
    from torch_fidelity.metric_prc import calculate_precision_recall_part

    found = calculate_precision_recall_part(torch.as_tensor(generated), torch.as_tensor(reference), K)
    return dict(zip(("precision", "recall"), found, strict=True))


def fidelity_fd(generated, reference):
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(torch.as_tensor(x)) for x in (generated, reference)]
    return {"fd": float(fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"])}


# name -> (function, what it answers, whether it needs torch)
CONTENDERS = {
    "madbench: manifold": (madbench_manifold, "manifold", False),
    "prdc": (prdc, "manifold", False),
    "torch-fidelity: precision and recall": (fidelity_manifold, "manifold", True),
    "madbench: FD": (madbench_fd, "FD", False),
    "SciPy's sqrtm": (scipy_fd, "FD", False),
    "torch-fidelity: FD": (fidelity_fd, "FD", True),
    "madbench: all five": (madbench, "all five", False),
}


def _status(field: str) -> float:
    """GiB that this process holds (VmRSS), or held at most (VmHWM)."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 2**20


def measure(name: str, folder: str) -> None:
    """One contender, in this process; prints JSON."""
    function = CONTENDERS[name][0]
    sets = [np.load(pathlib.Path(folder) / f"{side}.npy") for side in ("generated", "reference")]
    small = [x[:64, :8].copy() for x in sets]
    function(*small)  # imports
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begin = _status("VmRSS"), time.perf_counter()
    values = function(*sets)
    seconds = time.perf_counter() - begin
    print(
        json.dumps({"seconds": seconds, "gib": _status("VmHWM") - before, "whole": _status("VmHWM"), "values": values})
    )
