"""What the parts of an array that is divided over devices have from each other, inside `jax.shard_map`."""

from __future__ import annotations

from typing import Any

from .._plan.arguments import got
from .._plan.borders import sources
from .._plan.geometry import Ints
from .libraries import Array, Namespace


def shard_count(axis_name: Any) -> int:
    """How many parts lie along an axis of a mesh, or several, along which every device computes alone."""
    import jax

    try:
        return int(jax.lax.psum(1, axis_name))
    except (NameError, TypeError) as error:
        raise ValueError(
            "axis_name must be an axis of the mesh, or several, along which a jax.shard_map around the call divides x, "
            f"{got(axis_name)}"
        ) from error


def varying_axes(array: Array) -> frozenset[str]:
    """The axes of a mesh along which devices have values of their own, inside `jax.shard_map`.

    Where one operand has such and another has not, the gradients of the other are added up over devices: as they are,
    once it varies too, and not as what a method makes of them on the way.
    """
    import jax

    if not hasattr(jax.lax, "pcast"):  # which makes them vary
        return frozenset()
    kind = jax.typeof(array)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else getattr(kind, "vma", frozenset())


def varied(array: Array, axes: frozenset[str]) -> Array:
    """An array that varies along these axes, too."""
    import jax

    missing = tuple(axes - varying_axes(array))
    return jax.lax.pcast(array, missing, to="varying") if missing else array


def with_halo(xp: Namespace, x: Array, axis: int, axis_name: Any, widths: Ints, mode: str) -> Array:
    """A part between the elements that lie before it and behind it: those of other parts, and borders at both ends."""
    import jax

    shards, size, before = shard_count(axis_name), x.shape[axis], (slice(None),) * axis

    def received(hop: int, part: slice) -> Array:
        """What the part so many before this one has there, or zeros where there is none."""
        pairs = [(shard, shard + hop) for shard in range(shards)]
        if mode == "circular":
            pairs = [(shard, target % shards) for shard, target in pairs]
        inside = [(shard, target) for shard, target in pairs if 0 <= target < shards]
        return jax.lax.ppermute(x[(*before, part)], axis_name, inside)

    def repeated(first: int, places: range, piece: Array) -> Array:
        """The border on the part that has one there, the piece on the others."""
        border = xp.take(x, xp.asarray(sources(mode, size, places), dtype=int), axis=axis)
        return xp.where(jax.lax.axis_index(axis_name) == first, border, piece)

    low, high = ([min(width - done, size) for done in range(0, width, size)] for width in widths)
    behind = [received(-hop, slice(width)) for hop, width in enumerate(high, start=1)]
    ahead = [received(hop, slice(size - width, size)) for hop, width in enumerate(low, start=1)]
    if mode not in ("zeros", "circular"):
        ahead = [repeated(0, range(-width, 0), piece) for width, piece in zip(low, ahead, strict=True)]
        behind = [
            repeated(shards - 1, range(size, size + width), piece) for width, piece in zip(high, behind, strict=True)
        ]
    return xp.concat([*reversed(ahead), x, *behind], axis=axis)
