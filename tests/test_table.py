"""`report.table`: the numbers, what is missing, and that no name becomes markup."""

import csv
import dataclasses
import io
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from tables import entries, infos

from madbench import results, verdict
from madbench.report import aggregate, table, text

LOOPS = ("fully_synthetic", "fresh_data(n_fresh=100,n_initial=1000)")
FORMATS = ("md", "csv", "json", "latex")


def fd(bias, seed, t):
    return (1 + seed / 10) * 2 ** (t - 1) / bias


def recall(seed, t):
    return 0.9 / t + seed / 100


def make(*, loops=LOOPS, biases=(1.0, 0.5), seeds=(0, 1, 2), generations=3, task="toy", path="a", version=1, **data):
    """A complete workdir; FD doubles each generation, recall falls as 0.9 / t."""
    cells = [(loop, bias) for loop in loops for bias in biases]
    rows = [
        results.row(
            task=task, model="diffusion", loop=loop, bias=bias, seed=seed, generation=t, n_real=600,
            n_synthetic=600 * (t > 1), n_samples=597, status="ok", features="lenet-1:abc",
            metrics={"fd": fd(bias, seed, t), "recall": recall(seed, t)}, metric_versions={"fd": version, "recall": 1},
        )
        for seed in reversed(seeds)
        for loop, bias in reversed(cells)
        for t in range(1, generations + 1)
    ]  # fmt: skip
    config = {
        "task": task, "data": {"source": "digits", **data}, "loops": list(loops),
        "model": {"family": "diffusion", "steps": 300},
        "biases": list(biases), "seeds": list(seeds), "generations": generations,
        "metrics": {"names": ["fd", "recall"], "features": "lenet"},
    }  # fmt: skip
    reference = {
        "schema": 1, "features": "lenet-1:abc", "n_samples": 597,
        "floors": {"fd": {"mean": 2.1, "p5": 1.25, "p95": 3.0}, "recall": {"mean": 0.97, "p5": 0.95, "p95": 0.98}},
        "cells": [{"loop": loop, "bias": bias} for loop, bias in cells], "metrics": entries("fd", "recall"),
    }  # fmt: skip
    return results.Result(pathlib.Path(path), config, reference, {}, rows)


def without(result, drop):
    return dataclasses.replace(result, rows=[r for r in result.rows if not drop(r)])


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def markdown_rows(text):
    """The cells of the first markdown table, header first."""
    lines = text.split("\n\n")[1].splitlines()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [rows[0], *rows[2:]]


def notes_of(*made):
    return "\n".join(aggregate.aggregate(list(made)).notes)


def test_one_line_per_cell_in_the_order_of_the_config():
    lines = aggregate.aggregate([make()]).lines
    expected = [(loop, bias) for loop in LOOPS for bias in (1.0, 0.5)]
    assert [(line.cell.loop, line.cell.bias) for line in lines] == expected


def test_numbers_equal_the_statistics_module():
    for line in aggregate.aggregate([make()]).lines:
        for t, spread in zip((1, 3), line.metrics["fd"], strict=True):
            values = [fd(line.cell.bias, seed, t) for seed in range(3)]
            assert spread.mean == pytest.approx(statistics.mean(values))
            assert spread.sd == pytest.approx(statistics.stdev(values))
            assert spread.seeds == 3
        assert (line.n_real, line.n_synthetic) == (600, 600)
        assert line.verdict.text == "MAD, loses diversity"


