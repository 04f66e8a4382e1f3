"""FLOPs and bytes of programs, by hand and by the compiler's own count."""

import jax
import jax.numpy as jnp
import pytest

from madbench import models
from madbench.cost import Cost, estimate, tree_bytes
from madbench.data.source import FiniteSource
from madbench.models import Given
from madbench.samples import Samples
from madbench.training_set import TrainingSet
from madbench.units import format_bytes


def of(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def flops(function, *shapes) -> int:
    return estimate(function, *(of(*shape) for shape in shapes)).flops


# ------------------------------------------------------------------------------------------------------------- FLOPs


def test_matrix_products():
    assert flops(jnp.matmul, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
    assert flops(jnp.matmul, (4, 3, 5), (4, 5, 7)) == 2 * 4 * 3 * 5 * 7
    assert flops(jnp.dot, (5,), (5,)) == 2 * 5
    assert flops(lambda a, b: jnp.einsum("bij,bkj->bik", a, b), (2, 3, 5), (2, 7, 5)) == 2 * 2 * 3 * 5 * 7
    assert flops(lambda a: jnp.sin(a) + a.sum(), (30, 30)) == 0


def test_convolutions():
    """Each output of a 3x3 window over 2 channels takes 18 products; of one channel where channels are apart."""
    dims = ("NHWC", "HWIO", "NHWC")
    conv = lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=dims)
    assert flops(conv, (4, 8, 8, 2), (3, 3, 2, 6)) == 2 * (4 * 8 * 8 * 6) * 18
    apart = lambda x, k: jax.lax.conv_general_dilated(
        x, k, (1, 1), "SAME", dimension_numbers=dims, feature_group_count=2
    )
    assert flops(apart, (4, 8, 8, 2), (3, 3, 1, 6)) == 2 * (4 * 8 * 8 * 6) * 9


def test_scans_count_as_often_as_they_run():
    def power(x):
        return jax.lax.scan(lambda c, _: (c @ x, None), x, length=6)[0]

    def nested(x):
        return jax.lax.scan(lambda c, _: (power(c), None), x, length=3)[0]

    assert flops(power, (4, 4)) == 6 * 2 * 4**3
    assert flops(nested, (4, 4)) == 3 * 6 * 2 * 4**3


def test_loops_of_unknown_length_count_once():
    def function(x):
        return jax.lax.while_loop(lambda c: c.sum() < 1, lambda c: c @ x, x)

    assert flops(function, (4, 4)) == 2 * 4**3


def test_vmap_counts_every_run():
    assert flops(jax.vmap(jnp.matmul), (6, 3, 5), (6, 5, 7)) == 6 * 2 * 3 * 5 * 7
    assert flops(jax.vmap(jnp.matmul, in_axes=(0, None)), (6, 3, 5), (5, 7)) == 6 * 2 * 3 * 5 * 7


def test_a_choice_counts_as_its_most_expensive_branch():
    def function(x):
        return jax.lax.cond(x[0, 0] > 0, lambda a: a @ a @ a, lambda a: a @ a, x)

    assert flops(function, (4, 4)) == 2 * 2 * 4**3
    switch = lambda x: jax.lax.switch(jnp.int32(0), [lambda a: a, lambda a: a @ a], x)
    assert flops(switch, (4, 4)) == 2 * 4**3


def test_inner_programs_are_looked_into():
    inner = jax.jit(lambda a: a @ a)
    assert flops(lambda a: inner(inner(a)), (4, 4)) == 2 * 2 * 4**3
    assert flops(jax.checkpoint(lambda a: a @ a), (4, 4)) == 2 * 4**3

    @jax.custom_vjp
    def custom(a):
        return a @ a

    custom.defvjp(lambda a: (custom(a), a), lambda a, g: (g @ a,))
    assert flops(custom, (4, 4)) == 2 * 4**3


LAYERS = [(5, 8), (8, 8), (8, 3)]


def mlp_loss(weights, x):
    for i, w in enumerate(weights):
        x = x @ w
        x = jnp.tanh(x) if i < len(weights) - 1 else x
    return jnp.mean(x**2)


def test_the_gradient_of_an_mlp():
    """Forward, weights' and inputs' gradients cost the same, and the first layer's input needs none."""
    weights = [of(*layer) for layer in LAYERS]
    forward = 2 * 32 * sum(a * b for a, b in LAYERS)
    assert estimate(mlp_loss, weights, of(32, 5)).flops == forward
    expected = 3 * forward - 2 * 32 * 5 * 8
    assert estimate(jax.grad(mlp_loss), weights, of(32, 5)).flops == expected
    assert estimate(jax.grad(mlp_loss, argnums=(0, 1)), weights, of(32, 5)).flops == 3 * forward


@pytest.mark.parametrize(("shape", "num_classes"), [((8, 8, 1), 10), ((3,), 0)])
def test_a_diffusion_fit_by_hand(shape, num_classes):
    """The layers of the residual MLP three times, less the gradients of inputs that are data."""
    width, depth, batch, steps = 24, 2, 16, 20
    family = models.build(
        "diffusion", Given(shape, num_classes), width=width, depth=depth, batch_size=batch, steps=steps
    )
    d = 64 if len(shape) == 3 else 3
    embedding = (2 * 16 + num_classes + 1, 64)  # sines and cosines of 16 frequencies, and a label
    entrance = (d, width)
    block = [(64, 2 * width), (width, width), (width, width)]
    exit_and_gain = [(width, d), (64, d)]
    layers = [embedding, entrance, *depth * block, *exit_and_gain]
    products = 3 * sum(a * b for a, b in layers) - sum(a * b for a, b in (embedding, entrance))

    pool = Samples(jnp.zeros((50, *shape)), jnp.zeros(50, jnp.int32))
    source = FiniteSource(pool, pool, name="t", num_classes=num_classes, bounds=None, fingerprint={})
    memory = Samples(jnp.zeros((1, 1, *shape)), jnp.zeros((1, 1), jnp.int32))
    address = jnp.arange(50, dtype=jnp.int32)
    data = TrainingSet(address, jnp.int32(50), source, address, memory, jax.random.key(0))
    state = jax.eval_shape(family.init, jax.random.key(0))
    found = estimate(family.fit, jax.random.key(0), data, state).flops
    assert found * family.segments == 2 * batch * steps * products


# ------------------------------------------------------------------------------------------------------------- bytes


def compiled_bytes(function, *args) -> int:
    """Arguments, results and temporaries of the compiled program."""
    found = jax.jit(function).lower(*args).compile().memory_analysis()
    assert found is not None, "this backend does not say what a program needs"
    return found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes


def own_bytes(function, *args) -> int:
    return tree_bytes(args) + tree_bytes(jax.eval_shape(function, *args))


def train_step(weights, x):
    return jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(mlp_loss)(weights, x))


