"""Convolutions to try: a fixed list that covers each feature, and hypothesis strategies that draw any."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st


@dataclass(frozen=True)
class Case:
    """One convolution: shapes of x and w and the keywords that lead from x to y."""

    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    keywords: dict = field(default_factory=dict)

    def __str__(self):
        words = ",".join(f"{name}={value}" for name, value in self.keywords.items())
        return f"{self.input_shape}*{self.weight_shape} {words}".replace(" ", "")

    @property
    def kernel_size(self):
        return self.weight_shape[2:]

    @property
    def window_keywords(self):
        return {name: self.keywords[name] for name in ("stride", "padding", "dilation") if name in self.keywords}

    @property
    def terms(self):
        """No sum of the convolution or its gradients has more terms than this.

        Those of the gradient by the bias are the outputs of a channel, which padding can make more than the inputs.
        """
        inputs, outputs = (int(np.prod(shape)) for shape in (self.input_shape, output_shape(self)))
        return max(inputs, outputs // self.weight_shape[0], 1) * int(np.prod(self.kernel_size))


MODES = ("zeros", "reflect", "symmetric", "replicate", "circular")

CASES = [
    Case((2, 3, 9), (4, 3, 3), {"stride": 2, "padding": [(1, 2)], "dilation": 2}),
    Case((1, 1, 5, 5), (1, 1, 3, 3), {"stride": 2}),
    Case((2, 3, 6, 7), (4, 3, 3, 2), {"stride": (1, 2), "padding": (1, 0)}),
    Case((2, 2, 7, 6), (3, 2, 3, 3), {"stride": (2, 3), "padding": [(0, 2), (3, 1)], "dilation": (1, 2)}),
    Case((3, 2, 4, 4), (5, 2, 1, 1), {}),
    Case((2, 1, 3, 5), (2, 1, 3, 5), {}),
    Case((0, 2, 5, 5), (3, 2, 3, 3), {"padding": 1}),
    Case((1, 2, 4, 3, 5), (3, 2, 2, 3, 2), {"stride": (2, 1, 2), "padding": 1}),
    Case((2, 2, 7, 8), (2, 2, 3, 4), {"stride": 3, "padding": "same"}),
    Case((2, 2, 7, 8), (2, 2, 3, 4), {"stride": 2, "padding": "same_lower", "dilation": 2}),
    Case((2, 2, 6), (2, 2, 4), {"padding": "causal", "dilation": 2}),
    Case((2, 2, 4, 5), (3, 2, 2, 3), {"padding": "full", "stride": 2}),
    Case((1, 1, 1, 4), (2, 1, 1, 2), {"padding": "valid", "stride": 5}),
]

FULL_CASES = [
    *CASES,
    Case((2, 6, 7, 6), (4, 3, 3, 2), {"groups": 2, "stride": 2, "padding": 1}),
    Case((2, 4, 6, 5), (8, 1, 3, 3), {"groups": 4, "dilation": 2, "padding": [(2, 1), (2, 3)]}),
    Case(
        (2, 4, 7, 6),
        (6, 2, 3, 3),
        {"groups": 2, "flip": True, "stride": (2, 1), "padding_mode": "reflect", "padding": 2},
    ),
    Case((2, 3, 5, 6), (2, 3, 3, 3), {"padding_mode": "replicate", "padding": [(7, 2), (0, 3)], "stride": 2}),
    Case((2, 4, 5), (2, 2, 3), {"padding_mode": "circular", "padding": [(5, 3)], "groups": 2}),
    Case((2, 5, 6, 4), (2, 2, 3, 2), {"channel_axis": -1, "groups": 2, "padding": "same", "stride": 2}),
    Case((1, 4, 3, 4, 2), (3, 2, 2, 2, 3), {"channel_axis": -1, "padding_mode": "circular", "padding": (1, 0, 2)}),
    Case((1, 2, 3, 3, 2, 3), (2, 2, 2, 2, 2, 2), {"padding": 1, "stride": 2}),
    Case((2, 2, 1, 2), (3, 2, 1, 2), {"stride": (2, 4), "padding": [(0, 0), (0, 1)]}),
    Case((1, 1, 1), (1, 1, 1), {"stride": 2}),
    Case((2, 2, 4, 5), (3, 2, 3, 2), {"padding_mode": "symmetric", "padding": [(4, 1), (2, 3)], "stride": 2}),
    Case((1, 2, 2, 3), (2, 2, 3, 3), {"padding_mode": "reflect", "padding": [(9, 4), (5, 0)], "dilation": 2}),
    Case((1, 2, 3, 2), (2, 1, 3, 3), {"padding_mode": "symmetric", "padding": [(0, 11), (8, 5)], "groups": 2}),
    Case((2, 3, 2, 2), (2, 2, 2, 3), {"padding_mode": "circular", "padding": [(7, 6), (5, 8)], "channel_axis": -1}),
    Case((1, 1, 1, 2), (1, 1, 3, 2), {"padding_mode": "reflect", "padding": 5}),
    Case((2, 2, 4, 3), (2, 2, 3, 2), {"padding_mode": ("zeros", "reflect"), "padding": [(4, 1), (2, 3)], "stride": 2}),
    Case(
        (1, 4, 3, 2, 4),
        (2, 2, 2, 2, 2),
        {"padding_mode": ["circular", "zeros", "replicate"], "padding": 2, "groups": 2},
    ),
]


WIDEST = (11, 7, 4)  # borders drawn over so many axes: several times an axis that is short
TRANSPOSED = [  # also with more behind the last window than another would need, if dilation exceeds stride
    *FULL_CASES[1::3],
    Case((2, 2, 7, 6), (3, 2, 3, 2), {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)}),
    Case((2, 2, 9), (4, 1, 3), {"dilation": 3, "groups": 2, "padding": 1, "output_padding": 2}),
    Case((1, 9, 7, 2), (2, 2, 2, 3), {"stride": 2, "dilation": (5, 2), "output_padding": (4, 1), "channel_axis": -1}),
    Case((1, 1, 5), (1, 1, 2), {"dilation": 4, "padding": [(0, 2)], "output_padding": 3}),
    Case(
        (1, 2, 9, 5),
        (2, 1, 3, 2),
        {"dilation": (4, 2), "padding_mode": "symmetric", "padding": 3, "output_padding": (3, 1), "groups": 2},
    ),
]
PADDING_WORDS = ("valid", "same", "same_lower", "causal", "full")


def output_shape(case):
    """Shape of y, from the reference's windows alone."""
    axis = case.keywords.get("channel_axis", 1)
    size = case.input_shape[2:] if axis == 1 else case.input_shape[1:-1]
    o = reference.Windows(size, case.kernel_size, **case.window_keywords).output
    batch, filters = case.input_shape[0], case.weight_shape[0]
    return (batch, filters, *o) if axis == 1 else (batch, *o, filters)


