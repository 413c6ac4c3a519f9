"""Whom xconv is timed against, and which of them run on which backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xconv.demo.backends import LoadedBackend
from xconv.demo.errors import CommandError

from . import book, own, pytorch, reference_lax
from .peer import Peer

# The names that --peers takes, each with the backends it runs on and the function that loads it.
PEERS: dict[str, tuple[tuple[str, ...], Callable[[LoadedBackend], list[Peer]]]] = {
    "torch": (("numpy", "torch", "cupy"), pytorch.load),
    "lax": (("jax",), reference_lax.load),
    "textbook": (("numpy",), book.load),
    "methods": (("numpy", "jax", "torch", "cupy"), own.load_methods),
}


def load_peers(backend: LoadedBackend, names: Sequence[str] | None) -> tuple[list[Peer], dict[str, str]]:
    """The peers of these names behind xconv itself, and why others are missing.

    Without names, those that apply to the backend; then one that is not installed is left out.
    """
    peers: list[Peer] = [own.Own(backend, "auto")]
    missing = {}
    for name in _applicable(backend.name) if names is None else dict.fromkeys(names):
        backends, load = PEERS[name]
        if backend.name not in backends:
            raise CommandError(
                f"the peer {name!r} does not run on {backend.name}: choose from {', '.join(_applicable(backend.name))}"
            )
        try:
            peers += load(backend)
        except CommandError as reason:
            if names is not None:
                raise
            missing[name] = str(reason)
    return peers, missing


def _applicable(backend: str) -> list[str]:
    return [name for name, (backends, _) in PEERS.items() if backend in backends]
