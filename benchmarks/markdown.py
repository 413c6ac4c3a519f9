"""The summary as Markdown, to be pasted as it is."""

from __future__ import annotations

from collections.abc import Sequence

from .memory import LARGEST_KEPT
from .results import Report
from .summary import Ratios, loss_rows, mean_and_least, method_rows, noise_lines, number, overheads, peer_rows

KEPT = (
    f"The benchmark has malloc keep freed memory up to {LARGEST_KEPT >> 20} MiB (glibc's `mallopt`), for all sides "
    "alike: otherwise chance decides whose results are made of new pages, which may take longer than the convolution. "
    "xconv does not do that for you."
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
        (row.suite, row.peer, str(row.layers), *mean_and_least(row.forward, row.with_gradients))
        for row in peer_rows(report.layers)
    ]
    intro = (
        "Peer's time / xconv's time, geometric mean over the layers and the least of them: above 1, xconv is faster. "
        "The floor is the longer of the direct algorithm's operations at the matrix product's rate and its bytes at "
        "the copy's: a peer's number divided by the floor's is about the most that a direct convolution could have "
        "against that peer."
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
    lines = [line for sentence in noise_lines(report.layers) for line in ("", sentence)]
    return [intro, "", *_table(header, rows, words=2), *lines]


def _losses(report: Report) -> list[str]:
    rows = [(row.suite, row.operations, f"{row.loss:.0%}", row.layer, row.best) for row in loss_rows(report.layers)]
    if not rows:
        return []
    intro = "Where auto loses most against the best method by hand, one for all operations."
    return ["", intro, "", *_table(("suite", "operations", "loss", "layer", "best"), rows, words=5)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> list[str]:
    """A table whose columns behind the first few are numbers, to the right."""
    rule = ["---" if column < words else "---:" for column in range(len(header))]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]


def _mean(ratios: Ratios | None) -> str:
    return number(ratios.mean if ratios else None)
