"""How arrays of JAX come in: under axes of a mesh that are Explicit, by which JAX wants to be told every sharding, and
inside `jax.shard_map`, where what is the same on all devices meets what is not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from .entrances import PUBLIC
from .libraries import Array

# The first of the results that have no batch.
WEIGHTS = {"conv_weight_grad": 0, "conv_backward": 1, "conv_transpose_backward": 1}


def _inside(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        leaves, tree = jax.tree.flatten((arguments, keywords))
        arrays = {place: leaf for place, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}
        varying = frozenset().union(*map(_varying, arrays.values()))
        explicit = any(map(_is_explicit, arrays.values()))
        if not (varying or explicit):
            return function(*arguments, **keywords)

        def run(*operands: Array) -> Any:
            found = dict(zip(arrays, operands, strict=True))
            places, names = jax.tree.unflatten(tree, [found.get(place, leaf) for place, leaf in enumerate(leaves)])
            return function(*places, **names)

        operands = [*arrays.values()]
        if varying:
            operands = [jax.lax.pcast(one, tuple(varying - _varying(one)), to="varying") for one in operands]
        return _by_compiler(run, operands, WEIGHTS.get(function.__name__)) if explicit else run(*operands)

    return call


def _varying(array: Array) -> frozenset[str]:
    """The axes of a mesh along which devices have values of their own, inside `jax.shard_map`.

    Where one operand has such and another has not, the gradients of the other are added up over devices: as they are,
    once it varies too, and not as what a method makes of them on the way.
    """
    if not hasattr(jax.lax, "pcast"):  # which makes them vary
        return frozenset()
    kind = jax.typeof(array)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else getattr(kind, "vma", frozenset())


def _is_explicit(array: Array) -> bool:
    """Whether its sharding is part of its type, as of no array before there was ``jax.typeof``."""
    return hasattr(jax, "typeof") and jax.sharding.AxisType.Explicit in jax.typeof(array).sharding.mesh.axis_types


def _by_compiler(function: Callable[..., Any], operands: Sequence[Array], weights: int | None) -> Any:
    """The function with shardings inside that the compiler chooses, and each result divided as the first operand is.

    An axis that cannot be divided so is not; nor are weights.
    """
    like = next(jax.typeof(operand).sharding for operand in operands if _is_explicit(operand))
    shapes = jax.eval_shape(function, *(jax.ShapeDtypeStruct(operand.shape, operand.dtype) for operand in operands))
    results, tree = jax.tree.flatten(shapes)
    kept = len(results) if weights is None else weights
    specs = [_spec(result.shape, like) if at < kept else () for at, result in enumerate(results)]
    shardings = [jax.sharding.NamedSharding(like.mesh, jax.sharding.PartitionSpec(*spec)) for spec in specs]

    def run(*arrays: Array) -> Any:  # without the barrier XLA fails at transforms whose result is brought together
        return jax.lax.optimization_barrier(function(*arrays))

    kinds = dict(zip(like.mesh.axis_names, like.mesh.axis_types, strict=True))
    explicit = tuple(name for name, kind in kinds.items() if kind is jax.sharding.AxisType.Explicit)
    return jax.sharding.auto_axes(run, axes=explicit, out_sharding=jax.tree.unflatten(tree, shardings))(*operands)


def _spec(shape: tuple[int, ...], like: Any) -> list[Any]:
    spec = []
    for size, axes in zip(shape, like.spec, strict=False):
        names = axes if isinstance(axes, tuple) else (axes,)
        parts = math.prod([like.mesh.shape[name] for name in names if name is not None])
        spec.append(axes if size % parts == 0 else None)
    return spec


INSIDE = {name: _inside(function) for name, function in PUBLIC.items()}
