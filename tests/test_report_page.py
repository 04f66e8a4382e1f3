"""`report.html` as text: what it says, what it bounds, that it is the same each time; and `madbench report`."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pages
import pytest
from PIL import Image

from madbench import cli, job_config, results
from madbench import config as configs
from madbench.leaderboard import tasks
from madbench.report import charts, frames, html, page, series, words, workdir
from madbench.report.aggregate import aggregate


def load(path, **fields):
    return results.load(pages.write(path, **fields))


def said(result):
    return words.found(aggregate([result]))


# ---------------------------------------------------------------------------------------------------------- in words


def test_what_was_found(tmp_path):
    result = load(tmp_path / "w")
    first, last = (np.mean([2 * np.exp(0.6 * t / 0.5 + 0.1 * s) for s in range(3)]) for t in (0, 3))
    assert said(result) == [
        "All 4 cells go MAD; all 4 lose diversity.",
        f"FD grew most in fully_synthetic at λ\xa0=\xa00.5: from {first:.2f} to {last:.1f} by generation 4, "
        f"which is {last / 1.8:.2g} times the 95th percentile between real samples.",
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"seeds": (0,)}, "All 4 cells are undecided, too few seeds."),
        ({"loops": pages.LOOPS[:1]}, "Both cells go MAD; both lose diversity."),
        ({"loops": pages.LOOPS[:1], "biases": (1.0,)}, "fully_synthetic: MAD, loses diversity."),
        ({"metrics": ("recall",)}, "All 4 cells lose diversity; all 4 have MAD undecided: metric fd was not measured."),
        ({"diverged": (pages.LOOPS[0], 0, 1)}, "1 of 12 runs diverged and counts as failed."),
        ({"until": 2}, "3 of 12 runs are unfinished."),
    ],
)
def test_each_kind_of_finding_is_said(tmp_path, fields, sentence):
    assert sentence in said(load(tmp_path / "w", **fields))


def test_one_cell_that_differs_is_named(tmp_path):
    result = load(tmp_path / "w")
    for row in result.rows:
        if (row["loop"], row["bias"]) == (pages.LOOPS[1], 1.0):
            row.update(fd=1.0 + row["seed"] / 10, recall=0.9)
    assert said(result)[0] == (
        "3 of 4 cells go MAD; 3 lose diversity; 1 is stable (fresh_data at λ\xa0=\xa01)."
    )  # fmt: skip


def test_what_was_run(tmp_path):
    result = load(tmp_path / "w")
    text = words.ran(result, aggregate([result]))
    for part in (
        "vae model",
        "40 real samples of digits",
        "2 loops",
        "3 seeds, 4 generations: 4 cells, 12 runs",
        "raw-1",
    ):
        assert part in text


# ------------------------------------------------------------------------------------------------------------- tables


def cells_of(text, caption):
    """The texts of a table's body, by rows."""
    table = re.search(rf"<caption[^>]*>{re.escape(caption)}.*?</table>", text, re.S)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.S)
    return [[re.sub(r"<[^>]+>", " ", cell).split() for cell in re.findall(r"<td.*?</td>", row, re.S)] for row in rows]


def test_the_table_has_the_numbers_of_the_rows(tmp_path):
    result = load(tmp_path / "w", diverged=(pages.LOOPS[1], 2, 3))
    rows = cells_of(workdir.render_page(result), "The standard table")
    values = [r["fd"] for r in result.rows if (r["loop"], r["bias"], r["generation"]) == (pages.LOOPS[0], 1.0, 4)]
    assert rows[0][:2] == [["fully_synthetic"], ["1"]]
    assert rows[0][4] == [f"{np.mean(values):.1f}", "±", f"{np.std(values, ddof=1):.1f}"]
    broken = rows[2]
    assert broken[4] == ["—", "2", "of", "3", "seeds"]
    assert "diverged 1/3" in " ".join(broken[2])
    assert broken[-2] == ["2/3"]


def test_many_metrics_have_a_table_of_their_own(tmp_path):
    names = ("fd", "precision", "recall", "kid", "classes", "density")
    text = workdir.render_page(load(tmp_path / "w", metrics=names))
    assert len(cells_of(text, "The standard table")[0]) == 3 + 2 * 3 + 3
    assert len(cells_of(text, "Every metric that was measured")[0]) == 2 + 2 * 6


