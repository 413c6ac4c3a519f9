"""Promises about the package as a whole: names, imports, and tests that can fail."""

from __future__ import annotations

import ast
import inspect
import pathlib
import subprocess
import sys
from typing import get_args

import pytest

import xconv
from xconv._methods import METHODS, Method
from xconv._plan.choice import AUTOMATIC

PACKAGE = pathlib.Path(xconv.__file__).parent

PUBLIC = {
    "Convolution",
    "Pooling",
    "avg_pool",
    "avg_pool_grad",
    "choose_method",
    "col2im",
    "conv",
    "conv_backward",
    "conv_input_grad",
    "conv_output_shape",
    "conv_transpose",
    "conv_transpose_backward",
    "conv_weight_grad",
    "halo",
    "im2col",
    "layers",
    "linear_operator",
    "max_pool",
    "max_pool_grad",
    "max_unpool",
    "ndimage",
    "plan",
    "signal",
    "testing",
}

MODULES = {"layers", "ndimage", "signal", "testing"}

# Who may import whom: each module only what stands after it.
DOWNWARDS = [
    "__main__",
    "demo",
    "__init__",
    "layers",
    "ndimage",
    "signal",
    "testing",
    "_correlate",
    "_operator",
    "_choose",
    "_conv",
    "_pool",
    "_im2col",
    "_halo",
    "_progress",
    "_run",
    "_methods",
    "_arrays",
    "_plan",
]

SIGNATURES = {
    "im2col": "(x, kernel_size, *, stride=1, padding=0, dilation=1, pad_value=0)",
    "col2im": "(col, input_shape, kernel_size, *, stride=1, padding=0, dilation=1)",
    "conv": "(x, w, b=None, *, stride=1, padding=0, dilation=1, groups=1, padding_mode='zeros', flip=False, "
    "channel_axis=1, method='auto', max_workspace=None)",
    "conv_transpose": "(x, w, b=None, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1, "
    "padding_mode='zeros', flip=False, channel_axis=1, method='auto', max_workspace=None)",
    "conv_transpose_backward": "(dy, x, w, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1, "
    "padding_mode='zeros', flip=False, channel_axis=1, method='auto', max_workspace=None)",
    "conv_input_grad": "(dy, w, input_shape, *, stride=1, padding=0, dilation=1, groups=1, padding_mode='zeros', "
    "flip=False, channel_axis=1, method='auto', max_workspace=None)",
    "conv_weight_grad": "(dy, x, kernel_size, *, stride=1, padding=0, dilation=1, groups=1, padding_mode='zeros', "
    "flip=False, channel_axis=1, method='auto', max_workspace=None)",
    "conv_backward": "(dy, x, w, *, stride=1, padding=0, dilation=1, groups=1, padding_mode='zeros', flip=False, "
    "channel_axis=1, method='auto', max_workspace=None)",
    "linear_operator": "(w, input_shape, *, stride=1, padding=0, dilation=1, groups=1, padding_mode='zeros', "
    "flip=False, channel_axis=1, method='auto', max_workspace=None)",
    "max_pool": "(x, kernel_size, *, stride=None, padding=0, dilation=1, ceil_mode=False, channel_axis=1, "
    "max_workspace=None, return_indices=False)",
    "max_unpool": "(y, indices, kernel_size, *, stride=None, padding=0, output_size=None, channel_axis=1)",
    "avg_pool": "(x, kernel_size, *, stride=None, padding=0, dilation=1, ceil_mode=False, count_include_pad=True, "
    "channel_axis=1, max_workspace=None)",
    "max_pool_grad": "(dy, x, kernel_size, *, stride=None, padding=0, dilation=1, ceil_mode=False, channel_axis=1, "
    "max_workspace=None)",
    "avg_pool_grad": "(dy, input_shape, kernel_size, *, stride=None, padding=0, dilation=1, ceil_mode=False, "
    "count_include_pad=True, channel_axis=1, max_workspace=None)",
    "halo": "(x, kernel_size, axis_name, *, axis=2, stride=1, padding='same', dilation=1, padding_mode='zeros')",
    "conv_output_shape": "(input_shape, weight_shape, *, stride=1, padding=0, dilation=1, groups=1, channel_axis=1)",
    "choose_method": "(input_shape, weight_shape, *, xp, dtype, stride=1, padding=0, dilation=1, groups=1, "
    "padding_mode='zeros', channel_axis=1, max_workspace=None, function='conv')",
    "plan": "(input_shape, weight_shape, *, xp, dtype, function='conv', measure=False, stride=1, padding=0, "
    "dilation=1, groups=1, padding_mode='zeros', channel_axis=1, method='auto', max_workspace=None, output_padding=0)",
    "Convolution": "(W, b, stride=1, pad=0, *, dilation=1, groups=1, padding_mode='zeros', method='direct')",
    "Pooling": "(pool_h, pool_w, stride=2, pad=0)",
}


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_all_is_exact():
    assert set(xconv.__all__) == PUBLIC
    assert all(hasattr(xconv, name) for name in PUBLIC)
    names = run_python("import xconv; print(*(name for name in vars(xconv) if not name.startswith('_')))")
    assert set(names.split()) == PUBLIC  # in a fresh process: importing xconv.demo adds its name
    assert xconv.testing.__all__ == ["check_adjoint", "check_gradient", "numerical_gradient"]


