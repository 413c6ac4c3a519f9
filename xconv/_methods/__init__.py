"""The methods: what one is, which there are, and which of them "auto" takes.

A method is three linear maps and their adjoints around one batched matrix product:

    y  = Out( Wt(w) @ In(x) )
    dx = In*( Wt(w)^H @ Out*(dy) )
    dw = Wt*( Out*(dy) @ In(x)^H )

A new method is one module with these six functions and one entry in ``METHODS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from .._arrays.libraries import Array, DType, Namespace, on_accelerator, traits
from .._arrays.matmul import bytes_per_element
from .._arrays.operands import check_numeric, namespace_of_library, working_dtype
from .._plan.arguments import Keywords, conv_geometry, one_of, positive
from .._plan.blocks import MAX_WORKSPACE, unit_counts, unit_geometry
from .._plan.geometry import Geometry, Ints, Sizes
from .costs import TRANSFORMS, Rates, Work, adjoint_phases, native_cost, rates_of, reduction
from .fft import Fft
from .im2col import Im2col
from .native import has_native
from .toeplitz import Toeplitz
from .winograd import Winograd

SURE = 0.85  # of the library's own convolution, which is what users would run: another must cost less by the estimates
ROOM = 0.6  # of the workspace, that what is held all the while may take: blocks need the rest
FEW = 32  # filters under way at once, if there are so many, that products are not slow with
EXACT_KERNEL = 3  # the largest for which Winograd's error in float32 stays below 1e-5 of the largest output,
EXACT_CHANNELS = 512  # and the most that it may sum over: with 1024 the error is 1e-5, with 64 3e-6


class Maps(Protocol):
    """Groups apart from the channels in them, in and out: x (N, G, C/G, *d), w (G, K/G, C/G, *k), y (N, G, K/G, *o).

    In between are stacks of matrices that multiply: Wt(w) (..., G, K/G, q) @ In(x) (..., G, q, p) -> (..., G, K/G, p),
    where p counts over samples and positions. One value of a class serves all blocks of a convolution.
    """

    @property
    def name(self) -> str: ...

    @classmethod
    def plan(cls, geometry: Geometry, xp: Namespace, dtype: DType) -> Maps:
        """The maps for a convolution, or a ValueError that says what the method needs."""

    @property
    def unit(self) -> Ints:
        """How many outputs along each axis the maps work on at once: blocks hold whole units."""

    @property
    def stacks_samples(self) -> bool:
        """Whether In(x) and Out*(y) are stacked by samples first of all, (N, ...), and Wt(w) multiplies each."""

    def writes_in_place(self, samples: int, filters: int) -> bool:
        """Whether the output map of a block only renames axes: NumPy can write the product where y belongs."""

    def workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        """How many numbers the maps and the product of a block hold at most, for one sample and group."""

    def weight_workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        """How many numbers Wt(w) is for one group; 0 if it is a view of w."""

    def cost(self, rates: Rates, work: Work) -> float:
        """About how many nanoseconds a product takes."""

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array: ...
    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array: ...
    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array: ...
    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array: ...
    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array: ...
    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array: ...


Plan: TypeAlias = Callable[[Geometry, Namespace, DType], Maps]

METHODS: MappingProxyType[str, Plan] = MappingProxyType(
    {"im2col": Im2col.plan, "toeplitz": Toeplitz.plan, "winograd": Winograd.plan, "fft": Fft.plan}
)

PRODUCTS = MappingProxyType(
    {"conv": "forward", "conv_input_grad": "input_adjoint", "conv_weight_grad": "weight_adjoint"}
)


def choose_method(
    input_shape: Any,
    weight_shape: Any,
    *,
    xp: Namespace,
    dtype: DType,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    padding_mode: str = "zeros",
    channel_axis: int = 1,
    max_workspace: int = MAX_WORKSPACE,
    function: str = "conv",
) -> str:
    """Name the method that ``method="auto"`` would run.

    The choice depends on the library, the dtype, the sizes and on whether the processor has AVX-512 (while PyTorch
    compiles, AVX2 is taken): costs are estimated from rates measured on CPUs of two cores, and of CuPy on one GPU.
    Where an accelerator is present, JAX and PyTorch use their own convolution, over up to three spatial axes.

    Parameters
    ----------
    input_shape : tuple (N, C, *d), or (N, *d, C) with ``channel_axis=-1``
    weight_shape : tuple (K, C/G, *k)
    xp : namespace
        The array library: ``numpy``, ``jax.numpy``, ``torch``, ...
    dtype : dtype of that library
    stride, padding, dilation, groups, padding_mode, channel_axis, max_workspace
        As in `conv`.
    function : {"conv", "conv_input_grad", "conv_weight_grad"}
        Of `conv` or of one of its gradients, each of which is chosen by its own cost.

    Returns
    -------
    method : {"im2col", "toeplitz", "winograd", "fft", "native"}

    Raises
    ------
    ValueError
        If the shapes and the keywords are not those of a convolution, or there is no such function.
    TypeError
        If ``xp`` is no array library, or ``dtype`` none of its numeric ones.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import choose_method
    >>> x, w = np.ones((8, 64, 56, 56), dtype=np.float32), np.ones((64, 64, 3, 3), dtype=np.float32)
    >>> choose_method(x.shape, w.shape, xp=np, dtype=x.dtype, padding=1)
    'winograd'
    """
    keywords = Keywords(stride, padding, dilation, groups, padding_mode, channel_axis)
    geometry = conv_geometry(input_shape, weight_shape, keywords, names=("input_shape", "weight_shape"))
    workspace = positive("max_workspace", max_workspace)
    product = PRODUCTS[one_of("function", function, tuple(PRODUCTS))]
    xp = namespace_of_library(xp)
    check_numeric("dtype", xp, dtype)
    return choose(xp, working_dtype(xp, dtype), geometry.zero_padded, geometry.sizes, workspace, product)


def choose(
    xp: Namespace, dtype: DType, windows: Geometry, sizes: Sizes, max_workspace: int, product: str = "forward"
) -> str:
    """The method with the least cost of those that can; ``product`` names one of the three of `Products`."""
    own = has_native(xp, dtype, windows.ndim)
    if own and on_accelerator(xp):
        return "native"
    costs = [
        (_cost(name, _works(name, xp, windows, sizes, product), xp, dtype, max_workspace), name) for name in METHODS
    ]
    if own:
        costs += [
            (SURE * native_cost(rates_of(xp), work), "native") for work in _works("native", xp, windows, sizes, product)
        ]
    return min(costs)[1]


def _cost(name: str, works: list[Work], xp: Namespace, dtype: DType, max_workspace: int) -> float:
    """The sum over what is to be done, infinite if the method cannot do it."""
    rates, total = rates_of(xp), 0.0
    for work in works:
        maps = _planned(name, work, xp, dtype)
        if maps is None or not (name == "im2col" or _fits(maps, work, xp, dtype, max_workspace)):
            return math.inf
        total += reduction(rates, work, name) * maps.cost(rates, work)
    return total


def _works(method: str, xp: Namespace, windows: Geometry, sizes: Sizes, product: str) -> list[Work]:
    """What is to be done: of the gradient by the input, convolutions that swap the roles of channels and filters."""
    if product != "input_adjoint":
        return [Work(windows, *sizes, reduces=product == "weight_adjoint")]
    batch, groups, channels, filters = sizes
    phases = adjoint_phases(method, xp, windows, batch, channels, filters)
    parts = [phase.windows for phase in phases] or [windows]
    return [Work(part, batch, groups, filters, channels, transposed=True, scatters=not phases) for part in parts]


def _planned(name: str, work: Work, xp: Namespace, dtype: DType) -> Maps | None:
    """The maps of a method, if it can do this, and exactly enough."""
    summed = 1 if work.reduces else work.channels
    if name == "winograd" and (max(work.windows.kernel_size) > EXACT_KERNEL or summed > EXACT_CHANNELS):
        return None
    try:
        return METHODS[name](work.windows, xp, dtype)
    except ValueError:
        return None


def _fits(maps: Maps, work: Work, xp: Namespace, dtype: DType, max_workspace: int) -> bool:
    """Whether transformed filters leave room; the gradient by them holds a product and a sum, of some channels."""
    if takes_filters_apart(maps, work, xp):
        data, one = filter_workspace(maps, work)
        needed = data + min(FEW, -(-work.filters // 2)) * one
    else:
        filters = maps.weight_workspace(work.windows, work.channels, work.filters) * work.groups
        needed = filters + maps.workspace(unit_geometry(work.windows, maps.unit), work.channels, work.filters)
    return needed * bytes_per_element(xp, dtype) <= ROOM * max_workspace


def takes_filters_apart(maps: Maps, work: Work, xp: Namespace) -> bool:
    """Whether transformed filters outweigh transformed data, so that threads share filters and not positions."""
    columns = work.batch * math.prod(unit_counts(work.windows, maps.unit))
    return traits(xp).threads and maps.name in TRANSFORMS and columns <= work.filters


def filter_workspace(maps: Maps, work: Work) -> tuple[int, int]:
    """How many numbers transformed data is then, with what that takes, and how many each filter, with its product."""
    windows, channels, groups = work.windows, work.channels, work.groups
    samples = work.batch * groups
    transformed = 3 * groups * maps.weight_workspace(windows, channels, 1)  # with steps on the way
    return samples * maps.workspace(windows, channels, 0), samples * maps.workspace(windows, 0, 1) + transformed
