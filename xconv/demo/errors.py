"""The exit statuses, errors answered with a sentence instead of a traceback, and the packages that may be missing."""

from __future__ import annotations

import errno
import importlib
import textwrap

FAILED = 1
UNUSABLE = 2  # what argparse exits with, too
INTERRUPTED = 130  # what shells report of a program that Ctrl-C ended

DEMO_PACKAGES = ("matplotlib", "mlxtend", "rich")
CHUNKED_PACKAGES = ("dask", "distributed", "zarr")
PICTURES = ("matplotlib", "rich", "scipy")  # of the gallery

# What errors say of which only words tell that memory is missing: Python's of threads, and those of codecs.
WITHOUT_MEMORY = "can't start new thread", "not enough memory"


class CommandError(Exception):
    """Something the user can put right: the message is one sentence that says how."""


def require_packages(names: tuple[str, ...], extras: str = "demo") -> None:
    """Raise a `CommandError` that names the command to install what is missing, if anything is, or cannot be loaded."""
    missing = [name for name in names if not _is_there(name)]
    if missing:
        raise CommandError(f"{', '.join(missing)} not found: {install(extras)}")


def install(*extras: str) -> str:
    """How to install what one of xconv's extras names: from a checkout, since it is not published."""
    return " or ".join(f"pip install '.[{extra}]'" for extra in extras) + " in xconv's checkout"


def fitted(line: str, indent: str = "", hanging: str = "") -> str:
    """Words in lines of 80 columns; names of files, which somebody will copy, stay whole."""
    return textwrap.fill(
        line, 80, initial_indent=indent, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )


def complaint(program: str, message: str) -> str:
    """What a command says of a mistake: nothing but who says it, and a sentence."""
    return fitted(f"{program}: {message}", hanging="  ")


def lacks_memory(error: BaseException) -> bool:
    """Whether there was no memory left, for a thread's stack or a file's codec for example."""
    is_system = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return is_system or isinstance(error, MemoryError) or any(words in str(error) for words in WITHOUT_MEMORY)


def first_line(error: Exception | str) -> str:
    """What an error or warning of another library says, short enough to stand inside a line of ours."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _is_there(name: str) -> bool:
    """Whether a package is installed; it may be, and find no memory for its code."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    except ImportError as error:
        raise CommandError(f"{name} cannot be loaded: {first_line(error)}") from error
    return True