def test_numbers_sort_as_numbers_and_nothing_is_no_number():
    assert html.number_cell(12.34, "{:.1f}").key == 12.34
    assert html.number_cell(None, "{:.1f}").key is None


# ------------------------------------------------------------------------------------------------------------- charts


def test_curves_are_those_of_the_pictures(tmp_path):
    result = load(tmp_path / "w")
    drawn = charts.charts(result)
    assert [group.title for group in drawn.groups] == ["λ = 1", "λ = 0.5"]
    panel = drawn.groups[1].panels[0]
    rows = [r for r in result.rows if (r["loop"], r["bias"]) == (pages.LOOPS[0], 0.5)]
    line = series.series(result, result.metrics["fd"], rows)
    geometric = np.exp(np.mean([np.log(r["fd"]) for r in rows if r["generation"] == 3]))
    assert line.mean[2] == pytest.approx(geometric)
    assert panel.readings[2].texts[0].startswith(f"{geometric:.1f} ({line.low[2]:.1f} to ")
    # on a logarithmic scale, equal growth is a straight line
    points = [tuple(map(float, each.split())) for each in panel.lines[0].line[1:].split("L")]
    slopes = np.diff([y for _, y in points]) / np.diff([x for x, _ in points])
    np.testing.assert_allclose(slopes, slopes[0], atol=0.005)
    assert slopes[0] < 0  # upwards


def test_gaps_are_gaps(tmp_path):
    result = load(tmp_path / "w", generations=5)
    gone = [r for r in result.rows if (r["loop"], r["bias"], r["generation"]) == (pages.LOOPS[0], 1.0, 3)]
    for row in gone[:1]:
        result.rows.remove(row)
    line = charts.charts(result).groups[0].panels[0].lines[0]
    assert line.line.count("M") == line.band.count("M") == 2
    assert "nan" not in line.line + line.band + line.markers


@pytest.mark.parametrize("fields", [
    {"generations": 1}, {"seeds": (0,)}, {"biases": (0.5,)}, {"generations": 400, "kind": ""}, {"until": 0},
    {"loops": tuple(f"loop{i}" for i in range(23)), "kind": ""},
])  # fmt: skip
def test_sparse_and_large_results_have_a_page(tmp_path, fields):
    result = load(tmp_path / "w", **fields)
    text = workdir.render_page(result)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).split("<section", 2)[2].lower().split()
    assert len(text) < 1_500_000


# ------------------------------------------------------------------------------------------------------------ samples


def test_images_are_the_pixels_of_the_samples():
    x = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    shown = frames.of_images({("a", 1.0): {1: x}})
    data = base64.b64decode(shown.strips[0].frames[0].picture.partition(",")[2])
    picture = np.asarray(Image.open(io.BytesIO(data)))
    assert picture.shape == (2 * 32 + 2, 5 * 32 + 4 * 2, 4) == (shown.height, shown.width, 4)
    np.testing.assert_array_equal(picture[34::4, 34:66:4, :3], x[6])
    assert (picture[32:34, :, 3] == 0).all()
    assert (picture[:32, :32, 3] == 255).all()


def test_real_images_stand_above_the_slider(tmp_path):
    result = load(tmp_path / "w")
    assert "<figcaption>real" not in workdir.render_page(result)  # of a workdir of an older version
    x = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    np.savez(result.path / "samples" / "real.npz", x=x)
    text = workdir.render_page(result)
    uri = re.search(r"<figcaption>real .*?src=\"(data:image/png;base64,[^\"]+)\"", text, re.S)[1]
    assert text.index("<figcaption>real") < text.index('id="samples-generation"')
    assert uri == frames.of_images({("a", 1.0): {1: x}}).strips[0].frames[0].picture
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        np.testing.assert_array_equal(np.asarray(picture)[:32:4, :32:4, 0], x[0, :, :, 0])


def test_real_images_count_in_what_the_pictures_weigh():
    noise = np.random.default_rng(2).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    cells = {("a", 1.0): dict.fromkeys(range(1, 21), noise)}
    one = len(frames.of_images(cells).strips[0].frames[0].picture)
    without, with_them = (frames.of_images(cells, 10 * one, real) for real in (None, noise))
    assert len(without.generations) > len(with_them.generations)
    assert len(with_them.real) == one


