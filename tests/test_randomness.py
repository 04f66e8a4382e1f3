"""Keys: one for each (seed, generation, role), and draws whose first rows do not depend on how many follow."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from madbench.randomness import Role, key_for

DRAWS = {
    "normal": lambda key, n: jax.random.normal(key, (n,)),
    "normal rows": lambda key, n: jax.random.normal(key, (n, 3)),
    "uniform": lambda key, n: jax.random.uniform(key, (n,)),
    "bernoulli": lambda key, n: jax.random.bernoulli(key, 0.3, (n,)),
    "randint": lambda key, n: jax.random.randint(key, (n,), 0, 1000),
}


def assert_same(draw, a, b):
    """Bits are the same. A normal draw passes them through a polynomial, which XLA:CPU rounds otherwise in the
    remainder of a vectorized loop: there the same means equal to a few units in the last place."""
    if draw.startswith("normal"):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    else:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("draw", DRAWS)
def test_first_rows_do_not_depend_on_how_many_follow(draw):
    key = key_for(0, 1, Role.SAMPLE)
    longest = DRAWS[draw](key, 257)
    assert len(np.unique(longest)) > 1
    for n in (7, 256):
        assert_same(draw, DRAWS[draw](key, n), longest[:n])


@pytest.mark.parametrize("draw", DRAWS)
def test_first_rows_are_the_same_under_vmap(draw):
    keys = jnp.stack([key_for(seed, 1, Role.SAMPLE) for seed in range(3)])
    together = jax.vmap(lambda key: DRAWS[draw](key, 9))(keys)
    for i in range(3):
        assert_same(draw, together[i], DRAWS[draw](keys[i], 9))


def test_whole_numbers_below_a_traced_bound_depend_on_the_bound_alone():
    """A training set's size is data in the compiled program: the same size draws the same batch in any grid."""
    key = key_for(0, 1, Role.FIT)
    draw = jax.jit(lambda size: jax.random.randint(key, (50,), 0, size))
    np.testing.assert_array_equal(draw(17), jax.random.randint(key, (50,), 0, 17))


def test_keys_differ_by_seed_generation_and_role():
    cells = list(itertools.product(range(5), range(6), Role))
    keys = {tuple(np.asarray(jax.random.key_data(key_for(*cell))).tolist()) for cell in cells}
    assert len(keys) == len(cells)


def test_keys_are_the_documented_folds():
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 3), 4)
    assert jnp.array_equal(jax.random.key_data(key_for(7, 3, Role.SAMPLE)), jax.random.key_data(expected))


def test_keys_are_the_same_for_numbers_and_for_traced_arrays():
    traced = jax.jit(lambda seed, t: jax.random.key_data(key_for(seed, t, Role.FIT)))(jnp.int32(7), jnp.int32(3))
    np.testing.assert_array_equal(traced, jax.random.key_data(key_for(7, 3, Role.FIT)))


def test_role_numbers_are_part_of_the_protocol():
    assert {role.name: int(role) for role in Role} == {
        "DATA": 0,
        "COMPOSE": 1,
        "INIT": 2,
        "FIT": 3,
        "SAMPLE": 4,
        "GRID": 5,
        "FLOOR": 6,
        "REFERENCE": 7,
        "BATCH": 8,
        "EXAMPLES": 9,
        "STRATEGY": 10,
        "CANDIDATES": 11,
        "SELECT": 12,
        "EXTRA_FIT": 13,
        "LOOK": 14,
    }
