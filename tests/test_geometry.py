"""Integers: output sizes, the forms of the arguments, and restriction to a block."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from geometries import PADDING_WORDS, normal, windows
from hypothesis import given
from hypothesis import strategies as st

import xconv
from xconv._plan.arguments import window_geometry


def geometry_of(drawn):
    size, kernel, keywords = drawn
    return window_geometry(size, kernel, **keywords)


@given(windows())
def test_output_size_counts_the_windows_that_fit(drawn):
    size, kernel, keywords = drawn
    expected = reference.Windows(size, kernel, **keywords).output
    assert geometry_of(drawn).output_size == expected


@given(windows())
def test_taps_are_the_links_of_the_reference(drawn):
    """For each kernel offset, the windows and the input elements that it pairs."""
    size, kernel, keywords = drawn
    geometry = geometry_of(drawn)
    links = {(j, m, i) for m, j, i in reference.Windows(size, kernel, **keywords).links if i is not None}
    found = set()
    for j, (window_slices, element_slices) in zip(np.ndindex(*kernel), geometry.tap_slices, strict=True):
        ms, elements = (
            list(np.ndindex(*(len(range(n)[part]) for n, part in zip(sizes, slices, strict=True))))
            for sizes, slices in ((geometry.output_size, window_slices), (size, element_slices))
        )
        assert ms == elements  # as many windows as elements, axis by axis
        for step in ms:
            m, i = (
                tuple(range(n)[part][at] for n, part, at in zip(sizes, slices, step, strict=True))
                for sizes, slices in ((geometry.output_size, window_slices), (size, element_slices))
            )
            found.add((j, m, i))
    assert found == links


@given(windows())
def test_stages_read_the_same_windows_axis_by_axis(drawn):
    size, kernel, keywords = drawn
    totals = np.arange(np.prod(size)).reshape(1, 1, *size).astype(float)
    expected = reference.avg_pool(totals, kernel, **keywords) * np.prod(kernel)
    for stage in geometry_of(drawn).stages:
        pool = {"stride": stage.stride, "dilation": stage.dilation, "padding": list(stage.padding)}
        totals = reference.avg_pool(totals, stage.kernel_size, **pool) * stage.taps
    assert np.allclose(totals, expected, rtol=1e-12)


@given(windows(), st.data())
def test_a_block_of_a_convolution_is_a_convolution_of_a_slice(drawn, data):
    """What every blockwise run rests on: restrict gives the slice and the padding that remains."""
    size, kernel, keywords = drawn
    geometry = geometry_of(drawn)
    block = [sorted(data.draw(st.tuples(st.integers(0, o - 1), st.integers(1, o)))) for o in geometry.output_size]
    block = [(start, max(stop, start + 1)) for start, stop in block]
    slices, part = geometry.restrict(block)
    assert part.output_size == tuple(stop - start for start, stop in block)
    assert all(0 <= s.start <= s.stop <= d for s, d in zip(slices, size, strict=True))
    x, w = normal((1, 2, *size)), normal((3, 2, *kernel), 1)
    whole = reference.conv(x, w, **keywords)
    piece = x[(..., *slices)]
    restricted = reference.conv(piece, w, stride=part.stride, dilation=part.dilation, padding=list(part.padding))
    assert np.allclose(restricted, whole[(..., *(slice(*edges) for edges in block))], rtol=0, atol=1e-12)


@given(windows())
def test_the_phases_of_the_strides_make_up_the_adjoint(drawn):
    """Each is a convolution without strides of some outputs by filters turned round, and gives inputs of its own."""
    size, kernel, keywords = drawn
    geometry = geometry_of(drawn)
    dy, w = normal((1, 2, *geometry.output_size)), normal((2, 3, *kernel), 1)
    dx = np.zeros((1, 3, *size))
    for inputs, taps, outputs, part in geometry.phases:
        filters = np.flip(w[(..., *taps)].swapaxes(0, 1), axis=tuple(range(2, w.ndim)))
        assert part.input_size == dy[(..., *outputs)].shape[2:]
        assert set(part.stride) == {1}
        assert np.count_nonzero(dx[(..., *inputs)]) == 0
        share = reference.conv(dy[(..., *outputs)], filters, dilation=part.dilation, padding=list(part.padding))
        dx[(..., *inputs)] = share
    expected = reference.conv_input_grad(dy, w, (1, 3, *size), **keywords)
    assert np.allclose(dx, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("word", PADDING_WORDS)
def test_padding_words_mean_what_the_contract_says(word):
    x, w = np.zeros((1, 1, 10)), np.zeros((1, 1, 4))
    lengths = {"valid": 7, "same": 10, "same_lower": 10, "causal": 10, "full": 13}
    assert xconv.conv(x, w, padding=word).shape == (1, 1, lengths[word])
    assert xconv.conv_output_shape((1, 1, 10), (1, 1, 4), padding=word) == (1, 1, lengths[word])


def test_same_puts_the_odd_element_where_it_says():
    assert window_geometry((10,), 4, stride=1, padding="same", dilation=1).padding == ((1, 2),)
    assert window_geometry((10,), 4, stride=1, padding="same_lower", dilation=1).padding == ((2, 1),)
    assert window_geometry((10,), 2, stride=3, padding="same", dilation=1).padding == ((0, 1),)


def test_causal_outputs_see_no_later_input():
    x, w = normal((1, 1, 8)), normal((1, 1, 3), 1)
    changed = x.copy()
    changed[..., 5:] += 1
    before, after = (xconv.conv(signal, w, padding="causal", dilation=2) for signal in (x, changed))
    assert np.array_equal(before[..., :5], after[..., :5])
    assert not np.array_equal(before[..., 5:], after[..., 5:])


@pytest.mark.parametrize("integer", [np.int64(2), np.uint8(2), np.array(2)], ids=["int64", "uint8", "0-d"])
def test_integers_of_array_libraries_are_integers(integer):
    assert xconv.conv_output_shape((1, 1, 8), (1, 1, 3), stride=integer, padding=[(integer, integer)]) == (1, 1, 5)


def test_sequences_may_be_lists_or_arrays():
    for stride in ([1, 2], (1, 2), np.array([1, 2])):
        assert xconv.conv_output_shape((1, 1, 8, 8), (1, 1, 3, 3), stride=stride) == (1, 1, 6, 3)
