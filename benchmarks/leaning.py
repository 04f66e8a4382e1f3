"""What rows invented to the good side gain before `madbench verify` catches them with 95 %, in points of resistance.

    python benchmarks/leaning.py submissions/digits-diffusion-reference

All metrics of all generations after the first are made better by one share of their tolerance: that which `leaning`
finds in 95 of 100 verifications with so many pairs, were honest differences as large as it allows for. "Anything" is
the tolerance's end, where each value still passes by itself.
"""

import math
import sys

from scipy.stats import norm

from madbench.leaderboard import agreement, leaning, score, submission

PAIRS = (1, 2, 6, 15)


def caught(pairs: int, metrics: int) -> float:
    """The lean, as a share of the tolerance."""
    noise = norm.ppf(0.95) * leaning.TOGETHER / math.sqrt(pairs)
    return (leaning.limit(pairs, metrics, together=True) + noise) / leaning.DEVIATIONS


def forged(given: submission.Submission, rule: str, share: float) -> float:
    """The score of rows that are better by this share of the tolerance, but shares at most 1."""
    task, rows = given.task, given.rows
    infos = task.evaluator["metrics"]
    better = []
    for row in rows:
        limits = agreement.rerun(task, rule, (row["loop"], row["bias"]), row["generation"], rows)
        new = dict(row)
        for name, info in infos.items() if row["generation"] > 1 else ():
            gain = share * limits[name] * (-1 if info["direction"] == "lower" else 1)
            if row[name] is not None:
                new[name] = min(row[name] + gain, 1) if info["kind"] == "share" else row[name] * math.exp(gain)
        better.append(new)
    return score.summary(task, better, given.timing)["resistance"]["score"]


def main() -> None:
    print("| submission | tolerances | as it is | anything | " + " | ".join(f"{n} pairs" for n in PAIRS) + " |")
    for path in sys.argv[1:]:
        given = submission.load(path)
        for rule in (agreement.SAME, agreement.OTHER):
            shares = [0, 1, *(caught(pairs, len(given.result.metrics)) for pairs in PAIRS)]
            cells = [f"{forged(given, rule, min(share, 1)):.1f}" for share in shares]
            print(f"| {given.path.name} | {rule} | " + " | ".join(cells) + " |")
    print("lean that is caught with 95 %, of the tolerance: " + ", ".join(f"{caught(n, 3):.0%}" for n in PAIRS))


if __name__ == "__main__":
    main()
