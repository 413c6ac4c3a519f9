"""The tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .peers.peer import FORWARD
from .results import FORWARD_ONLY, XCONV, LayerResult, Report
from .summary import loss_rows, mean_and_least, method_rows, noise_lines, number, overheads, peer_rows

PLAIN_WIDTH = 160  # of output that goes to no terminal


def make_console() -> Console:
    """Wide enough for a column per peer, wherever the output goes."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def print_suite(console: Console, results: Sequence[LayerResult]) -> None:
    """One row per layer: xconv's times and every peer's ratios, "forward / forward + both gradients"."""
    peers = [name for name in results[0].peers if any(result.seconds(name, FORWARD_ONLY) for result in results)]
    table = Table(title=f"{results[0].layer.suite}: xconv's ms, peers' time / xconv's time", title_justify="left")
    table.add_column("layer", no_wrap=True)
    table.add_column("auto")
    for name in ("floor", "forward", "+ gradients", *(peer.removeprefix("xconv") for peer in peers)):
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(*_cells(result, peers))
    console.print(table)


def print_summary(console: Console, report: Report) -> None:
    """The peers, the methods, and what auto loses."""
    console.print(_peer_table(report.layers))
    console.print(_method_table(report.layers))
    for line in noise_lines(report.layers):
        console.print(line, highlight=False)
    console.print(_loss_table(report.layers))
    console.print(overheads(report), highlight=False)
    console.print(
        f"floor: {report.rates.matmul_flops / 1e9:.0f} GFLOP/s, {report.rates.copy_bytes / 1e9:.1f} GB/s "
        f"on {report.machine.heading}",
        highlight=False,
    )


def _cells(result: LayerResult, peers: Sequence[str]) -> list[str]:
    times = (result.floor_seconds, result.seconds(XCONV, FORWARD_ONLY), result.seconds(XCONV))
    ratios = (f"{number(result.ratio(peer, FORWARD_ONLY))} / {number(result.ratio(peer))}" for peer in peers)
    return [
        result.layer.name,
        result.methods[FORWARD],
        *(_milliseconds(seconds) for seconds in times if seconds is not None),
        *(text if text != "- / -" else "-" for text in ratios),
    ]


def _peer_table(results: Sequence[LayerResult]) -> Table:
    table = Table(title="peer's time / xconv's time", title_justify="left")
    add_columns(table, ("suite", "peer"), ("layers", "forward", "least", "+ gradients", "least"))
    for row in peer_rows(results):
        table.add_row(row.suite, row.peer, str(row.layers), *mean_and_least(row.forward, row.with_gradients))
    return table


def _method_table(results: Sequence[LayerResult]) -> Table:
    table = Table(title="methods by hand: time / auto's time, largest relative errors", title_justify="left")
    numbers = ("layers", "forward", "least", "+ gradients", "least", "error of y", "of dx", "of dw")
    add_columns(table, ("suite", "method"), numbers)
    for row in method_rows(results):
        errors = ("-" if error is None else f"{error:.1e}" for error in row.errors)
        ratios = mean_and_least(row.forward, row.with_gradients)
        table.add_row(row.suite, row.method, str(row.layers), *ratios, *errors)
    return table


def _loss_table(results: Sequence[LayerResult]) -> Table:
    table = Table(title="where auto loses most against the best method by hand", title_justify="left")
    add_columns(table, ("suite", "operations"), ("loss",))
    add_columns(table, ("layer", "best"), ())
    for row in loss_rows(results):
        table.add_row(row.suite, row.operations, f"{row.loss:.0%}", row.layer, row.best)
    return table


def add_columns(table: Table, words: Sequence[str], numbers: Sequence[str]) -> None:
    """Words to the left, unbroken, then numbers to the right."""
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right")


def _milliseconds(seconds: float) -> str:
    return "<0.001" if seconds < 1e-6 else f"{1e3 * seconds:.3g}"
