"""`report.drift`: what is drawn where, whatever the samples are; and which generations are kept for it."""

import io

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import integrate, stats

from madbench import data, results
from madbench.report import drift

MODES = np.array([(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)], float)
NAME = "fresh_data(n_initial=1000,n_fresh=100,n_synthetic=900)"


def normal(x):
    return stats.multivariate_normal(np.zeros(x.shape[1])).pdf(x).reshape(len(x))


def mixture(x):
    return np.mean([stats.multivariate_normal(m, 0.05**2).pdf(x) for m in MODES], axis=0)


def truth(density, d, low=-5.0, high=5.0, points=101):
    axes = np.tile(np.linspace(low, high, points), (d, 1))
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return axes, density(mesh.reshape(-1, d)).reshape(mesh.shape[:-1])


def cloud(d, n=400, mean=0.0, deviation=1.0, seed=0):
    return np.float32(mean + deviation * np.random.default_rng(seed).normal(size=(n, d)))


def plot(cells, density=normal, title="toy, gaussian: samples of seed 0"):
    d = next(x for each in cells.values() for x in each.values()).shape[1]
    return drift.plot(cells, *truth(density, d), title=title)


def saved(figure):
    """The picture as float `[height, width, 4]`; drawing it is also what raises any warning."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi="figure")
    file.seek(0)
    return imread(file)


def words(figure):
    return [text.get_text() for text in figure.texts]


def notes(axis):
    return [text.get_text() for text in axis.texts]


# ------------------------------------------------------------------------------------------------- which generations


def test_all_of_fifty_generations_are_kept_and_fifty_of_more():
    assert results.sampled_generations(1) == [1]
    assert results.sampled_generations(50) == list(range(1, 51))
    for generations in (51, 52, 77, 300, 2000, 10**6):
        kept = results.sampled_generations(generations)
        assert len(kept) == 50
        assert (kept[0], kept[-1]) == (1, generations)
        gaps = np.diff(kept)
        assert gaps.min() >= 1
        assert gaps[: len(gaps) // 2].max() <= gaps[len(gaps) // 2 :].min() + 1, "denser early"
    assert results.sampled_generations(2000)[:12] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]


@pytest.mark.parametrize(("generations", "shown"), [
    (1, [1]), (3, [1, 2, 3]), (5, [1, 2, 3, 4, 5]), (16, [1, 2, 4, 8, 16]), (300, [1, 4, 17, 75, 300]),
    (2000, [1, 7, 43, 312, 2000]),
])  # fmt: skip
def test_about_five_of_those_at_hand_are_shown_from_first_to_last(generations, shown):
    chosen = drift.choose(results.sampled_generations(generations))
    assert chosen[0] == 1
    assert chosen[-1] == generations
    assert len(chosen) == len(shown)
    assert chosen == pytest.approx(shown, rel=0.15)
    assert set(chosen) <= set(results.sampled_generations(generations))


def test_generations_that_a_workdir_lacks_are_not_shown():
    assert drift.choose([7, 8, 16]) == [7, 8, 16]
    assert drift.choose([5]) == [5]
    with pytest.raises(ValueError, match="needs the samples"):
        drift.choose([])


# ------------------------------------------------------------------------------------------------------ on the plane


def test_a_row_for_each_cell_and_a_column_for_each_generation():
    cells = {cell: {t: cloud(2, seed=t) for t in range(1, 17)} for cell in ((NAME, 1.0), (NAME, 0.8), ("replace", 0.8))}
    figure = plot(cells)
    assert len(figure.axes) == 15
    boxes = [axis.get_position() for axis in figure.axes]
    for k in range(5):
        assert len({round(boxes[5 * i + k].x0, 9) for i in range(3)}) == 1
    assert boxes[0].y0 == boxes[4].y0 > boxes[5].y0 > boxes[10].y0
    assert [w for w in words(figure) if w.startswith("t = ")] == ["t = 1", "t = 2", "t = 4", "t = 8", "t = 16"] * 3
    assert [w for w in words(figure) if "λ" in w] == [f"{NAME},  λ = 1", f"{NAME},  λ = 0.8", "replace,  λ = 0.8"]
    assert words(figure)[0] == "toy, gaussian: samples of seed 0"
    assert {(*axis.get_xlim(), *axis.get_ylim()) for axis in figure.axes} == {(-5, 5, -5, 5)}
    assert len({(round(box.width, 9), round(box.height, 9)) for box in boxes}) == 1


def test_points_are_the_first_samples_of_the_generation():
    x = {t: cloud(2, n=1500, deviation=1 / t, seed=t) for t in (1, 2, 3)}
    for axis, t in zip(plot({("replace", 1.0): x}).axes, x, strict=True):
        (points,) = axis.lines
        np.testing.assert_array_equal(points.get_xydata(), x[t][:1000])
        assert notes(axis) == []


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_the_shaded_regions_hold_their_share_of_the_truth(share):
    """Of N(0, I) in the plane, the region of share p is the disc of radius √(-2 ln(1 - p)), with density (1 - p)/2π
    on its border."""
    axes, density = truth(normal, 2, points=401)
    assert drift.mass_levels(density, [share])[0] == pytest.approx((1 - share) / (2 * np.pi), rel=0.02)
    axis = drift.plot({("replace", 1.0): {1: cloud(2)}}, axes, density, title="").axes[0]
    border = axis.collections[-1].get_paths()[0].vertices
    np.testing.assert_allclose(np.hypot(*border.T), np.sqrt(-2 * np.log(0.01)), rtol=0.02)


def test_the_density_is_drawn_the_right_way_round():
    """Two modes, at (3, -2) and (3, 2): a transposed picture has none at x = 3."""
    axes, density = truth(lambda x: sum(stats.multivariate_normal(m, 0.01).pdf(x) for m in ((3, -2), (3, 2))), 2)
    axis = drift.plot({("replace", 1.0): {1: cloud(2)}}, axes, density, title="").axes[0]
    border = np.concatenate([path.vertices for path in axis.collections[-1].get_paths()])
    assert abs(border[:, 0] - 3).max() < 0.5
    assert abs(abs(border[:, 1]) - 2).max() < 0.5


def test_lost_modes_are_seen():
    """Pixels at each of 25 modes of deviation 0.05: blue where the generation is, grey where it is not."""
    rng = np.random.default_rng(0)
    kept = rng.permutation(25)[:9]
    x = np.float32(MODES[rng.choice(kept, 900)] + 0.05 * rng.normal(size=(900, 2)))
    figure = drift.plot({("replace", 1.0): {1: x, 2: x}}, *truth(mixture, 2, points=256), title="")
    page = saved(figure)
    axis = figure.axes[0]
    for k, mode in enumerate(MODES):
        column, row = axis.transData.transform(mode).round().astype(int)
        red, _, blue, _ = page[page.shape[0] - row - 1, column]
        assert red < 0.9
        assert (blue - red > 0.3) == (k in kept)


# ------------------------------------------------------------------------------------------------------- on the line


def test_a_line_for_each_generation_over_the_true_area():
    """Means 0, 1, 2: each line has its peak there, integrates to 1, and is lighter the later it is."""
    x = {t: cloud(1, n=20000, mean=t - 1, deviation=0.5, seed=t) for t in (1, 2, 3)}
    figure = plot({("replace", 1.0): x})
    (axis,) = figure.axes
    assert axis.get_xlim() == (-5, 5)
    for line, t in zip(axis.lines, x, strict=True):
        grid, curve = line.get_data()
        assert integrate.trapezoid(curve, grid) == pytest.approx(1, abs=1e-3)
        np.testing.assert_allclose(curve, stats.norm(t - 1, 0.5).pdf(grid), atol=0.05)
    lightness = [np.dot(line.get_color()[:3], (0.3, 0.6, 0.1)) for line in axis.lines]
    assert lightness == sorted(lightness)
    area = axis.collections[0].get_paths()[0].vertices
    assert area[:, 1].max() == pytest.approx(1 / np.sqrt(2 * np.pi))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["true density", "t = 1", "t = 2", "t = 3"]


@pytest.mark.parametrize(
    ("cells", "places"),
    [
        ([("a", 1.0)], [(0, 0)]),
        ([("a", 1.0), ("b", 1.0), ("c", 1.0)], [(0, 0), (0, 1), (1, 0)]),
        ([("a", 1.0), (f"{NAME},{NAME}", 1.0)], [(0, 0), (1, 0)]),
        ([("a", 1.0), ("a", 0.5), ("b", 1.0), ("b", 0.5)], [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ([("a", 1.0), ("b", 0.5)], [(0, 0), (1, 1)]),
    ],
    ids=["one", "pairs", "long names", "two biases", "a loop's own bias"],
)
def test_panels_of_a_line(cells, places):
    figure = plot({cell: {1: cloud(1)} for cell in cells})
    boxes = [axis.get_position() for axis in figure.axes]
    rows = sorted({round(-box.y0, 9) for box in boxes})
    columns = sorted({round(box.x0, 9) for box in boxes})
    assert [(rows.index(round(-b.y0, 9)), columns.index(round(b.x0, 9))) for b in boxes] == places
    for loop in {loop for loop, _ in cells}:
        assert words(figure).count(loop) == 1


def test_the_estimate_follows_one_mode_and_many():
    """Mean absolute error against the truth: a kernel as wide as all modes together has 1.5 of the second."""
    axis = np.linspace(-5, 5, 512)
    modes = np.array([-4, -2, 0, 2, 4])
    rng = np.random.default_rng(0)
    many = modes[rng.integers(0, 5, 2000)] + 0.05 * rng.normal(size=2000)
    for x, density in (
        (cloud(1, n=2000)[:, 0], stats.norm.pdf(axis)),
        (many, np.mean([stats.norm.pdf(axis, m, 0.05) for m in modes], axis=0)),
    ):
        error = abs(drift.smooth(x[:, None], axis) - density)
        assert integrate.trapezoid(error, axis) < 0.15


def test_a_smooth_curve_has_one_peak():
    axis = np.linspace(-5, 5, 512)
    for seed in range(20):
        curve = drift.smooth(cloud(1, n=1000, seed=seed), axis)
        rises = np.diff(curve) > 0.002
        assert np.sum(rises[1:] & ~rises[:-1]) <= 2


# ------------------------------------------------------------------------------------------------------- both: edges


def spoiled(d, n=400):
    """Generation -> samples, each unlike a distribution in its own way, and what is to be said of it."""
    half = cloud(d, n)
    half[: n // 2] += 100
    holes = cloud(d, n)
    holes[: n // 10, -1] = np.nan
    gone = np.full((n, d), 1e30, np.float32)
    mostly = gone.copy()
    mostly[0] = -np.inf
    return {
        "a single point": np.full((n, d), 0.5, np.float32),
        "50 % outside": half,
        "all outside": gone,
        "10 % not finite": holes,
        "1 % not finite, the rest outside": mostly,
        "no finite sample": np.full((n, d), np.nan, np.float32),
    }


@pytest.mark.parametrize("d", [1, 2])
def test_collapsed_far_and_diverged_generations_are_drawn_as_what_they_are(d):
    found = {}
    for said, x in spoiled(d).items():
        figure = plot({("replace", 1.0): {1: cloud(d), 2: x}})
        saved(figure)
        if d == 1:
            found[said] = notes(figure.axes[0])
            assert len(figure.axes[0].lines) == 1 + (np.isfinite(x) & (abs(x) < 5)).any()
        else:
            assert notes(figure.axes[0]) == []
            found[said] = notes(figure.axes[1])
    expected = {said: [f"t = 2: {said}"] if d == 1 else said.split(", ") for said in spoiled(d)}
    assert found == expected


def test_a_collapsed_generation_is_found_by_its_ring():
    for deviation, rings in ((1.0, 0), (1e-3, 1), (0.0, 1)):
        axis = plot({("replace", 1.0): {1: cloud(2, mean=2.0, deviation=deviation)}}).axes[0]
        assert len(axis.lines) == 1 + rings
        if rings:
            np.testing.assert_allclose(axis.lines[1].get_xydata(), [[2, 2]], atol=1e-3)


def test_a_peak_leaves_the_panel_and_the_truth_stays_visible():
    axis = plot({("replace", 1.0): {1: cloud(1), 2: np.full((50, 1), 2.0, np.float32)}}).axes[0]
    peak = 1 / np.sqrt(2 * np.pi)
    assert 1.1 * peak <= axis.get_ylim()[1] <= 3 * peak
    spike = axis.lines[1]
    assert spike.get_ydata().max() > axis.get_ylim()[1]
    assert spike.get_xdata()[spike.get_ydata().argmax()] == pytest.approx(2, abs=0.05)


def test_remarks_stand_above_the_curves():
    figure = plot({("replace", 1.0): {1: cloud(1), **{t: cloud(1) + 100 for t in range(2, 6)}}})
    saved(figure)
    (axis,) = figure.axes
    lowest = min(text.get_window_extent().y0 for text in axis.texts)
    assert len(axis.texts) == 4
    assert axis.transData.transform((0, axis.lines[0].get_ydata().max()))[1] < lowest


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("biases", [(1.0,), (1.0, 0.8, 0.66, 0.5, 0.3)])
def test_ten_loops_with_long_names_stay_inside_and_apart(d, biases):
    loops = [f"fresh_data(n_initial=1000,n_fresh={i},n_synthetic=900,memory=20)_$x$" for i in range(10 // len(biases))]
    figure = plot({(loop, bias): {t: cloud(d, 50) for t in (1, 2, 3)} for loop in loops for bias in biases})
    assert saved(figure).shape[1] == 900
    boxes = [axis.get_window_extent() for axis in figure.axes]
    boxes += [item.get_window_extent() for item in (*figure.texts, *figure.legends)]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        for other in boxes[:i]:
            overlap = min(box.x1, other.x1) - max(box.x0, other.x0), min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap) <= 1
    for axis in figure.axes:
        assert axis.get_window_extent().height > 60


def test_a_name_too_long_for_the_page_widens_it():
    figure = plot({(NAME * 3, 1.0): {1: cloud(1)}})
    assert saved(figure).shape[1] > 900
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.texts)


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["nowhere", "at one point"])
def test_a_density_too_narrow_for_its_grid(value):
    axes, density = truth(lambda x: np.zeros(len(x)), 2)
    density[50, 50] = value
    saved(drift.plot({("replace", 1.0): {1: cloud(2)}}, axes, density, title=""))


def test_an_unfinished_cell_lacks_panels_and_has_no_other():
    figure = plot({("a", 1.0): {t: cloud(2) for t in (1, 2, 3)}, ("b", 1.0): {1: cloud(2)}})
    assert len(figure.axes) == 4
    assert figure.axes[3].get_position().x0 == figure.axes[0].get_position().x0


# ------------------------------------------------------------------------------------------------ the density's grid


@pytest.mark.parametrize("dimension", [1, 2])
def test_the_grid_of_the_gaussian_source(dimension):
    """Exact at every point, and nearly all of the mass, however few samples the reference has."""
    source = data.load("gaussian", dimension=dimension, n_reference=1)
    axes, density = data.density_grid(source)
    assert (axes[:, 0] < -3).all()
    assert (axes[:, -1] > 3).all()
    assert axes.dtype == density.dtype == np.float64
    assert density.shape == (axes.shape[1],) * dimension
    i = (3,) if dimension == 1 else (3, 200)
    point = [axis[k] for axis, k in zip(axes, i, strict=True)]
    assert density[i] == pytest.approx(np.prod(stats.norm.pdf(point)), rel=1e-12)
    cell = np.prod(axes[:, 1] - axes[:, 0])
    assert density.sum() * cell == pytest.approx(1, abs=0.01)


def test_sources_say_whether_they_know_their_density():
    assert data.load("digits").density is None
    x = np.array([[0.3, -1.2], [0.0, 0.0]])
    np.testing.assert_allclose(data.load("gaussian", dimension=2).density(x), stats.multivariate_normal([0, 0]).pdf(x))
