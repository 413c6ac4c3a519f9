"""What resampling does to arrays: the filters of phases, signals extended at their ends, and outputs put together."""

from __future__ import annotations

from collections.abc import Sequence

from .._plan.polyphase import Extension, Phases, Polyphase
from .elements import flipped, reshaped
from .libraries import Array, Namespace, device
from .windows import pad


def phase_filters(xp: Namespace, h: Array, plan: Polyphase, phases: Phases) -> Array:
    """The filters of some phases: h (taps,) -> (phases, 1, offsets)."""
    h = h[:: plan.common]
    first, last = (phases.numbers[0] * plan.down - at * plan.up for at in (phases.offsets[-1], phases.offsets[0]))
    if len(phases.numbers) == 1 and 0 <= first <= last < h.shape[0]:  # every up-th tap, the last one first
        return flipped(xp, h[first : last + 1 : plan.up], 0)[None, None, :]
    rows, columns = (xp.arange(some.start, some.stop, device=device(h)) for some in (phases.numbers, phases.offsets))
    places = rows[:, None] * plan.down - columns[None, :] * plan.up
    inside = (places >= 0) & (places < h.shape[0])
    flat = xp.reshape(xp.where(inside, places, xp.zeros_like(places)), (-1,))
    filters = xp.reshape(xp.take(h, flat, axis=0), places.shape)
    return xp.where(inside, filters, xp.zeros_like(filters))[:, None, :]


def interleaved(xp: Namespace, parts: Sequence[Array], outputs: int) -> Array:
    """The outputs of all phases, in order: some (N, phases, positions) -> (N, outputs)."""
    y = parts[0] if len(parts) == 1 else xp.concat(parts, axis=1)
    return reshaped(xp, xp.matrix_transpose(y), (y.shape[0], y.shape[1] * y.shape[2]))[:, :outputs]


def extended(xp: Namespace, x: Array, extension: Extension, value: complex) -> Array:
    """The last axis continued at both ends."""
    size, (lo, hi) = x.shape[-1], extension.widths
    whole = pad(xp, x, ((lo, hi),), extension.mode, value)
    if not extension.sides:
        return whole
    low, high = (
        whole[..., part] * _numbers(xp, x, side.signs)
        + sum([x[..., at : at + 1] * _numbers(xp, x, factors) for at, factors in side.terms])
        for part, side in zip((slice(lo), slice(lo + size, None)), extension.sides, strict=True)
    )
    return xp.concat([low, x, high], axis=-1)


def _numbers(xp: Namespace, like: Array, values: Sequence[float]) -> Array:
    return xp.asarray(values, dtype=like.dtype, device=device(like))
