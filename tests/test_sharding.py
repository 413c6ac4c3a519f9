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

import xconv

DEVICES = 4
BYTES = {"pred": 1, "f32": 4, "c64": 8}  # of XLA's dtypes
WITH_WEIGHTS = ("conv_backward", "conv_weight_grad", "conv_transpose_backward")  # among the results, behind a dx
METHODS = ("im2col", "winograd", "fft", "native", "toeplitz", "auto")


def functions(methods):
    """Every public function of x (8, 8, 8, 8) and w (8, 8, 3, 3), many with odd sizes inside."""

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
        **{f"gradients by {name}": functools.partial(gradients, method=method) for name, method in methods.items()},
        "im2col": lambda x, w: xconv.im2col(x, 3, pad_value=2, **strided),
        "col2im": lambda x, w: xconv.col2im(xconv.im2col(x, 3, **strided), x.shape, 3, **strided),
        "max_pool": lambda x, w: xconv.max_pool(x, 3, **strided),
        "max_unpool": lambda x, w: xconv.max_unpool(*xconv.max_pool(x, 2, return_indices=True), 2),
        "max_pool_grad": lambda x, w: xconv.max_pool_grad(xconv.max_pool(x, 2), x, 2),
        "avg_pool": lambda x, w: xconv.avg_pool(x, 3, count_include_pad=False, **strided),
        "avg_pool_grad": lambda x, w: xconv.avg_pool_grad(x, large, 2),
    }


def gradients(x, w, method):
    """Of the sum of all squares, by JAX where arrays are its own."""
    if isinstance(x, np.ndarray):
        return [2 * one for one in xconv.conv_backward(xconv.conv(x, w, padding=1), x, w, padding=1)[:2]]
    import jax

    return jax.grad(lambda x, w: (xconv.conv(x, w, padding=1, method=method) ** 2).sum(), (0, 1))(x, w)


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
    every = functions({name: name for name in METHODS[axis::3]}).items()  # each method by one axis
    # Eagerly each operation compiles for itself: the two kinds take turns, so that both meet every function and axis.
    turn = ("Auto", "Explicit").index(kind) + axis
    for name, function in every if how == "jit" else [*every][turn % 2 :: 2]:
        if name.startswith("gradients") and (kind, how) == ("Explicit", "eager"):  # whose sums want a mesh
            continue
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


