"""The backend's own convolution: JAX's `lax.conv_general_dilated`, PyTorch's `conv1d` to `conv3d`, for CuPy cuDNN.

All take real floating-point numbers here; integers are exact and complex gradients conjugated by the portable methods
only. How much memory JAX and PyTorch use is their own affair.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from .._arrays.libraries import Array, DType, Namespace, is_kind, library, on_accelerator, traits
from .._arrays.shards import varied, varying_axes
from .._arrays.windows import pad, unpad
from .._plan.geometry import Ints, Pairs
from .._plan.rates import rates_of
from .._plan.remembered import remembered
from .._plan.task import Task
from .native_cost import eigen_cost, onednn_cost
from .native_fused import are_few, fused_cost, program

ONE_AXIS = 1  # of a mesh, beyond which XLA adds up what devices hold that are not divided along one, in y, dx or dw
AXES = 3  # PyTorch has conv1d, conv2d and conv3d, cuDNN no more, and with more axes XLA ends the process on a GPU


class UnsupportedError(ValueError):
    """Why a library does not do what its convolution was asked for, as found only when it was."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"method 'native' must have a convolution that the library supports: {reason}")
        self.reason = reason


class Native(ABC):
    """One convolution by the library: canonical arrays in and out, as `Runner`."""

    takes_halves = False  # and adds them up in float32
    may_refuse = False  # with an `UnsupportedError`

    def __init__(self, xp: Namespace, task: Task) -> None:
        self.xp = xp
        self.windows = task.windows
        self.groups, self.channels, self.filters = task.groups, task.channels, task.filters

    @abstractmethod
    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        """(N, G*C, *d), (G*K, C, *k), (G*K,) -> (N, G*K, *o)."""

    @abstractmethod
    def backward_data(self, dy: Array, w: Array) -> Array:
        """(N, G*K, *o), (G*K, C, *k) -> (N, G*C, *d)."""

    @abstractmethod
    def backward_filter(self, dy: Array, x: Array) -> Array:
        """(N, G*K, *o), (N, G*C, *d) -> (G*K, C, *k)."""

    @remembered
    def weight_shape(self) -> Ints:
        return (self.groups * self.filters, self.channels, *self.windows.kernel_size)


def is_fused(xp: Namespace, task: Task) -> bool:
    """Whether the library's compiler makes one loop of it."""
    return traits(xp).own == "lax" and are_few(task) and not on_accelerator(xp)


def convolves(xp: Namespace, dtype: DType, axes: int) -> bool:
    """Whether the library has a convolution of such arrays."""
    if not is_kind(xp, dtype, "real floating"):
        return False
    own = traits(xp).own
    return own_missing(xp) == "" and (axes <= AXES or (own == "lax" and not on_accelerator(xp)))


def own_missing(xp: Namespace) -> str:
    """Why a library has no convolution of its own here; nothing if it has."""
    if traits(xp).own == "cudnn":
        from .native_cudnn import missing

        return missing()
    return "" if traits(xp).own else f"{library(xp)} has none"


def own_cost(xp: Namespace, dtype: DType, task: Task) -> float:
    """Nanoseconds of the library's own way."""
    if not convolves(xp, dtype, task.windows.ndim):
        return fused_cost(task)
    if on_accelerator(xp):  # whose rates are not measured, and which is what it is made for
        return 0.0
    cost = {"lax": eigen_cost, "torch": onednn_cost}[traits(xp).own](rates_of(library(xp)), task)
    is_another = is_fused(xp, task) and not (task.reduces and task.groups == 1)  # which is the same convolution
    return min(cost, fused_cost(task)) if is_another else cost


