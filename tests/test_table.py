"""`report.table`: the numbers, what is missing, and that no name becomes markup."""

import csv
import dataclasses
import io
import json
import pathlib
import re
import statistics
import subprocess
import sys

import pytest

from madbench import results
from madbench.report import aggregate, table

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
        "cells": [{"loop": loop, "bias": bias} for loop, bias in cells],
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
    assert absent[header.index("seeds")] == cut[header.index("seeds")] == "0/3"
    assert absent[column] == "—"
    assert cut[column].endswith("→ —")
    assert absent[header.index("verdict")] == "no results"
    assert cut[header.index("verdict")].endswith("unfinished 3/3")
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
    assert {m.group(1) for m in re.finditer(r"(\w+) \(ours\)", notes)} == {"Verdict", "Budget", "Labels"}
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
    for part in table.render([make()], "md").split("\n\n")[1:4:2]:
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
    text = table.render([make(loops=loops)], "latex")
    for begin, rows in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, re.S):
        body = [line for line in rows.splitlines() if line.endswith(r"\\")]
        assert len(body) >= 3
        for line in body:
            assert len(re.findall(r"(?<!\\)&", line)) == len(begin) - 1
    body = text.split("\n", 1)[1]  # after the comment that names the packages
    bare = re.sub(r"\\[&%$#_{}]", "", body)
    assert not re.search(r"[%#_~^\"|<>](?![^$\n]*\$)", re.sub(r"\$[^$\n]*\$", "", bare))
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert all(ord(c) < 0x180 for c in text)
    commands = set(re.findall(r"\\([a-zA-Z]+)", body))
    assert commands <= {
        "begin", "end", "toprule", "midrule", "bottomrule", "smallskip", "footnotesize", "item", "lambda", "pm", "to",
        "uparrow", "downarrow", "textdagger", "textsuperscript", "textbackslash", "textasciitilde", "textasciicircum",
        "textquotedbl",
    }  # fmt: skip
    assert not re.search(r"(\\\\|\\item)\s*[*\[]", body)  # would be read as an argument
    assert table._escape_latex("*[") == "{*}{[}"
    if loops is LOOPS:
        assert r"fresh\_data(n\_fresh=100,n\_initial=1000)" in text


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_depends_on_the_rows_not_on_their_order(format):
    made = make()
    text = table.render([made], format)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert table.render([dataclasses.replace(made, rows=made.rows[::-1])], format) == text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("fd", 123456.7, "123457"), ("fd", 12.345, "12.3"), ("fd", 0.012345, "0.0123"), ("fd", 1.2e-7, "1.20e-07"),
        ("fd", 3.4e12, "3.40e+12"), ("fd", 0.0, "0.000"), ("recall", 0.0123, "0.012"), ("density", 1.5, "1.500"),
    ],
)  # fmt: skip
def test_numbers_are_readable(metric, value, text):
    assert table._style(metric, value).format(value) == text


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
