"""The registry of metrics, their selection, and the evaluator that runs several at once."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import PAIRS, PLAIN, SCREENED, cloud, of, program, scores, take, value

from madbench.errors import UserError
from madbench.metrics import METRICS, Comparison, Evaluator, Known, Training, neighbours, select
from madbench.samples import ExactMoments, Modes

EVERYTHING = Known(
    modes=Modes(((0.0, 0.0, 0.0), (2.0, 2.0, 2.0)), radius=1.0),
    moments=ExactMoments(np.zeros(3), np.eye(3)),
    num_classes=3,
    training=True,
)
LABELS = np.arange(37, dtype=np.int32) % 3
TRAINING = (cloud(50, 3, 5), 45)
ALL = select(METRICS, EVERYTHING)


def test_metrics_say_what_they_are():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert type(metric.version) is int
        assert metric.version >= 1
        assert metric.direction in ("lower", "higher")
        assert metric.kind in ("distance", "share", "count", "positive", "number")
        assert metric.cite
        assert metric.label
        assert metric.__doc__
        assert not metric.note or metric.note.endswith(".")
    assert {n for n, m in METRICS.items() if m.direction == "lower"} == {
        *("fd", "fd_inf", "gaussian_w2", "kid", "mmd", "swd", "memorization")
    }
    assert {n: m.min_samples for n, m in METRICS.items() if m.min_samples > 2} == {
        **dict.fromkeys(("precision", "recall", "density", "coverage", "entropy"), 6),
        "fd_inf": 8,
    }


def test_every_metric_knows_its_largest_value():
    most = {metric.name: metric.most for metric in ALL}
    shares = ("precision", "recall", "coverage", "memorization", "authenticity", "class_balance")
    assert most == dict.fromkeys(METRICS, math.inf) | dict.fromkeys(shares, 1.0) | {"classes": 3.0, "modes": 2.0}


def test_what_readers_are_told_is_plain_json():
    described = Evaluator(ALL).describe()
    assert list(described) == list(METRICS)
    for name, entry in described.items():
        assert set(entry) == {"version", "label", "direction", "kind", "note", "most"}
        assert entry["most"] == (None if ALL[list(METRICS).index(name)].most == math.inf else entry["most"])
        assert all(v is None or type(v) in (str, int, float) for v in entry.values())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "config.metrics.names is empty; choose from fd,"),
        (("fd", "fid"), "features; config.metrics.names are among fd,"),
        (("fd", "recall", "fd"), "metric 'fd' is named twice in config.metrics.names"),
        (("memorization",), "metric 'memorization' compares with what the generator was trained on; name that"),
        (("authenticity",), "metric 'authenticity' compares with what the generator was trained on"),
        (("gaussian_w2",), "metric 'gaussian_w2' needs a real distribution with known mean and covariance"),
        (("modes",), "metric 'modes' counts the modes of a distribution that has them"),
        (("classes",), "metric 'classes' counts classes, and the real data have no labels"),
    ],
)
def test_bad_selections_are_refused_in_one_line(names, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        select(names, Known())
    assert "\n" not in str(caught.value)


def test_messages_name_the_field_that_the_names_came_from():
    with pytest.raises(UserError, match=re.escape("unknown metric 'x'; --metrics are among fd,")):
        select(["x"], Known(), field="--metrics")


def test_metrics_come_in_the_order_asked_for_with_what_they_need():
    chosen = select(("modes", "fd", "gaussian_w2"), EVERYTHING)
    assert [m.name for m in chosen] == ["modes", "fd", "gaussian_w2"]
    assert chosen[0].modes == EVERYTHING.modes
    assert chosen[2].exact is EVERYTHING.moments
    assert not Evaluator(chosen).needs_training
    assert Evaluator(ALL).needs_training
    assert Evaluator(chosen).versions == {name: METRICS[name].version for name in ("modes", "fd", "gaussian_w2")}


def everything(pair, **more):
    return scores(ALL, *PAIRS[pair], labels=LABELS, training=TRAINING, **more)


def test_the_evaluator_gives_each_metric_its_own_value():
    """As each has alone, where nothing is shared with others."""
    together = everything("overlapping")
    assert list(together) == list(METRICS)
    assert all(type(v) is float for v in together.values())
    for metric in ALL:
        alone = value(metric, *PAIRS["overlapping"], labels=LABELS, training=TRAINING)
        assert together[metric.name] == pytest.approx(alone, rel=1e-12), metric.name


@pytest.mark.parametrize(
    "pair", ["overlapping", "more ties", "two points against a cloud", "tiny and far from the origin"]
)
def test_both_engines_give_the_same_values(pair):
    assert everything(pair) == pytest.approx(everything(pair, engine=SCREENED), rel=1e-9, abs=1e-12)


def test_the_evaluator_is_the_same_under_vmap():
    """Also for training sets of several sizes."""
    generated = np.stack([PAIRS["overlapping"][0], cloud(40, 3, 7, 3.0), np.repeat(cloud(1, 3, 8), 40, axis=0)])
    sizes, features = np.int32([45, 50, 7]), np.stack([cloud(50, 3, seed) for seed in (5, 6, 7)])
    evaluator = Evaluator(ALL)

    def states(generated, reference, labels, features, size):
        return evaluator.states(Comparison(generated, reference, labels, Training(features, size)))

    with jax.enable_x64(True):
        batch = jax.jit(jax.vmap(states, in_axes=(0, None, None, 0, 0)))(
            *(jnp.asarray(x) for x in (generated, PAIRS["overlapping"][1], LABELS, features, sizes))
        )
    for i in range(3):
        together = evaluator.compute(jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], batch))
        training = (features[i], sizes[i])
        alone = scores(ALL, generated[i], PAIRS["overlapping"][1], labels=LABELS, training=training)
        assert together == pytest.approx(alone, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("engine", [neighbours, SCREENED], ids=["traced", "screened"])
@pytest.mark.parametrize("side", ["generated", "reference", "training"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_have_no_scores(side, bad, engine):
    sets = dict(zip(("generated", "reference"), PAIRS["overlapping"], strict=True)) | {"training": TRAINING[0]}
    sets[side] = sets[side].copy()
    sets[side][3, 1] = bad
    training = (sets.pop("training"), 45)
    assert scores(ALL, **sets, labels=LABELS, training=training, engine=engine) == dict.fromkeys(METRICS)


def test_features_of_the_training_set_count_only_where_it_is_read():
    generated, reference = PAIRS["overlapping"]
    found = scores([of("fd")], generated, reference, training=(np.full((50, 3), np.nan), 45))
    assert found["fd"] is not None


def test_one_program_serves_all_sets_of_a_shape():
    metrics = tuple(of(name) for name in PLAIN)
    for pair in ("overlapping", "apart", "tight clusters"):
        take(metrics, *PAIRS[pair])
    assert program(metrics)._cache_size() == 1


def test_states_are_in_double_precision_and_small():
    """What a fleet brings home of every run: nothing but the projections grows with the samples."""
    states = take(ALL, *PAIRS["overlapping"], labels=LABELS, training=TRAINING)
    assert states["finite"].dtype == bool
    for name, state in states["states"].items():
        for leaf in jax.tree.leaves(state):
            assert leaf.dtype == (np.float32 if name == "swd" else np.float64), name
