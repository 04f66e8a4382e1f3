"""Gaussian fresh-data loops on their sufficient statistics: the law of every fit is exact, and no sample is drawn.

Of n samples from N(μ, Σ), the mean is N(μ, Σ/n) and the scatter around it an independent Wishart(Σ, n-1). With Σ = LLᵀ
the scatter is (LA)(LA)ᵀ, where A is lower trapezoidal `[d, min(d, n-1)]`, standard normal below its diagonal and
chi-distributed on it, with n-1, n-2, … degrees of freedom (Bartlett 1933). A generation costs the same whatever n_r
and n_s.

Random numbers depend on (seed, generation) and not on the cell: the cells of a map share their draws, which makes
comparisons between them paired, and drawing costs next to nothing.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg  # noqa: F401  # the LAPACK that JAX calls, loaded before its threads are limited
from threadpoolctl import threadpool_limits

from madbench import cost
from madbench.phase.settings import Cell, burn_in
from madbench.randomness import Role, key_for

# A Cholesky factor is taken of Σ + this · mean variance · I, as a fit to fewer than d samples is singular. It does not
# add up: the factor is only sampled from.
_JITTER = 1e-10
_UNLIKELY = 1e-9  # the chance that a chi-square draw takes its last proposal without a test
_CHUNK_BYTES = 2**26  # of the matrices of one call; more gains nothing on a CPU, and pads more
_CHUNK_CELLS = 32  # likewise
_MATRICES = 10  # of size [d, d], alive at a time for each loop


class Sizes(NamedTuple):
    """Cells as the program takes them: float64 `[cell]` each."""

    n_real: Any
    n_synthetic: Any
    bias: Any


class Fit(NamedTuple):
    """Mean `[d]` and covariance `[d, d]`, or `[d]` where it is diagonal; float64."""

    mean: jax.Array
    covariance: jax.Array


class Noise(NamedTuple):
    """What one part of a training set, real or synthetic, needs; without the sizes.

    Attributes:
      mean: normal `[d]`.
      below: normal `[d, d]`, or `[0]` where the covariance is diagonal.
      proposal: normal `[attempt, d]`, for the chi-square draws.
      log_uniform: `[attempt, d]`, likewise.
      boost: uniform `[d]`, for those with one degree of freedom.
    """

    mean: jax.Array
    below: jax.Array
    proposal: jax.Array
    log_uniform: jax.Array
    boost: jax.Array


@dataclasses.dataclass(frozen=True)
class Loops:
    """The functions of one map, with everything static that they need.

    Attributes:
      dimension: d.
      ddof: the scatter is divided by N - ddof.
      diagonal: whether each dimension is fitted by itself.
      metric: "w2", ‖μ‖² + Σ(√eig - 1)², or "mean", ‖μ‖².
      attempts: proposals per chi-square draw.
    """

    dimension: int
    ddof: int
    diagonal: bool
    metric: str
    attempts: int = 8

    def noise(self, seed: jax.Array, generation: jax.Array, role: Role) -> Noise:
        """Two draws, one behind the other: fewer to compile, and more attempts change no number that comes first."""
        d, below = self.dimension, 0 if self.diagonal else self.dimension**2
        normal_key, uniform_key = jax.random.split(key_for(seed, generation, role))
        normal = jax.random.normal(normal_key, (d + below + self.attempts * d,))
        uniform = 1 - jax.random.uniform(uniform_key, (1 + self.attempts, d))  # in (0, 1]
        return Noise(
            mean=normal[:d],
            below=normal[d : d + below].reshape(-1, d),
            proposal=normal[d + below :].reshape(-1, d),
            log_uniform=jnp.log(uniform[1:]),
            boost=uniform[0],
        )

    def scatter_root(self, noise: Noise, n: jax.Array) -> jax.Array:
        """R with RRᵀ the scatter of n samples of N(0, I) around their mean: `[d, d]`, or its diagonal `[d]`."""
        column = jnp.arange(self.dimension)
        if self.diagonal:
            return jnp.sqrt(chi_square(jnp.full((self.dimension,), n - 1), noise))
        below = (column[:, None] > column) & (column < n - 1)
        return jnp.where(below, noise.below, 0) + jnp.diag(jnp.sqrt(chi_square(n - 1 - column, noise)))

    def start(self, seeds: int, sizes: Sizes) -> Fit:
        """At the loops' fixed point: ‖μ‖² and tr Σ as expected, all directions alike; arrays `[seed, cell, ...]`.

        What is left to forget is that the eigenvalues do not spread yet, and that fades as a^2t.
        """
        v, s = fixed_point(sizes, self.ddof)
        d = self.dimension
        mean, each = np.sqrt(v)[:, None] * np.ones(d), s[:, None] * np.ones(d)
        covariance = each if self.diagonal else each[:, None] * np.eye(d)
        return Fit(*(np.broadcast_to(x, (seeds, *x.shape)) for x in (mean, covariance)))

    def step(self, real: Noise, synthetic: Noise, sizes: Sizes, fit: Fit) -> Fit:
        """One generation: n_r samples of N(0, I) and n_s of N(μ, λΣ), pooled, and fitted by their moments."""
        n_r, n_s, bias = sizes
        n = n_r + n_s
        if self.diagonal:
            root = jnp.sqrt(bias * fit.covariance)
            through = lambda a: root * a
        else:
            jitter = _JITTER * jnp.trace(fit.covariance) / self.dimension
            root = jnp.sqrt(bias) * jax.lax.linalg.cholesky(
                fit.covariance + jitter * jnp.eye(self.dimension), symmetrize_input=False
            )
            through = lambda a: root @ a
        mean_r = real.mean / jnp.sqrt(n_r)
        mean_s = fit.mean + through(synthetic.mean) / jnp.sqrt(jnp.maximum(n_s, 1))
        between = jnp.sqrt(n_r * n_s / n) * (mean_r - mean_s)
        roots = (self.scatter_root(real, n_r), through(self.scatter_root(synthetic, n_s)))
        if self.diagonal:
            scatter = roots[0] ** 2 + roots[1] ** 2 + between**2
        else:
            scatter = _gram(jnp.concatenate([*roots, between[:, None]], axis=1))
        return Fit((n_r * mean_r + n_s * mean_s) / n, scatter / (n - self.ddof))

    def distance(self, fit: Fit) -> jax.Array:
        """Of the fit to N(0, I)."""
        squared = jnp.sum(fit.mean**2)
        if self.metric == "mean":
            return squared
        variances = fit.covariance if self.diagonal else jnp.linalg.eigvalsh(fit.covariance)
        return squared + jnp.sum((jnp.sqrt(jnp.maximum(variances, 0)) - 1) ** 2)

    def generation(self, seeds: jax.Array, sizes: Sizes, t: jax.Array, fits: Fit) -> Fit:
        """`step` for every seed and cell; the cells of a seed share their draws."""

        def of_seed(seed, fits):
            real, synthetic = self.noise(seed, t, Role.DATA), self.noise(seed, t, Role.SAMPLE)
            return jax.vmap(functools.partial(self.step, real, synthetic))(sizes, fits)

        return jax.vmap(of_seed)(seeds, fits)

    def distances(self, fits: Fit) -> jax.Array:
        """`[seed, cell]`."""
        return jax.vmap(jax.vmap(self.distance))(fits)


def _gram(root: jax.Array) -> jax.Array:
    return root @ root.T


def chi_square(dof: jax.Array, noise: Noise) -> jax.Array:
    """Chi-square draws `[d]` of the whole `dof [d]`, 0 where that is not positive (Marsaglia and Tsang 2000).

    The first of `attempt` proposals that passes; the last one untested, see `_UNLIKELY`. No loop depends on the data,
    so the draws map over cells, and close degrees of freedom give close draws.
    """
    boosted = dof < 2
    shape = jnp.maximum(jnp.where(boosted, dof / 2 + 1, dof / 2), 1)
    scale = shape - 1 / 3
    v = (1 + noise.proposal / jnp.sqrt(9 * scale)) ** 3
    log_v = jnp.log(jnp.where(v > 0, v, 1))
    passes = (v > 0) & (noise.log_uniform < noise.proposal**2 / 2 + scale * (1 - v + log_v))
    drawn = jnp.maximum(v[-1], 0)
    for i in reversed(range(v.shape[0] - 1)):
        drawn = jnp.where(passes[i], v[i], drawn)
    # of shape 1/2: Gamma(1/2) = Gamma(3/2) U²
    return jnp.where(dof > 0, 2 * scale * drawn * jnp.where(boosted, noise.boost**2, 1), 0)


def attempts(least_dof: int) -> int:
    """Proposals after which all have failed with a chance below `_UNLIKELY`; each fails with less than 0.05 / shape."""
    return math.ceil(math.log(_UNLIKELY) / math.log(0.05 / max(least_dof / 2, 1)))


def fixed_point(sizes: Sizes, ddof: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Where a loop converges to in expectation, per dimension (PROTOCOL, section 7).

    Returns:
      V, the variance of the mean, and S, the expected variance; each of the shape of `sizes`.
    """
    n_r, n_s, bias = (np.asarray(x, np.float64) for x in sizes)
    n, m, per = n_r + n_s, np.maximum(n_s - 1, 0), 1 / np.maximum(n_s, 1)
    a, b = n_s / n, n_r * n_s / n
    # V (1 - a²) = (1-a)²/n_r + a² λS/n_s, put into (N - ddof) S = (n_r - 1) + (n_s - 1) λS + b (1/n_r + V + λS/n_s)
    v_0, v_s = (1 - a) ** 2 / n_r / (1 - a**2), a**2 * bias * per / (1 - a**2)
    s = (n_r - 1 + b * (1 / n_r + v_0)) / (n - ddof - m * bias - b * (v_s + bias * per))
    return v_0 + v_s * s, s


