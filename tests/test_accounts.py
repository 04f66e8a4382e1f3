"""Strategies in the standard table, its accounting, the page and the titles; tables without any stay as they were."""

import csv
import io
import json
import re

import pages
import pytest
import trials

from madbench import results, verdict
from madbench.report import accounts, aggregate, curves, planned, table, text, words, workdir
from madbench.verdict import Cell

SIMS = {"consumes": ["a second fit, 0.1 of the first"], "cite": "Alemohammad et al. 2024, arXiv 2408.16333"}


def three():
    """None, and one strategy at both budgets."""
    treated = {"effect": -0.3, "extra": 7, "seen": True, "memorized": 0.02, "said": SIMS}
    return [
        trials.make("plain"),
        trials.make("equal", "sims(weight=1)", flops=990, **treated),
        trials.make("more", "sims(weight=1)", False, flops=1500, **treated),
    ]


def grid(found, caption):
    return next(each for each in text.grids(aggregate.aggregate(found)) if each.caption.startswith(caption))


# ------------------------------------------------------------------------------------------------------------- cells


def test_a_cell_has_a_strategy_and_a_budget():
    assert Cell("a", "b", "c", 1.0) == Cell("a", "b", "c", 1.0, "none", True)
    budgets = [Cell("a", "b", "c", 1.0, *each).budget for each in (("none", True), ("x", True), ("x", False))]
    assert budgets == ["", "equal cost", "all steps"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, ("none", True)),
        ({"strategy": "none", "equal_cost": False}, ("none", True)),
        ({"strategy": "neon"}, ("neon", True)),
        ({"strategy": "neon", "equal_cost": False}, ("neon", False)),
        ({"strategy": ["neon"]}, ("['neon']", True)),
    ],
)
def test_without_a_strategy_there_is_no_budget(said, expected):
    """So that rows of none are one cell whatever the config said; and nothing in a row can fail."""
    assert verdict.strategy_of(said) == expected


def test_planned_cells_are_those_of_the_rows():
    for made in three():
        assert set(planned(made)) == set(verdict.group(made.rows))
    old = trials.make("old")
    for name in results.STRATEGY:
        del old.config[name]
    for row in old.rows:
        for name in results.ACCOUNT:
            del row[name]
    assert set(planned(old)) == set(verdict.group(old.rows)) == set(planned(trials.make("new")))


# ------------------------------------------------------------------------------------------------------------- tables


def test_without_strategies_nothing_is_said_of_them():
    page = table.render([trials.make("plain")], "md")
    for word in ("strategy", "budget |", "FLOPs", "memorization", "qual cost"):
        assert word not in page
    assert [each.caption for each in text.grids(aggregate.aggregate([trials.make("plain")]))][1].startswith(
        "What the v"
    )


def test_strategies_tell_lines_apart():
    first = grid(three(), "")
    assert first.header[:5] == ["model", "strategy", "budget", "loop", "λ"]
    assert [row[1:3] for row in first.rows[::4]] == [["none", ""], ["sims(weight=1)", "equal cost"],
                                                     ["sims(weight=1)", "all steps"]]  # fmt: skip
    assert "workdir" not in first.header
    assert "workdir" in grid([*three(), trials.make("again")], "").header


def test_the_accounting_is_that_of_the_rows():
    found = grid(three(), "What strategies cost")
    assert found.header[4:] == ["FLOPs", "× none", "real samples seen", "extra parameters", "pool memorization"]
    plain, equal, more = (row[4:] for row in found.rows[::4])
    # generation 1 of four costs 10 more
    assert plain == ["1e+03", "1.000", "0", "0", "—"]
    assert equal == ["992", f"{992.5 / 1002.5:.3f}", "40", "7", "0.060"]
    assert more == ["1.5e+03", f"{1502.5 / 1002.5:.3f}", "40", "7", "0.060"]
    alone = grid(three()[1:2], "What strategies cost")
    assert "× none" not in alone.header


