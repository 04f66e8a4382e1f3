"""What the literature calls collapse, as data: a definition is a row of criteria, and adding one is adding a row.

Papers differ, and a loop can collapse by one definition and not by another (Schaeffer et al., arXiv 2503.03150, count
eight), so that a verdict without the name of its definition says little. The statistics are ours (PROTOCOL section 6).
"""

import dataclasses

from madbench.verdict.trend import CHANGE, LATE, SLOPE


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One test, over the seeds of a cell.

    Attributes:
      metrics: the first of them that was measured is tested.
      finding: what it is called where it holds.
      worse: 1: the metric must rise; -1: it must fall.
      is_log: of the metric's logarithm.
      statistic: SLOPE against the generation, LATE (the same over their second half), or CHANGE from generation 1 to
        the last.
      beyond_floor: the last generation must also lie beyond what real samples show: above the floor's 95th percentile
        for a rise, below its 5th for a fall.
      required: where no such metric was measured, the verdict says that this is undecided; else it is passed over.
    """

    metrics: tuple[str, ...]
    finding: str
    worse: int
    is_log: bool = False
    statistic: str = SLOPE
    beyond_floor: bool = False
    required: bool = False


@dataclasses.dataclass(frozen=True)
class Definition:
    """One definition of collapse.

    Attributes:
      name: as selected.
      title: in three or four words.
      sentence: what must hold, for people; ends without a full stop.
      source: whom it follows, and in what.
      criteria: several may hold at once; each test stands by itself, without a correction for their number.
      otherwise: the verdict where none holds, all could be tested, and every run was finished.
    """

    name: str
    title: str
    sentence: str
    source: str
    criteria: tuple[Criterion, ...]
    otherwise: str


_ROWS = (
    Definition(
        "mad",
        "growing distance",
        "MAD: the slope of log FD against t is positive, and the last FD exceeds its floor's 95th percentile; loses "
        "quality, loses diversity: the slope of precision, recall is negative; stable: none of these. A distance that "
        "rose and then levelled off counts; whether it still grows in the second half is told by --verdict=growing",
        "Alemohammad et al., arXiv 2307.01850: E[dist(G^t, P_r)] increases with t",
        (
            Criterion(("fd",), "MAD", 1, is_log=True, beyond_floor=True, required=True),
            Criterion(("precision",), "loses quality", -1),
            Criterion(("recall",), "loses diversity", -1),
        ),
        "stable",
    ),
    Definition(
        "growing",
        "still growing",
        "still growing: the slope of log FD over the second half of the generations is positive, and the last FD "
        "exceeds its floor's 95th percentile; a distance that has levelled off, as that of a loop with enough fresh "
        "data does, is not growing",
        "ours, after Alemohammad et al., arXiv 2307.01850, section 5: with fresh data the distance converges",
        (Criterion(("fd",), "still growing", 1, is_log=True, statistic=LATE, beyond_floor=True, required=True),),
        "not found growing",
    ),
    Definition(
        "variance",
        "variance to zero",
        "loses variance: the slope of the logarithm of the generated features' total variance, relative to the real "
        "ones', is negative, and the last is below its floor's 5th percentile",
        "Shumailov et al., Nature 631, 2024: the covariance of a Gaussian fitted to its own samples converges to 0; "
        "likewise Bertrand et al., arXiv 2310.00429",
        (Criterion(("variance",), "loses variance", -1, is_log=True, beyond_floor=True, required=True),),
        "no loss found",
    ),
    Definition(
        "tails",
        "lost tails or modes",
        "loses tails: the slope of recall (where that was not measured, of coverage) is negative, and the last is "
        "below its floor's 5th percentile; loses modes, loses classes: the same for the number of modes, classes that "
        "are left, where they are counted",
        "Shumailov et al., Nature 631, 2024: tails of the original distribution disappear; modes: Alemohammad et al., "
        "arXiv 2307.01850",
        (
            Criterion(("recall", "coverage"), "loses tails", -1, beyond_floor=True, required=True),
            Criterion(("modes",), "loses modes", -1, beyond_floor=True),
            Criterion(("classes",), "loses classes", -1, beyond_floor=True),
        ),
        "no loss found",
    ),
    Definition(
        "real_only",
        "worse than real-only training",
        "worse than real-only: log FD at the last generation exceeds, in pairs by seed and at the same λ, that of "
        "generation 1, whose model was trained on the loop's n_initial real samples alone",
        "after Gerstgrasser et al., arXiv 2404.01413, who hold the test error of later generations against that of "
        "training on the real data alone, and Kazdan et al., arXiv 2410.16713",
        (Criterion(("fd",), "worse than real-only", 1, is_log=True, statistic=CHANGE, required=True),),
        "not found worse",
    ),
)

DEFINITIONS = {definition.name: definition for definition in _ROWS}
DEFAULT = "mad"


def reading(metric: str, direction: str, kind: str) -> tuple[int, bool]:
    """How a metric's trend is read, whatever the verdict: (1 where a rise is for the worse, else -1; of its logarithm).

    As the definitions read it; where none does, by its direction, and of the logarithm for a distance.
    """
    for definition in _ROWS:
        for criterion in definition.criteria:
            if metric in criterion.metrics:
                return criterion.worse, criterion.is_log
    return (1 if direction == "lower" else -1), kind == "distance"
