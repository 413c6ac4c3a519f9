"""How arrays of JAX come in: a call is one program, compiled for its operands, as those of JAX's own functions are.
Plans of convolutions see on which devices arrays are, and compile what comes behind (`Scheduled`).

Under axes of a mesh that are Explicit JAX wants to be told every sharding, and inside `jax.shard_map` what is the same
on all devices meets what is not.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any

import jax
import numpy as np

from .._plan.remembered import KEPT, forgotten
from .entrances import IN_PROGRAM, PUBLIC
from .libraries import Array
from .shards import varied, varying_axes

PLANNED = "xconv._conv.", "xconv.signal."  # functions that see where arrays are, which those of a program do not say
OPERANDS = frozenset({"x", "y", "dy", "col", "indices", "input", "weights"})  # others decide on the program, too
NUMBERS = frozenset({"cval", "pad_value", "weights"})  # of which integers are no sizes
MOST = 4096  # elements of an array of NumPy's beside them that programs are compared by
# The first of the results that have no batch.
WEIGHTS = {"conv_weight_grad": 0, "conv_backward": 1, "conv_transpose_backward": 1}


class _Words:
    """What decides on a program beside its operands; equal where it is the same one, as 1, 1.0 and True are not."""

    def __init__(self, function: Callable[..., Any], values: Mapping[str, Any]) -> None:
        self.function = function
        self.values = values
        self.key = (function, *((name, _exact(value)) for name, value in values.items()))
        self.hash = hash(self.key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Words) and self.key == other.key


def _exact(value: Any) -> Any:
    """What is equal of equal values alone; a TypeError where there is none, as of functions, others each time."""
    if value is None or isinstance(value, (str, type, np.dtype)):
        return value
    if type(value) in (int, bool):
        return type(value), value
    if type(value) in (float, complex):
        return type(value), repr(value)  # of which 0.0 and -0.0 are equal, but not these words
    if type(value) in (list, tuple):
        return type(value), *map(_exact, value)
    is_memory = type(value) is np.ndarray or isinstance(value, np.generic)
    if is_memory and value.size <= MOST and not value.dtype.hasobject:
        return type(value), value.dtype, value.shape, value.tobytes()
    raise TypeError(f"a {type(value).__name__} may be another each time")


def _is_one_of_many(name: str, value: Any) -> bool:
    """Whether the next call may well have another, as of sigma: few have another size, axis or border."""
    if isinstance(value, (list, tuple)):
        return any(_is_one_of_many(name, part) for part in value)
    is_number = isinstance(value, Integral) and (name not in NUMBERS or value == 0)
    return not (is_number or value is None or isinstance(value, (str, type, np.dtype)))


@functools.lru_cache(maxsize=KEPT)
def _counted(words: _Words) -> Iterator[int]:
    """How many calls of these there were before, counted on each time that it is asked."""
    return itertools.count()


def _words(function: Callable[..., Any], values: Mapping[str, Any]) -> _Words | None:
    """Those of a program that is worth its compilation, which takes as long as dozens of calls."""
    try:
        words = _Words(function, values)
    except TypeError:
        return None
    is_one_of_many = any(_is_one_of_many(name, value) for name, value in values.items())
    return None if is_one_of_many and next(_counted(words)) == 0 else words


def _inside(key: str, function: Callable[..., Any]) -> Callable[..., Any]:
    names, is_planned = function.__code__.co_varnames[: function.__code__.co_argcount], key.startswith(PLANNED)

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        given = {**dict(zip(names, arguments, strict=False)), **keywords}
        if len(given) < len(arguments) + len(keywords):  # too many, or one of them twice: Python says so
            return function(*arguments, **keywords)
        arrays = {name: one for name, one in given.items() if isinstance(one, jax.Array)}
        rest = {name: one for name, one in given.items() if name not in arrays}
        varying = frozenset().union(*map(varying_axes, arrays.values()))
        if varying:
            arrays = {name: varied(one, varying) for name, one in arrays.items()}
        if any(map(_is_explicit, arrays.values())):
            return _by_compiler(functools.partial(function, **rest), arrays, WEIGHTS.get(function.__name__))
        words = None if is_planned or arrays.keys() - OPERANDS else _words(function, rest)
        if words is not None:
            # To errors JAX adds words of its own, and what warns is no program: the function says either, each time.
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                return _program(words, arrays)
        return function(**arrays, **rest)

    return call


@functools.partial(jax.jit, static_argnums=0)
def _program(words: _Words, arrays: dict[str, Array]) -> Any:
    token = IN_PROGRAM.set(True)
    try:
        return words.function(**arrays, **words.values)
    finally:
        IN_PROGRAM.reset(token)


forgotten(_program.clear_cache)
forgotten(_counted.cache_clear)


def _is_explicit(array: Array) -> bool:
    """Whether its sharding is part of its type, as of no array before there was ``jax.typeof``."""
    return hasattr(jax, "typeof") and jax.sharding.AxisType.Explicit in jax.typeof(array).sharding.mesh.axis_types


def _by_compiler(function: Callable[..., Any], operands: Mapping[str, Array], weights: int | None) -> Any:
    """The function with shardings inside that the compiler chooses, and each result divided as the first operand is.

    An axis that cannot be divided so is not; nor are weights.
    """
    like = next(jax.typeof(operand).sharding for operand in operands.values() if _is_explicit(operand))
    named = {name: jax.ShapeDtypeStruct(operand.shape, operand.dtype) for name, operand in operands.items()}
    results, tree = jax.tree.flatten(jax.eval_shape(function, **named))
    kept = len(results) if weights is None else weights
    specs = [_spec(result.shape, like) if at < kept else () for at, result in enumerate(results)]
    shardings = [jax.sharding.NamedSharding(like.mesh, jax.sharding.PartitionSpec(*spec)) for spec in specs]

    def run(arrays: dict[str, Array]) -> Any:  # without the barrier XLA fails at transforms of what is brought together
        return jax.lax.optimization_barrier(function(**arrays))

    kinds = dict(zip(like.mesh.axis_names, like.mesh.axis_types, strict=True))
    explicit = tuple(name for name, kind in kinds.items() if kind is jax.sharding.AxisType.Explicit)
    return jax.sharding.auto_axes(run, axes=explicit, out_sharding=jax.tree.unflatten(tree, shardings))(operands)


def _spec(shape: tuple[int, ...], like: Any) -> list[Any]:
    spec = []
    for size, axes in zip(shape, like.spec, strict=False):
        names = axes if isinstance(axes, tuple) else (axes,)
        parts = math.prod([like.mesh.shape[name] for name in names if name is not None])
        spec.append(axes if size % parts == 0 else None)
    return spec


INSIDE = {name: _inside(name, function) for name, function in PUBLIC.items()}
