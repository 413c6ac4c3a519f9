"""``xconv gallery``: pictures of what xconv is good for, each with the lines that made it, in one HTML file."""

from __future__ import annotations

import ast
import base64
import html
import inspect
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from rich.console import Console

from .._progress import bar
from .errors import CHUNKED_PACKAGES, first_line, fitted, install
from .files import make_writable, writing_to
from .pages import PAGES, Shown

PICTURE = "grace_hopper.jpg"  # which matplotlib ships: public domain
IMPORTS = {  # by the name that lines have of it
    "da": "import dask.array as da",
    "np": "import numpy as np",
    "picture": "from matplotlib.cbook import get_sample_data\nfrom matplotlib.image import imread",
    "lsqr": "from scipy.sparse.linalg import lsqr",
    "xconv": "import xconv",
    "ndimage": "from xconv import ndimage",
    "signal": "from xconv import signal",
}
READ = f'picture = imread(get_sample_data("{PICTURE}", asfileobj=False)).astype("float64")'
MARK = "#e08a00"
WIDTH = 9.6  # inches of 100 pixels of the page's: text has its own size there, and no figure is made smaller
STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2328 }
figure { margin: 0; overflow-x: auto }
img { width: 100%; min-width: 44rem }
pre { background: #f6f8fa; padding: 1rem; overflow-x: auto; font-size: 13px }"""


def run(*, out: Path) -> int:
    """Write a picture for each page and ``index.html``, which holds them all, and return the exit status 0."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    make_writable(out)
    picture = read_picture()
    sections = []
    with bar("drawing", len(PAGES), console) as advance, writing_to(out):
        for page in PAGES:
            sections.append(_section(page, picture, out, console))
            advance()
        (out / "index.html").write_text(_document(sections), encoding="utf-8")
    console.print(fitted(f"wrote {out / 'index.html'} and its pictures"))
    return 0


def read_picture() -> Any:
    """(rows, columns, 3), from 0 to 255."""
    return imread(get_sample_data(PICTURE, asfileobj=False)).astype(np.float64)


def lines_of(page: Callable[[Any], Shown]) -> str:
    """What a user would paste: the page's own lines, after those that they need, and no others."""
    body = inspect.cleandoc(inspect.getsource(page).partition('"""\n')[2])
    body = re.sub(r"^return ", "shown = ", re.sub(r"^import .*\n+", "", body), flags=re.MULTILINE)
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    imports = [line for name, line in IMPORTS.items() if name in used]
    return "\n".join([*imports, "", *([READ] if "picture" in used else []), body])


def _section(page: Any, picture: Any, out: Path, console: Console) -> str:
    """A page's picture and source; where a package is missing, words that say so."""
    name = page.__name__.replace("_", " ")
    head = f"<h2>{name.capitalize()}</h2>\n<p>{html.escape(page.__doc__)}</p>"
    code = f"<pre>{html.escape(lines_of(page))}</pre>"
    try:
        shown = page(picture)
    except ImportError as error:
        reason = f"{first_line(error)}: {install('dask' if error.name in CHUNKED_PACKAGES else 'demo')}"
        console.print(fitted(f"{name} is left out: {reason}"))
        return f"{head}\n<p>Left out: {html.escape(reason)}.</p>\n{code}"
    data = io.BytesIO()
    _draw(shown, ADORNED.get(page.__name__)).savefig(data, format="png")
    (out / f"{page.__name__}.png").write_bytes(data.getvalue())
    source = base64.b64encode(data.getvalue()).decode()
    return f'{head}\n<figure><img alt="{name}" src="data:image/png;base64,{source}"></figure>\n{code}'


def _draw(shown: Shown, adorn: Adorn | None) -> Figure:
    """Side by side: pictures in gray, their chunks if they have some, and curves."""
    layout = ConstrainedLayoutEngine(rect=(0.01, 0.02, 0.98, 0.95))  # titles stay clear of the edge
    figure = Figure(figsize=(WIDTH, 3.4 if len(shown) < 4 else 2.9), dpi=150, layout=layout)
    row = list(figure.subplots(1, len(shown), squeeze=False)[0])
    for axes, (title, values) in zip(row, shown.items(), strict=True):
        axes.set_title(title, fontsize=10)
        if np.ndim(values) == 1:
            axes.plot(values, linewidth=1)
        else:
            axes.imshow(values, cmap="gray")
            axes.set_axis_off()
            _draw_chunks(axes, getattr(values, "chunks", ((), ())))
    if adorn is not None:
        adorn(row, shown)
    return figure


def _draw_chunks(axes: Axes, chunks: Any) -> None:
    """The lines between an array's chunks."""
    for sizes, draw in zip(chunks, (axes.axhline, axes.axvline), strict=True):
        for end in np.cumsum(sizes)[:-1]:
            draw(end - 0.5, color=MARK, linewidth=1)


def _mark_match(row: list[Axes], shown: Shown) -> None:
    """Where the score is highest, in the picture and in the score."""
    score, part = shown["score"], shown["what is looked for"]
    top, left = np.unravel_index(score.argmax(), score.shape)
    height, width = part.shape
    row[0].add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=MARK, linewidth=1.5))
    row[2].plot(left, top, "o", markersize=12, markerfacecolor="none", markeredgecolor=MARK)
    _scale(row[2])


