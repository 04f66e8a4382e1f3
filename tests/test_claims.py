"""`benchmarks/claims.py` on runs whose truth is known: it finds what is there, and calls open what is not."""

import importlib.util
import pathlib

import numpy as np
import pytest
import trials

import madbench
from madbench import results

PATH = pathlib.Path(madbench.__file__).resolve().parents[1] / "benchmarks" / "claims.py"
CHOSEN = {"golden_ratio": "golden_ratio", "real_weight": "golden_ratio(weight=0.8)", "neon": "neon"}
LOOPS = ("fully_synthetic", "synthetic_augmentation", "fresh_data(n_fresh=10,n_synthetic=30)")


@pytest.fixture(scope="module")
def claims():
    spec = importlib.util.spec_from_file_location("claims", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def workdirs(folder, **effects):
    made = {"none": trials.make("none", loops=LOOPS, noise=0.05)}
    made |= {
        name: trials.make(name, CHOSEN[name], loops=LOOPS, noise=0.05, effect=effect)
        for name, effect in effects.items()
    }
    return {(CHOSEN.get(name, name), True): pathlib.Path(trials.save(result, folder)) for name, result in made.items()}


def test_claims_are_held_against_what_is_there(claims, tmp_path):
    runs = workdirs(tmp_path, golden_ratio=-0.5, real_weight=-1.0, neon=0.0)
    tried = claims.try_all(runs, CHOSEN, equal_cost=True)
    assert len(tried) == 5 * 2  # at each λ
    for bias in (1.0, 0.5):
        found = {each.claim.says: each for each in tried if each.bias == bias}
        pooling = found["golden-ratio weights beat pooling real and synthetic samples"]
        assert pooling.verdict == "holds"
        assert pooling.effect.mean == pytest.approx(-0.5, abs=0.05)
        heavier = found["and beat a larger weight of real samples, 0.8"]
        assert heavier.verdict == "contradicted"
        assert heavier.effect.mean == pytest.approx(0.5, abs=0.05)
    assert {each.verdict for each in tried if each.claim.strategy == "neon"} == {"open"}


def test_a_contrast_by_hand(claims, tmp_path):
    """Generation 1 of all loops, by seed over loops; and one family of Holm's."""
    runs = workdirs(tmp_path, neon=-0.3)
    found = claims.try_all(runs, CHOSEN, equal_cost=True)
    what = ("recall", claims.FIRST, 0.5)
    first = next(tried for tried in found if (tried.claim.metric, tried.claim.when, tried.bias) == what)
    assert first.effect.family == len(found) == 3 * 2

    def by_seed(path):
        rows = [row for row in results.load(path).rows if (row["generation"], row["bias"]) == (1, 0.5)]
        return np.array([np.mean([row["recall"] for row in rows if row["seed"] == seed]) for seed in range(5)])

    expected = by_seed(runs["neon", True]) - by_seed(runs["none", True])
    assert first.effect.mean == pytest.approx(expected.mean())


def test_strategies_that_cost_nothing_have_one_budget(claims, tmp_path):
    runs = workdirs(tmp_path, golden_ratio=-0.5)
    with_all, at_equal = (claims.try_all(runs, CHOSEN, equal_cost=budget) for budget in (False, True))
    assert with_all == at_equal
    assert [tried.bias for tried in at_equal] == [1.0, 0.5]
    (text,) = [line for line in claims.markdown(at_equal) if "2502.18049" in line]
    assert text.count("**holds**") == 2
    assert "golden_ratio, against none, mean from generation 2 on, synthetic_augmentation, fresh_data: < 1" in text


def test_the_reward_tells_digits_from_noise(claims, tmp_path):
    """Held-out digits in the places of their classes, and noise."""
    from madbench.data import digits

    reference = digits.load().reference
    each = [np.asarray(reference.x)[np.asarray(reference.y) == label][:20] for label in range(10)]
    real = np.stack(each, axis=1).reshape(-1, 8, 8, 1)  # labels go round
    result = trials.make("runs", loops=("fully_synthetic",), biases=(1.0,), seeds=(0,))
    path = pathlib.Path(trials.save(result, tmp_path))
    folder = path / "samples" / results.slug("fully_synthetic", 1.0, 0)
    folder.mkdir(parents=True)
    np.savez(folder / "measured-0001.npz", x=np.random.default_rng(0).normal(size=real.shape).astype(np.float32))
    np.savez(folder / "measured-0004.npz", x=real)
    (reward,) = claims._values(path, "reward")["fully_synthetic", 1.0]
    assert reward[0] < 0.3
    assert reward[-1] > 0.9
    assert np.isnan(reward[1:-1]).all()
