"""Calls of JAX's arrays outside of ``jax.jit`` are compiled whole, as JAX's own functions are."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from geometries import normal

import xconv
from xconv import ndimage, signal

COMPILED = "/jax/core/compile/backend_compile_duration"
FEW = 4  # of the call, of its operands on their way in and of its result
CALLS = {
    "im2col": lambda x: xconv.im2col(x, 3, padding=1),
    "max_pool": lambda x: xconv.max_pool(x, 3, stride=2),
    "avg_pool": lambda x: xconv.avg_pool(x, [3, 2], stride=(2, 1)),
    "max_pool_grad": lambda x: xconv.max_pool_grad(x[:, :, 1:-1, 1:-1], x, 3, stride=1),
    "direct": lambda x: xconv.conv(x, x[:, :, :3, :3], method="direct"),
    "fft": lambda x: xconv.conv(x, x[:, :, :5, :5], method="fft"),
    "winograd": lambda x: xconv.conv(x, x[:, :, :3, :3], method="winograd"),
    "weight_grad": lambda x: xconv.conv_weight_grad(x[:, :, 2:, 2:], x, 3, method="im2col"),
    "gaussian_filter": lambda x: ndimage.gaussian_filter(x, 1),
    "sobel": ndimage.sobel,
    "correlate": lambda x: ndimage.correlate(x, x[:1, :1, :3, :3]),
    "maximum_filter": lambda x: ndimage.maximum_filter(x, 3),
    "fftconvolve": lambda x: signal.fftconvolve(x, x, axes=(2, 3)),
}


@pytest.fixture
def jax_module(jax_backend):
    import jax

    return jax


@contextlib.contextmanager
def compilations(jax):
    """How many programs are compiled meanwhile."""
    found = []

    def listen(event, seconds, **about):
        found.extend([event] if event == COMPILED else [])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_one_program(jax_module, name):
    x = jax_module.numpy.asarray(normal((1, 1, 19, 23), dtype="float32"))
    operands = x[:, :, 1:-1, 1:-1], x[:, :, 2:, 2:], x[:, :, :3, :3], x[:, :, :5, :5], x[:1, :1, :3, :3]
    jax_module.block_until_ready(operands)  # slices are programs, too
    with compilations(jax_module) as first:
        y = CALLS[name](x)
    with compilations(jax_module) as second:
        again = CALLS[name](x)
    assert 0 < len(first) <= FEW
    assert not second
    assert np.array_equal(y, again)


def test_what_a_derivative_runs_is_compiled_too(jax_module):
    x = jax_module.numpy.asarray(normal((1, 1, 20, 21), dtype="float32"))
    gradient = jax_module.grad(lambda x: xconv.max_pool(x, 3, stride=2).sum())
    with compilations(jax_module) as first:
        gradient(x)
    with compilations(jax_module) as second:
        gradient(x)
    assert 0 < len(first) < 12
    assert not second


def test_a_number_that_may_be_another_each_time_is_compiled_when_it_comes_again(jax_module):
    x = jax_module.numpy.asarray(normal((22, 21), dtype="float32"))
    results = [np.asarray(ndimage.gaussian_filter(x, 1.5))]
    with compilations(jax_module) as found:
        ndimage.gaussian_filter(x, 1.51)
    assert not found  # the operations are the same
    with compilations(jax_module) as found:
        results += [np.asarray(ndimage.gaussian_filter(x, 1.5)) for _ in range(3)]
    assert len(found) == 1
    np.testing.assert_allclose(results[1:], [results[0]] * 3, rtol=1e-5, atol=1e-6)


def test_words_are_told_apart_that_are_equal_to_python(jax_module):
    x = jax_module.numpy.ones((1, 1, 4, 4))
    assert xconv.max_pool(x, 1, stride=1).shape == (1, 1, 4, 4)
    for size in (True, 1.0):
        with pytest.raises(ValueError, match="kernel_size must be"):
            xconv.max_pool(x, size, stride=1)


def test_arguments_are_those_of_the_function(jax_module):
    x = jax_module.numpy.ones((4, 4))
    with pytest.raises(TypeError, match="multiple values for argument 'input'"):
        ndimage.gaussian_filter(x, 1, input=x)
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        xconv.im2col(x[None, None], 2, 1)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'sigma'"):
        ndimage.gaussian_filter(x)
    assert ndimage.gaussian_filter(sigma=1, input=x).shape == (4, 4)


def test_errors_are_those_of_the_function(jax_module):
    x = jax_module.numpy.ones((1, 1, 4, 4))
    with pytest.raises(ValueError, match="kernel_size must fit the padded input") as error:
        xconv.max_pool(x, 9)
    assert not getattr(error.value, "__notes__", [])
    assert error.value.__context__ is None


def test_what_warns_warns_each_time(jax_module):
    x = jax_module.numpy.ones((4, 4), dtype="complex64")
    for _ in range(3):
        with pytest.warns(UserWarning, match="ignoring size because footprint is set"):
            ndimage.maximum_filter(x.real, 3, footprint=np.ones((3, 3), bool))
        with pytest.warns(UserWarning, match="promoting specified output dtype to complex"):
            assert ndimage.uniform_filter(x, 3, output=jax_module.numpy.float32).dtype == x.dtype
    assert ndimage.uniform_filter(x.real, 3, output=jax_module.numpy.float16).dtype == "float16"


def test_numbers_of_other_classes_are_not_told_apart(jax_module):
    """By what they say of themselves, or by memory that is not all of them."""

    class Alike(float):
        def __repr__(self):
            return "alike"

    x = jax_module.numpy.asarray(normal((9, 8)))
    for middle in (2.0, 50.0):
        taps = np.ma.array([1.0, middle, 3.0], mask=[0, 1, 0])
        for _ in range(3):
            filtered = ndimage.correlate1d(x, taps), ndimage.gaussian_filter(x, Alike(middle / 10))
        assert np.allclose(filtered[0], ndimage.correlate1d(np.asarray(x), taps.data))
        assert np.allclose(filtered[1], ndimage.gaussian_filter(np.asarray(x), middle / 10))


def test_integers_among_values_are_compiled_when_they_come_again(jax_module):
    x = jax_module.numpy.asarray(normal((23, 22), dtype="float32"))
    ndimage.correlate1d(x, [7, 1, 2], mode="constant", cval=3)
    for words in ({"weights": [8, 1, 2], "cval": 3}, {"weights": [7, 1, 2], "cval": 4}):
        with compilations(jax_module) as found:
            ndimage.correlate1d(x, mode="constant", **words)
        assert not found
    with compilations(jax_module) as found:
        ndimage.correlate1d(x, [7, 1, 2], mode="constant", cval=3)
    assert len(found) == 1


def test_functions_are_other_ones_each_time(jax_module):
    x = jax_module.numpy.asarray(normal((9, 8)))
    for factor in (1.0, 2.0):
        second = ndimage.generic_laplace(x, lambda x, axis, output, mode, cval, factor=factor: x * factor)
        assert np.array_equal(second, 2 * factor * x)


def test_lists_and_arrays_of_numpy_are_words(jax_module):
    x = jax_module.numpy.asarray(normal((9, 8)))
    for taps in ([1.0, 2.0, 1.0], np.array([1.0, 2.0, 1.0]), np.array([1.0, 3.0, 1.0])):
        for _ in range(3):
            y = ndimage.correlate1d(x, taps, axis=0)
        assert np.allclose(y, ndimage.correlate1d(np.asarray(x), np.array(taps), axis=0), rtol=1e-12)


def test_every_public_function_that_is_compiled_names_its_operands(jax_module):
    from xconv._arrays import entrance_jax

    compiled = {key: one for key, one in entrance_jax.PUBLIC.items() if not key.startswith(entrance_jax.PLANNED)}
    first = {key: one.__code__.co_varnames[0] for key, one in compiled.items()}
    assert len(first) > 20
    assert not {key for key, name in first.items() if name not in entrance_jax.OPERANDS}


STRICT = CALLS | {
    **{
        f"a bias by {method}": lambda x, method=method: xconv.conv(x, x[:, :, :3, :3], x[:, 0, 0, 0], method=method)
        for method in ("im2col", "winograd", "fft", "toeplitz", "native")
    },
    "indices": lambda x: xconv.max_pool(x, 3, return_indices=True),
    "max_unpool": lambda x: xconv.max_unpool(*xconv.max_pool(x, 2, return_indices=True), 2),
    "counts": lambda x: xconv.avg_pool(x, 3, padding=1, count_include_pad=False),
    "avg_pool_grad": lambda x: xconv.avg_pool_grad(xconv.avg_pool(x, 3, padding=1), x.shape, 3, padding=1),
}


@pytest.mark.parametrize("name", STRICT)
def test_nothing_of_fewer_axes_is_broadcast_in_silence(jax_module, name):
    """As JAX refuses to, where it is told."""
    x = jax_module.numpy.asarray(normal((4, 4, 12, 13), seed=3).astype("float32"))
    expected = STRICT[name](x)
    with jax_module.numpy_rank_promotion("raise"):
        found = jax_module.jit(STRICT[name])(x)
    for one, other in zip(jax_module.tree.leaves(found), jax_module.tree.leaves(expected), strict=True):
        assert one.shape == other.shape
        assert np.allclose(one, other, atol=1e-4)