def _one_scale(row: list[Axes], shown: Shown) -> None:
    """Black and white are those of the first picture."""
    for axes in row:
        for image in axes.images:
            image.set_clim(row[0].images[0].get_clim())


def _one_scale_and_part(row: list[Axes], shown: Shown) -> None:
    """The part that is computed alone is outlined in all."""
    _one_scale(row, shown)
    row[2].add_patch(Rectangle((150, 200), 100, 100, fill=False, edgecolor="white", linewidth=1.5))


def _scale(axes: Axes) -> None:
    """The numbers that grays stand for, where these are no picture's."""
    axes.figure.colorbar(axes.images[0], ax=axes, location="bottom", aspect=15, pad=0.04)


def _scale_derivatives(row: list[Axes], shown: Shown) -> None:
    for axes in row[2:]:
        _scale(axes)


def _label_tones(row: list[Axes], shown: Shown) -> None:
    """Two seconds of samples at 8 kHz, up to its half."""
    row[0].lines[0].set_xdata(np.arange(500) / 8)
    row[0].relim()
    row[0].set(xlabel="time in ms", ylabel="amplitude")
    row[0].autoscale_view()
    row[1].set_axis_on()
    row[1].images[0].set_extent((0, 2, 4, 0))  # the first row is that of 0 Hz
    row[1].set(xlim=(0, 2), ylim=(0, 4), aspect="auto", xlabel="time in s", ylabel="frequency in kHz")
    row[1].figure.colorbar(row[1].images[0], ax=row[1], label="magnitude")


def _label_loss(row: list[Axes], shown: Shown) -> None:
    _one_scale(row, shown)
    row[2].set(xlabel="step", ylabel="mean square error")


Adorn = Callable[[list[Axes], Shown], None]
ADORNED: dict[str, Adorn] = {
    "edges_and_blur": _scale_derivatives,
    "template_matching": _mark_match,
    "deconvolution": _one_scale,
    "filter_bank": _label_tones,
    "autoencoder": _label_loss,
    "by_chunks": _one_scale_and_part,
}


def _document(sections: list[str]) -> str:
    """All that it shows is in it: it opens without a network."""
    screen = '<meta name="viewport" content="width=device-width">'  # else a telephone shows it as small as a desk's
    head = f'<meta charset="utf-8">\n{screen}\n<title>xconv: a gallery</title>\n<style>\n{STYLE}\n</style>'
    words = "what the lines below it compute, <code>shown</code>; marks, axes and scales are drawn over that"
    intro = f"<h1>xconv</h1>\n<p>Each picture shows {words}.</p>"
    return "\n".join(["<!doctype html>", '<html lang="en">', head, intro, *sections, "</html>"])
