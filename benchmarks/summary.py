"""The results of many layers in few rows, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .peers.peer import OPERATIONS
from .results import FLOOR, FORWARD_ONLY, METHOD_PREFIX, XCONV, LayerResult, Report, geometric_mean

JOINED = ("resnet50", "vgg16")  # also summed up together
SCIPY_PREFIX = "scipy-"
SCIPY_BEST = "scipy, the faster"


@dataclass(frozen=True)
class Ratios:
    """How a peer's times compare over some layers: the geometric mean and the least ratio."""

    mean: float
    least: float


@dataclass(frozen=True)
class PeerRow:
    """A peer, or the floor, over a suite; None where it has no gradients."""

    suite: str
    peer: str
    layers: int
    forward: Ratios
    with_gradients: Ratios | None


@dataclass(frozen=True)
class MethodRow:
    """A method of xconv by hand over a suite, with its largest error in each operation."""

    suite: str
    method: str
    layers: int
    forward: Ratios | None
    with_gradients: Ratios | None
    errors: tuple[float | None, ...]


@dataclass(frozen=True)
class LossRow:
    """The layer of a suite on which auto loses most against the best method by hand: its time / the best one's - 1."""

    suite: str
    operations: str
    loss: float
    layer: str
    best: str


def overheads(report: Report) -> str:
    """What xconv takes however little there is to do: to be imported, and for its shortest call."""
    calls = [(result.seconds(XCONV, FORWARD_ONLY), result.layer) for result in report.layers]
    seconds, layer = min(((time, layer) for time, layer in calls if time is not None), key=lambda call: call[0])
    return (
        f"`import xconv` adds {1e3 * report.import_seconds:.0f} ms to a bare interpreter; "
        f"the shortest call, {layer.suite}: {layer.name}, takes {1e6 * seconds:.0f} us."
    )


def noise(results: Sequence[LayerResult]) -> tuple[float, float] | None:
    """The least and the largest ratio of two times of one call: of a method by its name and of auto, which chose it."""
    ratios = [
        ratio
        for result in results
        for operation in OPERATIONS
        if (ratio := result.ratio(METHOD_PREFIX + result.methods[operation], (operation,))) is not None
    ]
    return (min(ratios), max(ratios)) if ratios else None


def noise_lines(results: Sequence[LayerResult]) -> list[str]:
    """One line of it, or none where no call was timed twice."""
    if (found := noise(results)) is None:
        return []
    least, largest = found
    return [
        'Identical calls, "auto" and the same method by its name, differed by factors '
        f"from {number(least)} to {number(largest)} in single operations."
    ]


def number(value: float | None) -> str:
    """A ratio in three digits, or two behind the point."""
    return "-" if value is None else f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def mean_and_least(*ratios: Ratios | None) -> list[str]:
    """Two cells for each."""
    return [number(value) for pair in ratios for value in ((pair.mean, pair.least) if pair else (None, None))]


def peer_rows(results: Sequence[LayerResult]) -> list[PeerRow]:
    """One row for each group of layers and each peer that does at least one of them, and one for the floor."""
    rows = []
    for suite, group in _groups(results):
        for name, members in _peers(group).items():
            forward = _ratios(group, members, FORWARD_ONLY)
            if forward is not None:
                count = sum(_least_ratio(result, members, FORWARD_ONLY) is not None for result in group)
                rows.append(PeerRow(suite, name, count, forward, _ratios(group, members, OPERATIONS)))
    return rows


def method_rows(results: Sequence[LayerResult]) -> list[MethodRow]:
    """One row for each suite and method, "auto" first."""
    rows = []
    for suite, group in _suites(results):
        for peer in (XCONV, *_method_peers(group)):
            errors = tuple(_largest_error(group, peer, operation) for operation in OPERATIONS)
            if any(error is not None for error in errors):
                name = "auto" if peer == XCONV else peer.removeprefix(METHOD_PREFIX)
                count = sum(result.seconds(peer, FORWARD_ONLY) is not None for result in group)
                forward, with_gradients = (_ratios(group, (peer,), which) for which in (FORWARD_ONLY, OPERATIONS))
                rows.append(MethodRow(suite, name, count, forward, with_gradients, errors))
    return rows


def loss_rows(results: Sequence[LayerResult]) -> list[LossRow]:
    """Two rows for each suite in which methods were timed."""
    kinds = (("forward", FORWARD_ONLY), ("forward + gradients", OPERATIONS))
    rows = []
    for suite, group in _suites(results):
        for name, operations in kinds:
            losses = [loss for result in group if (loss := _loss(result, operations))]
            if losses:
                rows.append(LossRow(suite, name, *max(losses)))
    return rows


def _loss(result: LayerResult, operations: Sequence[str]) -> tuple[float, str, str] | None:
    """What auto loses against the best method by hand, the layer, and that method."""
    methods = [peer.removeprefix(METHOD_PREFIX) for peer in _method_peers([result])]
    losses = [(loss, method) for method in methods if (loss := result.loss(method, operations)) is not None]
    if not losses:
        return None
    loss, method = max(losses)
    return loss, result.layer.name, method


def _groups(results: Sequence[LayerResult]) -> Iterator[tuple[str, list[LayerResult]]]:
    """The suites, the joined ones together, and all of them."""
    suites = dict(_suites(results))
    yield from suites.items()
    if len(suites) > 1:
        if set(JOINED) <= set(suites) != set(JOINED):
            yield " + ".join(JOINED), [result for name in JOINED for result in suites[name]]
        yield "all", list(results)


def _suites(results: Sequence[LayerResult]) -> list[tuple[str, list[LayerResult]]]:
    names = dict.fromkeys(result.layer.suite for result in results)
    return [(name, [result for result in results if result.layer.suite == name]) for name in names]


def _peers(results: Sequence[LayerResult]) -> dict[str, tuple[str, ...]]:
    """The names that rows have, the floor's last, each with the peers of which the fastest counts."""
    names = [name for name in results[0].peers if not name.startswith(METHOD_PREFIX)]
    scipy = tuple(name for name in names if name.startswith(SCIPY_PREFIX))
    best = {SCIPY_BEST: scipy} if scipy else {}
    return {name: (name,) for name in names} | best | {FLOOR: (FLOOR,)}


def _method_peers(results: Sequence[LayerResult]) -> list[str]:
    return [name for name in results[0].peers if name.startswith(METHOD_PREFIX)]


def _ratios(results: Sequence[LayerResult], peers: tuple[str, ...], operations: Sequence[str]) -> Ratios | None:
    ratios = [ratio for result in results if (ratio := _least_ratio(result, peers, operations)) is not None]
    return Ratios(geometric_mean(ratios), min(ratios)) if ratios else None


def _least_ratio(result: LayerResult, peers: tuple[str, ...], operations: Sequence[str]) -> float | None:
    ratios = (result.ratio(peer, operations) for peer in peers)
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def _largest_error(results: Sequence[LayerResult], peer: str, operation: str) -> float | None:
    errors = (result.error(peer, operation) for result in results)
    return max((error for error in errors if error is not None), default=None)
