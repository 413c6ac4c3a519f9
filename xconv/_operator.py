"""A convolution as the linear operator that solvers take: vectors in, vectors out, and its adjoint."""

from __future__ import annotations

import functools
import importlib
import math
import operator
from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any

from ._arrays.elements import conjugate
from ._arrays.libraries import Array, DType, Namespace, is_chunked, library, traits
from ._arrays.operands import common_namespace_and_dtype, described, namespace_of, plain_number
from ._conv import conv, conv_input_grad, conv_of
from ._methods import Method
from ._plan.arguments import ChannelAxis, Keywords, Padding, PaddingMode, PerAxis, conv_geometry, known_keywords, whole
from ._plan.geometry import Ints

Map = Callable[[Array], Array]
Function = Callable[..., Any]


@known_keywords
def linear_operator(
    w: Array,
    input_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    flip: bool = False,
    channel_axis: ChannelAxis = 1,
    method: Method = "auto",
    max_workspace: int | None = None,
) -> Any:
    """The convolution of arrays of one shape as a linear operator, which iterative solvers take.

    ``A @ x.reshape(-1) = conv(x, w).reshape(-1)``. Its adjoint is `conv_input_grad`, exact for every keyword. The
    matrix itself is never made.

    Parameters
    ----------
    w : array, shape (K, C/G, *k), any numeric dtype
        The filters.
    input_shape : tuple (N, C, *d)
        Shape of x; (N, *d, C) with ``channel_axis=-1``.
    stride, padding, dilation, groups, padding_mode, flip, channel_axis, method, max_workspace
        As in `conv`.

    Returns
    -------
    operator : linear operator, shape (size of y, size of x), dtype of w
        On NumPy a `scipy.sparse.linalg.LinearOperator`, on CuPy that of cupyx, for all their solvers. Elsewhere an
        object of the same protocol: ``shape``, ``dtype``, ``matvec``, ``rmatvec``, ``matmat``, ``rmatmat``, ``@``,
        ``H`` and ``T``, which is differentiable where the library is. That one may be called as a function, as JAX's
        solvers do. All take x in its own shape as well, to give y in its own, and leave Dask's arrays uncomputed, as do
        their sums, products, powers and multiples: ``A.H @ A + 2 * B``. With operators of others these are SciPy's,
        which computes chunks.

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, or the method cannot do this.
    TypeError
        If w is no array, or is bool.
    ImportError
        If w is NumPy's or CuPy's, and SciPy is not installed.

    Notes
    -----
    A blur keeps almost nothing of some details, whatever its size: its smallest singular values are far below a
    thousandth of the largest, and often zero. Solvers then take very long to reach small tolerances, and what they find
    of a noisy picture is noise. Give `lsqr` a ``damp``, from once to ten times the noise by the contrast, or solve
    ``(A^H A + damp**2) x = A^H y``.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse.linalg import lsqr
    >>> from xconv import linear_operator
    >>> blur = linear_operator(np.ones((1, 1, 3)) / 3, (1, 1, 10), padding=1)
    >>> blur.shape
    (10, 10)
    >>> sharp = np.arange(10.0) % 4
    >>> bool(np.allclose(lsqr(blur, blur @ sharp, damp=1e-4)[0], sharp, atol=1e-3))
    True
    >>> blur.H @ np.ones(10)  # the adjoint
    array([0.66666667, 1.        , 1.        , 1.        , 1.        ,
           1.        , 1.        , 1.        , 1.        , 0.66666667])
    """
    keywords = Keywords(stride, padding, dilation, groups, padding_mode, channel_axis, method, max_workspace)
    (operand,) = described(w=w)
    xp, dtype = common_namespace_and_dtype([operand])
    shapes = conv_geometry({"w": tuple(w.shape)}, keywords, input_shape)
    words: dict[str, Any] = keywords._asdict() | {"flip": flip}
    call = conv_of(operand, (shapes.input_shape, tuple(w.shape)), **words)
    if math.prod(shapes.output_shape):
        _ = call.for_forward, call.for_data  # whose errors are due now

    forward = functools.partial(_convolved, w=w, words=words)
    adjoint = functools.partial(_adjoint, w=w, sample=shapes.input_shape[1:], words=words)
    made = Operator(xp, dtype, forward, adjoint, (shapes.output_shape, shapes.input_shape))
    has_solvers = traits(xp).solvers and not operand.is_chunked  # which would compute chunks at once
    return _of_solvers(made) if has_solvers else made


