"""`report.curves` and `report.grid`: what is drawn where, and that no picture overflows."""

import io
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats
from tables import entries

from madbench import results
from madbench.report import curves, grid, series

LOOPS = ("fully_synthetic", "synthetic_augmentation", "fresh_data(n_fresh=100,n_initial=1000)")


def value(metric, loop, bias, seed, t):
    rate = (1 + LOOPS.index(loop) if loop in LOOPS else 1) * 0.1 / bias
    return {"fd": 2 * np.exp(rate * (t - 1) + 0.1 * seed), "recall": max(0.0, 0.95 - rate * (t - 1) / 2 - 0.02 * seed)}[
        metric
    ]


def make(loops=LOOPS, biases=(1.0, 0.5), seeds=(0, 1, 2), generations=5, diverged=None):
    """A workdir; `diverged` is the (loop, seed, generation) from which a run at λ = 1 diverges."""
    rows = []
    for loop in loops:
        for bias in biases:
            for seed in seeds:
                for t in range(1, generations + 1):
                    dead = diverged is not None and (loop, seed) == diverged[:2] and bias == 1 and t >= diverged[2]
                    metrics = {m: None if dead else value(m, loop, bias, seed, t) for m in ("fd", "recall")}
                    rows.append(
                        results.row(
                            task="toy", model="vae", loop=loop, bias=bias, seed=seed, generation=t, n_real=9,
                            n_synthetic=0, n_samples=9, status="diverged" if dead else "ok", metrics=metrics,
                            metric_versions={"fd": 1, "recall": 1}, features="raw",
                        )
                    )  # fmt: skip
    config = {
        "task": "toy", "data": {}, "model": {"family": "vae"}, "seeds": list(seeds), "generations": generations,
        "metrics": {"names": ["fd", "recall"]},
    }  # fmt: skip
    floors = {"fd": {"mean": 1.5, "p5": 1.0, "p95": 1.8}, "recall": {"mean": 0.97, "p5": 0.95, "p95": 0.98}}
    cells = [{"loop": loop, "bias": bias} for loop in loops for bias in biases]
    reference = {"floors": floors, "cells": cells, "metrics": entries("fd", "recall")}
    return results.Result(pathlib.Path("w"), config, reference, {}, rows)


