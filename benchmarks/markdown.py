"""The summary as Markdown, to be pasted as it is."""

from __future__ import annotations

from collections.abc import Sequence

from .memory import LARGEST_KEPT
from .results import Report
from .summary import Ratios, loss_rows, method_rows, overheads, peer_rows

KEPT = (
    f"Results of up to {LARGEST_KEPT >> 20} MiB are made of memory that was used before: otherwise chance decides "
    "which are made of new pages, and these may take longer than the convolution."
)


def as_markdown(report: Report) -> str:
    """Where and how it was measured, the peers, the methods with their errors, and what auto loses."""
    return "\n".join(
        [
            f"Measured by `{report.machine.command}` on {report.machine.heading}.",
            f"Medians in float32; matrix product {report.rates.matmul_flops / 1e9:.0f} GFLOP/s, "
            f"copy {report.rates.copy_bytes / 1e9:.1f} GB/s.",
            overheads(report),
            *([KEPT] if report.machine.keeps_memory else []),
            *(["Tiny layers: the times mean nothing."] if report.quick else []),
            *(f"Left out: {reason}." for reason in report.missing_peers.values()),
            "",
            *_peers(report),
            "",
            *_methods(report),
            *_losses(report),
        ]
    )


def _peers(report: Report) -> list[str]:
    header = ("suite", "peer", "layers", "forward", "least", "forward + both gradients", "least")
    rows = [
        (row.suite, row.peer, str(row.layers), *_mean_and_least(row.forward, row.with_gradients))
        for row in peer_rows(report.layers)
    ]
    intro = (
        "Peer's time / xconv's time, geometric mean over the layers and the least of them: above 1, xconv is faster. "
        "The floor is the longer of the direct algorithm's operations at the matrix product's rate and its bytes at "
        "the copy's: a peer's number by the floor's is the most that a direct convolution could have at these rates."
    )
    return [intro, "", *_table(header, rows, words=2)]


def _methods(report: Report) -> list[str]:
    header = ("suite", "method", "layers", "forward", "forward + both gradients", "error of y", "of dx", "of dw")
    rows = [
        (
            row.suite,
            row.method,
            str(row.layers),
            _mean(row.forward),
            _mean(row.with_gradients),
            *("-" if error is None else f"{error:.1e}" for error in row.errors),
        )
        for row in method_rows(report.layers)
    ]
    intro = "Method's time / auto's time, and its largest error against float64, relative to the largest element."
    return [intro, "", *_table(header, rows, words=2)]


def _losses(report: Report) -> list[str]:
    rows = [(row.suite, row.operations, f"{row.loss:.0%}", row.layer, row.best) for row in loss_rows(report.layers)]
    if not rows:
        return []
    intro = "Where auto loses most against the best method by hand."
    return ["", intro, "", *_table(("suite", "operations", "loss", "layer", "best"), rows, words=5)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> list[str]:
    """A table whose columns behind the first few are numbers, to the right."""
    rule = ["---" if column < words else "---:" for column in range(len(header))]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]


def _mean_and_least(*ratios: Ratios | None) -> list[str]:
    return [text for pair in ratios for text in (_mean(pair), _number(pair.least) if pair else "-")]


def _mean(ratios: Ratios | None) -> str:
    return _number(ratios.mean) if ratios else "-"


def _number(value: float) -> str:
    return f"{value:.3g}" if value >= 10 else f"{value:.2f}"
