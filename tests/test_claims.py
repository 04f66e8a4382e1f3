"""`benchmarks/claims.py` on runs whose truth is known: it finds what is there, and calls open what is not."""

import pathlib

import numpy as np
import pytest
import trials

from madbench import results
from madbench.calls import read_call
from madbench.errors import UserError

CHOSEN = {"golden_ratio": "golden_ratio", "real_weight": "golden_ratio(weight=0.8)", "neon": "neon"}
LOOPS = ("fully_synthetic", "synthetic_augmentation", "fresh_data(n_fresh=10,n_synthetic=30)")
POOLING = "optimal weights beat pooling, where real samples are new in each generation"
HEAVIER = "and beat another weight of real samples, 0.8"


@pytest.fixture(scope="module")
def claims(of_benchmarks):
    return of_benchmarks("claims")


def save(folder, strategy, equal_cost=True, **fields):
    """A workdir of all three loops; its place among `workdirs`, and its path."""
    name = f"{strategy}-{equal_cost}"
    made = trials.make(name, strategy, equal_cost, loops=LOOPS, **{"noise": 0.03, **fields})
    return {(strategy, equal_cost): pathlib.Path(trials.save(made, folder))}


def found_by(tried, says, bias=1.0):
    return next(each for each in tried if each.claim.says == says and each.bias == bias)


def test_claims_are_held_against_what_is_there(claims, tmp_path):
    runs = save(tmp_path, "none") | save(tmp_path, "golden_ratio", effect=-0.5)
    runs |= save(tmp_path, "golden_ratio(weight=0.8)", effect=-1.0) | save(tmp_path, "neon")
    tried = claims.try_all(runs, CHOSEN, equal_cost=True)
    assert len(tried) == 5 * 2  # at each λ
    for bias in (1.0, 0.5):
        pooling, heavier = (found_by(tried, says, bias) for says in (POOLING, HEAVIER))
        assert (pooling.verdict, heavier.verdict) == ("holds", "contradicted")
        assert pooling.effect.mean == pytest.approx(-0.5, abs=0.05)
        assert heavier.effect.mean == pytest.approx(0.5, abs=0.05)
        assert pooling.effect.family == 5
    assert {each.verdict for each in tried if each.claim.strategy == "neon"} == {"open"}


def test_a_contrast_by_hand(claims, tmp_path):
    """Generation 1 of two of three loops, by seed."""
    runs = save(tmp_path, "none") | save(tmp_path, "neon", effect=-0.3)
    what = ("recall", claims.FIRST, 0.5)
    tried = claims.try_all(runs, CHOSEN, equal_cost=True)
    first = next(each for each in tried if (each.claim.metric, each.claim.when, each.bias) == what)

    def by_seed(path):
        rows = [row for row in results.load(path).rows if (row["generation"], row["bias"]) == (1, 0.5)]
        rows = [row for row in rows if row["loop"] != "synthetic_augmentation"]
        return np.array([np.mean([row["recall"] for row in rows if row["seed"] == seed]) for seed in range(5)])

    expected = by_seed(runs["neon", True]) - by_seed(runs["none", True])
    assert first.effect.mean == pytest.approx(expected.mean())


def test_changes_and_last_generations(claims, tmp_path):
    """An effect that all generations have changes nothing from the first to the last."""
    chosen = {"projection": "projection", "golden_ratio": "golden_ratio"}
    runs = save(tmp_path, "none") | save(tmp_path, "projection", effect=-0.5)
    tried = claims.try_all(runs, chosen, equal_cost=True)
    level, change = (each for each in tried if each.claim.strategy == "projection" and each.bias == 1.0)
    assert (level.verdict, change.verdict) == ("holds", "holds")  # generation 1 is as without
    (path,) = save(tmp_path / "all", "projection", effect=-0.5).values()
    rows = results.load(path).rows
    for row in rows:
        row["fd"] *= np.exp(-0.5) if row["generation"] == 1 else 1
    (path / "metrics.jsonl").unlink()
    results.write_rows(path / "metrics.jsonl", rows)
    tried = claims.try_all(runs | {("projection", True): path}, chosen, equal_cost=True)
    level, change = (each for each in tried if each.claim.strategy == "projection" and each.bias == 1.0)
    assert (level.verdict, change.verdict) == ("holds", "open")