def test_nothing_else_shows():
    assert set(dir(xconv)) == PUBLIC
    assert dir(xconv.layers) == ["Convolution", "Pooling"]
    assert dir(xconv.testing) == xconv.testing.__all__


def test_methods_are_those_that_there_are():
    assert set(get_args(Method)) == {*AUTOMATIC, *METHODS, "native"}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_the_contract(name):
    signature = inspect.signature(getattr(xconv, name))
    bare = signature.replace(
        parameters=[parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()],
        return_annotation=signature.empty,
    )
    assert str(bare) == SIGNATURES[name]


def test_importing_xconv_loads_no_array_library():
    libraries = ["numpy", "cupy", "jax", "torch", "dask", "array_api_strict", "rich", "matplotlib"]
    loaded = run_python(f"import sys, xconv; print([name for name in {libraries} if name in sys.modules])")
    assert loaded == "[]"


def test_importing_xconv_loads_nothing_that_takes_as_long_as_itself():
    """Dataclasses and array_api_compat both load inspect; what stands for arrays comes with the first of them."""
    slow = {"array_api_compat", "dataclasses", "inspect", "random"}
    loaded = run_python(f"import sys; bare = set(sys.modules); import xconv; print({slow} & sys.modules.keys() - bare)")
    assert loaded == "set()"


def test_imports_go_downwards_only():
    """A module may import what stands below it, its own package, and nothing else of xconv."""
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        for imported in imported_modules(path, len(parts)):
            own = parts[0]
            assert own in DOWNWARDS, f"{own} needs its place in the order"
            assert imported == own or DOWNWARDS.index(imported) > DOWNWARDS.index(own), f"{path} imports {imported}"


def imported_modules(path, depth):
    """The modules directly below xconv that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "xconv":
            names = [*node.module.split("."), "__init__"][1:2]
        else:
            continue
        yield from (name if name in DOWNWARDS else "__init__" for name in names)


def test_no_assert_statement_in_the_package():
    """Python drops assert statements under -O, and they do not say what was expected."""
    asserts = [
        (path.name, node.lineno)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert asserts == []


def test_reference_and_xconv_are_independent():
    text = (pathlib.Path(__file__).parent / "reference.py").read_text()
    names = {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"collections", "copy", "functools", "itertools", "math", "numpy"}


def unasserting_tests(sources):
    """Names of test functions that neither assert nor call a function, of those in the sources, that does."""
    functions = {
        node.name: node
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }
    asserting = {name for name, node in functions.items() if any(isinstance(n, ast.Assert) for n in ast.walk(node))}
    while True:
        callers = {name for name, node in functions.items() if called_names(node) & asserting} - asserting
        if not callers:
            return sorted(name for name in functions if name.startswith("test_") and name not in asserting)
        asserting |= callers


def called_names(node):
    calls = (call.func for call in ast.walk(node) if isinstance(call, ast.Call))
    return {func.id for func in calls if isinstance(func, ast.Name)}


def test_every_test_asserts():
    sources = [path.read_text() for path in pathlib.Path(__file__).parent.glob("*.py")]
    assert unasserting_tests(sources) == []


def test_the_guard_finds_a_test_that_does_not():
    source = (
        "def check(): assert 1\ndef idle(): pass\ndef test_a(): check()\ndef test_b(): idle()\ndef test_c(): pass\n"
    )
    assert unasserting_tests([source]) == ["test_b", "test_c"]


def test_arrays_are_turned_round_in_one_place():
    """In the dtypes that each library turns."""
    places = [path.name for path in PACKAGE.rglob("*.py") if "xp.flip(" in path.read_text()]
    assert places == ["elements.py"]
