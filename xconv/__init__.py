"""Convolution with exact gradients, written once against the Array API: NumPy, CuPy, JAX, PyTorch."""

from . import layers, ndimage, signal, testing
from ._choose import choose_method, plan
from ._conv import conv, conv_backward, conv_input_grad, conv_transpose, conv_transpose_backward, conv_weight_grad
from ._halo import halo
from ._im2col import col2im, im2col
from ._operator import linear_operator
from ._plan.arguments import conv_output_shape
from ._pool import avg_pool, avg_pool_grad, max_pool, max_pool_grad, max_unpool
from .layers import Convolution, Pooling

__version__ = "0.2.0"

__all__ = [
    "Convolution",
    "Pooling",
    "avg_pool",
    "avg_pool_grad",
    "choose_method",
    "col2im",
    "conv",
    "conv_backward",
    "conv_input_grad",
    "conv_output_shape",
    "conv_transpose",
    "conv_transpose_backward",
    "conv_weight_grad",
    "halo",
    "im2col",
    "layers",
    "linear_operator",
    "max_pool",
    "max_pool_grad",
    "max_unpool",
    "ndimage",
    "plan",
    "signal",
    "testing",
]


def __dir__() -> list[str]:
    return __all__
