"""``jax.lax.conv_general_dilated`` and its gradients, each under ``jax.jit``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from xconv.demo.backends import LoadedBackend

from ..suites import Ints
from .peer import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Call, Peer, Problem


class Lax:
    """JAX's own convolution."""

    name = "lax"
    packages = ("jax", "jaxlib")
    refusals = ()

    def operations(self, problem: Problem) -> dict[str, Call | str]:
        layer, x, w, dy = problem.layer, problem.x, problem.w, problem.dy
        forward, input_grad, weight_grad = _functions(layer.stride, layer.padding, layer.dilation, layer.groups)
        return {
            FORWARD: lambda: forward(x, w),
            INPUT_GRAD: lambda: input_grad(dy, x, w),
            WEIGHT_GRAD: lambda: weight_grad(dy, x, w),
        }


def load(backend: LoadedBackend) -> list[Peer]:
    """The peer; its library is the backend."""
    return [Lax()]


@functools.cache
def _functions(stride: Ints, padding: Ints, dilation: Ints, groups: int) -> tuple[Callable[..., Any], ...]:
    import jax

    def convolve(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, w, stride, [(p, p) for p in padding], rhs_dilation=dilation, feature_group_count=groups
        )

    def input_grad(dy: Any, x: Any, w: Any) -> Any:
        return jax.vjp(lambda x: convolve(x, w), x)[1](dy)[0]

    def weight_grad(dy: Any, x: Any, w: Any) -> Any:
        return jax.vjp(lambda w: convolve(x, w), w)[1](dy)[0]

    return jax.jit(convolve), jax.jit(input_grad), jax.jit(weight_grad)