def saved(figure):
    """The picture as float `[height, width, 4]`; drawing it is also what raises any warning."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return imread(file)


def lines(axis, generations=5):
    return [line for line in axis.lines if len(line.get_xdata()) == generations]


def test_a_panel_for_each_metric_and_bias():
    figure = curves.plot(make())
    assert len(figure.axes) == 4
    assert [axis.get_title() for axis in figure.axes] == ["λ = 1", "λ = 0.5", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes] == ["FD ↓", "", "recall ↑", ""]
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "log", "linear", "linear"]
    single = curves.plot(make(biases=(0.5,)))
    assert [axis.get_title() for axis in single.axes] == ["FD ↓", "recall ↑"]
    assert single.legends[0].get_title().get_text() == "toy, vae, λ = 0.5"


def test_lines_are_means_over_seeds():
    figure = curves.plot(make())
    for axis, (metric, bias) in zip(figure.axes, [(m, b) for m in ("fd", "recall") for b in (1.0, 0.5)], strict=True):
        mean = stats.gmean if metric == "fd" else np.mean
        for line, loop in zip(lines(axis), LOOPS, strict=True):
            values = [[value(metric, loop, bias, seed, t) for t in range(1, 6)] for seed in range(3)]
            np.testing.assert_array_equal(line.get_xdata(), range(1, 6))
            np.testing.assert_allclose(line.get_ydata(), mean(values, axis=0))


def test_band_equals_scipy():
    values = np.random.default_rng(0).normal(size=(4, 3))
    values[1, 2] = np.nan
    mean, low, high = series.band(values)
    seen = values[:, 0]
    expected = stats.t.interval(0.95, 3, loc=seen.mean(), scale=stats.sem(seen))
    np.testing.assert_allclose((low[0], high[0]), expected)
    np.testing.assert_allclose(mean[:2], values[:, :2].mean(axis=0))
    assert np.isnan([mean[2], low[2], high[2]]).all(), "no mean over the seeds that are left"
    mean, low, high = series.band(values[:1])
    np.testing.assert_array_equal(mean, values[0])
    assert np.isnan([low, high]).all()


def test_the_floor_is_shaded_to_the_bound_that_counts():
    fd, recall = curves.plot(make(biases=(1.0,))).axes
    for axis, mean, bound in ((fd, 1.5, 1.8), (recall, 0.97, 0.95)):
        assert any(set(line.get_ydata()) == {mean} for line in axis.lines)
        (shade,) = axis.patches
        extent = shade.get_y(), shade.get_y() + shade.get_height()
        np.testing.assert_allclose(extent, (min(mean, bound), max(mean, bound)))


def test_every_line_of_ten_loops_is_told_apart():
    names = [f"fresh_data(n_fresh={i},n_initial=1000)" for i in range(10)]
    figure = curves.plot(make(names, (1.0, 0.8, 0.66, 0.5, 0.3), generations=20))
    for axis in figure.axes:
        looks = {(line.get_color(), str(line.get_linestyle())) for line in lines(axis, 20)}
        assert len(looks) == 10
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names


@pytest.mark.parametrize("n_loops", [1, 3, 10])
@pytest.mark.parametrize("biases", [(1.0,), (1.0, 0.8, 0.66, 0.5, 0.3)])
def test_nothing_overlaps_or_leaves_the_picture(n_loops, biases):
    names = [f"fresh_data(n_fresh={i},n_initial=1000)" for i in range(n_loops)]
    figure = curves.plot(make(names, biases, generations=20))
    assert saved(figure).shape[1] == 900
    assert not overlaps(figure)
    assert all(axis.get_window_extent().height > 20 for axis in figure.axes)


EIGHT = ("fd", "kid", "precision", "recall", "density", "variance", "modes", "classes")


def many(loops=LOOPS, biases=(1.0,), names=EIGHT, **settings):
    """A workdir with more metrics, of every kind."""
    made = make(loops, biases, **settings)
    for row in made.rows:
        t = row["generation"]
        row |= {"kid": 1e-4 * (row["seed"] - 1) + 1e-3 * (t - 1), "precision": 0.95, "density": 1 + 0.1 * row["seed"]}
        row |= {"variance": 0.5 ** (t - 1), "modes": 25.0 - t, "classes": 3.0, "coverage": 0.5, "fd_inf": -2.0}
    made.config["metrics"]["names"] = list(names)
    made.reference["metrics"] = entries(*names)
    return made


def overlaps(figure):
    """Pairs of legends and panels that share more than a pixel's width, and what leaves the picture."""
    figure.draw_without_rendering()
    boxes = [legend.get_window_extent() for legend in figure.legends] + [axis.get_tightbbox() for axis in figure.axes]
    outside = [box for box in boxes if min(box.x0, box.y0) < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    return outside + [
        (a, b) for a, b in pairs if min(min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)) > 1
    ]


