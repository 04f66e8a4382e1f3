"""The image GAN's networks against references, both trainers at image scale, and their plan."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal
from toys import four_clouds, path, tiny, training_set

from madbench import cost, experiment, grid, models, results
from madbench.config import base
from madbench.errors import UserError
from madbench.fleet import make_plan
from madbench.models.family import Given
from madbench.networks import ImageDiscriminator, ImageSynthesis
from madbench.networks.image_style import ModulatedConvolution, channels, levels, resize
from madbench.samples import Samples

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def gan(side=8, colours=1, num_classes=3, **settings):
    small = {"width": 4, "widest": 8, "depth": 1, "style": 4, "latent": 5, "discriminator_width": 4}
    settings = small | {"discriminator_depth": 1, "batch_size": 6, "steps": 4} | settings
    return models.build("gan", Given((side, side, colours), num_classes, (-1.0, 1.0)), network="image", **settings)


# ---------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8, 8, 1), [4, 8]),
        ((28, 28, 1), [7, 14, 28]),
        ((32, 32, 3), [4, 8, 16, 32]),
        ((64, 64, 3), [4, 8, 16, 32, 64]),
        ((128, 128, 3), [4, 8, 16, 32, 64, 128]),
        ((9, 9, 1), [9]),
    ],
)
def test_levels_double_from_coarse_to_fine(shape, expected):
    assert levels(shape) == [(side, side) for side in expected]


def test_an_image_that_is_not_square_keeps_its_proportions():
    assert levels((24, 16, 3)) == [(6, 4), (12, 8), (24, 16)]


def test_coarser_levels_have_twice_the_channels_up_to_the_widest():
    assert channels(32, 128, 5) == [128, 128, 128, 64, 32]


@pytest.mark.parametrize("demodulate", [True, False])
def test_a_modulated_convolution_equals_weights_made_for_each_sample(demodulate):
    """StyleGAN2, equations 1 and 3, sample by sample in float64, by SciPy's correlation with zeros beyond the edge."""
    net = ModulatedConvolution(3, 3, demodulate)
    x, w = normal(2, 5, 6, 4), normal(2, 4)
    params = jax.tree.map(lambda a: a + 0.1 * normal(*a.shape), net.init(jax.random.key(0), x, w)["params"])
    out = net.apply({"params": params}, x, w)
    affine, kernel = params["Dense_0"], np.float64(params["kernel"])
    for i in range(2):
        style = np.float64(w[i]) @ affine["kernel"] + affine["bias"]
        weight = style[:, None] * kernel
        if demodulate:
            weight = weight / np.sqrt((weight**2).sum(axis=(0, 1, 2)) + 1e-8)
        for feature in range(3):
            planes = [signal.correlate2d(x[i, :, :, c], weight[:, :, c, feature], "same") for c in range(4)]
            expected = sum(planes) + np.float64(params["bias"])[feature]
            np.testing.assert_allclose(out[i, :, :, feature], expected, rtol=1e-4, atol=1e-4)


def test_resizing_keeps_constants_and_means_and_interpolates_between_pixels():
    ramp = np.broadcast_to(np.arange(8.0, dtype=np.float32)[None, :, None, None], (1, 8, 8, 1))
    up = np.asarray(resize(ramp, (16, 16)))[0, :, 0, 0]
    np.testing.assert_allclose(up[1:-1], np.arange(16)[1:-1] / 2 - 0.25, atol=1e-5)
    down = np.asarray(resize(ramp, (4, 4)))[0, :, 0, 0]
    np.testing.assert_allclose(down[1:-1], [2.5, 4.5], atol=1e-5)
    checkers = np.indices((8, 8)).sum(axis=0)[None, :, :, None] % 2 * np.float32(1)
    np.testing.assert_allclose(np.asarray(resize(checkers, (4, 4)))[:, 1:-1, 1:-1], 0.5, atol=1e-5)  # no aliasing


def test_synthesis_starts_without_noise_and_adds_it_by_its_strength():
    net = ImageSynthesis((8, 8, 2), 4, 8, 2)
    assert net.noise_size == 4 * 4 + 2 * 8 * 8
    w, noise = normal(3, 4), jnp.asarray(normal(3, net.noise_size))
    params = net.init(jax.random.key(0), w, noise)["params"]
    image = net.apply({"params": params}, w, noise)
    assert image.shape == (3, 8, 8, 2)
    assert 0.1 < float(image.std()) < 10
    np.testing.assert_array_equal(image, net.apply({"params": params}, w, -noise))
    loud = jax.tree.map(lambda a: a, params)
    loud["level_1"]["noise_1"] = jnp.float32(1)
    moved = net.apply({"params": loud}, w, noise) - net.apply({"params": loud}, w, noise.at[:, -1].add(1.0))
    assert jnp.abs(moved[:, -2:, -2:]).max() > 1e-3  # the last pixel of the last layer, and its neighbours
    np.testing.assert_allclose(moved[:, :-2], 0, atol=1e-5)


