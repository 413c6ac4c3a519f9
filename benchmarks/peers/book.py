"""The textbook's convolution as a peer."""

from __future__ import annotations

import functools

from xconv.demo.backends import LoadedBackend

from .. import textbook
from .peer import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Call, Peer, Problem

MATRIX_LIMIT = 2 << 30


class Textbook:
    """The whole matrix of windows at once, unless that needs too much memory."""

    name = "textbook"
    packages = ()
    refusals = ()
    expendable = False

    def operations(self, problem: Problem) -> dict[str, Call | str]:
        layer, x, w, dy = problem.layer, problem.x, problem.w, problem.dy
        size = textbook.matrix_bytes(layer)
        if size > MATRIX_LIMIT:
            reason = f"its matrix would have {size / 2**30:.1f} GiB, above {MATRIX_LIMIT / 2**30:.0f} GiB"
            return {FORWARD: reason, INPUT_GRAD: reason, WEIGHT_GRAD: reason}
        # The book's layer keeps the matrix from its forward, so dw does not pay for it again. It is made once, at the
        # first call, which is not timed: a refused layer makes none, and forward and dx do not hold two.
        matrix = functools.cache(lambda: textbook.im2col(x, layer))
        return {
            FORWARD: lambda: textbook.forward(x, w, layer),
            INPUT_GRAD: lambda: textbook.input_grad(dy, w, layer),
            WEIGHT_GRAD: lambda: textbook.weight_grad(dy, matrix(), layer),
        }


def load(backend: LoadedBackend) -> list[Peer]:
    """The peer; it needs NumPy only."""
    return [Textbook()]
