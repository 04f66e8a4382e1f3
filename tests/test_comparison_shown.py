"""The comparison as text, picture and command: whose numbers they are, that nothing overflows, and what is refused."""

import csv
import io
import itertools
import json
import math
import re

import pytest
import trials
from test_plots import overlaps, saved

from madbench import cli
from madbench.report import comparison, comparison_plot, comparison_text

LONG = "my_package.my_module:MyVeryOwnStrategy(alpha=0.123456)"


def many(families=("diffusion", "gan"), strategies=("neon", "k_choice(candidates=4)", LONG), budgets=(True, False)):
    made = []
    for family in families:
        made.append(trials.make(f"{family}-none", family=family))
        for i, strategy in enumerate(strategies):
            for equal in budgets:
                name = f"{family}-{i}-{equal}"
                fields = {"family": family, "flops": 900 if equal else 1800, "memorized": 0.3}
                made.append(trials.make(name, strategy, equal, effect=0.3 * i - 0.3, **fields))
    return made


def tables(page):
    """caption -> rows of cells, header first."""
    parts, found = page.split("\n\n"), {}
    for caption, part in itertools.pairwise(parts):
        if part.startswith("|"):
            rows = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in part.splitlines()]
            found[caption] = [rows[0], *rows[2:]]
    return found


# ---------------------------------------------------------------------------------------------------------------- text


def test_both_budgets_stand_beside_each_other():
    found = comparison.compare(many())
    shown = tables(comparison_text.render(found, "md"))
    assert len(shown) == 1 + 6 + 6
    overall = shown["Overall: FD, ratio to none, mean over generations 2 to 4."]
    assert overall[0] == [
        "of", "strategy", "blocks", "equal cost", "equal cost: p", "equal cost: Holm", "equal cost: rank",
        "all steps", "all steps: p", "all steps: Holm", "all steps: rank",
    ]  # fmt: skip
    assert [row[0] for row in overall[1:]] == ["toy, diffusion"] * 4 + ["toy, gan"] * 4 + ["all"] * 4
    ranks = [float(row[6].split()[0]) for row in overall[1:5]]
    assert ranks == sorted(ranks)
    blocks = shown["By block: FD, ratio to none, generation 4."]
    assert len(blocks) == 1 + 2 * 4 * 3
    for trial in found.trials[:3]:
        effect = trial.effects["fd", "last"]
        ends = [math.exp(x) for x in (effect.mean, *effect.interval)]
        text = "{:#.3g} ({:#.3g} to {:#.3g})".format(*ends).replace(". ", " ")
        cell = trial.cell
        row = next(r for r in blocks if r[1:4] + r[5:6] == [cell.model, cell.loop, f"{cell.bias:g}", cell.strategy])
        assert text in row
        assert row[4] == f"{math.exp(trial.plain['fd', 'last']):#.3g}"


def test_costs_stand_beside_the_quality():
    costs = tables(comparison_text.render(comparison.compare(many()), "md"))[
        "What they cost: the largest of all blocks."
    ]
    assert costs[1] == ["toy", "diffusion", "neon", "equal cost", f"{902.5 / 1002.5:.3f}", "0", "0", "0.340"]
    assert [row[3] for row in costs[1:]] == ["equal cost", "all steps"] * 6


def test_the_page_says_first_what_was_found():
    plain, better = trials.make("a"), trials.make("b", "neon", effect=-0.5, noise=0.02)
    worse, same = trials.make("c", "sims", effect=0.5, noise=0.02), trials.make("d", "k_choice")
    broken = trials.make("e", "projection", diverged=1)
    found = comparison.compare([plain, better, worse, same, broken])
    heading, said = comparison_text.findings(found)
    assert heading == "Overall, by FD, ratio to none, mean over generations 2 to 4, after Holm's correction:"
    assert re.fullmatch(
        r"toy, diffusion, equal cost: better than none: neon \(0\.\d+\); worse: sims \(1\.\d+\); "
        r"no difference found: k_choice; undecided \(1 of 5 pairs missing\): projection\.",
        said,
    )
    page = comparison_text.render(found, "md")
    assert "— (1 of 5 pairs missing)" in page
    assert page.index(heading) < page.index("What they cost")
    for part in ("Holm: p after", "Student's t", "Read first: FD, mean", "Equal cost: ", "neon consumes"):
        assert part in page