def test_the_discriminator_sees_image_and_label():
    net = ImageDiscriminator(3, 4, 8)
    x, label = normal(4, 8, 8, 1), jnp.asarray([0, 1, 2, 0])
    params = net.init(jax.random.key(0), x, label)
    out = net.apply(params, x, label)
    assert out.shape == (4,)
    assert jnp.abs(out - net.apply(params, x, (label + 1) % 3)).min() > 1e-4
    assert jnp.abs(out - net.apply(params, x[::-1], label)).max() > 1e-4


@functools.cache
def judgement(**settings):
    """First state, and the discriminator's loss and gradient on samples of the model's own: of one such GAN."""
    model = gan(**settings)
    state = jax.jit(model.init)(jax.random.key(0))
    real, label = np.random.default_rng(1).normal(size=(6, 8, 8, 1)).astype(np.float32), jnp.arange(6) % 3

    @jax.jit
    def judge(state):
        fake = model.sample(jax.random.key(1), state, 6, 1.0).x
        of = lambda p: model._discriminator_loss(p, real, fake, label, jnp.zeros(6))
        return jax.value_and_grad(of)(state.params["discriminator"])

    return state, *judge(state)


@pytest.mark.parametrize("change", [{"remat": True}, {"dtype": "bfloat16"}], ids=["remat", "bfloat16"])
def test_remat_and_half_precision_change_no_weight_and_hardly_a_value(change):
    (state, a, slope_a), (other, b, slope_b) = judgement(), judgement(**change)
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    tight = "remat" in change
    assert float(b) == pytest.approx(float(a), rel=1e-5 if tight else 0.05)
    norm = lambda tree: float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))))
    difference = norm(jax.tree.map(lambda u, v: u - v, slope_a, slope_b)) / norm(slope_a)
    assert difference < (1e-5 if tight else 0.1)
    assert {leaf.dtype for leaf in jax.tree.leaves(slope_b)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "unet"}, "unknown network 'unet'; config.model.network is dense or image"),
        ({"widest": 0}, "config.model.widest must be a whole number of at least 1"),
        ({"dtype": "int8"}, "config.model.dtype must be float32, bfloat16 or float16, not 'int8'"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        models.build("gan", Given((8, 8, 1), 3), **{"network": "image", **settings})


def test_an_image_network_refuses_vectors():
    with pytest.raises(UserError, match="needs images, not samples of shape"):
        models.build("gan", Given((2,), 0), network="image")


# -------------------------------------------------------------------------------------------------------- at scale


TRAINERS = {
    "gan": {"network": "image", "width": 4, "widest": 8, "depth": 1, "discriminator_width": 4,
            "discriminator_depth": 1, "style": 8},
    "diffusion": {"network": "transformer", "width": 16, "depth": 1, "heads": 2, "patch": 4},
}  # fmt: skip


@pytest.mark.parametrize(("family", "dtype"), [("gan", "float32"), ("diffusion", "bfloat16")])
def test_a_step_at_32x32x3(family, dtype):
    given = Given((32, 32, 3), 10, (-1.0, 1.0), steps_per_call=1)
    model = models.build(family, given, batch_size=4, dtype=dtype, remat=dtype == "bfloat16", **TRAINERS[family])
    batch = Samples(jnp.asarray(np.clip(normal(4, 32, 32, 3), -1, 1)), jnp.arange(4, dtype=jnp.int32))
    state = jax.jit(model.init)(jax.random.key(0))
    new, loss = jax.jit(model.step)(jax.random.key(1), batch, state, jnp.float32(1e-3))
    assert np.isfinite(loss)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), new.params, state.params)
    assert max(jax.tree.leaves(moved)) > 1e-4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new.params))
    x = jax.jit(lambda s: model.sample(jax.random.key(2), s, 2, 0.8))(new).x
    assert x.shape == (2, 32, 32, 3)
    assert np.abs(x).max() <= 1


@pytest.mark.parametrize("family", TRAINERS)
def test_a_dry_run_at_128x128x3_prints_memory_and_flops(family, tmp_path):
    from madbench import dry_run

    images = RNG.integers(0, 256, (40, 128, 128, 3), dtype=np.uint8)
    np.savez(tmp_path / "faces.npz", x=images, y=np.arange(40) % 4)
    config = base(f"npz:{tmp_path / 'faces.npz'}", family)
    config.data.n_reference = 10
    config.n_initial, config.generations, config.biases = 16, 2, (1.0, 0.7)
    config.metrics.update({"names": ("precision",), "features": "raw"})
    config.model.update(TRAINERS[family] | {"patch": 8} if family == "diffusion" else TRAINERS[family])
    config.model.update({"batch_size": 8, "steps": 10, "dtype": "bfloat16", "remat": True})
    text = dry_run.describe(grid.prepare(config, blank=True))
    assert "(128, 128, 3)" in text
    flops = float(re.search(r"FLOPs +(\S+) fit", text)[1])
    memory, unit = re.search(r"memory +(\S+) (\w+) per run", text).groups()
    assert flops > 1e9
    assert unit == "MiB"
    assert 30 < float(memory) < 1000
    assert ("step by step" in text) == (family == "gan")


