"""`madbench evaluate`: the metric suite on any two sets of images or features, as samples of other programs are."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from madbench import __version__, floors, results
from madbench.data.files import FeatureSet, ImageSet, open_set
from madbench.errors import UserError
from madbench.metrics import METRICS, Comparison, Evaluator, Known, Training, features, select
from madbench.metrics.features import Extractor
from madbench.metrics.screened import Engine
from madbench.metrics.tiles import all_finite
from madbench.samples import Samples

DEFAULT = ("fd", "fd_inf", "kid", "precision", "recall", "density", "coverage", "vendi")
DEFAULT_FEATURES = "inception"  # of images
BATCH = 256  # images read at once, where the feature network does not say


def compare(
    generated: np.ndarray,
    reference: np.ndarray,
    names: Sequence[str] = DEFAULT,
    *,
    labels: np.ndarray | None = None,
    training: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Metrics between two sets of features of any size; neighbours are exact, and tiles go to all local devices.

    Args:
      generated: float32 `[n, d]`.
      reference: float32 `[m, d]`; use as many: the metrics depend on the number of samples.
      names: of metrics; see `madbench.metrics.METRICS`.
      labels: int32 `[m]`, classes of the reference, for the metrics that count classes.
      training: float32 `[t, d]`, what the generator was trained on, for those that look for copies.

    Returns:
      Values by name; None where one does not exist, and for all where a feature is not finite.

    Raises:
      UserError: sets that cannot be compared, or too few samples for a metric; one line.
    """
    labels = None if labels is None else np.unique(labels, return_inverse=True)[1].astype(np.int32)  # without gaps
    known = Known(num_classes=0 if labels is None else int(labels.max()) + 1, training=training is not None)
    evaluator = Evaluator(select(names, known, "metrics"))
    sets = {"the reference": reference, "the generated set": generated}
    _check_sizes(evaluator, sets | ({} if training is None else {"the training set": training}))
    return _values(evaluator, _comparison(generated, reference, labels, training))


