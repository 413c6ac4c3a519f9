"""JAX's arrays that lie on several devices: by any axis, on meshes of either kind, eagerly and compiled."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

DEVICES = 4
METHODS = ("im2col", "winograd", "fft", "native", "toeplitz", "auto")


def functions(methods):
    """Every public function of x (8, 8, 8, 8) and w (8, 8, 3, 3), many with odd sizes inside."""
    import xconv

    def backward(method):
        return lambda x, w: xconv.conv_backward(
            xconv.conv(x, w, padding=1, method=method), x, w, padding=1, method=method
        )

    strided, large = {"padding": 1, "stride": 2}, (8, 8, 16, 16)
    return {f"conv_backward {name}": backward(method) for name, method in methods.items()} | {
        "conv": lambda x, w: xconv.conv(x, w, w[:, 0, 0, 0]),
        "conv_transpose": lambda x, w: xconv.conv_transpose(x, w, w[:, 0, 0, 0], stride=2),
        "conv_input_grad": lambda x, w: xconv.conv_input_grad(x, w, large, **strided),
        "conv_weight_grad": lambda x, w: xconv.conv_weight_grad(xconv.conv(x, w, **strided), x, 3, **strided),
        "channels last": lambda x, w: xconv.conv(x, w, channel_axis=-1, padding="same", padding_mode="replicate"),
        "im2col": lambda x, w: xconv.im2col(x, 3, pad_value=2, **strided),
        "col2im": lambda x, w: xconv.col2im(xconv.im2col(x, 3, **strided), x.shape, 3, **strided),
        "max_pool": lambda x, w: xconv.max_pool(x, 3, **strided),
        "max_unpool": lambda x, w: xconv.max_unpool(*xconv.max_pool(x, 2, return_indices=True), 2),
        "max_pool_grad": lambda x, w: xconv.max_pool_grad(xconv.max_pool(x, 2), x, 2),
        "avg_pool": lambda x, w: xconv.avg_pool(x, 3, count_include_pad=False, **strided),
        "avg_pool_grad": lambda x, w: xconv.avg_pool_grad(x, large, 2),
    }


def failures(kind, axis, how):
    """What differs from NumPy, or fails, in this process, which has several devices."""
    import jax
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(8, 8, 8, 8)), rng.normal(size=(8, 8, 3, 3))
    plain = functions(dict.fromkeys(METHODS, "im2col"))
    mesh = jax.make_mesh((DEVICES,), ("i",), axis_types=(AxisType[kind],))
    x = jax.device_put(X, NamedSharding(mesh, P(*(None,) * axis, "i")))
    w = jax.device_put(W, NamedSharding(mesh, P()))
    assert len(x.sharding.device_set) == DEVICES
    for name, function in functions({name: name for name in METHODS[axis::3]}).items():  # each method by one axis
        expected = jax.tree.leaves(plain[name](X, W))
        try:
            with jax.set_mesh(mesh) if (kind, how) == ("Explicit", "jit") else contextlib.nullcontext():
                found = jax.block_until_ready(jax.tree.leaves((jax.jit(function) if how == "jit" else function)(x, w)))
        except Exception as error:
            yield f"{name}: {type(error).__name__}: {error}"
            continue
        for one, other in zip(found, expected, strict=True):
            if one.shape != other.shape or not np.allclose(one, other, atol=1e-9):
                yield f"{name}: wrong"


@pytest.mark.parametrize("how", ["eager", "jit"])
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_arrays_on_several_devices(jax_backend, kind, how):
    """In a process of its own, since the number of devices is settled when JAX is loaded."""
    environment = {
        **os.environ,
        "JAX_ENABLE_X64": "1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, str(pathlib.Path(__file__)), kind, how]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (process.stdout, process.returncode) == ("done\n", 0), process.stdout + process.stderr


if __name__ == "__main__":
    for axis in (0, 1, 2):
        for failure in failures(sys.argv[1], axis, sys.argv[2]):
            print(f"axis {axis}, {failure}"[:400])
    print("done")