def test_each_budget_has_its_own_runs(claims, tmp_path):
    runs = save(tmp_path, "none") | save(tmp_path, "golden_ratio", effect=-0.5)
    runs |= save(tmp_path, "neon") | save(tmp_path, "neon", False, effect=-0.5)
    tried = claims.try_all(runs, CHOSEN, equal_cost=False)
    assert found_by(tried, POOLING).verdict == "no answer"
    assert found_by(tried, POOLING).effect.undecided == "not run"
    tried = claims.try_all(runs, CHOSEN, equal_cost=False, free=["golden_ratio"])
    assert found_by(tried, POOLING).verdict == "holds"
    assert found_by(tried, HEAVIER).verdict == "no answer"


def test_runs_that_diverged_are_no_answer(claims, tmp_path):
    runs = save(tmp_path, "none") | save(tmp_path, "golden_ratio", effect=-0.5, diverged=2)
    tried = claims.try_all(runs, CHOSEN, equal_cost=True)
    pooling = found_by(tried, POOLING)
    assert pooling.verdict == "no answer"
    said = next(each for each in claims.plain({"equal cost": tried}) if each["says"] == POOLING)
    assert (said["verdict"], said["undecided"]) == ("no answer", "1 of 5 pairs missing")


def test_effects_by_bias(claims, tmp_path):
    """What a mean over λ hides."""
    runs = save(tmp_path, "none") | save(tmp_path, "verifier", effect=-0.5)
    (path,) = save(tmp_path / "again", "verifier", effect=-0.5).values()
    rows = results.load(path).rows
    for row in rows:
        row["fd"] *= np.exp(1.0) if row["bias"] == 0.5 else 1
    (path / "metrics.jsonl").unlink()
    results.write_rows(path / "metrics.jsonl", rows)
    found = claims.by_bias(runs | {("verifier", True): path}, ["fd"])
    assert [(row["strategy"], row["bias"]) for row in found] == [("verifier", 1.0), ("verifier", 0.5)]
    plain, treated = ([r for r in results.load(p).rows if r["generation"] > 1] for p in (runs["none", True], path))
    for row in found:
        logs = [np.log([r["fd"] for r in each if r["bias"] == row["bias"]]) for each in (plain, treated)]
        assert row["mean"] == pytest.approx(logs[1].mean() - logs[0].mean())
        assert row["interval"][0] < row["mean"] < row["interval"][1]
    assert found[0]["mean"] < -0.4 < 0.4 < found[1]["mean"]


def test_only_pairs_are_compared(claims, tmp_path):
    runs = save(tmp_path, "none") | save(tmp_path, "golden_ratio", seeds=(0, 1, 2))
    with pytest.raises(UserError, match="of other loops, λ, seeds or generations are no pairs"):
        claims.try_all(runs, CHOSEN, equal_cost=True)


def test_the_reward_tells_digits_from_noise(claims, tmp_path):
    """Digits of the training pool in the places of their classes, which the judge has not seen, and noise."""
    from madbench.data import digits

    pool = digits.load().pool
    each = [np.asarray(pool.x)[np.asarray(pool.y) == label][:20] for label in range(10)]
    real = np.stack(each, axis=1).reshape(-1, 8, 8, 1)  # labels go round
    result = trials.make("runs", loops=("fully_synthetic",), biases=(1.0,), seeds=(0, 1), diverged=1)
    path = pathlib.Path(trials.save(result, tmp_path))
    noise = np.random.default_rng(0).normal(size=real.shape).astype(np.float32)
    for seed in (0, 1):
        folder = path / "samples" / results.slug("fully_synthetic", 1.0, seed)
        folder.mkdir(parents=True)
        np.savez(folder / "measured-0001.npz", x=noise)
        np.savez(folder / "measured-0004.npz", x=real)
    result = results.load(path)
    reward, spread = (claims._values(result, name)["fully_synthetic", 1.0] for name in ("reward", "spread"))
    assert reward[0, 0] < -2 < -0.5 < reward[0, -1] < 0
    assert 0 < spread[0, -1] < spread[0, 0]
    assert np.isnan(reward[0, 1:-1]).all()
    assert np.isfinite(reward[1, 0])
    assert np.isnan(reward[1, -1])  # of a run that diverged


def test_the_control_draws_as_many_candidates(claims):
    chosen = claims.CHOSEN
    for family, of_family in chosen.items():
        draws = {name: read_call(text)[1].get("candidates", 1) for name, text in of_family.items()}
        judged = {claim.strategy for claim in claims.CLAIMS if claim.against == claims.CONTROL}
        assert {draws[name] for name in (*judged, claims.CONTROL)} == {2}
        names = {name for claim in claims.CLAIMS for name in (claim.strategy, claim.against)} - {"none"}
        assert names - ({"sims"} if family == "gan" else set()) <= of_family.keys()