def run(
    real: str,
    generated: str,
    *,
    names: Sequence[str] = (),
    feature_name: str = "",
    training: str = "",
    samples: int = 0,
    seed: int = 0,
    floor_draws: int = 5,
    cache: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Compares what lies at two paths.

    Args:
      real, generated: folders of images, or .npz or .npy files; see `data.files.open_set`.
      names: of metrics; by default FD, FD∞, KID, precision, recall, density, coverage and Vendi score, and what
        `training` and labels allow besides.
      feature_name: as `config.metrics.features`; "" for Inception's, or for feature files as they are.
      training: path of what the generator was trained on, or "".
      samples: from each side; 0 for as many as both have.
      seed: of the choice of samples where a side has more.
      floor_draws: how often as many real samples, disjoint from the reference, are judged as if generated; fewer where
        the real set is too small, 0 for no floor.
      cache: directory of feature networks.
      say: where progress goes.

    Returns:
      Plain JSON values: "metrics" by name, each with its "value", its "floor" and what `Metric.describe` says, and how
      they were measured.

    Raises:
      UserError: what the user can mend; one line.
    """
    places = {"real": real, "generated": generated} | ({"training": training} if training else {})
    sets = {side: open_set(place) for side, place in places.items()}
    labels = sets["real"].labels
    known = Known(num_classes=0 if labels is None else int(labels.max()) + 1, training=bool(training))
    evaluator = Evaluator(select(names or _applicable(known), known, "--metrics"))
    choice = _choose(sets, samples, seed, floor_draws, evaluator)
    seen, label = _see(sets, choice, feature_name, cache, say)
    n = len(choice["generated"])
    reference, rest = seen["real"][:n], seen["real"][n:]
    _check_sizes(evaluator, {real: reference, generated: seen["generated"]} | _training_set(training, seen))

    if os.path.samefile(real, generated):
        say(f"note: both sets are {real}, and may share samples")
    say(f"comparing {n:,} with {n:,} samples of {reference.shape[1]:,} features")
    labels = None if labels is None else labels[choice["real"][:n]]
    comparison = _comparison(seen["generated"], reference, labels, seen.get("training"))
    values = _values(evaluator, comparison)
    found = {name: {"value": value, "floor": None} for name, value in values.items()}
    if draws := _draws(len(rest), n, floor_draws, seed):
        say(f"floors: {len(draws)} of {len(rest):,} other real samples")
        drawn = [_values(evaluator, comparison.against(rest[index])) for index in draws]
        summary = floors.summarize(evaluator, drawn, n, len(rest))
        seen_before = training and _shared(rest, seen["training"], os.path.samefile(real, training))
        for metric in evaluator.metrics:
            if seen_before and metric.needs_training:
                say(f"{metric.name} has no floor: real samples beside the reference are in the training set too")
            else:
                found[metric.name]["floor"] = summary[metric.name]
    about = evaluator.describe()
    return {
        "schema": results.SCHEMA,
        "benchmark": __version__,
        **{side: {"path": place, "samples": _count(sets[side])} for side, place in places.items()},
        "features": label,
        "n_samples": n,
        "seed": seed,
        "dimension": reference.shape[1],
        "floor_draws": len(draws),
        "metrics": {name: found[name] | about[name] for name in found},
    }


def _applicable(known: Known) -> list[str]:
    """The default, and metrics that ask for labels or a training set where there is one."""
    extra = [name for name in ("memorization", "authenticity", "class_balance") if not METRICS[name].refusal(known)]
    return [*DEFAULT, *extra]


def _count(of: ImageSet | FeatureSet) -> int:
    return of.count if isinstance(of, ImageSet) else len(of.features)


def _choose(sets, samples: int, seed: int, floor_draws: int, evaluator: Evaluator) -> dict[str, np.ndarray]:
    """Which samples of each set are used: n of both sides, of the real ones more where floors are drawn from them."""
    counts = {side: _count(of) for side, of in sets.items()}
    n = min(counts["real"], counts["generated"])
    if samples > n:
        raise UserError(
            f"--samples={samples} is more than there are: {counts['real']} real and {counts['generated']} generated"
        )
    n = samples or n
    least = max(metric.min_samples for metric in evaluator.metrics)
    if n < least:
        which = next(metric.name for metric in evaluator.metrics if metric.min_samples == least)
        smaller = min(("real", "generated"), key=counts.get)
        raise UserError(
            f"{which} needs at least {least} samples on either side, and there are {n} ({sets[smaller].path}); "
            "add samples, or choose other --metrics"
        )
    choice = {}
    for i, (side, count) in enumerate(counts.items()):
        order = np.random.default_rng((seed, i)).permutation(count)
        used = count if side == "training" else n
        rest = order[used:] if side == "real" and floor_draws else []
        choice[side] = np.concatenate([np.sort(order[:used]), rest]).astype(np.int64)
    return choice


def _draws(available: int, n: int, wanted: int, seed: int) -> list[np.ndarray]:
    """Draws of n from the real samples beyond the reference; one where they only just suffice, none below."""
    if available < n or not wanted:
        return []
    rng = np.random.default_rng((seed, 3))
    return [rng.permutation(available)[:n] for _ in range(1 if available < 1.5 * n else wanted)]


def _shared(real: np.ndarray, training: np.ndarray, same_place: bool) -> bool:
    """Whether more than a hundredth of the real samples are the training set's: as "new" ones they would be copies."""
    if same_place:
        return True
    known = {row.tobytes() for row in training}
    return sum(row.tobytes() in known for row in real) > len(real) / 100


def _training_set(path: str, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: seen["training"]} if path else {}


def _check_sizes(evaluator: Evaluator, sets: dict[str, np.ndarray]) -> None:
    (first, of_first), *others = sets.items()
    for name, x in others:
        if x.shape[1:] != of_first.shape[1:]:
            raise UserError(
                f"{first} has {of_first.shape[1]} features a sample, and {name} {x.shape[1]}; they must agree"
            )
    for metric in evaluator.metrics:
        for name, x in sets.items():
            if len(x) < metric.min_samples:
                raise UserError(f"{metric.name} needs at least {metric.min_samples} samples, and {name} has {len(x)}")


def _comparison(generated, reference, labels, training) -> Comparison:
    trained = None if training is None else Training(np.asarray(training, np.float32), np.int32(len(training)))
    sets = (np.asarray(generated, np.float32), np.asarray(reference, np.float32))
    return Comparison(*sets, labels, trained, Engine())


def _values(evaluator: Evaluator, comparison: Comparison) -> dict[str, float | None]:
    trained = [] if comparison.training is None else [comparison.training.features]
    if not all_finite(comparison.generated, comparison.reference, *trained):
        return {metric.name: None for metric in evaluator.metrics}
    with jax.enable_x64(True):  # one after the other, so that no more is held than one needs
        return {m.name: m.compute(jax.tree.map(np.asarray, m.state(comparison))) for m in evaluator.metrics}


# ---- from files to features ------------------------------------------------------------------------------------------


def _see(sets, choice, feature_name: str, cache: str, say) -> tuple[dict[str, np.ndarray], str]:
    """float32 features `[n, d]` of the chosen samples of each set, and the label of what they are."""
    kinds = {side: isinstance(of, ImageSet) for side, of in sets.items()}
    if len(set(kinds.values())) > 1:
        images, arrays = (next(sets[s].path for s, is_image in kinds.items() if is_image == k) for k in (True, False))
        raise UserError(f"{images} holds images and {arrays} features; give images on every side, or features")
    if not kinds["real"]:
        if feature_name:
            raise UserError(
                f"--features={feature_name} sees images, and {sets['real'].path} holds features; leave it out"
            )
        return {side: of.features[choice[side]] for side, of in sets.items()}, "given"
    try:
        extractor = _extractor(sets, feature_name or DEFAULT_FEATURES, cache)
    except UserError as error:
        if feature_name:
            raise
        default = f"--features={DEFAULT_FEATURES} is the default for images, and --features=raw needs no file"
        raise UserError(f"{default}: {error}") from None
    seen = {}
    for side, of in sets.items():
        say(f"{extractor.label}: {len(choice[side]):,} images of {of.path}")
        seen[side] = _extract(extractor, of, choice[side])
    return seen, extractor.label


def _extractor(sets, feature_name: str, cache: str) -> Extractor:
    pool = sets.get("training") or sets["real"]
    num_classes = 0 if pool.labels is None else int(pool.labels.max()) + 1
    for of in sets.values():
        features.check(feature_name, of.shape, num_classes)
        if feature_name in ("raw", "lenet") and of.shape != pool.shape:
            if of.shape[:2] == pool.shape[:2]:
                grey, colour = (pool, of) if of.shape[2] == 3 else (of, pool)
                raise UserError(
                    f"{grey.path} holds grey images and {colour.path} colours; convert one of them, so that "
                    f"--features={feature_name} can compare pixels"
                )
            shapes = " and ".join("x".join(map(str, s)) for s in (pool.shape, of.shape))
            raise UserError(
                f"{pool.path} and {of.path} hold images of {shapes}: --features={feature_name} needs one size"
            )
    samples = None
    if feature_name == "lenet":  # trained on the real images and their classes
        samples = Samples(_unit(pool.read(np.arange(pool.count))), pool.labels)
    return features.build(feature_name, samples, num_classes, cache)


def _unit(images: np.ndarray) -> np.ndarray:
    """uint8 as float32 in [-1, 1]."""
    return np.float32(images) / 127.5 - 1


def _extract(extractor: Extractor, of: ImageSet, index: np.ndarray) -> np.ndarray:
    """Features of some images, which are read a few at a time."""
    size = extractor.batch or BATCH
    parts = (_unit(of.read(index[start : start + size])) for start in range(0, len(index), size))
    found = extractor.extract_parts(parts, min(size, len(index)))
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if bad.size:
        raise UserError(f"{extractor.label} gives features that are not finite for {bad.size} images of {of.path}")
    return found