def test_csv_and_json_carry_the_same_numbers():
    made = without(make(), lambda r: r["seed"] == 1 and r["bias"] == 0.5)
    lines = strict(table.render([made], "json"))["lines"]
    rows = list(csv.DictReader(io.StringIO(table.render([made], "csv"))))
    assert len(rows) == len(lines) == 4
    for row, line in zip(rows, lines, strict=True):
        for key in ("task", "model", "loop", "verdict"):
            assert row[key] == line[key]
        for key in ("bias", "seeds", "seeds_finished", "n_real", "n_synthetic", "half_life"):
            assert (float(row[key]) if row[key] else None) == line[key]
        for name in ("fd", "recall"):
            for end in ("first", "last"):
                for key in ("mean", "sd", "seeds"):
                    text = row[f"{name}_{end}_{key}"]
                    assert (float(text) if text else None) == line["metrics"][name][end][key]
        assert float(row["fd_floor_p95"]) == 3.0
    assert [line["seeds_finished"] for line in lines] == [3, 2, 3, 2]


def test_json_holds_the_floors():
    floors = strict(table.render([make()], "json"))["floors"]
    shared = {"task": "toy", "n_samples": 597, "features": "lenet-1:abc"}
    assert floors[0] == {**shared, "metric": "fd", "mean": 2.1, "p5": 1.25, "p95": 3.0}
    assert floors[1] == {**shared, "metric": "recall", "mean": 0.97, "p5": 0.95, "p95": 0.98}


def test_missing_cells_and_generations_are_shown():
    made = without(
        make(), lambda r: (r["loop"], r["bias"]) == (LOOPS[0], 0.5) or (r["bias"] == 1.0 and r["generation"] == 3)
    )
    rows = markdown_rows(table.render([made], "md"))
    header = rows[0]
    by_cell = {(row[header.index("loop")], row[header.index("λ")]): row for row in rows[1:]}
    assert len(by_cell) == 4
    absent, cut = by_cell[LOOPS[0], "0.5"], by_cell[LOOPS[0], "1"]
    column = header.index("FD ↓, t = 1 → 3")
    judged = header.index("verdict (mad)")
    assert absent[header.index("seeds")] == cut[header.index("seeds")] == "0/3"
    assert absent[column] == "—"
    assert cut[column].endswith("→ —")
    assert absent[judged] == "no results"
    assert cut[judged].endswith("unfinished 3/3")
    line = next(x for x in strict(table.render([made], "json"))["lines"] if x["verdict"] == "no results")
    assert line["metrics"] == {"fd": {"first": None, "last": None}, "recall": {"first": None, "last": None}}
    assert line["n_real"] is line["half_life"] is None


def test_no_mean_is_taken_over_the_seeds_that_are_left():
    made = make(seeds=(0, 1, 2, 3))
    for r in made.rows:
        if r["seed"] == 3 and r["generation"] == 3 and r["bias"] == 0.5:
            r.update(status="diverged", fd=None, recall=None)
    _, whole, diverged, *_ = markdown_rows(table.render([made], "md"))
    assert "—" not in whole[5]
    assert "4/4" in whole
    assert "3/4" in diverged
    assert diverged[-2].endswith("diverged 1/4")
    assert re.fullmatch(r"2\.30 ± 0\.26 +→ — \(3/4\)", diverged[5])
    spread = strict(table.render([made], "json"))["lines"][1]["metrics"]["fd"]["last"]
    assert spread == {"mean": None, "sd": None, "seeds": 3}


def test_a_single_seed_has_no_deviation():
    text = table.render([make(seeds=(7,))], "md")
    assert markdown_rows(text)[1][5] == "1.70 → 6.80"
    row = next(csv.DictReader(io.StringIO(table.render([make(seeds=(7,))], "csv"))))
    assert (row["fd_last_sd"], row["verdict"]) == ("", "too few seeds")


def test_a_single_generation_is_shown_once():
    header, row, *_ = markdown_rows(table.render([make(generations=1)], "md"))
    assert row[header.index("FD ↓, t = 1")] == "1.10 ± 0.10"


def test_rows_outside_the_grid_are_not_counted_and_named():
    made = make()
    stray = [{**made.rows[0], "seed": 99}, {**made.rows[0], "loop": "replace"}, {**made.rows[0], "generation": 4}]
    extended = dataclasses.replace(made, rows=made.rows + stray)
    assert aggregate.aggregate([extended]).lines == table.aggregate([made]).lines
    assert "a: 3 rows lie outside" in notes_of(extended)