def many_steps(weights, x):
    return jax.lax.scan(lambda w, _: (train_step(w, x), mlp_loss(w, x)), weights, length=50)


def wide(batch, width):
    return [of(64, width), of(width, width), of(width, 64)], of(batch, 64)


@pytest.mark.parametrize(("batch", "width"), [(512, 256), (4096, 128), (16, 512)])
@pytest.mark.parametrize("function", [train_step, many_steps])
def test_peak_bytes_are_of_the_compilers_order(function, batch, width):
    args = wide(batch, width)
    ours, theirs = estimate(function, *args).peak_bytes, compiled_bytes(function, *args)
    assert theirs / 1.5 < ours < 3 * theirs


# Arguments whose last use comes before results are made, results that are arguments, and stacked results.
SPENT = {
    "train step": (train_step, wide(32, 16)),
    "many steps": (many_steps, wide(32, 16)),
    "sum, then broadcast": (lambda a: jnp.broadcast_to(a.sum() * 2, (1000,)) + 1, (of(1000),)),
    "a chain of arguments": (lambda a, b: jnp.ones((500, 2)) * (a.sum() + b.sum()), (of(1000), of(1000))),
    "identity": (lambda a: a, (of(1000),)),
    "twice the same": (lambda a: (a, a, a + 1), (of(1000),)),
    "an argument without use": (lambda a, b: b + 1, (of(1000), of(10))),
    "stacked results": (lambda a: jax.lax.scan(lambda c, _: (c, c * 2), a, length=9), (of(1000),)),
}


@pytest.mark.parametrize("name", SPENT)
def test_peak_bytes_hold_at_least_arguments_and_results(name):
    function, args = SPENT[name]
    assert estimate(function, *args).peak_bytes >= own_bytes(function, *args)


def test_a_scan_holds_its_stacked_results_while_its_body_runs():
    """Results of 100 x 4 kB beside temporaries of 400 kB: neither hides the other."""

    def body(c, _):
        outer = c[:, None] * c[None, ::10]  # [1000, 100]
        return jnp.tanh(outer @ jnp.ones(100)) + outer.max(1), c

    function = lambda a: jax.lax.scan(body, a, length=100)[1]
    ours = estimate(function, of(1000)).peak_bytes
    assert ours >= 400_000 + 400_000
    assert ours < 3_000_000


def test_temporaries_live_only_while_they_are_needed():
    """A chain of ten arrays holds two at a time beside its argument; ten that are added up at the end, all."""

    def chain(a):
        for _ in range(10):
            a = jnp.sin(a)
        return a

    def together(a):
        return sum(jnp.stack([a * i for i in range(1, 11)]).sum(0) * jnp.ones_like(a) for _ in range(1))

    assert estimate(chain, of(1000)).peak_bytes == 3 * 4000
    assert estimate(together, of(1000)).peak_bytes >= 10 * 4000


def test_sizes_of_trees_and_their_names():
    tree = {"a": of(3, 5), "b": (of(7, dtype=jnp.int8), of(dtype=jnp.bool)), "c": jnp.zeros((2, 2))}
    assert tree_bytes(tree) == 60 + 7 + 1 + 16
    assert tree_bytes(()) == 0
    assert format_bytes(0) == "0 B"
    assert format_bytes(1023) == "1.02e+03 B"
    assert format_bytes(1536) == "1.5 KiB"
    assert format_bytes(5 * 2**20) == "5 MiB"
    assert format_bytes(1.5 * 2**30) == "1.5 GiB"
    assert format_bytes(3 * 2**40) == "3.07e+03 GiB"


def test_an_estimate_runs_nothing():
    """Ten terabytes of argument are no matter."""
    found = estimate(lambda a: a @ a.T, of(10**6, 10**7 // 4))
    assert isinstance(found, Cost)
    assert found.flops == 2 * 10**12 * (10**7 // 4)
