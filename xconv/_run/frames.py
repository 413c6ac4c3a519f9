"""Gradients by an input that has borders, carried out: each element of a border gives its own to what it repeats."""

from __future__ import annotations

from .._arrays.elements import add_at, empty, flipped, put_at, resized, zeros
from .._arrays.layout import Access, Layout, biased
from .._arrays.libraries import Array, DType, Namespace, traits
from .._arrays.operands import item_size
from .._arrays.windows import at_axis
from .._plan.borders import Run
from .._plan.frames import Frame, Line, fitting
from .._plan.geometry import ConvGeometry, is_symbol
from .._plan.task import Task
from .runners import Runner, runner_of

KEPT = 2  # products of pieces, all samples and what is left of them: each has blocks of its own, a kilobyte each


def inside(runner: Runner) -> Runner:
    """What carries the products out, of one with a frame as of any."""
    return runner.runner if isinstance(runner, Framed) else runner


def frame_of(xp: Namespace, direction: str, geometry: ConvGeometry, working: DType, dtype: DType, room: int) -> Frame:
    """What a direction that gives this dtype, by sums of another, has of a frame: none, but for the gradient by one."""
    is_framed, compiled = (
        direction == "backward_data" and geometry.is_framed,
        traits(xp).traced or is_symbol(geometry.batch),
    )
    return Frame(geometry, item_size(xp, working), room, bool(working != dtype), compiled, is_framed)


class Framed:
    """The gradient, of dy (N, K, *o) and w (K, C, *k) with a bias (C,), as `Runner`: an array of its own."""

    def __init__(self, layout: Layout, task: Task, method: str, room: int) -> None:
        access, geometry = layout.access, layout.geometry
        self.layout, self.task, self.method = layout, task, method
        self.frame = frame_of(access.xp, "backward_data", geometry, access.dtype, access.result, room)
        self.access: Access = access.of("backward_data", geometry)
        self.known: dict[Task, Runner] = {}
        # Errors are due now.
        self.runner = fitting(
            self.frame, lambda frame: runner_of(self.access, frame.of_piece(task), method, frame.room_beside)
        )

    def __call__(self, dy: Array, w: Array, b: Array | None = None) -> Array:
        if self.frame.is_whole:
            return self.layout.leave_frame(self.runner(dy, w), b)
        xp, access, sizes = self.access.xp, self.layout.access, self.layout.geometry.windows.input_size
        shape = dy.shape[0], self.layout.geometry.channels, *sizes
        dx = (empty if access.rounds else zeros)(xp, dy, shape, w, b, dtype=access.result)
        for box in self.frame.boxes(dy.shape[0]):
            index = (slice(*box[0]), slice(None), *(slice(*span) for span in box[1:]))
            if access.rounds:
                total = zeros(xp, dy, dx[index].shape, w, dtype=access.dtype)
                dx = put_at(dx, index, access.leave(biased(access, self._added(total, dy[index[0], ...], w, box), b)))
            else:
                dx = biased(access, self._added(dx, dy, w, box), b)
        return dx

    def _added(self, total: Array, dy: Array, w: Array, box: tuple[tuple[int, int], ...]) -> Array:
        """A box of the result with what all pieces of the frame give to it."""
        xp, step = self.access.xp, self.frame.piece[0]
        for piece in self.frame.pieces(box[1:]):
            for first in range(0, dy.shape[0], step):
                some = slice(first, min(first + step, dy.shape[0]))
                task = self.task._replace(windows=piece.windows, batch=some.stop - some.start)
                part = self._of(task)(dy[(some, slice(None), *piece.outputs)], w)
                for axis, line in enumerate(piece.lines, 2):
                    part = _folded(xp, part, axis, line)
                total = add_at(xp, total, (some, slice(None), *(line.target for line in piece.lines)), part)
        return total

    def _of(self, task: Task) -> Runner:
        found = self.known.get(task)  # of calls on several threads one may give up what another has just made
        if found is None:
            found = fitting(self.frame, lambda frame: runner_of(self.access, task, self.method, frame.room_beside))
            if len(self.known) >= KEPT:
                self.known.clear()
            self.known[task] = found
        return found


def _folded(xp: Namespace, part: Array, axis: int, line: Line) -> Array:
    """What elements along an axis give to those of the result that they are, or repeat."""
    shares = [_share(xp, part, axis, place, run) for place, run in line.runs]
    if len(shares) == 1:
        return shares[0][1]
    total = zeros(xp, part, resized(part, axis, line.target.stop - line.target.start))
    for target, share in shares:
        total = add_at(xp, total, at_axis(axis, target), share)
    return total


def _share(xp: Namespace, part: Array, axis: int, place: int, run: Run) -> tuple[slice, Array]:
    share = part[at_axis(axis, slice(place, place + run.length))]
    if run.step == 0:
        return slice(run.first, run.first + 1), xp.sum(share, axis=axis, keepdims=True, dtype=share.dtype)
    if run.step < 0:
        return slice(run.first - run.length + 1, run.first + 1), flipped(xp, share, axis)
    return slice(run.first, run.first + run.length), share