def drawn(count=8):
    """What differs from NumPy's, or fails, of calls drawn at random, of arrays divided by a drawn axis."""
    import jax
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    rng, mesh = np.random.default_rng(0), jax.make_mesh((DEVICES,), ("i",))
    modes = ("zeros", "reflect", "symmetric", "replicate", "circular")
    for number in range(int(count)):
        groups, kernel = int(rng.integers(1, 3)), rng.integers(1, 4, 2).tolist()
        shape = tuple(DEVICES * rng.integers(1, 4, 4))
        words = {name: rng.integers(1, 3, 2).tolist() for name in ("stride", "dilation")}
        words |= {"padding": rng.integers(0, 4, (2, 2)).tolist(), "padding_mode": modes[number % len(modes)]}
        pools = {"stride": words["stride"], "ceil_mode": True}
        x, w, axis = rng.normal(size=shape), rng.normal(size=(4, shape[1] // groups, *kernel)), int(rng.integers(4))

        def call(x, w, words=words, groups=groups, pools=pools):
            y = xconv.conv(x, w, groups=groups, **words)
            return y, *xconv.conv_backward(y, x, w, groups=groups, **words), xconv.max_pool(x, 3, **pools)

        placed = jax.device_put(x, NamedSharding(mesh, P(*(None,) * axis, "i")))
        for one, other in zip(jax.jit(call)(placed, w), call(x, w), strict=True):
            if one.shape != other.shape or not np.allclose(one, other, atol=1e-8):
                yield f"{shape} by axis {axis}, {groups} groups of {kernel}, {words}: wrong"


def unevenly():
    """What is wrong of arrays that are divided by some axes of a mesh, whose borders and results are no even parts."""
    import jax
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    rng = np.random.default_rng(0)
    one, two = (P(None, None, "i"), P(None, None, None, "i")), (P("i"), P(None, None, "i"), P("i", None, "j"))
    x = rng.normal(size=(4, 4, 8, 8))
    for number, (sizes, spec, mode, groups) in enumerate(
        (*case, mode, groups)
        for case in (*[((4,), spec) for spec in one], *[((2, 2), spec) for spec in two])
        for mode in ("zeros", "reflect", "circular")
        for groups in (1, 2)
    ):
        mesh = jax.make_mesh(sizes, ("i", "j")[: len(sizes)], axis_types=(AxisType.Auto,) * len(sizes))
        w = rng.normal(size=(4, 4 // groups, 3, 3))

        def call(x, w, method, mode=mode, groups=groups):
            words = {"padding": 1, "padding_mode": mode, "groups": groups, "method": method}
            y = xconv.conv(x, w, **words)
            return y, *jax.grad(lambda x, w: (xconv.conv(x, w, **words) ** 2).sum(), (0, 1))(x, w)

        operands = jax.device_put(x, NamedSharding(mesh, spec)), jax.device_put(w, NamedSharding(mesh, P()))
        expected = call(jax.numpy.asarray(x), jax.numpy.asarray(w), "im2col")
        for method in ("auto", "fft") if number % 2 else ("auto", "im2col"):
            run = functools.partial(call, method=method)
            found = (run if number % 4 == 3 else jax.jit(run))(*operands)
            for name, ours, theirs in zip(("y", "dx", "dw"), found, expected, strict=True):
                if not np.allclose(ours, theirs, atol=1e-8):
                    yield f"{name} by {method}, {mode}, {groups} groups, {spec} of {sizes}: wrong"
    try:
        xconv.conv(*operands, groups=groups, method="native")
    except ValueError as error:
        if "got a mesh of 2 axes" not in str(error):
            yield str(error)
    else:
        yield "native: not refused"


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
        for dtype, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            size = math.prod(map(int, filter(None, sizes.split(","))))
            found[kind] = found.get(kind, 0) + BYTES[dtype] * size
    return found


def both_ways(groups):
    """The three products by "auto"."""

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
    """Where "auto" does not take what it should for x of 6.6 MB, for which it is not native on one device."""
    import jax
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    from xconv._plan.remembered import forget
    from xconv._run import runners

    def stop(*arguments):
        raise ChosenError(choose(*arguments).method)

    choose, runners.choose = runners.choose, stop
    mesh, x, w = sharded("Auto", 0, (8, 512, 20, 20), (512, 512, 3, 3))
    _, replicated, narrow = sharded("Auto", None, x.shape, (512, 128, 3, 3))
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


# Windows over an axis of which each of 8 devices has 4 elements: kernel, stride, dilation, padding and its mode.
HALOS = (
    (3, 1, 1, "same", "zeros"),
    (4, 1, 1, "same_lower", "zeros"),
    (3, 2, 1, 1, "zeros"),
    (7, 2, 1, 3, "circular"),
    (4, 1, 1, "causal", "reflect"),
    (2, 2, 1, "valid", "zeros"),
    (1, 4, 1, 0, "zeros"),
    (4, 4, 1, (3, 0), "symmetric"),
    (5, 1, 1, (1, 3), "replicate"),
    (5, 1, 2, "same", "symmetric"),
    (11, 1, 1, "same", "zeros"),  # from two devices on either side
    (21, 2, 1, (19, 0), "circular"),
    (9, 1, 7, "same", "circular"),  # and once round
    (71, 1, 1, "same", "zeros"),  # from all, and beyond
)


def halos():
    """Where sums over windows of parts with halos, or their gradients, are not those of the whole, of integers."""
    import jax
    from jax.sharding import PartitionSpec as P

    mesh, x, *filters = sharded("Auto", 2, (2, 2, 32), *((3, 2, case[0]) for case in HALOS))
    x, *filters = (jax.numpy.round(3 * operand) for operand in (x, *filters))

    def parts(x, *filters):
        given = [
            xconv.halo(x, k, "i", stride=s, padding=p, dilation=a, padding_mode=mode) for k, s, a, p, mode in HALOS
        ]
        steps = [(s, a) for _, s, a, _, _ in HALOS]
        every = zip(given, filters, steps, strict=True)
        return [xconv.conv(part, w, stride=s, dilation=a, method="im2col") for part, w, (s, a) in every]

    rows = P(None, None, "i")
    divided = jax.shard_map(parts, mesh=mesh, in_specs=(rows, *(P() for _ in HALOS)), out_specs=rows)
    results, adjoint = jax.vjp(jax.jit(divided), x, *filters)
    dys = [jax.numpy.round(2 * jax.numpy.sin(7 * y + 1)) for y in results]
    dx, *dws = map(np.asarray, adjoint(dys))
    sum_dx, x = np.zeros_like(dx), np.asarray(x)
    for case, w, y, dy, dw in zip(HALOS, filters, results, dys, dws, strict=True):
        k, s, a, p, mode = case
        w, dy, padding = np.asarray(w), np.asarray(dy), [p] if isinstance(p, tuple) else p
        keywords = {"stride": s, "padding": padding, "dilation": a, "padding_mode": mode, "method": "im2col"}
        if not np.array_equal(y, xconv.conv(x, w, **keywords)):
            yield f"{case}: wrong"
        if not np.array_equal(dw, xconv.conv_weight_grad(dy, x, k, **keywords)):
            yield f"{case}: wrong gradient of the filters"
        sum_dx += xconv.conv_input_grad(dy, w, x.shape, **keywords)
    if not np.array_equal(dx, sum_dx):
        yield "wrong gradient of x"


def halo_bytes():
    """Where a method moves more than the halo of x (8, 16, 64, 64), and in gradients that of dx and the sum of dw."""
    import jax
    from jax.sharding import PartitionSpec as P

    mesh, x, w = sharded("Auto", 2, (8, 16, 64, 64), (16, 16, 3, 3))
    halo, rows = 4 * 2 * 8 * 16 * 64, P(None, None, "i")
    for method in METHODS:

        def layer(x, w, method=method):
            return xconv.conv(xconv.halo(x, w.shape[2], "i"), w, padding=[(0, 0), (1, 1)], method=method)

        run = jax.shard_map(layer, mesh=mesh, in_specs=(rows, P()), out_specs=rows)
        found = moved(run, x, w)
        if found != {"collective-permute": halo}:
            yield f"{method}: {found}"
        gradients = moved(jax.grad(lambda x, w, run=run: (run(x, w) ** 2).sum() / 2, (0, 1)), x, w)
        if gradients != {"collective-permute": 2 * halo, "all-reduce": 4 * w.size}:
            yield f"gradients by {method}: {gradients}"


def each_alone():
    """Where what a device finds of filters is not of its own samples."""
    import jax
    from jax.sharding import PartitionSpec as P

    mesh, x, dy = sharded("Auto", 0, (8, 4, 9, 8), (8, 6, 7, 6))
    for method in METHODS:

        def alone(dy, x, method=method):
            return xconv.conv_weight_grad(dy, x, 3, method=method)[None]

        found = jax.shard_map(alone, mesh=mesh, in_specs=P("i"), out_specs=P("i"))(jax.device_put(dy, x.sharding), x)
        for at, one in enumerate(found):
            some = slice(at, at + 1)
            expected = xconv.conv_weight_grad(np.asarray(dy)[some], np.asarray(x)[some], 3, method="im2col")
            if not np.allclose(one, expected, atol=1e-3):
                yield f"{method}: wrong on device {at}"


def training():
    """Where a step of two layers, of rows and columns over several devices, differs from that on one."""
    import jax
    from jax.sharding import AxisType
    from jax.sharding import PartitionSpec as P

    mesh = jax.make_mesh((4, 2), ("rows", "columns"), axis_types=(AxisType.Auto,) * 2)
    rng = np.random.default_rng(0)
    x, t, *filters = (
        jax.numpy.asarray(rng.normal(size=s)) for s in ((2, 3, 32, 16), (2, 5, 16, 8), (4, 3, 3, 3), (5, 4, 5, 5))
    )

    def around(x, w, stride):
        for axis, name in ((2, "rows"), (3, "columns")):
            x = xconv.halo(x, w.shape[axis], name, axis=axis, stride=stride)
        return xconv.conv(x, w, stride=stride)

    def network(x, filters, layer):
        return layer(jax.numpy.tanh(layer(x, filters[0], 1)), filters[1], 2)

    def step(run, filters):
        gradients = jax.grad(lambda filters: ((run(x, filters) - t) ** 2).mean())(filters)
        return [w - 0.5 * dw for w, dw in zip(filters, gradients, strict=True)]

    image = P(None, None, "rows", "columns")
    local = functools.partial(network, layer=around)
    divided = jax.shard_map(local, mesh=mesh, in_specs=(image, P()), out_specs=image)
    whole = functools.partial(network, layer=lambda x, w, s: xconv.conv(x, w, stride=s, padding="same"))
    for w, old, found in zip(
        jax.jit(functools.partial(step, whole))(filters), filters, step(jax.jit(divided), filters), strict=True
    ):
        error = np.max(np.abs(found - w)) / np.max(np.abs(old - w))
        if not error < 1e-13:
            yield f"a step differs by {error} of itself"


def partly():
    """Where rows by halos, and columns that JAX is told of, differ from the whole."""
    import jax
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    mesh = jax.make_mesh((2, 4), ("i", "j"), axis_types=(AxisType.Auto, AxisType.Explicit))
    _, x, w = sharded("Auto", None, (2, 2, 8, 8), (3, 2, 3, 3))
    rows = P(None, None, "i")

    def layer(x, w):
        return xconv.conv(xconv.halo(x, 3, "i"), w, padding=[(0, 0), (1, 1)])

    divided = jax.shard_map(layer, mesh=mesh, in_specs=(rows, P()), out_specs=rows, axis_names={"i"})
    operands = [
        jax.device_put(np.asarray(a), NamedSharding(mesh, s)) for a, s in ((x, P(None, None, None, "j")), (w, P()))
    ]
    with jax.set_mesh(mesh):
        y = jax.jit(divided)(*operands)
    if not np.allclose(y, xconv.conv(np.asarray(x), np.asarray(w), padding=1), atol=1e-5):
        yield "wrong"


REFUSED = (  # keywords, and what the message says
    ({"axis_name": "j"}, r"axis_name must be an axis of the mesh.*'j'"),
    ({"kernel_size": (3, 3)}, r"kernel_size must be an int.*\(3, 3\)"),
    ({"axis": 3}, "axis must be one of the 3 axes of x, got 3"),
    ({"axis": 1}, "x must have at least one element along the axis on each device, got 0"),
    ({"axis": None}, "axis must be one of the 3 axes of x, got None"),
    ({"stride": 3}, "stride must divide the 4 elements of x.*got 3"),
    ({"padding": "valid"}, r"padding must give as many outputs on each device, 4 .*got 'valid'.*have 30.*from 2 to 2"),
    ({"padding": (3, 3), "stride": 2}, r"padding must give.*got \(3, 3\).*lo \+ hi from 1 to 2"),
    ({"padding": "sane"}, "padding must be one of.*'sane'"),
    ({"padding_mode": "constant"}, "padding_mode must be one of.*'constant'"),
    ({"kernel_size": 9, "padding_mode": "reflect"}, r"padding_mode 'reflect'.*\(4, 4\) elements beyond the 4"),
)


def refusals():
    """What is refused in other words, or not at all."""
    import jax
    from jax.sharding import PartitionSpec as P

    mesh, x = sharded("Auto", 2, (2, 0, 32))
    for keywords, words in REFUSED:
        call = functools.partial(xconv.halo, **{"kernel_size": 3, "axis_name": "i"} | keywords)
        try:
            jax.eval_shape(jax.shard_map(call, mesh=mesh, in_specs=P(None, None, "i"), out_specs=P(None, None, "i")), x)
        except ValueError as error:
            if not re.search(words, str(error)):
                yield f"{keywords}: {error}"
        else:
            yield f"{keywords}: not refused"


def test_halo_is_of_jax(jax_backend):
    with pytest.raises(
        TypeError, match=r"^x must be an array of JAX, inside jax.shard_map, got one of numpy$"
    ) as error:
        xconv.halo(np.ones((1, 1, 4)), 3, "i")
    with pytest.raises(ValueError, match=r"^axis_name must be an axis of the mesh, or several.*, got 'i'$"):
        xconv.halo(jax_backend.array(np.ones((1, 1, 4))), 3, "i")
    assert error.type is TypeError


@pytest.mark.parametrize(
    "name", ["movements", "choices", "halos", "halo_bytes", "each_alone", "training", "partly", "refusals"]
)
def test_what_is_divided_stays_where_it_is(jax_backend, name):
    assert in_process(8, name, **{"JAX_ENABLE_X64": "1"} if name == "training" else {}) == "done\n"


@pytest.mark.parametrize("how", ["eager", "jit"])
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_arrays_on_several_devices(jax_backend, kind, how):
    assert in_process(DEVICES, "on_every_axis", kind, how, JAX_ENABLE_X64="1") == "done\n"


@pytest.mark.parametrize("name", ["drawn", "unevenly"])
def test_calls_of_arrays_on_several_devices(jax_backend, name):
    assert in_process(DEVICES, name, JAX_ENABLE_X64="1") == "done\n"


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