def test_what_is_not_known_is_missing():
    rows = trials.make("plain", loops=trials.LOOPS[:1], biases=(1.0,)).rows
    nothing = [{k: v for k, v in row.items() if k not in results.ACCOUNT} for row in rows]
    assert accounts.expense(nothing, range(5), 4) == accounts.Expense(None, None, None, None, None)
    cut = [row for row in rows if row["generation"] < 4]
    assert accounts.expense(cut, range(5), 4).flops is None
    assert accounts.expense(cut, range(5), 3).flops == pytest.approx(1000 + 10 / 3)
    one_left = [row for row in rows if row["generation"] < 4 or row["seed"] == 3]
    assert accounts.expense(one_left, range(5), 4).flops == pytest.approx(1002.5)
    odd = [row | {"flops": "many", "extra_parameters": True, "pool_memorization": [1]} for row in rows]
    assert accounts.expense(odd, range(5), 4) == accounts.Expense(None, None, 0.0, None, None)


def test_memorization_is_the_largest_over_generations_of_the_mean_over_seeds():
    rows = [
        {"seed": seed, "generation": t, "pool_memorization": value}
        for t, values in ((1, (0.1, 0.9)), (2, (0.4, 0.4)), (3, (0.0, 0.2)))
        for seed, value in enumerate(values)
    ]
    assert accounts.expense(rows, range(2), 3).pool_memorization == pytest.approx(0.5)


def test_every_format_carries_the_accounting():
    lines = json.loads(table.render(three(), "json"))
    rows = list(csv.DictReader(io.StringIO(table.render(three(), "csv"))))
    for line, row in zip(lines["lines"], rows, strict=True):
        assert (row["strategy"], row["equal_cost"]) == (line["strategy"], str(line["equal_cost"]))
        for name in ("flops", "flops_ratio", "n_real_seen", "extra_parameters", "pool_memorization"):
            assert (float(row[name]) if row[name] else None) == line[name]
    assert lines["strategies"] == [{"name": "sims(weight=1)", "settings": {}, **SIMS}]
    assert lines["lines"][4]["flops_ratio"] == pytest.approx(992.5 / 1002.5)
    page = table.render(three(), "latex")
    assert r"sims(weight=1) & equal cost" in page
    assert r"$\times$ none" in page


def test_the_notes_say_what_the_columns_are_and_whose_the_strategy_is():
    notes = "\n".join(aggregate.aggregate(three()).notes)
    for part in ("Equal cost: ", "FLOPs: ", "Real samples seen: ", "Extra parameters: ", "Pool memorization: "):
        assert notes.count(part) == 1
    assert f"sims(weight=1) consumes {SIMS['consumes'][0]}; source: {SIMS['cite']}." in notes
    odd = trials.make("odd", "mine:Mine", said={"consumes": "labels", "cite": None})
    notes = "\n".join(aggregate.aggregate([odd]).notes)
    assert "mine:Mine consumes nothing more than training takes; source: not named." in notes
    odd.reference["strategy"] = ["?"]
    assert accounts.told(odd)["name"] == "mine:Mine"


# ----------------------------------------------------------------------------------------------------- page and titles


def test_the_page_says_which_strategy_was_run(tmp_path):
    plain, equal, more = three()
    said = {made.path.name: words.ran(made, aggregate.aggregate([made])) for made in (plain, equal, more)}
    assert "collapse" not in said["plain"]
    assert f"Against collapse: sims(weight=1) consumes {SIMS['consumes'][0]}" in said["equal"]
    assert "Budget: equal cost: a generation costs no more FLOPs" in said["equal"]
    assert "Budget: all steps: a generation trains for as many" in said["more"]
    page = workdir.render_page(results.load(trials.save(equal, tmp_path)))
    assert "What strategies cost, per generation of a run" in page
    assert "· sims(weight=1), equal cost" in re.search(r'<p class="eyebrow">(.*?)</p>', page)[1]
    old = workdir.render_page(results.load(pages.write(tmp_path / "old")))
    assert "What strategies cost" not in old
    assert "Against collapse" not in old


def test_a_hostile_strategy_is_text(tmp_path):
    made = trials.make("w", pages.HOSTILE, said={"consumes": [pages.HOSTILE], "cite": pages.HOSTILE})
    page = workdir.render_page(results.load(trials.save(made, tmp_path)))
    outside = re.sub(r"<style>.*?</style>|<script>\n?\"use strict\".*?</script>", "", page, flags=re.S)
    assert "<script" not in outside
    assert "<img src=x" not in outside
    assert "<script" not in table.render([made], "md")


def test_a_title_names_the_strategy():
    titles = [curves.plot(made).legends[0].get_title().get_text() for made in three()]
    ends = ["", ", sims(weight=1), equal cost", ", sims(weight=1), all steps"]
    assert titles == [f"toy, diffusion{end}" for end in ends]
