"""What a run found, and its form as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .devices import Rates
from .machine import Machine
from .peers.peer import FORWARD, OPERATIONS
from .suites import Layer
from .timing import Timing

XCONV = "xconv"
METHOD_PREFIX = "xconv:"
FLOOR = "floor"
FORWARD_ONLY = (FORWARD,)


@dataclass(frozen=True)
class Measurement:
    """The times of a peer in one operation, and its largest error relative to the largest element."""

    timing: Timing
    error: float


@dataclass(frozen=True)
class LayerResult:
    """All that was measured of a layer.

    Attributes
    ----------
    layer : Layer
    methods : dict of str
        What "auto" chose for each operation.
    floor_seconds : float
        About the least that the direct algorithm takes for one operation, by the rates of the same run.
    operations : dict
        For each operation and each peer a measurement, or the reason why there is none.
    """

    layer: Layer
    methods: dict[str, str]
    floor_seconds: float
    operations: dict[str, dict[str, Measurement | str]]

    @property
    def peers(self) -> list[str]:
        """All but xconv as it chooses."""
        return [name for name in self.operations[FORWARD] if name != XCONV]

    def seconds(self, peer: str, operations: Sequence[str] = OPERATIONS) -> float | None:
        """The sum of the operations' medians, or of their floors; None if one is missing."""
        if peer == FLOOR:
            return self.floor_seconds * len(operations)
        found = [self.operations[operation].get(peer) for operation in operations]
        times = [measurement.timing.median for measurement in found if isinstance(measurement, Measurement)]
        return sum(times) if len(times) == len(operations) else None

    def ratio(self, peer: str, operations: Sequence[str] = OPERATIONS) -> float | None:
        """The peer's time by xconv's: above 1, xconv is faster."""
        seconds, own = self.seconds(peer, operations), self.seconds(XCONV, operations)
        return None if seconds is None or own is None else seconds / own

    def loss(self, method: str, operations: Sequence[str] = OPERATIONS) -> float | None:
        """Auto's time by the method's, less 1. Where auto runs that, both are the same call: they differ by noise."""
        others = [operation for operation in operations if self.methods[operation] != method]
        same = [operation for operation in operations if operation not in others]
        own, by_hand, both = (
            self.seconds(peer, which)
            for peer, which in ((XCONV, operations), (METHOD_PREFIX + method, others), (XCONV, same))
        )
        return None if own is None or by_hand is None or both is None else own / (by_hand + both) - 1

    def error(self, peer: str, operation: str) -> float | None:
        """The peer's relative error; None if the operation is missing."""
        found = self.operations[operation].get(peer)
        return found.error if isinstance(found, Measurement) else None


@dataclass(frozen=True)
class Report:
    """A whole run."""

    machine: Machine
    quick: bool
    import_seconds: float
    rates: Rates
    missing_peers: dict[str, str]
    layers: list[LayerResult]

    @property
    def backend(self) -> str:
        """The name of the backend."""
        return self.machine.backend


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios: that of the inverse ratios is its inverse."""
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms))


def as_json(report: Report) -> dict[str, Any]:
    """The report in lists and dicts; times are seconds."""
    return {
        "machine": asdict(report.machine),
        "backend": report.backend,
        "quick": report.quick,
        "import_seconds": report.import_seconds,
        "rates": asdict(report.rates),
        "missing_peers": report.missing_peers,
        "layers": [_layer_as_json(result) for result in report.layers],
    }


def _layer_as_json(result: LayerResult) -> dict[str, Any]:
    layer = result.layer
    return {
        **asdict(layer),
        "output_shape": layer.output_shape,
        "methods": result.methods,
        "multiply_adds": layer.multiply_adds,
        "bytes": layer.bytes,
        "floor_seconds": result.floor_seconds,
        "operations": {
            operation: {peer: _peer_as_json(result, operation, peer) for peer in peers}
            for operation, peers in result.operations.items()
        },
    }


def _peer_as_json(result: LayerResult, operation: str, peer: str) -> dict[str, Any]:
    found = result.operations[operation][peer]
    if isinstance(found, str):
        return {"absent": found}
    return {**asdict(found.timing), "ratio": result.ratio(peer, (operation,)), "relative_error": found.error}
