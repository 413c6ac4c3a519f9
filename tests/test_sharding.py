"""JAX's arrays that lie on several devices: by any axis, on meshes of either kind, eagerly and compiled."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

DEVICES = 4
WITH_WEIGHTS = ("conv_backward", "conv_weight_grad", "conv_transpose_backward")  # among the results, behind a dx
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
        "conv_transpose_backward": lambda x, w: xconv.conv_transpose_backward(
            xconv.conv_transpose(x, w, stride=2), x, w, stride=2
        ),
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
        weights = found[name != "conv_weight_grad" :] if name.startswith(WITH_WEIGHTS) else []
        if kind == "Explicit" and not all(one.sharding.is_fully_replicated for one in weights):
            yield f"{name}: weights are divided"


def on_every_axis(kind, how):
    for axis in (0, 1, 2):
        for failure in failures(kind, axis, how):
            yield f"axis {axis}, {failure}"


def sharded(kind, axis, *shapes):
    """A mesh of all devices, and float32 arrays of which the first is divided over them by an axis, if that is one."""
    import jax
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    mesh = jax.make_mesh((jax.device_count(),), ("i",), axis_types=(AxisType[kind],))
    specs = [P() if axis is None else P(*(None,) * axis, "i"), *(P() for _ in shapes[1:])]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    return mesh, *(jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(arrays, specs, strict=True))


def moved(function, *operands):
    """Bytes that the collective operations of the compiled program give on each device, by their kind."""
    import jax

    text, found = jax.jit(function).lower(*operands).compile().as_text(), {}
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    for shapes, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):
        sizes = [
            math.prod(map(int, filter(None, sizes.split(",")))) for sizes in re.findall(r"f32\[([\d,]*)\]", shapes)
        ]
        found[kind] = found.get(kind, 0) + 4 * sum(sizes)
    return found


def both_ways(groups):
    """The three products by "auto"."""
    import xconv

    def run(x, w):
        y = xconv.conv(x, w, padding=1, groups=groups)
        return y, *xconv.conv_backward(y, x, w, padding=1, groups=groups)[:2]

    return run


def movements():
    """Where "auto" moves more than halos, and gradients of filters to be added up, of x of 6.4 MB on 8 devices."""
    import jax

    samples, channels, height = 8, 64, 56
    halo = 4 * 2 * samples * channels * height  # a row above and one below
    for kind, axis, groups in (
        *(("Auto", axis, groups) for axis, groups in ((0, 1), (2, 1), (0, 4), (0, channels), (2, channels))),
        *(("Explicit", axis, 1) for axis in (0, 2)),
    ):
        mesh, x, w = sharded(kind, axis, (samples, channels, height, height), (channels, channels // groups, 3, 3))
        expected = {"all-reduce": 4 * math.prod(w.shape)}
        if axis == 2:  # of x for y and for dw, and of y for dx
            expected["collective-permute"] = 3 * halo
        with jax.set_mesh(mesh) if kind == "Explicit" else contextlib.nullcontext():
            found = moved(both_ways(groups), x, w)
        if found != expected:
            yield f"{kind}, axis {axis}, {groups} groups: {found}, not {expected}"


class ChosenError(Exception):
    """The method that a call would run, instead of running it."""


def choices():
    """Where "auto" does not take what it should for x of 6.4 MB, for which it is not native on one device."""
    import jax
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    import xconv
    from xconv._plan.remembered import forget
    from xconv._run import products

    def stop(*arguments):
        raise ChosenError(choose(*arguments).method)

    choose, products.choose = products.choose, stop
    mesh, x, w = sharded("Auto", 0, (8, 64, 56, 56), (64, 64, 3, 3))
    _, replicated, narrow = sharded("Auto", None, x.shape, (64, 16, 3, 3))
    alone = [jax.device_put(operand, jax.devices()[1]) for operand in (x, w)]
    plain = [np.asarray(operand) for operand in alone]
    conv = functools.partial(xconv.conv, padding=1)
    grouped, one_mib = functools.partial(conv, groups=4), {"max_workspace": 2**20}

    def inside_mesh(x, w):
        with jax.set_mesh(mesh):
            jax.make_jaxpr(conv)(x, w)

    shape, keywords = x.shape[1:], {"xp": jax.numpy, "dtype": x.dtype, "padding": 1}
    single, each = (xconv.choose_method((batch, *shape), w.shape, **keywords) for batch in (8, 1))
    if "native" in (single, each):
        yield f"native on one device: {single}, {each}"
    local = jax.shard_map(conv, mesh=mesh, in_specs=(P("i"), P()), out_specs=P("i"))
    wide = jax.make_mesh((4, 2), ("i", "j"), axis_types=(AxisType.Auto,) * 2)
    partly = jax.shard_map(conv, mesh=wide, in_specs=(P("i"), P()), out_specs=P("i"), axis_names={"i"})
    placed = [jax.device_put(operand, NamedSharding(wide, P())) for operand in (x, w)]
    for name, function, operands, expected in (
        ("eager", conv, (x, w), "native"),
        ("vmap", jax.vmap(lambda x, w: conv(x[None], w), (0, None)), (x, w), "native"),
        ("traced", jax.make_jaxpr(conv), (x, w), "native"),
        ("a mesh around it", inside_mesh, plain, "native"),
        ("groups", grouped, (x, narrow), "im2col"),
        ("groups that are more than fits", functools.partial(grouped, **one_mib), (x, narrow), "native"),
        ("integers", conv, (x.astype(int), w.astype(int)), "im2col"),
        ("integers that are more than fits", functools.partial(conv, **one_mib), (x.astype(int), w.astype(int)), None),
        ("on every device", conv, (replicated, w), single),
        ("on one device", conv, alone, single),
        ("traced on one device", jax.make_jaxpr(conv), plain, single),
        ("inside shard_map", jax.make_jaxpr(local), (x, w), each),
        ("inside shard_map of one of two axes", jax.make_jaxpr(jax.jit(partly)), placed, "native"),
    ):
        forget()
        try:
            function(*operands)
        except ChosenError as error:
            (found,) = error.args
            if expected not in (found, None):
                yield f"{name}: {found}, not {expected}"
        else:
            yield f"{name}: nothing chosen"
    try:
        conv(x, w, method="fft", max_workspace=3)
    except ValueError as error:  # which names what each device may hold, not all of them
        if not str(error).endswith("got 3"):
            yield str(error)


@pytest.mark.parametrize("name", ["movements", "choices"])
def test_what_is_divided_stays_where_it_is(jax_backend, name):
    assert in_process(8, name) == "done\n"


@pytest.mark.parametrize("how", ["eager", "jit"])
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_arrays_on_several_devices(jax_backend, kind, how):
    assert in_process(DEVICES, "on_every_axis", kind, how, JAX_ENABLE_X64="1") == "done\n"


def in_process(devices, name, *arguments, **environment):
    """What a function here finds in a process of its own: the number of devices is settled when JAX is loaded."""
    environment |= {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, str(pathlib.Path(__file__)), name, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    return process.stdout + (process.stderr if process.returncode else "")


if __name__ == "__main__":
    for failure in globals()[sys.argv[1]](*sys.argv[2:]):
        print(failure[:400])
    print("done")