@pytest.mark.parametrize("budget", [20_000, 200_000, 2_000_000])
def test_pictures_stay_within_the_budget(budget):
    rng = np.random.default_rng(0)
    noise = {t: rng.integers(0, 256, (10, 16, 16, 1), dtype=np.uint8) for t in range(1, 31)}
    shown = frames.of_images({("a", 1.0): noise, ("b", 1.0): noise}, budget)
    size = sum(len(frame.picture) for strip in shown.strips for frame in strip.frames)
    assert size <= budget
    assert shown.generations[0] == 1
    assert shown.generations[-1] == 30
    assert bool(shown.note) == (len(shown.generations) < 30)


def test_points_are_thinned_by_generations():
    axes = np.linspace(-3, 3, 33)[None].repeat(2, 0)
    density = np.exp(-(axes[0][:, None] ** 2 + axes[1] ** 2) / 2)
    x = np.random.default_rng(0).normal(size=(500, 2))
    shown = frames.of_points({("a", 1.0): {t: x / t for t in range(1, 51)}}, axes, density, 40_000)
    assert shown.kind == "plane"
    assert shown.generations[0] == 1
    assert shown.generations[-1] == 50
    assert sum(len(frame.picture) for frame in shown.strips[0].frames) <= 40_000
    first = shown.strips[0].frames[0]
    dots = re.findall(r"M(\d+) (\d+)h0", first.picture)
    inside = x[(abs(x) <= 3).all(axis=1)][:400]
    np.testing.assert_allclose(np.array(dots, float)[:, 0], (inside[:, 0] + 3) / 6 * 300, atol=0.51)
    np.testing.assert_allclose(np.array(dots, float)[:, 1], (3 - inside[:, 1]) / 6 * 300, atol=0.51)


def test_regions_of_the_truth_are_circles_of_a_gaussian():
    axes = np.linspace(-5, 5, 201)[None].repeat(2, 0)
    density = np.exp(-(axes[0][:, None] ** 2 + axes[1] ** 2) / 2)
    shown = frames.of_points({("a", 1.0): {1: np.zeros((2, 2))}}, axes, density)
    for path, share in zip(shown.truth, (0.99, 0.9, 0.5), strict=True):
        points = np.array([each.split() for each in re.split("[MLZ]+", path) if each], float)
        radii = np.hypot(*(points / 30 - 5).T)
        np.testing.assert_allclose(radii, np.sqrt(-2 * np.log(1 - share)), rtol=0.02)


def test_points_that_are_not_finite_are_words_not_paths():
    axes = np.linspace(-3, 3, 33)[None].repeat(2, 0)
    density = np.exp(-(axes[0][:, None] ** 2 + axes[1] ** 2) / 2)
    shown = frames.of_points({("a", 1.0): {1: np.full((5, 2), np.nan), 2: np.ones((5, 2))}}, axes, density)
    first, second = shown.strips[0].frames
    assert (first.picture, first.remark) == ("", "no finite sample")
    assert "a7 7" in second.picture  # a ring around a single point
    assert second.remark == "a single point"


# ------------------------------------------------------------------------------------------------------ the whole page


@pytest.mark.parametrize(("kind", "picture"), [("images", "samples"), ("plane", "drift")])
def test_the_same_results_are_the_same_bytes(tmp_path, kind, picture):
    result = load(tmp_path / "w", kind=kind, generations=2)
    names = workdir.write(result)
    assert names[4:] == ["curves.png", "curves.svg", f"{picture}.png", f"{picture}.svg", "report.html"]
    first = {name: (tmp_path / "w" / name).read_bytes() for name in names}
    workdir.write(results.load(tmp_path / "w"))
    assert first == {name: (tmp_path / "w" / name).read_bytes() for name in names}
    for name in names:
        if name.endswith(".svg"):
            assert first[name].startswith(b"<?xml")
            assert b"<dc:date>" not in first[name]