def test_csv_and_json_are_the_numbers():
    found = comparison.compare(many(families=("diffusion",)))
    value = json.loads(comparison_text.render(found, "json"))
    rows = list(csv.DictReader(io.StringIO(comparison_text.render(found, "csv"))))
    assert len(rows) == len(value["blocks"]) + len(value["overall"]) == 6 * 6 * 4 + 6 * 8
    for row, each in zip(rows, value["blocks"] + value["overall"], strict=True):
        for name, number in each.items():
            assert row[name] == ("" if number is None else str(number))
    effect = found.trials[0].effects["recall", "mean"]
    each = next(e for e in value["blocks"] if (e["metric"], e["statistic"]) == ("recall", "mean"))
    assert [each[k] for k in ("difference", "low", "high", "p_value", "p_holm", "family", "pairs")] == [
        effect.mean, *effect.interval, effect.p_value, effect.p_holm, 24, 5,
    ]  # fmt: skip
    assert {e["strategy"] for e in value["overall"] if e["difference"] is None} == {"none"}
    assert value["first"] == {"metric": "fd", "statistic": "mean"}


@pytest.mark.parametrize("format", comparison_text.FORMATS)
def test_names_are_text_and_the_same_results_are_the_same_text(format):
    hostile = "a|b<script>:*_x_*"
    made = [trials.make("a"), trials.make("b", hostile, said={"cite": "<b>|"})]
    text = comparison_text.render(comparison.compare(made), format)
    assert text == comparison_text.render(comparison.compare(made), format)
    assert text.endswith("\n")
    if format == "md":
        assert "<script" not in text
        assert all(len(row) == len(rows[0]) for rows in tables(text).values() for row in rows)


def test_intervals_of_any_size_are_numbers():
    made = [trials.make("a", seeds=(0, 1, 2)), trials.make("b", "neon", seeds=(0, 1, 2), noise=90.0)]
    found = comparison.compare(made)
    for format in comparison_text.FORMATS:
        assert "nan" not in comparison_text.render(found, format).lower().replace("nand", "")
    saved(comparison_plot.plot(found))


# ------------------------------------------------------------------------------------------------------------- picture


def marks(axis, marker):
    return [line for line in axis.lines if line.get_marker() == marker]


def test_marks_are_the_overall_effects():
    found = comparison.compare(many(families=("diffusion",)))
    figure = comparison_plot.plot(found)
    assert len(figure.axes) == 6
    for axis, outcome in zip(figure.axes, [(m, s) for s in ("mean", "last") for m in trials.METRICS], strict=True):
        for equal_cost, marker in ((True, "o"), (False, "s")):
            mine = {s.strategy: s.effects[outcome] for s in found.standings if s.equal_cost == equal_cost and s.effects}
            drawn = {float(line.get_xdata()[0]): line for line in marks(axis, marker)}
            assert sorted(drawn) == sorted(effect.mean for effect in mine.values())
            for effect in mine.values():
                line = drawn[effect.mean]
                assert (line.get_markerfacecolor() != "white") == bool(effect.finding)
                assert any(list(each.get_xdata()) == list(effect.interval) for each in axis.lines)
        assert sum(len(line.get_xdata()) for line in marks(axis, ".")) == len(found.trials)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    first = {s.strategy: s.ranks["fd", "mean"].mean for s in found.standings if s.strategy != "none"}
    assert names[0] == "neon"
    assert len(names) == len(first)


@pytest.mark.parametrize(
    "made",
    [
        many(),
        many(families=("diffusion",), strategies=("neon",), budgets=(True,)),
        many(strategies=tuple(f"{'s' * 50}{i}(alpha={i})" for i in range(12)), budgets=(True, False)),
        [trials.make("a", metrics=("fd",)), trials.make("b", "neon", metrics=("fd",))],
        [trials.make("a", seeds=(0,)), trials.make("b", "neon", False, seeds=(0,))],
        [trials.make("a"), trials.make("b", "a_$x$_b", diverged=0)],
    ],
    ids=["groups", "one", "long names", "one metric", "one seed", "nothing to draw"],
)
def test_nothing_overlaps_or_leaves_the_picture(made):
    figure = comparison_plot.plot(comparison.compare(made))
    assert saved(figure).shape[1] == 900
    assert not overlaps(figure)
    assert all(axis.get_window_extent().height > 30 for axis in figure.axes)
    assert all(axis.get_window_extent().width > 100 for axis in figure.axes)


# ------------------------------------------------------------------------------------------------------------- command