class Operator:
    """The protocol of SciPy's linear operators on arrays of any library.

    The two maps are of samples, however many, and ``shapes`` those of one result and of one operand. Maps are functions
    that are found by their names, bound to what they need: an operator is copied and pickled where its arrays can be.
    """

    def __init__(self, xp: Namespace, dtype: DType, forward: Map, adjoint: Map, shapes: tuple[Ints, Ints]) -> None:
        self.shape = math.prod(shapes[0]), math.prod(shapes[1])
        self.dtype = dtype
        self._xp, self._maps, self._shapes = xp, (forward, adjoint), shapes

    def __reduce__(self) -> tuple[Any, ...]:
        """By the namespace's name, since modules are neither copied nor pickled."""
        return _made_again, (self._xp.__name__, self.dtype, *self._maps, self._shapes)

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"<{rows}x{columns} Operator with dtype={self.dtype} on {library(self._xp)}>"

    @property
    def H(self) -> Operator:  # noqa: N802 - SciPy's name
        """The adjoint."""
        return Operator(self._xp, self.dtype, *self._maps[::-1], self._shapes[::-1])

    @property
    def T(self) -> Operator:  # noqa: N802 - SciPy's name
        """The transpose: the adjoint without its conjugate."""
        forward, adjoint = (functools.partial(_conjugated, one) for one in self._maps)
        return Operator(self._xp, self.dtype, adjoint, forward, self._shapes[::-1])

    def __add__(self, other: Any) -> Operator:
        if not isinstance(other, Operator):
            return NotImplemented
        if self.shape != other.shape:
            raise ValueError(f"operators must have one shape to be added, got {self.shape} and {other.shape}")
        pairs = zip(self._maps, other._between(self._shapes), strict=True)
        maps = [functools.partial(_total, mine, theirs) for mine, theirs in pairs]
        return Operator(self._xp, self._xp.result_type(self.dtype, other.dtype), maps[0], maps[1], self._shapes)

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __neg__(self) -> Any:
        return self * -1

    def __mul__(self, factor: Any) -> Any:
        """By a number; else as ``@``."""
        if not isinstance(factor, Number):
            return self @ factor
        number = plain_number(factor)
        pairs = zip(self._maps, (number, number.conjugate()), strict=True)
        forward, adjoint = (functools.partial(_scaled, one, factor) for one, factor in pairs)
        return Operator(self._xp, self._xp.result_type(self.dtype, number), forward, adjoint, self._shapes)

    def __rmul__(self, factor: Any) -> Operator:
        return self * factor if isinstance(factor, Number) else NotImplemented

    def __truediv__(self, factor: Any) -> Operator:
        return self * (1 / plain_number(factor)) if isinstance(factor, Number) else NotImplemented

    def __pow__(self, count: int) -> Operator:
        """So many times one after the other."""
        times = whole(count)
        if times is None or times < 0 or self.shape[0] != self.shape[1]:
            raise ValueError(
                f"a power must be an int of at least 0, of a square operator, got {count!r} of {self.shape}"
            )
        same: Map = operator.pos
        nothing = Operator(self._xp, self.dtype, same, same, (self._shapes[1], self._shapes[1]))
        return functools.reduce(operator.matmul, [self] * times, nothing)

    def dot(self, x: Any) -> Any:
        """As ``*``."""
        return self * x

    def matvec(self, x: Array) -> Array:
        """The product with a vector (n,) or a column (n, 1)."""
        return self._product(x) if len(x.shape) == 1 else self.matmat(x)

    def matmat(self, x: Array) -> Array:
        """The product with a matrix (n, p): a convolution of p times as many samples."""
        if len(x.shape) != 2:
            raise ValueError(f"a matrix must have shape ({self.shape[1]}, p), got {tuple(x.shape)}")
        return self._product(x)

    def rmatvec(self, y: Array) -> Array:
        """The adjoint's product with a vector."""
        return self.H.matvec(y)

    def rmatmat(self, y: Array) -> Array:
        """The adjoint's product with a matrix."""
        return self.H.matmat(y)

    def __matmul__(self, x: Any) -> Any:
        """The product with an array in any shape, or the operator that comes after another."""
        if not isinstance(x, Operator):
            return self._product(x)
        if self.shape[1] != x.shape[0]:
            raise ValueError(f"operators must fit one after the other, got shapes {self.shape} and {x.shape}")
        (forward, adjoint), (first, last) = self._maps, x._between((self._shapes[1], x._shapes[1]))
        shapes, dtype = (self._shapes[0], x._shapes[1]), self._xp.result_type(self.dtype, x.dtype)
        maps = [functools.partial(_after, *pair) for pair in ((forward, first), (last, adjoint))]
        return Operator(self._xp, dtype, maps[0], maps[1], shapes)

    def __rmatmul__(self, x: Array) -> Array:
        """Rows from the left: the transpose, which is no adjoint, of each."""
        return self.T @ x if x.ndim == 1 else (self.T @ x.T).T

    __call__, __array_ufunc__ = __matmul__, None  # arrays leave it to operators what they are multiplied with

    def check(self, x: Array) -> None:
        """Raise if the product with x is not defined."""
        if (xp := namespace_of(operand=x)) is not self._xp:
            raise TypeError(f"an operand must be an array of {library(self._xp)}, as w is, got one of {library(xp)}")
        n, shape, own = self.shape[1], tuple(x.shape), self._shapes[1]
        if shape != own and (len(shape) not in (1, 2) or shape[0] != n):
            hint = f": pass x.reshape({n})" if math.prod(shape) == n else ""
            raise ValueError(f"an operand must have shape ({n},), ({n}, p) or {own}, got {shape}{hint}")

    def _product(self, x: Array) -> Array:
        operand = self._shapes[1]
        self.check(x)
        if tuple(x.shape) == operand:
            return self._maps[0](x)
        reshape, samples = functools.partial(_reshaped, self._xp), math.prod(x.shape[1:]) * operand[0]
        y = self._maps[0](reshape(x.T if len(x.shape) == 2 else x, (samples, *operand[1:])))
        return reshape(y, (x.shape[1], self.shape[0])).T if len(x.shape) == 2 else reshape(y, self.shape[:1])

    def _between(self, shapes: tuple[Ints, Ints]) -> tuple[Map, Map]:
        """The maps, of results and operands of as many elements in other shapes."""
        (result, operand), own = shapes, self._shapes
        outer = (operand, own[1], own[0], result), (result, own[0], own[1], operand)
        forward, adjoint = (functools.partial(_through, *pair) for pair in zip(self._maps, outer, strict=True))
        return forward, adjoint


