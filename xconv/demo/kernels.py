"""The filters of `xconv.ndimage` that one number describes, by words such as gaussian:2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Word: (function, what its number is). Of a derivative it is the axis, and there are its weights along the others.
KERNELS = {
    "gaussian": ("gaussian_filter", "SIGMA"),
    "uniform": ("uniform_filter", "SIZE"),
    "maximum": ("maximum_filter", "SIZE"),
    "minimum": ("minimum_filter", "SIZE"),
    "gaussian_laplace": ("gaussian_laplace", "SIGMA"),
    "gaussian_gradient_magnitude": ("gaussian_gradient_magnitude", "SIGMA"),
    "laplace": ("laplace", ""),
    "sobel": ("sobel", "AXIS"),
    "prewitt": ("prewitt", "AXIS"),
}
ACROSS = {"sobel": (1, 2, 1), "prewitt": (1, 1, 1)}
LONGEST = 2**20  # elements along an axis: their weights are 8 MiB, half of a chunk
LARGEST_SIGMA = LONGEST / 8  # a bell is cut off 4 sigma from its middle
SIGNED = ("gaussian_laplace", "laplace", "sobel", "prewitt")  # of which results may be negative wherever the input is


@dataclass(frozen=True)
class Kernel:
    """A filter: ``text`` is what the user wrote."""

    text: str
    word: str
    number: float | int | None

    def __str__(self) -> str:
        return self.text

    @property
    def is_signed(self) -> bool:
        """Whether it has negative results of positive elements."""
        return self.word in SIGNED

    def along(self, axes: tuple[int, ...], ndim: int) -> int:
        """The axis of a derivative, which is the last of ``axes`` if the user named none."""
        along = axes[-1] if self.number is None else int(self.number)
        if not -ndim <= along < ndim or along % ndim not in axes:
            raise ValueError(f"{self.text} must be along one of the axes {', '.join(map(str, axes))}")
        return along % ndim

    def where(self, axes: tuple[int, ...], ndim: int) -> str:
        """What is done along which axes, in words."""
        if self.word not in ACROSS:
            return f"along {_listed(axes)}"
        along = self.along(axes, ndim)
        across = tuple(axis for axis in axes if axis != along)
        return f"as the derivative along axis {along}" + (f", smoothed along {_listed(across)}" if across else "")

    def apply(self, x: Any, axes: tuple[int, ...], **keywords: Any) -> Any:
        """The filter along some axes, with ``output``, ``mode`` and ``cval`` as in `xconv.ndimage`."""
        from xconv import ndimage

        function: Callable[..., Any] = getattr(ndimage, KERNELS[self.word][0])
        if self.word not in ACROSS:
            numbers = () if self.number is None else (self.number,)
            return function(x, *numbers, axes=axes, **keywords)
        along = self.along(axes, x.ndim)
        if len(axes) == x.ndim:
            return function(x, along, **keywords)
        y = ndimage.correlate1d(x, (-1, 0, 1), along, **keywords)
        for axis in axes:
            y = y if axis == along else ndimage.correlate1d(y, ACROSS[self.word], axis, **keywords)
        return y


def forms() -> list[str]:
    """How each is written."""
    optional = {"AXIS": "[:AXIS]", "": ""}
    return [f"{word}{optional.get(number, f':{number}')}" for word, (_, number) in KERNELS.items()]


def parse_kernel(text: str) -> Kernel:
    """The filter that the words name.

    Raises
    ------
    ValueError
        If there is none, or its number is missing, is not wanted, or is no such number.
    """
    word, colon, written = text.partition(":")
    word = word.replace("-", "_").lower()
    if word not in KERNELS:
        raise ValueError(f"must be one of {', '.join(forms())}, got {text!r}")
    wanted = KERNELS[word][1]
    if not colon and wanted in ("", "AXIS"):
        return Kernel(text, word, None)
    try:
        return Kernel(text, word, _NUMBERS[wanted](written))
    except (KeyError, ValueError):
        raise ValueError(
            f"must be {_MEANINGS[wanted].format(word=word, limit=_LIMITS.get(wanted))}, got {text!r}"
        ) from None


def _listed(axes: tuple[int, ...]) -> str:
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"


def _sigma(text: str) -> float:
    number = float(text)
    if not 0 < number <= LARGEST_SIGMA:
        raise ValueError
    return number


def _size(text: str) -> int:
    if not 1 <= (number := int(text)) <= LONGEST:
        raise ValueError
    return number


_NUMBERS: dict[str, Callable[[str], float]] = {"SIGMA": _sigma, "SIZE": _size, "AXIS": int}
_LIMITS = {"SIGMA": LARGEST_SIGMA, "SIZE": LONGEST}
_MEANINGS = {
    "SIGMA": "{word}:SIGMA with a positive number of elements, at most {limit:.0f}",
    "SIZE": "{word}:SIZE with a whole number of at least 1, at most {limit}",
    "AXIS": "{word} or {word}:AXIS with a whole number",
    "": "{word} without a number",
}