@st.composite
def windows(draw, modes=("zeros",), ceil_modes=False, largest_kernel=3):
    """(input sizes, kernel sizes, keywords) of windows that fit, or of which one overhangs with ``ceil_mode``."""
    n = draw(st.integers(1, 3))
    largest = (3 * largest_kernel, 6, 4)[n - 1]
    size = draw(st.tuples(*[st.integers(1, largest)] * n))
    kernel, stride, dilation = (draw(st.tuples(*[st.integers(1, top)] * n)) for top in (largest_kernel, 3, 2))
    mode = draw(st.sampled_from(modes))
    if len(modes) > 1 and draw(st.booleans()):
        mode = tuple(draw(st.sampled_from(modes)) for _ in size)
    width = st.integers(0, 3 if mode == "zeros" else WIDEST[n - 1])
    pairs = st.tuples(*[st.tuples(width, width)] * n)
    padding = draw(st.one_of(pairs, st.sampled_from(PADDING_WORDS)))
    lo_hi = reference.pairs(padding, size, kernel, stride, dilation)
    keywords = {"stride": stride, "padding": padding, "dilation": dilation}
    ceil_mode = draw(st.booleans()) if ceil_modes else False
    assume(min(reference.output_size(size, kernel, stride, dilation, lo_hi, ceil_mode)) > 0)
    keywords |= {"ceil_mode": ceil_mode} if ceil_modes else {}
    return size, kernel, keywords | ({} if mode == "zeros" else {"padding_mode": mode})


@st.composite
def convolutions(draw, modes=("zeros",), max_groups=1):
    """Any convolution with those padding modes and at most that many groups."""
    size, kernel, keywords = draw(windows(modes))
    groups = draw(st.integers(1, max_groups))
    batch, c, k = (draw(st.integers(low, 2)) for low in (0, 1, 1))
    if max_groups > 1:
        keywords |= {"groups": groups, "flip": draw(st.booleans()), "channel_axis": draw(st.sampled_from([1, -1]))}
    channels_last = keywords.get("channel_axis") == -1
    shape = (batch, *size, c * groups) if channels_last else (batch, c * groups, *size)
    return Case(shape, (k * groups, c, *kernel), keywords)


@st.composite
def transposed_convolutions(draw, modes=("zeros",), max_groups=1):
    """Any convolution as the transposed one: dy stands for its input."""
    case = draw(convolutions(modes, max_groups))
    steps = [max(pair) for pair in zip(case.keywords["stride"], case.keywords["dilation"], strict=True)]
    extra = draw(st.tuples(*(st.integers(0, step - 1) for step in steps)))
    if not str(case.keywords["padding"]).startswith("same"):
        case = Case(case.input_shape, case.weight_shape, case.keywords | {"output_padding": extra})
    assume(min(transposed_shape(case)[1:]) > 0)
    return case


def transposed_shape(case):
    """Shape of what the transposed convolution makes of an array of the shape of y."""
    shape, axis, groups = output_shape(case), case.keywords.get("channel_axis", 1), case.keywords.get("groups", 1)
    size = shape[2:] if axis == 1 else shape[1:-1]
    grown = reference.transposed_size(
        size, case.kernel_size, case.keywords.get("output_padding", 0), **case.window_keywords
    )
    channels = case.weight_shape[1] * groups
    return (shape[0], channels, *grown) if axis == 1 else (shape[0], *grown, channels)


def check_drawn(backend, strategy, check):
    """Run ``check`` on as many drawn examples as the backend can afford."""
    settings(max_examples=backend.examples)(given(strategy)(check))()


def normal(shape, seed=0, dtype="float64"):
    """Random numbers: normal, complex normal, or small integers, by dtype."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -4, 5, size=shape).astype(dtype)
    values = rng.normal(size=shape)
    if dtype.kind == "c":
        values = values + 1j * rng.normal(size=shape)
    return values.astype(dtype)