def main(*argv):
    return cli.main(["madbench", "compare", *map(str, argv)])


def test_compare_prints_and_writes(tmp_path, capsys):
    paths = [trials.save(made, tmp_path) for made in (trials.make("a"), trials.make("b", "neon", effect=-0.3))]
    assert main(*paths) == 0
    text = capsys.readouterr().out
    assert text.startswith("**toy: strategies against none**")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    out = tmp_path / "deep" / "out"
    assert main(*paths, f"--out={out}", "--format=csv") == 0
    assert capsys.readouterr().out == (out / "comparison.csv").read_text()
    assert (out / "comparison.md").read_text() == text
    assert sorted(p.name for p in out.iterdir()) == [f"comparison.{e}" for e in ("csv", "json", "md", "png", "svg")]
    first = {p.name: p.read_bytes() for p in out.iterdir()}
    assert main(*paths, f"--out={out}") == 0
    assert first == {p.name: p.read_bytes() for p in out.iterdir()}


def test_misuse_is_one_line_and_writes_nothing(tmp_path, capsys):
    paths = [trials.save(made, tmp_path) for made in (trials.make("a"), trials.make("b"), trials.make("c", "neon"))]
    (tmp_path / "file").write_text("")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "submission.json").write_text("{}")
    out = f"--out={tmp_path / 'out'}"
    for argv, said in (
        ([out], "name a workdir of strategy none and others"),
        ([paths[0], out], "name a workdir of strategy none and others"),
        ([paths[0], paths[1], out], "nothing to compare: no strategy but none in a, b"),
        ([paths[2], paths[2], out], "no workdir of strategy none among"),
        ([*paths, out], "a and b both hold none"),
        ([paths[0], tmp_path / "nowhere", out], "is not a workdir"),
        ([paths[0], paths[2], f"--out={tmp_path / 'file'}"], "is a file; name a folder"),
        ([paths[0], paths[2], f"--out={tmp_path / 'packed'}"], "is a submission"),
        ([paths[0], paths[2], "--format=latex"], "format"),
    ):
        assert main(*argv) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert [p.name for p in (tmp_path / "packed").iterdir()] == ["submission.json"]


def test_what_costs_nothing_has_one_budget():
    shown = [
        trials.make("plain"),
        trials.make("free", "golden_ratio", effect=-0.2),
        trials.make("equal", "neon", effect=-0.3, flops=900),
        trials.make("more", "neon", False, effect=-0.5, flops=1900),
        trials.make("alone", "sims", effect=-0.3, flops=950),
    ]
    lines = comparison_text.render(comparison.compare(shown), "md").splitlines()
    first = [line.split("|") for line in lines if line.startswith(("| golden_ratio ", "| sims ", "| neon "))]
    cells = {row[1].strip(): [cell.strip() for cell in row[-5:-1]] for row in first if len(row) == 12}
    assert cells["golden_ratio"] == ["costs nothing", "—", "—", "—"]
    assert cells["sims"] == ["—", "—", "—", "—"]
    assert " to " in cells["neon"][0]


def test_a_mean_that_hides_opposite_blocks_says_so():
    """Better at one λ and worse at the other: overall there is no difference."""
    treated = trials.make("treated", "neon", effect=-0.4, noise=0.02)
    for row in treated.rows:
        if row["bias"] == 0.5 and row["generation"] > 1:
            row["fd"] *= math.exp(0.8)
    found = comparison.compare([trials.make("plain", noise=0.02), treated])
    (_, line) = comparison_text.findings(found)
    assert line.endswith("no difference found: neon (better in 2 of 4 blocks; worse in 2 of 4 blocks).")


def test_names_in_the_picture_are_what_tells_strategies_apart():
    names = [
        "neon(weight=1.0,extra_fit=0.1,extra_rate=0.1)",
        "verifier(candidates=2)",
        "verifier(by='distance',candidates=2)",
        "projection(strength=2.0,clusters=32)",
        "projection(strength=0.5,clusters=16)",
        "no call (",
    ]
    shorts = comparison_plot._short_names(names)
    expected = ["neon", "verifier", "verifier(by='distance')", "projection(2.0, 32)", "projection(0.5, 16)", names[-1]]
    assert list(shorts.values()) == expected
    alike = ["f(a_setting_of_much_more_length=1)", "f(b_setting_of_much_more_length=1)"]
    assert comparison_plot._short_names(alike) == {name: name for name in alike}