def test_remat_needs_less_memory():
    def peak(**settings):
        model = gan(32, 3, width=16, depth=2, discriminator_depth=2, batch_size=16, **settings)
        state = jax.eval_shape(model.init, jax.random.key(0))
        batch = Samples(jax.ShapeDtypeStruct((16, 32, 32, 3), jnp.float32), jax.ShapeDtypeStruct((16,), jnp.int32))
        return cost.estimate(model.step, jax.random.key(0), batch, state, jnp.float32(1))

    plain, spared = peak(), peak(remat=True)
    assert spared.peak_bytes < 0.8 * plain.peak_bytes
    assert spared.flops > plain.flops


# ------------------------------------------------------------------------------------------------------------ plan


def test_runs_with_convolutions_have_devices_of_their_own():
    plan = make_plan(6, 2, batch_size=8, convolves=True, platform="cpu")
    assert (plan.runs_per_device, plan.wave_size, plan.waves, plan.stepwise) == (1, 2, 3, True)
    assert "step by step" in str(plan)
    on_gpu = make_plan(6, 2, batch_size=8, convolves=True, platform="gpu")
    assert (on_gpu.runs_per_device, on_gpu.stepwise) == (1, False)
    products = make_plan(6, 2, batch_size=8, platform="cpu")
    assert (products.runs_per_device, products.stepwise) == (3, False)
    shared = make_plan(1, 4, batch_size=8, convolves=True, platform="cpu")
    assert (shared.group_size, shared.stepwise) == (4, True)


def test_a_cost_tells_convolutions_wherever_they_are():
    kernel = jnp.zeros((1, 1, 3, 3))
    inside = lambda x: jax.lax.scan(lambda c, _: (jax.lax.conv(c, kernel, (1, 1), "SAME"), None), x, length=2)[0]
    assert cost.estimate(jax.jit(inside), jnp.zeros((1, 1, 4, 4))).convolves
    assert not cost.estimate(lambda x: x @ x, jnp.zeros((4, 4))).convolves


def test_a_fit_step_by_step_is_the_fit():
    """Of a network that compiles fast: what is tested is the loop."""
    whole = tiny(steps=20)
    single = dataclasses.replace(whole, given=dataclasses.replace(whole.given, steps_per_call=1))
    data = training_set(*four_clouds(64))
    states, curves = path(whole, data)
    alone, losses = path(single, data, calls=20)
    assert [int(s.step) for s in alone] == list(range(21))
    for a, b in zip(jax.tree.leaves(states[-1]), jax.tree.leaves(alone[-1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.concatenate(curves), np.concatenate(losses), rtol=1e-3)


def test_a_job_step_by_step_ends_in_the_rows_of_the_compiled_loop(tmp_path, monkeypatch):
    """A dense GAN, once as if it had convolutions: ten segments of two calls each, a wave for each run."""
    config = base("digits", "gan")
    config.n_initial, config.generations, config.seeds, config.n_grid = 32, 2, 5, 0
    config.data.n_reference = 20
    config.metrics.update({"names": ("fd",), "features": "raw"})
    config.model.update({"width": 8, "depth": 1, "style": 4, "discriminator_width": 8, "batch_size": 9, "steps": 20})
    experiment.run(config, str(tmp_path / "compiled"))
    monkeypatch.setattr(cost, "_convolves", lambda jaxpr: True)
    experiment.run(config, str(tmp_path / "stepwise"))
    compiled, stepwise = (results.load(tmp_path / name) for name in ("compiled", "stepwise"))
    assert [r.environment["plan"]["stepwise"] for r in (compiled, stepwise)] == [False, True]
    assert stepwise.environment["plan"]["waves"] == 2
    fd = lambda found: [r["fd"] for r in sorted(found.rows, key=lambda r: (r["seed"], r["generation"]))]
    np.testing.assert_allclose(fd(compiled), fd(stepwise), rtol=1e-3)


def test_an_image_gan_runs_through_its_loop(tmp_path):
    """Two runs on four devices: two devices share each, and the host calls each step."""
    config = base("digits", "gan")
    config.n_initial, config.generations, config.seeds = 32, 2, 1
    config.loops, config.n_grid = ("fully_synthetic", "synthetic_augmentation"), 2
    config.data.n_reference = 20
    config.metrics.update({"names": ("fd",), "features": "raw"})
    config.model.update({"network": "image", "width": 4, "widest": 4, "depth": 1, "style": 4, "discriminator_width": 4})
    config.model.update({"discriminator_depth": 1, "batch_size": 8, "steps": 4})
    experiment.run(config, str(tmp_path / "work"))
    found = results.load(tmp_path / "work")
    assert [row["status"] for row in found.rows] == ["ok"] * 4
    assert found.environment["plan"]["group_size"] == 2
    first, second = (
        [row for row in found.rows if row["generation"] == 1 and row["loop"] == loop] for loop in config.loops
    )
    assert first[0]["fd"] == pytest.approx(second[0]["fd"], rel=1e-3)  # one seed, one first generation
