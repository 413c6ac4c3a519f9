"""The layers of "Deep Learning from Scratch": parameters and forward/backward, on any backend."""

from __future__ import annotations

from typing import Any

from ._arrays.libraries import Array
from ._arrays.operands import plain_number
from ._conv import conv, conv_backward
from ._methods import Method
from ._plan.arguments import Padding, PaddingMode, PerAxis
from ._pool import max_pool, max_pool_grad

__all__ = ["Convolution", "Pooling"]


def __dir__() -> list[str]:
    return __all__


class Convolution:
    """A convolution layer that remembers its input, drop-in for the book's ``common.layers.Convolution``.

    ``forward`` is `conv` and ``backward`` is `conv_backward`, which also sets ``dW`` and ``db``.

    Parameters
    ----------
    W : array, shape (K, C/G, *k), any numeric dtype
        The filters. The layer keeps this very object, so an optimizer may update it in place.
    b : array, shape (K,), or a number
        The bias, one per filter or the same for all.
    stride, pad, dilation, groups, padding_mode, method
        As ``stride``, ``padding``, ``dilation``, ``groups``, ``padding_mode`` and ``method`` in `conv`; "direct" gives
        exact zeros where the book's layer does.

    Attributes
    ----------
    x : array, shape (N, C, *d), or None
        Input of the last ``forward``.
    dW, db : arrays, shapes (K, C/G, *k) and (K,), or None
        Gradients from the last ``backward``.

    Notes
    -----
    The book's optimizers update ``params["W1"]`` in place, and so the layer's ``W``. Arrays of JAX cannot be changed:
    there ``params["W1"] -= rate * grads["W1"]`` makes a new array, the layer keeps the old one, and the network never
    learns. Set ``layer.W = params["W1"]`` and ``layer.b = params["b1"]`` after each step, or call `conv` on parameters
    that ``jax.grad`` differentiates by, as `xconv/README.md` shows.

    References
    ----------
    K. Saito, "Deep Learning from Scratch", O'Reilly Japan, 2016, chapter 7.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import Convolution
    >>> layer = Convolution(np.ones((30, 1, 5, 5), dtype=np.float32), np.zeros(30, dtype=np.float32))
    >>> out = layer.forward(np.ones((100, 1, 28, 28), dtype=np.float32))
    >>> out.shape
    (100, 30, 24, 24)
    >>> layer.backward(out).shape, layer.dW.shape, layer.db.shape
    ((100, 1, 28, 28), (30, 1, 5, 5), (30,))
    """

    def __init__(
        self,
        W: Array,
        b: Array | complex,
        stride: PerAxis = 1,
        pad: Padding = 0,
        *,
        dilation: PerAxis = 1,
        groups: int = 1,
        padding_mode: PaddingMode = "zeros",
        method: Method = "direct",
    ) -> None:
        self.W = W
        self.b = b
        self.stride = stride
        self.pad = pad
        self.dilation = dilation
        self.groups = groups
        self.padding_mode = padding_mode
        self.method = method
        self.x: Array | None = None
        self.dW: Array | None = None
        self.db: Array | None = None

    def forward(self, x: Array) -> Array:
        """Convolve, and remember the input.

        Parameters
        ----------
        x : array, shape (N, C, *d), any numeric dtype

        Returns
        -------
        out : array, shape (N, K, *o)

        Raises
        ------
        ValueError, TypeError
            As `conv`.
        """
        number = _number(self.b)
        if number is None:
            out = conv(x, self.W, self.b, **self._keywords())
        else:
            out = conv(x, self.W, **self._keywords()) + number
        self.x = x
        return out

    def backward(self, dout: Array) -> Array:
        """Differentiate the last ``forward``, and set ``dW`` and ``db``.

        Parameters
        ----------
        dout : array, shape (N, K, *o), any numeric dtype
            Gradient of the loss by the output.

        Returns
        -------
        dx : array, shape (N, C, *d)
            Gradient of the loss by the input.

        Raises
        ------
        ValueError, TypeError
            As `conv_backward`, and if there was no ``forward``.
        """
        x = _remembered(self.x)
        dx, self.dW, self.db = conv_backward(dout, x, self.W, **self._keywords())
        return dx

    def _keywords(self) -> dict[str, Any]:
        names = "stride", "dilation", "groups", "padding_mode", "method"
        return {"padding": self.pad} | {name: getattr(self, name) for name in names}


class Pooling:
    """A max-pooling layer that remembers its input, drop-in for the book's ``common.layers.Pooling``.

    ``forward`` is `max_pool`, ``out[u, c, m] = max over j of x[u, c, s*m + j - lo]``, and ``backward`` `max_pool_grad`.

    Parameters
    ----------
    pool_h, pool_w : int
        Height and width of the window, in elements.
    stride, pad
        As ``stride`` and ``padding`` in `max_pool`: padding counts as -inf.

    Attributes
    ----------
    x : array, shape (N, C, H, W), or None
        Input of the last ``forward``.

    References
    ----------
    K. Saito, "Deep Learning from Scratch", O'Reilly Japan, 2016, chapter 7.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import Pooling
    >>> layer = Pooling(2, 2)
    >>> out = layer.forward(np.ones((100, 30, 24, 24), dtype=np.float32))
    >>> out.shape
    (100, 30, 12, 12)
    >>> layer.backward(out).shape
    (100, 30, 24, 24)
    """

    def __init__(self, pool_h: int, pool_w: int, stride: PerAxis = 2, pad: Padding = 0) -> None:
        self.pool_h = pool_h
        self.pool_w = pool_w
        self.stride = stride
        self.pad = pad
        self.x: Array | None = None

    def forward(self, x: Array) -> Array:
        """Pool, and remember the input.

        Parameters
        ----------
        x : array, shape (N, C, H, W), any integer or real dtype

        Returns
        -------
        out : array, shape (N, C, *o), dtype of x

        Raises
        ------
        ValueError, TypeError
            As `max_pool`.
        """
        out = max_pool(x, (self.pool_h, self.pool_w), stride=self.stride, padding=self.pad)
        self.x = x
        return out

    def backward(self, dout: Array) -> Array:
        """Differentiate the last ``forward``.

        Parameters
        ----------
        dout : array, shape (N, C, *o), any integer or real dtype
            Gradient of the loss by the output.

        Returns
        -------
        dx : array, shape (N, C, H, W)
            Gradient of the loss by the input.

        Raises
        ------
        ValueError, TypeError
            As `max_pool_grad`, and if there was no ``forward``.
        """
        x = _remembered(self.x)
        return max_pool_grad(dout, x, (self.pool_h, self.pool_w), stride=self.stride, padding=self.pad)


def _remembered(x: Array | None) -> Array:
    if x is None:
        raise ValueError("x must be known before backward, which differentiates the last forward: there was none")
    return x


def _number(b: Any) -> complex | None:
    """A number as one of Python's own, which takes the output's dtype: ``numpy.float64(0)`` would widen float32."""
    number = plain_number(b)
    return number if isinstance(number, int | float | complex) and not isinstance(number, bool) else None
