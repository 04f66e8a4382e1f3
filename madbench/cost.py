"""What a program costs, read off its jaxpr before anything is compiled: matrix-product FLOPs and peak bytes.

FLOPs count the matrix products alone (2·m·n·k each, scan bodies times their length), the convention of model FLOPs
utilization (Chowdhery et al. 2022, appendix B). Bytes are the peak of live arrays in program order; XLA's fusion and
in-place updates make the true peak smaller, so a plan made with them is on the safe side.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend import core as jex


class Cost(NamedTuple):
    """Of one call.

    Attributes:
      flops: of its matrix products.
      peak_bytes: of arrays alive at the same time, arguments and results included.
      convolves: whether any of its products is a convolution.
    """

    flops: int
    peak_bytes: int
    convolves: bool = False


def estimate(function: Callable, *args: Any) -> Cost:
    """Traces `function` on arguments that may be `jax.ShapeDtypeStruct`; loops of unknown length count once."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    around = sum(_bytes(v.aval) for v in (*jaxpr.invars, *jaxpr.constvars, *jaxpr.outvars))
    return Cost(_flops(jaxpr), max(_peak(jaxpr), around), _convolves(jaxpr))


def constants(function: Callable, *args: Any) -> int:
    """Numbers in the arrays that `function` closes over: what it holds beside its arguments."""
    return _constants(jax.make_jaxpr(function)(*args))


def _constants(closed) -> int:
    inner = [each for equation in closed.jaxpr.eqns for each in _closed(equation)]
    return sum(math.prod(getattr(c, "shape", ())) for c in closed.consts) + sum(map(_constants, inner))


def _closed(equation) -> list:
    """The jaxprs inside an equation that have constants of their own."""
    values = [v for value in equation.params.values() for v in (value if isinstance(value, (tuple, list)) else [value])]
    return [value for value in values if isinstance(value, jex.ClosedJaxpr)]


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays (or shapes) in `tree`."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def _bytes(array: Any) -> int:
    shape, dtype = getattr(array, "shape", ()), getattr(array, "dtype", None)
    return math.prod(shape) * getattr(dtype, "itemsize", 4)


def _inner(equation) -> list:
    """The jaxprs inside an equation: of scan, cond, jit, custom derivatives, rematerialization."""
    found = []
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, jex.ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, jex.Jaxpr):
                found.append(item)
    return found


def _flops(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[i] for i in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * depth
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_feature = equation.params["dimension_numbers"].rhs_spec[0]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[out_feature]
        else:
            inner = [_flops(j) for j in _inner(equation)]
            if name == "cond":
                total += max(inner, default=0)
            else:
                total += sum(inner) * (equation.params["length"] if name == "scan" else 1)
    return total


def _convolves(jaxpr) -> bool:
    of_its_own = any(e.primitive.name == "conv_general_dilated" for e in jaxpr.eqns)
    return of_its_own or any(_convolves(j) for e in jaxpr.eqns for j in _inner(e))


def _peak(jaxpr) -> int:
    """Arguments live to the end: their caller holds them. A scan's stacked results exist whole while its body runs."""
    arguments = {*jaxpr.invars, *jaxpr.constvars}
    last_use = {}
    for index, equation in enumerate(jaxpr.eqns):
        for variable in equation.invars:
            if not isinstance(variable, jex.Literal):
                last_use[variable] = index
    for variable in jaxpr.outvars:
        if not isinstance(variable, jex.Literal):
            last_use[variable] = len(jaxpr.eqns)

    alive = sum(_bytes(v.aval) for v in arguments)
    peak = alive
    for index, equation in enumerate(jaxpr.eqns):
        inputs = {v for v in equation.invars if not isinstance(v, jex.Literal)} - arguments
        outputs = sum(_bytes(v.aval) for v in equation.outvars)
        inside = max((_peak(j) - sum(_bytes(v.aval) for v in j.invars) for j in _inner(equation)), default=0)
        peak = max(peak, alive + max(outputs, inside + _stacked(equation)))
        alive += outputs - sum(_bytes(v.aval) for v in inputs if last_use[v] == index)
        alive -= sum(_bytes(v.aval) for v in equation.outvars if v not in last_use)
    return peak


def _stacked(equation) -> int:
    """Bytes of the results that a scan stacks: those with one axis more than what its body returns."""
    if equation.primitive.name != "scan":
        return 0
    (body,) = _inner(equation)
    pairs = zip(equation.outvars, body.outvars, strict=True)
    return sum(_bytes(whole.aval) for whole, one in pairs if whole.aval.shape != one.aval.shape)
