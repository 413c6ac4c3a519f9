"""What a call would do, without doing it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

from ._arrays.layout import Access
from ._arrays.libraries import Array, DType, Namespace, is_kind
from ._arrays.operands import check_numeric, item_size, namespace_of_library, planned_dtype, working_dtype
from ._methods import Method, request
from ._plan.arguments import (
    ChannelAxis,
    Keywords,
    Padding,
    PaddingMode,
    PerAxis,
    conv_geometry,
    conv_transpose_geometry,
    flag,
    got,
    known_keywords,
    one_of,
    workspace,
)
from ._plan.choice import Request, candidates, choose
from ._plan.frames import Frame, fitting
from ._plan.geometry import Ints
from ._plan.plan import Plan, plan_of
from ._plan.schedule import cheapest
from ._plan.task import Task, task_of
from ._progress import late_bar
from ._run.frames import frame_of
from ._run.runners import runner_of
from ._run.threads import cpu_count

Function: TypeAlias = Literal[
    "conv",
    "conv_input_grad",
    "conv_weight_grad",
    "conv_transpose",
    "conv_transpose_input_grad",
    "conv_transpose_weight_grad",
]
DIRECTIONS = ("forward", "backward_data", "backward_filter", "backward_data", "forward", "backward_filter")
FUNCTIONS = dict(zip(get_args(Function), DIRECTIONS, strict=True))
TRIALS = 3  # of each method, of which the fastest counts: the first has to load things


@known_keywords
def plan(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    xp: Namespace,
    dtype: DType,
    function: Function = "conv",
    measure: bool = False,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    channel_axis: ChannelAxis = 1,
    method: Method = "auto",
    max_workspace: int | None = None,
    output_padding: PerAxis = 0,
) -> Plan:
    """What a call of `conv`, `conv_transpose` or a gradient would do: method, blocks, threads, bytes and time.

    Parameters
    ----------
    input_shape : tuple (N, C, *d), or (N, *d, C) with ``channel_axis=-1``
    weight_shape : tuple (K, C/G, *k), or (C, K/G, *k) of a transposed convolution
    xp : namespace
        The array library: ``numpy``, ``jax.numpy``, ``torch``, ...
    dtype : dtype of that library
    function : {"conv", "conv_input_grad", "conv_weight_grad", "conv_transpose", "conv_transpose_input_grad", \
"conv_transpose_weight_grad"}
        Of `conv`, `conv_transpose` or a gradient of one, each of which is planned by itself: `conv_backward` and
        `conv_transpose_backward` do two.
    measure : bool
        Time every method on arrays of small numbers, and plan the fastest: pass the plan's ``method`` to the call then.
        What takes over two seconds shows a bar on stderr, if that is a terminal and rich is installed.
    stride, padding, dilation, groups, padding_mode, channel_axis, method, max_workspace
        As in `conv`. A method by name is planned even where others would be faster.
    output_padding
        As in `conv_transpose`, for that and its gradients.

    Returns
    -------
    plan : Plan
        A tuple with names, ``method`` first of all; its repr says what will run, why, and what the others would cost.
        Nothing in it depends on elements, and no method on the number of CPUs: of integers it is the plan for those
        whose sums float64 holds.

    Raises
    ------
    ValueError
        If the shapes and the keywords are not those of a convolution, or the method cannot do it.
    TypeError
        If ``xp`` is no array library, or ``dtype`` none of its numeric ones.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import plan
    >>> x, w = np.ones((1, 1, 512, 512)), np.ones((1, 1, 31, 31))
    >>> y_plan = plan(x.shape, w.shape, xp=np, dtype=x.dtype)
    >>> y_plan.method, y_plan.held < y_plan.workspace
    ('fft', True)
    """
    keywords = Keywords(stride, padding, dilation, groups, padding_mode, channel_axis, max_workspace=max_workspace)
    shapes = {"input_shape": input_shape, "weight_shape": weight_shape}
    direction = FUNCTIONS[one_of("function", function, tuple(FUNCTIONS))]
    transposes = function.startswith("conv_transpose")
    if transposes:
        geometry = conv_transpose_geometry(shapes, keywords, output_padding)
    elif not (isinstance(output_padding, int) and output_padding == 0):
        raise ValueError(f"output_padding must be 0 but for functions of conv_transpose, {got(output_padding)}")
    else:
        geometry = conv_geometry(shapes, keywords)
    xp = namespace_of_library(xp)
    check_numeric("dtype", xp, dtype)
    room = workspace(max_workspace, item_size(xp, dtype) * geometry.elements)
    working = working_dtype(xp, dtype)
    conjugates = transposes and is_kind(xp, dtype, "complex floating")
    task = task_of(direction, geometry, working != dtype, conjugates)
    access = Access(xp, working, dtype).of(direction, geometry)._replace(dtype=planned_dtype(xp, working))
    frame = frame_of(xp, direction, geometry, working, dtype, room)

    def ask(frame: Frame) -> Request:
        return request(access, frame.of_piece(task), frame.room_beside, working)

    asked = ask(frame)
    word = method if one_of("method", method, get_args(Method)) in ("auto", "direct") else "auto"
    others = candidates(asked, word)
    chosen = fitting(frame, lambda one: choose(ask(one), method, others if one is frame else None))
    if not flag("measure", measure):
        return plan_of(function, chosen, others, cpu_count(), frame)
    able = sum(not one.reason for one in others)
    with late_bar("timing methods", TRIALS * able) as advance:
        timed = [
            one if one.reason else one._replace(cost=_time(xp, working, asked, one.method, advance)) for one in others
        ]
    return plan_of(function, cheapest(timed), timed, cpu_count(), frame, measured=True)


@known_keywords
def choose_method(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    xp: Namespace,
    dtype: DType,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    channel_axis: ChannelAxis = 1,
    max_workspace: int | None = None,
    function: Function = "conv",
) -> str:
    """Name the method that ``method="auto"`` would run: that of `plan`.

    The choice depends on the library, the dtype, the sizes and the workspace: times are estimated from the rates of
    plain steps, measured on CPUs of two cores, and of CuPy on one GPU. Where an accelerator is present, JAX and PyTorch
    use their own convolution, over up to three spatial axes, and CuPy cuDNN where it is installed: calls that cuDNN
    then does not support are done by the least costly of the others. Calls with arrays of JAX that are divided over
    several devices, which are not asked about here, take what leaves these where they are.

    Parameters
    ----------
    input_shape : tuple (N, C, *d), or (N, *d, C) with ``channel_axis=-1``
    weight_shape : tuple (K, C/G, *k)
    xp : namespace
        The array library: ``numpy``, ``jax.numpy``, ``torch``, ...
    dtype : dtype of that library
    stride, padding, dilation, groups, padding_mode, channel_axis, max_workspace
        As in `conv`.
    function : str
        As in `plan`: each is chosen by its own cost.

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
    keywords = Keywords(stride, padding, dilation, groups, padding_mode, channel_axis, max_workspace=max_workspace)
    return plan(input_shape, weight_shape, xp=xp, dtype=dtype, function=function, **keywords._asdict()).method