def test_several_workdirs_make_one_table():
    b = make(task="other", path="b", loops=("replace",), generations=5)
    rows = markdown_rows(table.render([make(), b], "md").replace("| task", "\n\n| task", 1))
    header = rows[0]
    assert header[0] == "task"
    assert [row[0] for row in rows[1:]] == ["toy"] * 4 + ["other"] * 2
    assert [row[header.index("T")] for row in rows[1:]] == ["3"] * 4 + ["5"] * 2
    assert {f.task for f in aggregate.aggregate([make(), b]).floors} == {"toy", "other"}


def test_workdirs_that_share_cells_keep_lines_of_their_own():
    twins = [make(path="x/run"), make(path="y/run")]
    lines = strict(table.render(twins, "json"))["lines"]
    assert [line["workdir"] for line in lines] == ["x/run"] * 4 + ["y/run"] * 4
    assert markdown_rows(table.render(twins, "md"))[0][0] == "workdir"
    assert markdown_rows(table.render([make()], "md"))[0][0] == "model"


def test_a_metric_that_one_workdir_lacks_is_missing_there():
    b = make(path="b", loops=("replace",))
    b.config["metrics"]["names"] = ["fd"]
    last = aggregate.aggregate([make(), b]).lines[-1]
    assert last.metrics["recall"] == (None, None)
    assert "recall" not in last.floors
    assert [t.metric for t in last.verdict.trends] == ["fd"]


def test_differing_versions_are_said():
    assert "differs" not in notes_of(make(), make(path="b"))
    assert "fd version differs: 1 in a; 2 in b" in notes_of(make(), make(path="b", version=2))
    other = make(path="b")
    other.rows[0]["features"] = "lenet-2:def"
    assert "feature network differs: lenet-1:abc in a, b; lenet-2:def in b" in notes_of(make(), other)
    assert "feature network lenet-1:abc" in notes_of(make())


def test_footnotes_on_choices():
    notes = notes_of(make())
    assert {m.group(1) for m in re.finditer(r"(\w+) \(ours\)", notes)} == {"Tests", "Budget", "Labels"}
    assert "samples behind each metric 597" in notes
    assert "95%" in notes
    assert "reused" not in notes_of(make(reuse_fresh=False))
    assert "reused" in notes_of(make(reuse_fresh=True))
    assert "used up (b)" in notes_of(make(), make(path="b", reuse_fresh=True))
    exact = make()
    exact.config["model"] = {"family": "kde", "bandwidth": "scott"}
    exact.reference["bias_meaning"] = "λ multiplies the kernel's covariance (ours)"
    assert "Budget" not in notes_of(exact)
    assert "kde: λ multiplies the kernel's covariance (ours)." in notes_of(exact)
    passes = make()
    passes.config["model"]["epochs"] = 2.0
    assert "Budget: where config.model.epochs is set" in notes_of(passes)


def test_markdown_is_aligned_for_a_terminal():
    for part in table.render([make()], "md").split("\n\n")[1:6:2]:
        lines = part.splitlines()
        assert len({len(line) for line in lines}) == 1
        assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in lines}) == 1


HOSTILE = '[x]*|y<b>_z_*k*`c`[l](u)&$m$\\~#%{}^"\n\r2'


def test_no_name_becomes_markdown():
    text = table.render([make(loops=(HOSTILE,), biases=(1.0,))], "md")
    header, row = markdown_rows(text)
    assert len(header) == len(row)
    cell = row[header.index("loop")]
    assert cell == '\\[x\\]\\*\\|y&lt;b>\\_z\\_\\*k\\*\\`c\\`\\[l\\](u)&amp;\\$m\\$\\\\\\~#%{}^"  2'
    assert LOOPS[1] in table.render([make()], "md")  # while names as they are stay readable


