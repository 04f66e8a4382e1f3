"""Class balance and covered classes, by hand."""

import numpy as np
import pytest
from clouds import SCREENED, chunked, scores, state, value

from madbench.errors import UserError
from madbench.metrics import METRICS, Known, neighbours, select

CORNERS = np.asarray([[0, 0], [0, 9], [9, 0], [9, 9]], np.float32)
REFERENCE, LABELS = np.repeat(CORNERS, [2, 2, 2, 4], axis=0), np.repeat(np.int32([0, 1, 2, 3]), [2, 2, 2, 4])
BALANCE, CLASSES = BOTH = select(["class_balance", "classes"], Known(num_classes=4))
engines = pytest.mark.parametrize("engine", [neighbours, SCREENED], ids=["traced", "screened"])
# Near the corners: how many of each -> Σ min with (.2, .2, .2, .4), and how many classes.
CASES = {
    "as the reference": ([2, 2, 2, 4], 1.0, 4),
    "even": ([5, 5, 5, 5], 0.85, 4),
    "one class": ([0, 10, 0, 0], 0.2, 1),
    "the large class": ([0, 0, 0, 7], 0.4, 1),
    "half the classes": ([5, 5, 0, 0], 0.4, 2),
    "one sample": ([0, 0, 1, 0], 0.2, 1),
}


def near_corners(counts):
    x = np.repeat(CORNERS, counts, axis=0)
    return x + np.random.default_rng(0).uniform(-3, 3, size=x.shape)


@engines
@pytest.mark.parametrize("name", CASES)
def test_they_count_the_nearest_reference_samples_classes(engine, name):
    counts, balance, classes = CASES[name]
    found = scores(BOTH, near_corners(counts), REFERENCE, labels=LABELS, engine=engine)
    assert found == {"class_balance": pytest.approx(balance), "classes": classes}


def test_the_state_counts_both_sides():
    found = state(BALANCE, near_corners([1, 0, 3, 2]), REFERENCE, labels=LABELS)
    np.testing.assert_array_equal(found, [[1, 0, 3, 2], [2, 2, 2, 4]])


@pytest.mark.parametrize("metric", BOTH, ids=lambda m: m.name)
def test_chunks_of_generated_samples_merge_to_the_whole(metric):
    x = near_corners([3, 1, 0, 2])
    merged = chunked(metric, [(x[:3], REFERENCE), (x[3:4], REFERENCE), (x[4:], REFERENCE)], labels=LABELS)
    np.testing.assert_array_equal(merged, [[3, 1, 0, 2], [2, 2, 2, 4]])
    assert metric.compute(merged) == value(metric, x, REFERENCE, labels=LABELS)


def test_a_class_without_reference_samples_cannot_be_covered():
    balance, classes = select(["class_balance", "classes"], Known(num_classes=6))
    assert classes.most == 6
    x = near_corners([2, 2, 2, 4])
    assert value(classes, x, REFERENCE, labels=LABELS) == 4
    assert value(balance, x, REFERENCE, labels=LABELS) == 1.0


@pytest.mark.parametrize("name", ["class_balance", "classes"])
@pytest.mark.parametrize("num_classes", [0, 1])
def test_data_without_labels_are_refused_in_one_line(name, num_classes):
    with pytest.raises(UserError, match="the real data have no labels") as caught:
        select([name], Known(num_classes=num_classes))
    assert "\n" not in str(caught.value)
    assert METRICS[name].refusal(Known(num_classes=2)) == ""
