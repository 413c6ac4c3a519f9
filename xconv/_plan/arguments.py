"""Keywords checked: sizes, strides and paddings of every form as integers, and every ValueError about shapes."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, cast, get_args

from .borders import BORDERS
from .geometry import ConvGeometry, Geometry, Ints, Pairs, PoolGeometry, Words, effective_size, is_symbol

MAX_WORKSPACE = 64 * 2**20  # bytes
PerAxis: TypeAlias = int | Sequence[int]
PaddingWord: TypeAlias = Literal["valid", "same", "same_lower", "causal", "full"]
Padding: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]] | PaddingWord
BorderWord: TypeAlias = Literal["zeros", "reflect", "replicate", "circular", "symmetric"]
PaddingMode: TypeAlias = BorderWord | Sequence[BorderWord]
ChannelAxis: TypeAlias = Literal[1, -1]
PADDING_WORDS: tuple[str, ...] = get_args(PaddingWord)
PADDING_MODES = ("zeros", *BORDERS)
SYNONYMS = {  # of NumPy and SciPy
    "constant": "zeros",
    "edge": "replicate",
    "nearest": "replicate",
    "mirror": "reflect",
    "wrap": "circular",
}

OTHER_NAMES = {  # of arguments, in PyTorch, SciPy and Keras
    "bias": "b",
    "dilation_rate": "dilation",
    "dilations": "dilation",
    "filters": "w",
    "input": "x",
    "kernel": "w",
    "kernel_shape": "kernel_size",
    "mode": "padding_mode",
    "pad": "padding",
    "padding": "pad",
    "strides": "stride",
    "weight": "w",
    "weights": "w",
}
NUMBERS = {operator.index: "an int", int: "a finite number", float: "a real number", complex: "a number", bool: "known"}
ADDRESSED = 2**60  # elements of 8 bytes that addresses of 64 bits tell apart, with room for signs
LONGEST = 100  # characters of a value that a message repeats

Function = TypeVar("Function", bound=Callable[..., Any])
TAKES_OTHERS = 8  # the flag of a function with **keywords: inspect.CO_VARKEYWORDS


class Keywords(NamedTuple):
    """The keywords that every convolution takes, but for ``flip``, as the caller gave them."""

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: Any = 1
    padding_mode: Any = "zeros"
    channel_axis: Any = 1
    method: Any = "auto"
    max_workspace: Any = None


def known_keywords(function: Function) -> Function:
    """Refuse keywords that a function does not have, in words that name the one that is likely meant."""
    names = keyword_names(function)

    @functools.wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        check_names(function, names, keywords)
        return function(*arguments, **keywords)

    return cast(Function, checked)


def keyword_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Of the arguments that may be given by name; none if those of another function may be as well."""
    code = function.__code__  # what inspect.signature reads, which takes as long to load as a call
    takes_others = code.co_flags & TAKES_OTHERS
    return () if takes_others else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def check_names(function: Callable[..., Any], names: Sequence[str], keywords: Mapping[str, Any]) -> None:
    """Keywords that a function has none of, if any may not be one."""
    for name in keywords:
        if names and name not in names:
            raise _unknown(function, names, name, keywords[name])


def _unknown(function: Callable[..., Any], names: Sequence[str], name: str, value: Any) -> TypeError:
    word, where = function.__name__, ""
    if name == "output_padding":
        where = f": that is one of {word.replace('conv', 'conv_transpose')}"
    return TypeError(
        f"{word} must have the keywords {', '.join(names)}, {got(value).replace('got ', f'got {name}=', 1)}"
        + (where or meant(name, names, OTHER_NAMES))
    )


def conv_geometry(sizes: Mapping[str, Any], keywords: Keywords, *input_shape: Any) -> ConvGeometry:
    """Check a convolution by shapes that are named as the caller does: "w" or "weight_shape", perhaps "b" and "dy".

    The input is "x" or "input_shape", which may be given apart from the others.
    """
    sizes = {**sizes, "input_shape": input_shape[0]} if input_shape else sizes
    data, weights = _names(sizes)
    batch, channels, size, channels_last = data_shape(data, sizes[data], keywords.channel_axis)
    filters, group_channels, kernel = _weight_shape(sizes, len(size))
    groups = positive("groups", keywords.groups)
    if group_channels * groups != channels:
        other, axis = (1, -1) if channels_last else (-1, 1)
        fits = group_channels * groups == sizes[data][other]
        raise ValueError(
            f"{weights} must have C / groups channels on axis 1: {data} has C = {channels} channels with "
            f"channel_axis={axis} and groups is {groups}, got {weights} of shape {tuple(sizes[weights])} with "
            f"{group_channels}"
            + (f": with channel_axis={other} {data} has {sizes[data][other]}" if fits else "")
            + (f": that is {weights} for groups=1" if group_channels == channels else "")
        )
    _groups(keywords, {f"filters K of {weights}": filters})
    geometry = _joined(batch, channels, filters, groups, channels_last, size, kernel, keywords)
    _check_results(sizes, filters, geometry.output_shape, keywords)
    return geometry