def test_csv_and_json_keep_any_name():
    made = make(loops=(HOSTILE,), biases=(1.0,))
    assert [r["loop"] for r in csv.DictReader(io.StringIO(table.render([made], "csv"), newline=""))] == [HOSTILE]
    assert strict(table.render([made], "json"))["lines"][0]["loop"] == HOSTILE


@pytest.mark.parametrize("loops", [LOOPS, (HOSTILE, "naïve ☃ loop")])
def test_latex_is_balanced_and_holds_no_stray_specials(loops):
    page = table.render([make(loops=loops)], "latex")
    for begin, rows in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", page, re.S):
        body = [line for line in rows.splitlines() if line.endswith(r"\\")]
        assert len(body) >= 3
        for line in body:
            assert len(re.findall(r"(?<!\\)&", line)) == len(begin) - 1
    body = page.split("\n", 1)[1]  # after the comment that names the packages
    bare = re.sub(r"\\[&%$#_{}]", "", body)
    assert not re.search(r"[%#_~^\"|<>](?![^$\n]*\$)", re.sub(r"\$[^$\n]*\$", "", bare))
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert all(ord(c) < 0x180 for c in page)
    commands = set(re.findall(r"\\([a-zA-Z]+)", body))
    assert commands <= {
        "begin", "end", "toprule", "midrule", "bottomrule", "smallskip", "footnotesize", "item", "lambda", "pm", "to",
        "uparrow", "downarrow", "textdagger", "textsuperscript", "textbackslash", "textasciitilde", "textasciicircum",
        "textquotedbl",
    }  # fmt: skip
    assert not re.search(r"(\\\\|\\item)\s*[*\[]", body)  # would be read as an argument
    assert text._escape_latex("*[") == "{*}{[}"
    if loops is LOOPS:
        assert r"fresh\_data(n\_fresh=100,n\_initial=1000)" in page


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_depends_on_the_rows_not_on_their_order(format):
    made = make()
    text = table.render([made], format)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert table.render([dataclasses.replace(made, rows=made.rows[::-1])], format) == text


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("fd", 123456.7, "123457"), ("fd", 12.345, "12.3"), ("fd", 0.012345, "0.0123"), ("fd", 1.2e-7, "1.20e-07"),
        ("fd", 3.4e12, "3.40e+12"), ("fd", 0.0, "0.000"), ("recall", 0.0123, "0.012"), ("density", 1.5, "1.50"),
        ("density", 25.24, "25.2"), ("kid", -0.00123, "-0.00123"), ("modes", 24.5, "24.5"),
    ],
)  # fmt: skip
def test_numbers_are_readable(metric, value, expected):
    assert text.style(infos(metric)[metric], value).format(value) == expected


def test_around_zero_the_spread_says_which_digits_count():
    spread = aggregate.Spread(-0.0000123, 0.00123, 3)
    assert text._spread_text(infos("kid")["kid"], spread, 3) == "-0.00001 ± 0.00123"


def verdicts(made, definition):
    return [line["verdict"] for line in strict(table.render([made], "json", definition))["lines"]]


def test_every_format_names_the_definition_of_collapse():
    for name, definition in verdict.DEFINITIONS.items():
        pages = {format: table.render([make()], format, name) for format in FORMATS}
        first_words = definition.sentence.split(":")[0]
        assert f"verdict ({name})" in pages["md"]
        assert f"Verdict by the definition {name} ({definition.title}): {first_words}" in pages["md"]
        assert f"verdict ({text._escape_latex(name)})" in pages["latex"]
        assert first_words in pages["latex"]
        value = strict(pages["json"])
        assert value["definition"] == {
            "name": name, "title": definition.title, "sentence": definition.sentence, "source": definition.source,
        }  # fmt: skip
        assert {row["definition"] for row in csv.DictReader(io.StringIO(pages["csv"]))} == {name}