@pytest.mark.parametrize(("n", "per_row"), [(1, 1), (3, 3), (4, 4), (5, 3), (6, 3), (7, 4), (8, 4)])
def test_metrics_stand_side_by_side_in_rows(n, per_row):
    figure = curves.plot(many(names=EIGHT[:n]))
    boxes = [axis.get_position() for axis in figure.axes]
    assert len(boxes) == n
    assert [axis.get_title().split()[0].lower() for axis in figure.axes] == list(EIGHT[:n])
    assert len({round(box.y0, 3) for box in boxes}) == -(-n // per_row)
    assert not overlaps(figure)


def test_eight_metrics_and_three_biases_are_readable():
    figure = curves.plot(many(biases=(1.0, 0.8, 0.5)))
    assert saved(figure).shape[1] == 900
    assert not overlaps(figure)
    assert all(axis.get_window_extent().height > 100 for axis in figure.axes)


def test_each_kind_of_metric_has_its_scale():
    made = many(names=(*EIGHT, "fd_inf", "coverage"))
    made.reference["floors"]["kid"] = {"mean": 0.0, "p5": -1e-3, "p95": 9e-3}
    axes = {axis.get_title().split()[0]: axis for axis in curves.plot(made).axes}
    assert {name for name, axis in axes.items() if axis.get_yscale() == "log"} == {"FD"}
    for name in ("precision", "recall", "coverage"):
        assert axes[name].get_ylim() == (-0.03, 1.03)
    assert axes["modes"].get_ylim() == (0, 1.05 * 25)
    assert axes["classes"].get_ylim() == (0, 1.05 * 10)  # all that there are, though three are left
    for name in ("density", "variance"):
        assert axes[name].get_ylim()[0] == 0
    low, high = axes["KID"].get_ylim()
    assert low < 0
    assert high > 9e-3  # the floor's bound is in sight
    low, high = axes["FD∞"].get_ylim()
    assert low < -2 < high < 0
    (line, *_) = lines(axes["variance"])  # no log: an arithmetic mean
    np.testing.assert_allclose(line.get_ydata(), 0.5 ** np.arange(5))
    made = many(names=("precision", "kid"))
    assert curves.plot(made).legends[1].get_texts()[0].get_text() == "mean of the seeds, 95 % confidence"


def test_bands_of_what_cannot_be_negative_end_at_zero():
    made = many(names=("density",), seeds=(0, 1))
    for row in made.rows:
        row["density"] = 0.1 + row["seed"]
    (axis,) = curves.plot(made).axes
    assert min(path.vertices[:, 1].min() for band in axis.collections for path in band.get_paths()) == 0


def test_a_divergence_is_marked_where_it_began():
    figure = curves.plot(make(diverged=(LOOPS[1], 2, 4)))
    crosses = [line for axis in figure.axes for line in axis.lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [3, 3]  # one per metric, at λ = 1 alone
    assert "before a run diverged" in [text.get_text() for text in figure.legends[1].get_texts()]
    assert len(curves.plot(make()).legends[1].get_texts()) == 2


@pytest.mark.parametrize(
    "made",
    [
        make(generations=1, seeds=(0,)),
        make(seeds=(0, 1, 2), diverged=(LOOPS[0], 0, 1)),
        make(("a_$x$_loop",), (1.0,)),
        results.Result(pathlib.Path("w"), make().config, make().reference, {}, make().rows[:1]),
    ],
    ids=["one generation", "diverged at once", "dollar", "one row"],
)
def test_sparse_results_are_drawn_without_a_warning(made):
    assert saved(curves.plot(made)).min() < 0.5


def test_zero_distances_are_drawn_without_a_warning():
    made = make()
    for row in made.rows:
        row["fd"] = 0.0
    saved(curves.plot(made))


@pytest.mark.parametrize(("generations", "ticks"), [
    (1, [1]), (6, [1, 2, 3, 4, 5, 6]), (9, [1, 2, 4, 6, 8]), (20, [1, 5, 10, 15, 20]),
    (2000, [1, 500, 1000, 1500, 2000]),
])  # fmt: skip
def test_generation_ticks(generations, ticks):
    assert series.generation_ticks(generations) == ticks


@pytest.mark.parametrize(("low", "high"), [(1.1, 1.2), (2, 7), (0.5, 80), (1e-8, 1e9), (3e-5, 3.1e-5)])
def test_log_ticks_lie_inside_and_are_few(low, high):
    ticks = series.log_ticks(low, high)
    assert ticks == sorted(ticks)
    assert all(low <= t <= high for t in ticks)
    assert 2 <= len(ticks) <= 7


def test_no_global_state():
    """Neither pyplot's, which would keep every figure, nor an accelerator's."""
    program = (
        "import sys; from madbench.report import curves, grid; print({'jax', 'matplotlib.pyplot'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- sample grid -----------------------------------------------------------------------------------------------------


def images(generations=4, n=10, size=8, channels=1):
    """Distinct grey values: image (t, k) is filled with a level of its own."""
    levels = np.linspace(-1, 1, generations * n).reshape(generations, n)
    return np.broadcast_to(levels[..., None, None, None], (generations, n, size, size, channels)).copy()


def panels(figure):
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes]


def test_rows_are_generations_and_columns_are_noise():
    (picture,) = panels(grid.plot({("replace", 1.0): images()}))
    scale = (picture.shape[1] + 2) // 10 - 2
    step, levels = scale + 2, np.linspace(0, 1, 40).reshape(4, 10)
    centres = picture[scale // 2 :: step, scale // 2 :: step, 0]
    np.testing.assert_allclose(centres, levels)
    assert (picture[scale : scale + 2] == 1).all()
    assert (picture[:, scale : scale + 2] == 1).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n_biases", [1, 5])
def test_every_pixel_of_a_sample_is_a_square_of_whole_pixels(channels, n_biases):
    """The saved file holds exactly the block that was composed: nothing is resampled."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 10, 8, 8, channels), dtype=np.uint8)
    figure = grid.plot({("replace", b / 10): noise for b in range(1, n_biases + 1)})
    page = np.round(saved(figure)[..., :3] * 255)
    scale = (panels(figure)[0].shape[1] + 2) // 10 // 8
    assert scale >= 3
    first = np.broadcast_to(noise[0, 0].repeat(scale, 0).repeat(scale, 1), (8 * scale, 8 * scale, 3))
    for axis in figure.axes:
        assert axis.images[0].get_interpolation() == "nearest"  # at other resolutions too
        box = axis.get_window_extent()
        top, left = round(page.shape[0] - box.y1), round(box.x0)
        np.testing.assert_array_equal(page[top : top + 8 * scale, left : left + 8 * scale], first)


@pytest.mark.parametrize("channels", [1, 3])
def test_real_images_stand_above_each_block_and_change_nothing_below(channels):
    rng = np.random.default_rng(0)
    made = {(loop, b): rng.integers(0, 256, (3, 4, 8, 8, channels), np.uint8) for loop in "ab" for b in (1.0, 0.5)}
    real = rng.integers(0, 256, (4, 8, 8, channels), np.uint8)
    alone, figure = panels(grid.plot(made)), grid.plot(made, real=real)
    drawn = panels(figure)
    assert len(drawn) == 8
    scale = (drawn[0].shape[0] + 2) // 3 // 8
    for below, above, before in zip(drawn[::2], drawn[1::2], alone, strict=True):
        np.testing.assert_array_equal(below, before)
        step = 8 * scale + 2
        seen = [above[:, k * step : (k + 1) * step - 2] for k in range(4)]
        expected = np.broadcast_to(real.repeat(scale, 1).repeat(scale, 2) / 255, (4, 8 * scale, 8 * scale, 3))
        np.testing.assert_allclose(seen, expected, atol=1e-7)
    boxes = [axis.get_window_extent() for axis in figure.axes]
    assert all(above.y0 > below.y1 for below, above in zip(boxes[::2], boxes[1::2], strict=True))
    assert sum(text.get_text() == "real" for text in figure.texts) == 2
    with pytest.raises(ValueError, match="another shape"):
        grid.plot(made, real=real[:, :4])


def test_floats_and_bytes_are_the_same_picture():
    byte = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4, 3), dtype=np.uint8)
    a, b = (panels(grid.plot({("replace", 1.0): array}))[0] for array in (byte, byte / np.float32(127.5) - 1))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_blocks_are_loops_by_biases_with_titles():
    cells = [("replace", 1.0), ("replace", 0.5), ("fresh_data(n_fresh=100,n_initial=1000)", 1.0)]
    figure = grid.plot({cell: images() for cell in cells}, {cells[1]: "half"})
    a, b, c = (axis.get_position() for axis in figure.axes)
    assert a.y0 == b.y0
    assert a.x1 < b.x0
    assert c.x0 == a.x0
    assert c.y1 < a.y0
    words = [text.get_text() for text in figure.texts]
    assert words.count("λ = 1") == 2
    assert words.count("half") == 1
    assert words.count("t = 1") == 2
    assert cells[2][0] in words
    saved(figure)
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= 0
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(axis.get_window_extent()) for axis in figure.axes)


def test_unfinished_and_diverged_cells():
    broken = images()
    broken[2:] = np.nan
    whole, short, dead = panels(grid.plot({("a", 1.0): images(), ("b", 1.0): images()[:2], ("c", 1.0): broken}))
    assert len(short) == (len(whole) - 2) // 2
    np.testing.assert_array_equal(dead[: len(short)], whole[: len(short)])
    assert dead[-1, 0, 0] == grid._ABSENT


def test_many_generations_are_thinned_out():
    figure = grid.plot({("replace", 1.0): images(101, 2)}, max_rows=5)
    numbers = [text.get_text() for text in figure.texts if text.get_text().removeprefix("t = ").isdigit()]
    assert numbers == ["t = 1", "26", "51", "76", "101"]
    chosen = grid.plot({("replace", 1.0): images(3, 2)}, generations=[1, 5, 9])
    assert [text.get_text() for text in chosen.texts][-3:] == ["t = 1", "5", "9"]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({}, "needs samples"),
        ({("a", 1.0): images()[0]}, "not \\[generation, n, height, width"),
        ({("a", 1.0): images(channels=2)}, "1 or 3"),
        ({("a", 1.0): images().astype(int)}, "int64"),
        ({("a", 1.0): images(), ("b", 1.0): images(size=9)}, "same number and shape"),
    ],
)
def test_misuse_is_one_clear_line(samples, message):
    with pytest.raises(ValueError, match=message):
        grid.plot(samples)
    with pytest.raises(ValueError, match="4 generations of samples have 2 numbers"):
        grid.plot({("a", 1.0): images()}, generations=[1, 2])