def test_every_text_is_escaped(tmp_path):
    text = workdir.render_page(results.load(pages.hostile(tmp_path / "w")))
    outside = re.sub(r"<style>.*?</style>|<script>\n?\"use strict\".*?</script>", "", text, flags=re.S)
    assert "<script" not in outside
    assert "<img src=x" not in outside
    assert "{{" in outside  # text, never a template
    assert outside.count("&lt;script&gt;") > 20


def test_the_policy_names_the_hashes_of_what_is_in_the_page(tmp_path):
    import hashlib

    text = workdir.render_page(load(tmp_path / "w"))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    for tag in ("style", "script"):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        assert base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode() in policy
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe" not in policy
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)


# ----------------------------------------------------------------------------------------- the command; doing it again


def test_report_writes_the_page(tmp_path, capsys):
    pages.write(tmp_path / "w")
    assert cli.main(["madbench", "report", str(tmp_path / "w")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'w' / 'report.html'}\n"
    text = (tmp_path / "w" / "report.html").read_text()
    assert text.startswith("<!doctype html>")
    assert cli.main(["madbench", "report", str(tmp_path / "w"), f"--out={tmp_path / 'x.html'}"]) == 0
    assert (tmp_path / "x.html").read_text() == text


def test_a_submission_is_left_as_it_is(tmp_path, capsys):
    pages.write(tmp_path / "w")
    (tmp_path / "w" / "submission.json").write_text("{}")
    before = sorted((tmp_path / "w").iterdir())
    assert cli.main(["madbench", "report", str(tmp_path / "w")]) == 2
    assert "is a submission" in capsys.readouterr().err
    assert sorted((tmp_path / "w").iterdir()) == before
    assert cli.main(["madbench", "report", str(tmp_path / "w"), f"--out={tmp_path / 'x.html'}"]) == 0


@pytest.mark.parametrize(("out", "said"), [("", "is a directory"), ("nowhere/x.html", "make it first")])
def test_a_page_goes_into_a_folder_that_is_there(tmp_path, capsys, out, said):
    pages.write(tmp_path / "w")
    assert cli.main(["madbench", "report", str(tmp_path / "w"), f"--out={tmp_path / out}"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["a", "b"], ["nowhere"]])
def test_misuse_is_one_line(tmp_path, capsys, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["madbench", "report", *argv]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_workdir_s_config_is_a_config(tmp_path):
    """What the page says to reproduce it with: the resolved config comes back as it was."""
    config = configs.base(source="gaussian", family="gaussian")
    config.loops = ("fully_synthetic", "fresh_data(n_fresh=10,n_synthetic=30)")
    config.seeds, config.biases = (3, 5), (1.0, 0.8)
    plain = configs.resolve(config)
    results.write_object(tmp_path / "config.json", {"sha256": results.config_hash(plain), "config": plain})
    results.write_object(tmp_path / "plain.json", plain)
    for name in ("config.json", "plain.json"):
        assert configs.resolve(job_config.read_config(str(tmp_path / name))) == plain


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "Expecting"), ("[]", "not an object"), ("{}", "names no data.source"), ('{"config": {"a": 1}}', "names no")],
)
def test_another_json_is_refused_in_one_line(tmp_path, capsys, text, message):
    (tmp_path / "config.json").write_text(text)
    assert cli.main(["madbench", "run", f"--config={tmp_path / 'config.json'}", "--dry_run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_how_to_reproduce_is_a_command(tmp_path):
    text = workdir.render_page(load(tmp_path / "my runs" / "a b"))
    assert "madbench run --config=config.json --workdir=&#39;a b-again&#39;" in text
    embedded = re.search(r'href="data:application/json;base64,([^"]*)"', text)[1]
    assert json.loads(base64.b64decode(embedded)) == results.load(tmp_path / "my runs" / "a b").config


def test_a_task_of_the_leaderboard_is_reproduced_by_name(tmp_path):
    task = tasks.load("gaussian")
    path = pages.write(tmp_path / "w", task="gaussian", kind="")
    assert page._task(results.load(path)) is None  # the name alone is not enough
    config = {"sha256": task.sha256, "config": task.config}
    results.write_object(path / "config.json", config)
    assert "madbench run --task=gaussian --workdir=w-again" in page._command(results.load(path), task)
    assert page._task(results.load(path)) == task
    shutil.rmtree(path)