def loops_of(config: dict[str, Any], cells: Sequence[Cell]) -> Loops:
    """The functions for the cells of a resolved config."""
    diagonal, d = config["covariance"] == "diagonal", config["data"]["dimension"]
    parts = [n - 1 for cell in cells for n in (cell.n_real, cell.n_synthetic) if n > 1]
    least = min(parts) if diagonal else min(parts) - d + 1
    return Loops(d, config["model"]["ddof"], diagonal, config["metric"], attempts(least))


class Schedule(NamedTuple):
    """Generations before the first that is measured, and from one to the next."""

    burn: int
    stride: int

    def generations(self, measured: int) -> int:
        return self.burn + self.stride * measured


def schedule(cell: Cell, forget: float) -> Schedule:
    """By the cell's memory, -1/ln a generations; half a memory lies between two that are measured."""
    burn = burn_in(cell, forget)
    return Schedule(burn, max(1, round(burn / (2 * math.log(1 / forget)))))


def _shapes(loops: Loops, seeds: int, cells: int) -> tuple:
    """What `Loops.generation` takes, as shapes."""
    shape = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
    sizes = Sizes(*[np.ones(cells)] * 3)
    arguments = (np.zeros(seeds, np.uint32), sizes, np.zeros((), np.int64), loops.start(seeds, sizes))
    return jax.tree.map(shape, arguments)


