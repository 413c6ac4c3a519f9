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


def picked(xp: Namespace, h: Array, x: Array, plan: Polyphase) -> Array:
    """All outputs number by number, on NumPy: (N, 1, size) -> (N, outputs).

    With p*D = q*P + r, phase p has the taps h[r + j*P] of x[q - j], and each of its outputs D elements further on.
    """
    phases, terms = min(plan.up, plan.outputs), xp.arange(plan.terms)[:, None]
    places = xp.arange(phases)[None, :] * plan.down
    taps, reads = places % plan.up + terms * plan.up, places // plan.up + (plan.terms - 1) - terms
    count, width, before = -(-plan.outputs // phases), int(reads.max()) + 1, plan.terms - 1 - plan.extension[0]
    behind = max((count - 1) * plan.down + width - before - x.shape[-1], 0)
    x, h = pad(xp, x[:, 0, :], ((before, behind),)), h[:: plan.common]
    h = pad(xp, h, ((0, plan.terms * plan.up - h.shape[0]),))
    windows = xp.lib.stride_tricks.sliding_window_view(x, width, axis=1)[:, :: plan.down][:, :count]
    return reshaped(xp, xp.sum(windows[:, :, reads] * h[taps], axis=2), (x.shape[0], -1))[:, : plan.outputs]


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