def _made_again(name: str, *arguments: Any) -> Operator:
    return Operator(importlib.import_module(name), *arguments)


def _convolved(x: Array, w: Array, words: dict[str, Any]) -> Array:
    return conv(x, w, **words)


def _adjoint(y: Array, w: Array, sample: Ints, words: dict[str, Any]) -> Array:
    return conv_input_grad(y, w, (y.shape[0], *sample), **words)


def _conjugated(one: Map, x: Array) -> Array:
    xp = namespace_of(operand=x)
    return conjugate(xp, one(conjugate(xp, x)))


def _after(second: Map, first: Map, x: Array) -> Array:
    return second(first(x))


def _total(one: Map, other: Map, x: Array) -> Array:
    return one(x) + other(x)


def _scaled(one: Map, factor: Any, x: Array) -> Array:
    return one(x) * factor


def _through(one: Map, shapes: tuple[Ints, Ints, Ints, Ints], x: Array) -> Array:
    """A map of what is in another shape than its operand, to what is in another shape than its result."""
    source, operand, result, target = shapes
    return _carried(one(_carried(x, source, operand)), result, target)


def _carried(x: Array, old: Ints, new: Ints) -> Array:
    samples = x.shape[0] // max(old[0], 1) * new[0]
    return x if old == new else _reshaped(namespace_of(operand=x), x, (samples, *new[1:]))