@functools.lru_cache(maxsize=8)
def _compiled(loops: Loops, seeds: int, cells: int) -> tuple[Callable, Callable]:
    """`generation` and `distances` for one call."""
    with jax.enable_x64(True):
        shapes = _shapes(loops, seeds, cells)
        generation = jax.jit(loops.generation, donate_argnums=3).lower(*shapes).compile()
        return generation, jax.jit(loops.distances).lower(shapes[-1]).compile()


@dataclasses.dataclass(frozen=True)
class Simulation:
    """A map as calls of one compiled program, each on as many cells of one schedule.

    Attributes:
      loops: the functions.
      cells: of the map, in the order of the results.
      seeds: of the runs.
      measured: generations measured in each loop.
      forget: see `burn_in`.
      at_least: cells per call, where memory allows; maps that agree in it share their programs.
    """

    loops: Loops
    cells: Sequence[Cell]
    seeds: Sequence[int]
    measured: int
    forget: float
    at_least: int = 0

    @property
    def chunk(self) -> int:
        """Cells per call."""
        d, rows = self.loops.dimension, self.loops.attempts if self.loops.diagonal else self.loops.dimension
        per_cell = len(self.seeds) * _MATRICES * 8 * d * rows
        return max(1, min(_CHUNK_BYTES // per_cell, _CHUNK_CELLS, max(len(self.cells), self.at_least)))

    @functools.cached_property
    def calls(self) -> list[tuple[Schedule, list[int]]]:
        """Which cells, by index, run together; the longest first, so that no thread is left with one at the end."""
        levels: dict[Schedule, list[int]] = {}
        for i, cell in enumerate(self.cells):
            levels.setdefault(schedule(cell, self.forget), []).append(i)
        order = sorted(levels, reverse=True)
        return [(s, levels[s][i : i + self.chunk]) for s in order for i in range(0, len(levels[s]), self.chunk)]

    @property
    def n_loops(self) -> int:
        return len(self.cells) * len(self.seeds)

    @property
    def generations(self) -> int:
        """Of all loops together."""
        return sum(schedule(c, self.forget).generations(self.measured) for c in self.cells) * len(self.seeds)

    def arguments(self, indices: list[int]) -> tuple[np.ndarray, Sizes]:
        """Seeds and sizes of a call; a short one repeats its last cell."""
        chosen = [self.cells[i] for i in indices] + [self.cells[indices[-1]]] * (self.chunk - len(indices))
        columns = zip(*((c.n_real, c.n_synthetic, c.bias) for c in chosen), strict=True)
        return np.asarray(self.seeds, np.uint32), Sizes(*(np.asarray(column, np.float64) for column in columns))

    def call(self, number: int) -> np.ndarray:
        """Distances of the cells of one call, `[cell, seed, measured]`.

        The host steps: within a loop of XLA's own, matrix products fall off its fast path on a CPU (ten times slower).
        """
        generation, distances = _compiled(self.loops, len(self.seeds), self.chunk)
        when, indices = self.calls[number]
        found = []
        with jax.enable_x64(True):  # the setting is a thread's own
            seeds, sizes = self.arguments(indices)
            fits = jax.tree.map(jnp.array, self.loops.start(len(self.seeds), sizes))
            for t in range(1, when.generations(self.measured) + 1):
                fits = generation(seeds, sizes, np.int64(t), fits)
                if t > when.burn and (t - when.burn) % when.stride == 0:
                    found.append(np.asarray(distances(fits)))
        return np.stack(found, axis=-1).swapaxes(0, 1)[: len(indices)]

    def flops(self) -> float:
        """Of matrix products, by count, for all loops; factorizations and eigenvalues are left out."""
        with jax.enable_x64(True):
            shapes = _shapes(self.loops, 1, 1)
            return cost.estimate(self.loops.generation, *shapes).flops * self.generations

    def run(self, advance: Callable[[float], None] = lambda share: None) -> np.ndarray:
        """Distances, float64 `[cell, seed, measured]`.

        Args:
          advance: told the share of the work that is done.
        """
        _compiled(self.loops, len(self.seeds), self.chunk)  # once, and not in each thread
        out = np.empty((len(self.cells), len(self.seeds), self.measured))
        work = [len(indices) * when.generations(self.measured) for when, indices in self.calls]
        done = 0
        # LAPACK's batches run on one core: so a call on each. Its own threads only get in the way of matrices so small.
        threads = os.cpu_count() if jax.default_backend() == "cpu" else 1
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            each = pool.map(self.call, range(len(self.calls)))
            for number, found in enumerate(each):
                out[self.calls[number][1]] = found
                done += work[number]
                advance(done / sum(work))
        return out