def test_another_definition_is_another_verdict():
    assert verdicts(make(), "mad") == ["MAD, loses diversity"] * 4
    assert verdicts(make(), "tails") == ["loses tails"] * 4
    assert verdicts(make(), "real_only") == ["worse than real-only"] * 4
    assert verdicts(make(), "variance") == ["undecided: metric variance was not measured"] * 4
    page = table.render([make()], "md", "variance")
    assert "- Metric variance was not measured in a: add it to config.metrics.names." in page
    assert "was not measured" not in table.render([make()], "md")
    with pytest.raises(
        ValueError, match="unknown verdict 'doom'; choose from mad, growing, variance, tails, real_only"
    ):
        table.render([make()], "md", "doom")


def test_trends_are_in_every_format_with_their_intervals():
    made = make()
    line = strict(table.render([made], "json"))["lines"][0]
    row = next(csv.DictReader(io.StringIO(table.render([made], "csv"))))
    slopes = [math.log(2)] * 3  # FD doubles in every run
    assert line["trends"]["fd"]["slope"] == pytest.approx(statistics.mean(slopes))
    assert line["trends"]["fd"]["scale"] == "log"
    recalls = [np.polyfit((1, 2, 3), [recall(seed, t) for t in (1, 2, 3)], 1)[0] for seed in range(3)]
    assert line["trends"]["recall"]["slope"] == pytest.approx(statistics.mean(recalls))
    assert [t["metric"] for t in line["evidence"]] == ["fd", "recall"]
    for metric, found in line["trends"].items():
        assert float(row[f"{metric}_slope"]) == found["slope"]
        for name, key in (("slope", "t_interval"), ("slope_bootstrap", "bootstrap")):
            assert [float(row[f"{metric}_{name}_{end}"]) for end in ("low", "high")] == found[key]
        assert float(row[f"{metric}_slope_p"]) == found["p_value"]
    paired = strict(table.render([made], "json", "real_only"))["lines"][0]["evidence"]
    assert [list(t)[:2] for t in paired] == [["metric", "change"]]
    assert paired[0]["change"] == pytest.approx(math.log(4))
    row = next(csv.DictReader(io.StringIO(table.render([made], "csv", "real_only"))))
    assert float(row["fd_change"]) == pytest.approx(math.log(4))
    assert float(row["fd_slope"]) == pytest.approx(math.log(2))


def test_the_evidence_is_shown_with_the_digits_that_its_interval_warrants():
    made = make(loops=LOOPS[:1], biases=(1.0,))
    for r in made.rows:
        r["recall"] = 0.9 - (0.1 + 0.01 * r["seed"]) * (r["generation"] - 1)  # slopes -.10, -.11, -.12
    lines = table.render([made], "md").split("\n\n")[3].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == ["of", "loop", "λ", "mean", "95%, t", "95%, bootstrap", "p"]
    of, _, _, mean, t, bootstrap, p = cells[3]
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert (of, mean, t) == ("slope of recall", "-0.110", f"{-0.11 - half:+.3f} to {-0.11 + half:+.3f}")
    assert re.fullmatch(r"-0\.1\d\d to -0\.0\d\d", bootstrap)
    assert p == f"{stats.ttest_1samp([-0.10, -0.11, -0.12], 0, alternative='less').pvalue:.3f}"


def many(generations=3, **settings):
    """A workdir with eight metrics."""
    names = ("fd", "kid", "precision", "recall", "density", "variance", "modes", "classes")
    made = make(generations=generations, **settings)
    for r in made.rows:
        t = r["generation"]
        r |= {"kid": 1e-4 * t - 2e-4 + 1e-4 * r["seed"], "precision": 0.9, "density": 1 + 0.1 * t, "modes": 25.0 - t}
        r |= {"variance": 0.9**t, "classes": 10.0}
    made.config["metrics"]["names"] = list(names)
    made.reference["metrics"] = entries(*names)
    return made