def _reshaped(xp: Namespace, x: Array, shape: Ints) -> Array:
    """By way of a line: Dask divides no axis, and joins none, but evenly."""
    return xp.reshape(xp.reshape(x, (-1,)), shape)


def _of_solvers(made: Operator) -> Any:
    """The same operator as that of the library's own solvers."""
    try:
        solvers = importlib.import_module(traits(made._xp).solvers)
    except ImportError:
        raise ImportError(f"linear operators of {library(made._xp)} need SciPy: pip install scipy") from None
    return _class_for(solvers.LinearOperator)(made)


@functools.cache
def _class_for(theirs: Any) -> Any:
    """The one class of our operators for the class of theirs."""

    class LinearOperator(theirs):  # type: ignore[misc]
        """That of the solvers, which takes x in its own shape as well, and refuses others in words of ours."""

        def __init__(self, made: Operator) -> None:
            super().__init__(made.dtype, made.shape)
            self._made = made

        def __reduce__(self) -> tuple[Any, ...]:
            return _of_solvers, (self._made,)  # since no name finds its class, which is made where SciPy is

        def _adjoint(self) -> Any:
            return type(self)(self._made.H)

        def _transpose(self) -> Any:
            return type(self)(self._made.T)

        def dot(self, x: Any) -> Any:
            if _is_ours(x):
                return type(self)(self._made * getattr(x, "_made", x))
            if not hasattr(x, "dtype") or hasattr(x, "matvec") or not getattr(x, "ndim", 0):
                return super().dot(x)
            self._made.check(x)
            return self._made @ x if x.ndim > 2 or is_chunked(x) else super().dot(x)

        def __rmatmul__(self, x: Any) -> Any:
            return x @ self._made if is_chunked(x) else super().__rmatmul__(x)

    for name in ("__add__", "__neg__", "__rmul__", "__truediv__", "__pow__"):
        if hasattr(theirs, name):
            setattr(LinearOperator, name, _of_ours(getattr(theirs, name), name))
    for name in ("matvec", "matmat", "rmatvec", "rmatmat"):
        setattr(LinearOperator, f"_{name}", _made_by(name))
        setattr(LinearOperator, name, _lazily(getattr(theirs, name), name))
    return LinearOperator


def _of_ours(theirs: Function, name: str) -> Function:
    """Theirs makes an operator that makes an array of what it is given."""

    def method(self: Any, *others: Any) -> Any:
        if not all(map(_is_ours, others)):
            return theirs(self, *others)
        return type(self)(getattr(self._made, name)(*[getattr(other, "_made", other) for other in others]))

    return method


def _made_by(name: str) -> Function:
    return lambda self, x: getattr(self._made, name)(x)


def _lazily(theirs: Function, name: str) -> Function:
    """Theirs makes an array of what it is given, for which chunks would be computed."""
    return lambda self, x: getattr(self._made, name)(x) if is_chunked(x) else theirs(self, x)


def _is_ours(other: Any) -> bool:
    """Whether it is a number, or an operator of ours as that of the solvers."""
    return isinstance(other, Number) or isinstance(getattr(other, "_made", None), Operator)