def conv_weight_grad_geometry(sizes: Mapping[str, Any], keywords: Keywords, kernel_size: Any) -> ConvGeometry:
    """The convolution of x whose output is dy."""
    _, filters, _, _ = data_shape("dy", sizes["dy"], keywords.channel_axis)
    _, channels, size, _ = data_shape("x", sizes["x"], keywords.channel_axis)
    groups = _groups(keywords, {"channels C of x": channels, "channels K of dy": filters})
    kernel = per_axis("kernel_size", kernel_size, len(size), minimum=1)
    return conv_geometry({**sizes, "w": (filters, channels // groups, *kernel)}, keywords)


def conv_transpose_geometry(sizes: Mapping[str, Any], keywords: Keywords, output_padding: Any) -> ConvGeometry:
    """The convolution that conv_transpose is the transpose of: its output is x, its input is y.

    It leaves ``unread`` what ``output_padding`` adds by whole strides, for which x has no elements.
    """
    data, weights = _names(sizes)
    batch, filters, size, channels_last = data_shape(data, sizes[data], keywords.channel_axis)
    weight_filters, group_channels, kernel = _weight_shape(sizes, len(size))
    if weight_filters != filters:
        raise ValueError(
            f"{weights} must have C = {filters} filters on axis 0, as many as {data} has channels, "
            f"got {weights} of shape {tuple(sizes[weights])}"
        )
    groups = _groups(keywords, {f"channels C of {data}": filters})
    grown = _transposed_size(size, kernel, output_padding, keywords)
    geometry = _joined(batch, group_channels * groups, filters, groups, channels_last, grown, kernel, keywords)
    _check_results(sizes, geometry.channels, geometry.input_shape, keywords, output_padding=output_padding)
    unread = tuple((0, (axis.o - m) * axis.s) for axis, m in zip(geometry.windows.axes, size, strict=True))
    return geometry._replace(unread=unread)


def _groups(keywords: Keywords, divided: Mapping[str, int]) -> int:
    """How many groups there are, which divide some channels."""
    groups = positive("groups", keywords.groups)
    if any(count % groups for count in divided.values()):
        words = " and ".join([f"the {count} {channels}" for channels, count in divided.items()])
        raise ValueError(f"groups must divide {words}, got groups = {groups}")
    return groups


def _names(sizes: Mapping[str, Any]) -> tuple[str, str]:
    """What the caller calls the input and the filters."""
    return "x" if "x" in sizes else "input_shape", "w" if "w" in sizes else "weight_shape"


def _check_results(
    sizes: Mapping[str, Any], channels: int, output_shape: Ints, keywords: Keywords, **others: Any
) -> None:
    if "b" in sizes:
        check_shape("b", sizes["b"], (channels,), "one number per channel of the output")
    if "dy" in sizes:
        given = {name: tuple(sizes[name]) for name in _names(sizes)}
        words = {name: getattr(keywords, name) for name in ("stride", "padding", "dilation", "channel_axis")}
        check_shape("dy", sizes["dy"], output_shape, "the shape of the output", **given, **words, **others)


@known_keywords
def conv_output_shape(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    channel_axis: ChannelAxis = 1,
) -> Ints:
    """Shape of what `conv` returns, from shapes alone.

    ``o = floor((d + lo + hi - r)/s) + 1`` per axis, with ``r = a*(k-1) + 1``.

    Parameters
    ----------
    input_shape : tuple (N, C, *d), or (N, *d, C) with ``channel_axis=-1``
    weight_shape : tuple (K, C/G, *k)
    stride, padding, dilation, groups, channel_axis
        As in `conv`.

    Returns
    -------
    output_shape : tuple (N, K, *o), or (N, *o, K) with ``channel_axis=-1``

    Raises
    ------
    ValueError
        If the shapes do not fit together or a keyword has no such value.

    Examples
    --------
    >>> from xconv import conv_output_shape
    >>> conv_output_shape((8, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3)
    (8, 64, 112, 112)
    """
    keywords = Keywords(stride, padding, dilation, groups, channel_axis=channel_axis)
    return conv_geometry({"weight_shape": weight_shape}, keywords, input_shape).output_shape


def pool_geometry(
    name: str,
    input_shape: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    channel_axis: Any,
    dy: Any = None,
) -> PoolGeometry:
    """Check a pooling, and the shape of a gradient if there is one.

    ``name`` is what the caller calls the input's shape, and a stride of None means the kernel's size.
    """
    batch, channels, size, channels_last = data_shape(name, input_shape, channel_axis)
    stride = kernel_size if stride is None else stride
    declared = _unchecked_windows(name, size, kernel_size, stride, padding, dilation)
    windows = declared.over(size, _ceil_padding(declared)) if flag("ceil_mode", ceil_mode) else declared
    _check_fit(windows, declared.padding)
    pool = PoolGeometry(batch, channels, channels_last, windows, declared.padding)
    if dy is not None:
        words = {name: input_shape, "kernel_size": kernel_size, "stride": stride, "padding": padding}
        others = {"dilation": dilation, "ceil_mode": ceil_mode, "channel_axis": channel_axis}
        check_shape("dy", dy, pool.output_shape, "the shape of the output", **words, **others)
    return pool


def unpool_geometry(
    shape: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any, channel_axis: Any
) -> PoolGeometry:
    """Check the inverse of a pooling: several sizes of x may give that of y, of which the smallest is meant."""
    batch, channels, size, channels_last = data_shape("y", shape, channel_axis)
    n = len(size)
    kernel = per_axis("kernel_size", kernel_size, n, minimum=1)
    strides = kernel if stride is None else per_axis("stride", stride, n, minimum=1)
    grown = _transposed_size(size, kernel, 0, Keywords(strides, padding))
    given = grown if output_size is None else per_axis("output_size", output_size, n, minimum=1)
    if any(abs(d - e) >= s for d, e, s in zip(given, grown, strides, strict=True)):
        raise ValueError(f"output_size must differ from {grown} by less than the stride {strides}, {got(output_size)}")
    return PoolGeometry(batch, channels, channels_last, Geometry(given, kernel, strides), ())


def window_geometry(
    input_size: Ints, kernel_size: Any, *, stride: Any, padding: Any, dilation: Any, data: str = "x"
) -> Geometry:
    """Check windows over ``input_size``, which is that of what the caller calls ``data``."""
    windows = _unchecked_windows(data, input_size, kernel_size, stride, padding, dilation)
    _check_fit(windows, windows.padding)
    return windows


def _unchecked_windows(
    data: str, input_size: Ints, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> Geometry:
    """Windows that may be larger than the padded input: ``ceil_mode`` pads more than was asked for."""
    n = len(input_size)
    kernel = per_axis("kernel_size", kernel_size, n, minimum=1, data=data)
    strides = per_axis("stride", stride, n, minimum=1, data=data)
    dilations = per_axis("dilation", dilation, n, minimum=1, data=data)
    reach = effective_size(kernel, dilations)
    windows = Geometry(input_size, kernel, strides, dilations, _padding(padding, input_size, strides, reach))
    if any(map(is_symbol, input_size)) or not any(map(operator.gt, strides, windows.padded_size)):
        return windows
    # A step beyond the end leads to no other window, however long it is: libraries count in 64 bits.
    steps = zip(strides, windows.padded_size, reach, strict=True)
    strides = tuple([min(s, max(p, r)) for s, p, r in steps])
    return Geometry(input_size, kernel, strides, dilations, windows.padding)


def _check_fit(windows: Geometry, declared: Pairs) -> None:
    if math.prod(windows.padded_size) > ADDRESSED:
        raise ValueError(
            f"the input must have no more than {ADDRESSED} elements with its padding, got size {windows.input_size} "
            f"with padding {declared}"
        )
    axes = zip(windows.input_size, windows.padded_size, declared, windows.reach, strict=True)
    for axis, (d, padded, pads, r) in enumerate(axes):
        if r > padded:
            raise ValueError(
                f"kernel_size must fit the padded input: on spatial axis {axis} the kernel reaches over "
                f"{r} = dilation*(k-1)+1 elements, got an input of size {d} with padding {pads}"
            )


def halo_widths(
    size: int, shards: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, mode: Any
) -> tuple[Ints, str]:
    """How many elements before and behind it the windows of a part read, of an axis that is so many of them long.

    Windows over the whole axis, whose padding is what it has at its ends.
    """
    if not size:
        raise ValueError("x must have at least one element along the axis on each device, got 0")
    pair = _pair(padding)
    windows = window_geometry(
        (size * shards,), kernel_size, stride=stride, dilation=dilation, padding=padding if pair is None else [pair]
    )
    (s,), (r,), (o,), ((lo, _),) = windows.stride, windows.reach, windows.output_size, windows.padding
    if size % s:
        raise ValueError(f"stride must divide the {size} elements of x along the axis on each device, {got(stride)}")
    if o != size * shards // s:
        raise ValueError(
            f"padding must give as many outputs on each device, {size // s} for the {size} elements of x along the "
            f"axis, {got(padding)}, by which all {shards} have {o}: pass 'same', 'same_lower' or 'causal', or (lo, hi) "
            f"with lo + hi from {max(r - s, 0)} to {r - 1}"
        )
    (mode,), widths = _modes(mode, 1), (lo, max(r - s - lo, 0))
    direction, edge = BORDERS.get(mode, (1, 0))
    if direction < 1 and max(widths) > size - edge:
        raise ValueError(
            f"padding_mode {mode!r} must repeat elements of the devices at both ends alone: windows read {widths} "
            f"elements beyond the {size} of x along the axis on each: divide it among fewer devices"
        )
    return widths, mode


def data_shape(name: str, shape: Any, channel_axis: Any) -> tuple[int, int, Ints, bool]:
    """Split an input's or output's shape into (N, channels, spatial sizes, channels last?); N may be a symbol."""
    first, *others = entries(shape) or (None,)
    sizes = _shape(name, (1, *others) if is_symbol(first) else shape)
    if len(sizes) < 3:
        one = (1, 1, *sizes) if name == "input_shape" else f"{name}[None, None]"
        hint = f": {one} is one sample of one channel" if sizes else ""
        raise ValueError(f"{name} must have at least 3 axes, (N, C, *d), got shape {sizes}{hint}")
    axis = whole(channel_axis)
    if axis not in (1, -1):
        raise ValueError(f"channel_axis must be 1 for (N, C, *d) or -1 for (N, *d, C), {got(channel_axis)}")
    batch, channels, *spatial = sizes if axis == 1 else (sizes[0], sizes[-1], *sizes[1:-1])
    if channels < 1 or min(spatial) < 1:
        raise ValueError(f"{name} must have at least size 1 on every axis but the batch, got shape {sizes}")
    return first if is_symbol(first) else batch, channels, tuple(spatial), axis == -1


def per_axis(name: str, value: Any, n: int, *, minimum: int, data: str = "x") -> Ints:
    """One int for every axis, or one per axis, as a tuple of n ints, as many as ``data`` has spatial axes."""
    single = whole(value)
    values = (single,) * n if single is not None else _integers(value)
    if values is None or len(values) != n or min(values) < minimum:
        hint = ": pass w.shape[2:]" if name == "kernel_size" and len(getattr(value, "shape", values or ())) > n else ""
        raise ValueError(
            f"{name} must be an int or {n} int{'s' * (n > 1)} (one per spatial axis of {data}), each at least "
            f"{minimum}, {got(value)}{hint}"
        )
    return values


def workspace(value: Any, sizes: int) -> int:
    """``max_workspace`` in bytes: if it is None, what operands and result take, but not less than `MAX_WORKSPACE`."""
    return max(MAX_WORKSPACE, sizes) if value is None else positive("max_workspace", value)


def check_shape(name: str, shape: Any, expected: Ints, meaning: str, **others: Any) -> None:
    """The array called ``name`` must have the shape that the other arguments imply, of which any may be wrong."""
    if tuple(shape) != expected:
        named = ", ".join([f"{other}={got(value)[4:]}" for other, value in others.items()])
        raise ValueError(
            f"{name} must have shape {expected}, {meaning}{' by ' * bool(named)}{named}, got {tuple(shape)}"
        )


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """A word out of a fixed list."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, {got(value)}{meant(value, choices)}")
    return value


def got(value: Any) -> str:
    """What an argument was, in one line, and what to do if it is one of JAX's tracers, which have no number yet."""
    shape, text = getattr(value, "shape", ()), " ".join(repr(value).split())
    shape = shape if isinstance(shape, tuple) else ()  # of a dtype's class
    if "Trace" in text:
        return f"got {text[:LONGEST]}: under jax.jit, mark it static, by static_argnames; no gradient goes there"
    if shape or len(text) > LONGEST:
        return f"got {type(value).__name__}" + (f" of shape {tuple(shape)}" if shape else f": {text[:LONGEST]}...")
    return f"got {text}"


def meant(value: Any, choices: Sequence[str], synonyms: Mapping[str, str] = SYNONYMS) -> str:
    """Which of the words is likely meant by one that is none of them."""
    import difflib

    word = synonyms.get(str(value).lower(), str(value).lower())
    near = difflib.get_close_matches(word, choices, 1)
    if near:
        return f" ({near[0]!r} is likely meant)"
    others = {"padding": PADDING_WORDS, "padding_mode": PADDING_MODES}
    keyword = next((name for name, words in others.items() if word in words), None)
    return f" ({word!r} is a {keyword})" if keyword else ""


def a_number(name: str, value: Any, kind: Callable[[Any], Any] = float) -> Any:
    """A number of any library's as one of Python's own: no word, None or list, nor one that JAX does not know yet."""
    try:
        if not isinstance(value, (str, bytes, list, tuple, dict, type(None))):
            return kind(value)
    except (TypeError, ValueError, OverflowError) as error:
        likely = type(error) if type(error) in (ValueError, OverflowError) else TypeError
        raise likely(f"{name} must be {NUMBERS[kind]}, {got(value)}") from error
    raise TypeError(f"{name} must be {NUMBERS[kind]}, {got(value)}")


def a_function(name: str, value: Any) -> Any:
    """What may be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, {got(value)}")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False and nothing that merely counts as one."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, {got(value)}")
    return value


def positive(name: str, value: Any) -> int:
    """An int of at least 1."""
    number = whole(value)
    if number is None or number < 1:
        raise ValueError(f"{name} must be an int of at least 1, {got(value)}")
    return number


def _ceil_padding(windows: Geometry) -> Pairs:
    """High padding that fits windows until one reaches its end, the first maybe, but none that would start in it."""
    fitted = []
    for axis in windows.axes:
        (d, _, s, _, lo, hi), r = axis, axis.r
        o = min(-((r - d - lo - hi) // s) + 1, -(-(d + lo) // s))
        least = (o - 1) * s + r - d - lo
        fitted.append((lo, min(max(hi, least), least + s - 1)))
    return tuple(fitted)


def _joined(
    batch: int, channels: int, filters: int, groups: int, last: bool, size: Ints, kernel: Ints, keywords: Keywords
) -> ConvGeometry:
    """The checked parts of a convolution, with its windows and borders."""
    windows = window_geometry(
        size, kernel, stride=keywords.stride, padding=keywords.padding, dilation=keywords.dilation
    )
    return ConvGeometry(batch, channels, filters, groups, last, _modes(keywords.padding_mode, len(size)), windows)


def _modes(value: Any, n: int) -> Words:
    """One word for every axis, or one per axis, as a tuple of n words."""
    words = (value,) * n if isinstance(value, str) else entries(value) or ()
    if len(words) != n or any(word not in PADDING_MODES for word in words):
        raise ValueError(
            f"padding_mode must be one of {', '.join(map(repr, PADDING_MODES))}, or {n} of them, one per axis, "
            f"{got(value)}{meant(value, PADDING_MODES)}"
        )
    return words


def _transposed_size(size: Ints, kernel: Ints, output_padding: Any, keywords: Keywords) -> Ints:
    """The input size d for which a convolution gives ``size``: the smallest one, plus ``output_padding``.

    With "same" several d give o = ceil(d/s); the largest, d = o*s, is meant, as in Keras and lax.
    """
    n, padding = len(size), keywords.padding
    stride = per_axis("stride", keywords.stride, n, minimum=1)
    dilation = per_axis("dilation", keywords.dilation, n, minimum=1)
    extra = per_axis("output_padding", output_padding, n, minimum=0)
    if any(e >= max(s, a) for e, s, a in zip(extra, stride, dilation, strict=True)):
        raise ValueError(
            f"output_padding must be smaller than the stride or the dilation, {got(output_padding)} with stride "
            f"{stride} and dilation {dilation}"
        )
    if isinstance(padding, str) and padding in ("same", "same_lower"):
        if any(extra):
            raise ValueError(
                f"output_padding must be 0 with padding={padding!r}, whose output has size {size} * stride, "
                f"{got(output_padding)}"
            )
        return tuple(o * s for o, s in zip(size, stride, strict=True))
    reach = effective_size(kernel, dilation)
    pads = _padding(padding, size, stride, reach)
    grown = tuple(
        (o - 1) * s + r - lo - hi + e for o, s, r, (lo, hi), e in zip(size, stride, reach, pads, extra, strict=True)
    )
    if min(grown) < 1:
        raise ValueError(
            f"padding must leave an output of at least size 1, {got(padding)} for an input of size {size} with kernel "
            f"{kernel}, stride {stride} and dilation {dilation}: the output would have size {grown}"
        )
    return grown


def _padding(padding: Any, size: Ints, stride: Ints, reach: Ints) -> Pairs:
    if isinstance(padding, str):
        one_of("padding", padding, PADDING_WORDS)
        return tuple(_padding_word(padding, d, s, r) for d, s, r in zip(size, stride, reach, strict=True))
    n = len(size)
    single = whole(padding)
    given = (single,) * n if single is not None else entries(padding) or ()
    pairs = [_pair(entry) for entry in given]
    uniform = len({whole(entry) is None for entry in given}) <= 1
    if len(pairs) != n or not uniform or any(pair is None or min(pair) < 0 for pair in pairs):
        raise ValueError(
            f"padding must be an int, {n} int{'s' * (n > 1)} or {n} (lo, hi) pair{'s' * (n > 1)} of ints (one per "
            f"spatial axis), each at least 0, or one of {', '.join(map(repr, PADDING_WORDS))}, {got(padding)}"
        )
    return tuple(pair for pair in pairs if pair is not None)


def _padding_word(word: str, d: int, s: int, r: int) -> tuple[int, int]:
    total = max((-(-d // s) - 1) * s + r - d, 0)  # what "same" lacks for o = ceil(d/s)
    return {
        "valid": (0, 0),
        "same": (total // 2, total - total // 2),
        "same_lower": (total - total // 2, total // 2),
        "causal": (r - 1, 0),
        "full": (r - 1, r - 1),
    }[word]


def _weight_shape(given: Mapping[str, Any], n: int) -> tuple[int, int, Ints]:
    data, name = _names(given)
    sizes = _shape(name, given[name])
    if len(sizes) != n + 2 or min(sizes) < 1:
        hint = f": one sample alone is {data}[None], and where its channels come last, channel_axis must be -1"
        raise ValueError(
            f"{name} must have {n + 2} axes, (filters, channels / groups, *kernel), as {data} of shape "
            f"{tuple(given[data])} is read as (N, C, *d), each at least 1, got shape {sizes}"
            f"{hint if len(sizes) == n + 3 else ''}"
        )
    return sizes[0], sizes[1], sizes[2:]


def _shape(name: str, shape: Any) -> Ints:
    sizes = _integers(shape)
    if sizes is None or min(sizes, default=0) < 0:
        hint = ": pass its .shape" if getattr(shape, "shape", ()) else ""
        raise ValueError(f"{name} must be a shape: a tuple of ints, none negative, {got(shape)}{hint}")
    return sizes


def _pair(entry: Any) -> tuple[int, int] | None:
    single = whole(entry)
    values = (single, single) if single is not None else _integers(entry)
    return (values[0], values[1]) if values is not None and len(values) == 2 else None


def _integers(value: Any) -> Ints | None:
    """A sequence of ints as a tuple of them; None for anything else."""
    given = entries(value)
    found = [number for number in map(whole, given or ()) if number is not None]
    return tuple(found) if given is not None and len(found) == len(given) else None


def entries(value: Any) -> tuple[Any, ...] | None:
    """The items of a sequence; None for anything else. Strings, dicts and sets are no sequences of sizes."""
    try:
        return None if isinstance(value, str | bytes | Mapping | Set) else tuple(value)
    except TypeError:
        return None


def whole(value: Any) -> int | None:
    """An int of Python's or of an array library's own kind. True is no size."""
    if isinstance(value, bool | str | tuple | list):  # most of what is none, since PyTorch cannot compile the exception
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