def _time(xp: Namespace, dtype: DType, asked: Request, method: str, advance: Callable[[], None]) -> float:
    """The least time of a few trials, each of which is a step, in nanoseconds."""
    task = asked.task
    run = runner_of(Access(xp, dtype, dtype), task, method, asked.room)
    x, w, y = (_drawn(xp, dtype, shape) for shape in _shapes(task))
    operands = {"forward": (x, w), "backward_data": (y, w), "backward_filter": (y, x)}[task.direction]
    times = []
    for _ in range(TRIALS):
        start = time.perf_counter_ns()
        result = run(*operands)
        bool(xp.all(result[(slice(1),) * result.ndim] == 0))  # which waits for it
        times.append(time.perf_counter_ns() - start)
        advance()
    return float(min(times))


def _shapes(task: Task) -> tuple[Ints, Ints, Ints]:
    windows, groups = task.windows, task.groups
    return (
        (task.batch, groups * task.channels, *windows.input_size),
        (groups * task.filters, task.channels, *windows.kernel_size),
        (task.batch, groups * task.filters, *windows.output_size),
    )


def _drawn(xp: Namespace, dtype: DType, shape: Ints) -> Array:
    """Small numbers of both signs, which no processor is slow with."""
    numbers = xp.arange(math.prod(shape)) % 7 - 3
    return xp.reshape(xp.astype(numbers, dtype), shape)