def test_more_metrics_than_fit_have_tables_of_their_own():
    page = table.render([many()], "md")
    assert max(map(len, table.render([many()], "md").split("- ")[0].splitlines())) < 200
    first, second, third = (page.split("\n\n")[i].splitlines()[0] for i in (1, 3, 4))
    assert "FD" not in first
    assert "verdict (mad)" in first
    assert [part.count("t = 1 → 3") for part in (first, second, third)] == [0, 4, 4]
    assert page.split("\n\n")[2] == "Metrics:"
    assert page.count("0.900 ± 0.000 → 0.900 ± 0.000") == 4
    latex = table.render([many()], "latex")
    assert latex.count(r"\begin{tabular}") == 5  # cells, metrics twice, evidence, floors
    assert verdicts(many(), "variance") == ["undecided: no floor"] * 4


def test_a_metric_is_what_its_own_workdir_says():
    made = make()
    made.reference["metrics"]["fd"] |= {"label": "Fréchet", "direction": "higher", "note": "It is turned round."}
    page = table.render([made], "md")
    assert "Fréchet ↑, t = 1 → 3" in page
    assert "- It is turned round." in page
    for broken, message in (
        (None, "was written by an earlier development version of madbench; run it again"),
        ({"fd": entries("fd")["fd"]}, "does not say what the metric 'recall' is"),
        ({**entries("recall"), "fd": {**entries("fd")["fd"], "kind": "wild"}}, "metric 'fd': kind is 'wild'"),
    ):
        made = make()
        made.reference["metrics"] = broken
        with pytest.raises(results.ResultError, match=re.escape(message)):
            table.render([made], "md")


def test_misuse_is_one_clear_line():
    with pytest.raises(ValueError, match="unknown format 'html'; choose from md, csv, json, latex"):
        table.render([make()], "html")
    with pytest.raises(ValueError, match="no results"):
        table.render([], "md")
    broken = make()
    del broken.reference["cells"]
    with pytest.raises(results.ResultError, match="cells"):
        table.render([broken], "md")


def test_a_table_needs_neither_accelerator_nor_plots():
    program = "import sys; import madbench.report.table; print({'jax', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ------------------------------------------------------------------------------- generation 1, far from the data


def far(scale, share=None, path="a", biases=(1.0, 0.5)):
    """A workdir whose FD in generation 1 is `scale` floors at λ = 1 and twice as much at 0.5; recall a share of its."""
    made = make(seeds=(0, 1), path=path, biases=biases)
    for row in made.rows:
        row["fd"] = 2.1 * scale / row["bias"] * row["generation"]
        row["recall"] = None if share is None else 0.97 * share
    return made


@pytest.mark.parametrize(
    ("scale", "share", "is_far"),
    [(10.1, 0.4, True), (10.1, None, True), (9.9, 0.4, False), (10.1, 0.6, False), (300, 0, True)],
)
def test_a_first_generation_far_from_the_data_is_said_first(scale, share, is_far):
    """By the nearest cell: that of λ = 0.5 has more than ten floors in each case."""
    notes = aggregate.aggregate([far(scale, share)]).notes
    expected = f"Generation 1 is already far from the data, its FD at least {scale:.0f} times the floor: train longer"
    assert notes[0].startswith(expected) == is_far
    assert sum("far from the data" in note for note in notes) == is_far


def test_of_several_workdirs_the_far_ones_are_named():
    notes = aggregate.aggregate([far(1, path="near"), far(50, path="off")]).notes
    assert notes[0].startswith("off: generation 1 is already far from the data, its FD at least 50 times")
    assert sum("far from the data" in note for note in notes) == 1


def test_without_fd_or_its_floor_nothing_is_said_of_its_distance():
    unknown = far(100)
    unknown.reference["floors"].pop("fd")
    assert "far from the data" not in notes_of(unknown)
    assert "far from the data" not in notes_of(without(far(100), lambda row: row["generation"] == 1))