def native(xp: Namespace, dtype: DType, task: Task, room: int, devices: int = 1, mesh_axes: int = 1) -> Native:
    """The library's own convolution in so many bytes, if it can be told, or a ValueError if it has none."""
    if mesh_axes > ONE_AXIS:
        raise ValueError(
            "method 'native' must have arrays on devices along one axis of a mesh, since XLA's own convolution may be "
            f"wrong where they are divided along some of several, got a mesh of {mesh_axes} axes: 'auto' takes another"
        )
    if devices == 1 and is_fused(xp, task) and fused_cost(task) == own_cost(xp, dtype, task):
        return _Fused(xp, task)
    if traits(xp).own and own_missing(xp):
        raise ValueError(f"method 'native' must have cuDNN for arrays of {library(xp)}: {own_missing(xp)}")
    if not convolves(xp, dtype, task.windows.ndim):
        raise ValueError(
            f"method 'native' must have real floating-point arrays of JAX, or of PyTorch or CuPy with at most {AXES} "
            f"spatial axes, as JAX on a GPU, got {xp.__name__}, {dtype} and {task.windows.ndim} spatial axes"
        )
    if traits(xp).own == "cudnn":
        from .native_cudnn import Cudnn

        return Cudnn(xp, task, room)
    convolution = {"lax": _Lax, "torch": _Torch}[traits(xp).own]
    return convolution(xp, task)


class _Lax(Native):
    """JAX, which transposes its convolution by itself."""

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        from jax import lax

        windows, groups = self.windows, self.groups
        y = lax.conv_general_dilated(
            x, w, windows.stride, windows.padding, rhs_dilation=windows.dilation, feature_group_count=groups
        )
        return _biased(y, b)

    def backward_data(self, dy: Array, w: Array) -> Array:
        shape = (dy.shape[0], self.groups * self.channels, *self.windows.input_size)
        return self._transposed(lambda x: self.forward(x, w), shape, dy)

    def backward_filter(self, dy: Array, x: Array) -> Array:
        return self._transposed(lambda w: self.forward(x, w), self.weight_shape, dy)

    def _transposed(self, function: Any, shape: Ints, dy: Array) -> Array:
        """By an operand like dy, which each device has its own of where it has its own dy: else sums are of all."""
        import jax

        axes, operand = varying_axes(dy), jax.ShapeDtypeStruct(shape, dy.dtype)
        if axes:
            operand = varied(jax.numpy.zeros(shape, dy.dtype), axes)
        return jax.linear_transpose(function, operand)(dy)[0]


class _Fused(Native):
    """JAX's arrays, one sum of which its compiler makes one loop."""

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        return _biased(program("forward")(x, w, self.windows, self.groups), b)

    def backward_data(self, dy: Array, w: Array) -> Array:
        return program("backward_data")(dy, w, self.windows, self.groups)

    def backward_filter(self, dy: Array, x: Array) -> Array:
        return program("backward_filter")(dy, x, self.windows, self.groups)


def _biased(y: Array, b: Array | None) -> Array:
    return y if b is None else y + b[(None, slice(None), *(None,) * (y.ndim - 2))]


class _Torch(Native):
    """PyTorch, whose convolutions pad both ends of an axis alike: what one end has more is added before."""

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        words = self.windows.stride, self.common_padding, self.windows.dilation, self.groups
        return getattr(self.torch.nn.functional, f"conv{self.windows.ndim}d")(
            pad(self.xp, x, self.more_padding), w, b, *words
        )

    def backward_data(self, dy: Array, w: Array) -> Array:
        words = self.windows.stride, self.common_padding, self.output_padding, self.groups, self.windows.dilation
        dx = getattr(self.torch.nn.functional, f"conv_transpose{self.windows.ndim}d")(dy, w, None, *words)
        return unpad(self.xp, dx, self.more_padding)

    def backward_filter(self, dy: Array, x: Array) -> Array:
        windows, w = self.windows, dy.new_empty(self.weight_shape)  # of which only the shape is read
        words = windows.stride, self.common_padding, windows.dilation, False, [0] * windows.ndim, self.groups
        x, which = pad(self.xp, x, self.more_padding), [False, True, False]
        return self.torch.ops.aten.convolution_backward(dy, x, w, None, *words, which)[1]

    @remembered
    def torch(self) -> Any:
        import torch

        return torch

    @remembered
    def common_padding(self) -> Ints:
        return tuple(map(min, self.windows.padding))

    @remembered
    def more_padding(self) -> Pairs:
        return tuple((lo - min(lo, hi), hi - min(lo, hi)) for lo, hi in self.windows.padding)

    @remembered
    def output_padding(self) -> Ints:
        """How many elements of x behind the last window the transposed convolution adds."""
        return tuple((axis.d + axis.lo + axis.hi - axis.r) % axis.s for axis in self.windows.axes)
