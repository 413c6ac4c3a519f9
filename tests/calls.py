"""Every public function that takes arrays, called once: for tests of what all of them must do."""

from __future__ import annotations

import array_api_compat
import numpy as np
from geometries import normal

import xconv

SHAPES = {
    "x": (2, 4, 6, 5),
    "w": (6, 2, 3, 3),
    "b": (6,),
    "dy": (2, 6, 3, 3),
    "c": (4,),
    "col": (18, 36),
    "pooled": (2, 4, 3, 3),
}
CONV = {"stride": 2, "padding": 1, "groups": 2}
POOL = {"stride": 2, "padding": 1}
NONE: dict = {}


def transpose_backward(dy, x, w, *, stride, **words):
    return xconv.conv_transpose_backward(dy, x, w, stride=stride, output_padding=(stride - 1, 0), **words)


def unpooled(x, **words):
    return xconv.max_unpool(*xconv.max_pool(x, 3, return_indices=True, **words), 3, output_size=x.shape[2:], **words)


def applied(x, w, **words):
    vector = array_api_compat.array_namespace(x).reshape(x, (-1,))
    return xconv.linear_operator(w, x.shape, **words).matvec(vector)


def layer(x, w, b, dy):
    made = xconv.Convolution(w, b, stride=2, pad=1, groups=2)
    return made.forward(x), made.backward(dy), made.dW, made.db


def pooling(x, pooled):
    made = xconv.Pooling(3, 3, stride=2, pad=1)
    return made.forward(x), made.backward(pooled)


# Operands by their names in SHAPES, keywords, and the function.
CALLS = {
    "conv": ("x w b", CONV, xconv.conv),
    "conv_transpose": ("dy w c", CONV, xconv.conv_transpose),
    "conv_transpose_backward": ("x dy w", CONV, transpose_backward),
    "conv_input_grad": ("dy w", CONV, lambda dy, w, **words: xconv.conv_input_grad(dy, w, SHAPES["x"], **words)),
    "conv_weight_grad": ("dy x", CONV, lambda dy, x, **words: xconv.conv_weight_grad(dy, x, 3, **words)),
    "conv_backward": ("dy x w", CONV | {"flip": True}, xconv.conv_backward),
    "linear_operator": ("x w", CONV, applied),
    "im2col": ("x", POOL, lambda x, **words: xconv.im2col(x, 3, **words)),
    "col2im": ("col", POOL, lambda col, **words: xconv.col2im(col, SHAPES["x"], 3, **words)),
    "max_pool": ("x", POOL, lambda x, **words: xconv.max_pool(x, 3, return_indices=True, **words)),
    "max_unpool": ("x", POOL, unpooled),
    "avg_pool": ("x", POOL, lambda x, **words: xconv.avg_pool(x, 3, **words)),
    "max_pool_grad": ("pooled x", POOL, lambda dy, x, **words: xconv.max_pool_grad(dy, x, 3, **words)),
    "avg_pool_grad": ("pooled", POOL, lambda dy, **words: xconv.avg_pool_grad(dy, SHAPES["x"], 3, **words)),
    "Convolution": ("x w b dy", NONE, layer),
    "Pooling": ("x pooled", NONE, pooling),
}
# Or of JAX's alone, or modules.
WITHOUT_ARRAYS = {"choose_method", "conv_output_shape", "halo", "plan", "layers", "ndimage", "signal", "testing"}
BY_METHOD = [name for name in CALLS if name.startswith("conv")]


def operands(name, dtype="float64", stride=2):
    """Those of a call, as NumPy's arrays."""
    shapes = SHAPES | ({"dy": (2, 6, 6, 5)} if stride == 1 else {})
    return [normal(shapes[operand], seed, dtype) for seed, operand in enumerate(CALLS[name][0].split())]


def results(name, arrays, **more):
    """What a call gives, as a tuple."""
    _, words, function = CALLS[name]
    found = function(*arrays, **words | more)
    return found if isinstance(found, tuple) else (found,)


def assert_close(found, expected, to_numpy=np.asarray):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.allclose(to_numpy(one), other, rtol=1e-12, atol=1e-12)
