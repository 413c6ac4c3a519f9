"""``xconv gallery``: pictures of what xconv is good for, each with the lines that made it, in one HTML file."""

from __future__ import annotations

import base64
import html
import inspect
import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from matplotlib.image import imread
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .errors import first_line
from .files import make_writable, writing_to
from .pages import PAGES, Shown

PICTURE = "grace_hopper.jpg"  # which matplotlib ships: public domain
STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2328 }
img { max-width: 100% }
pre { background: #f6f8fa; padding: 1rem; overflow-x: auto; font-size: 13px }"""


def run(*, out: Path) -> int:
    """Write a picture for each page and ``index.html``, which holds them all, and return the exit status 0."""
    console = Console(highlight=False, markup=False)
    make_writable(out)
    picture = read_picture()
    sections = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as bar, writing_to(out):
        for page in bar.track(PAGES, description="drawing"):
            sections.append(_section(page, picture, out, console))
        (out / "index.html").write_text(_document(sections), encoding="utf-8")
    console.print(f"wrote {out / 'index.html'} and its pictures")
    return 0


def read_picture() -> Any:
    """(rows, columns, 3), from 0 to 255."""
    file: Any = get_sample_data(PICTURE)
    with file:
        return imread(file, format="jpg").astype(np.float64)


def _section(page: Any, picture: Any, out: Path, console: Console) -> str:
    """A page's picture and source; where a package is missing, words that say so."""
    name = page.__name__.replace("_", " ")
    body = inspect.getsource(page).partition('"""\n')[2]
    head = f"<h2>{name.capitalize()}</h2>\n<p>{html.escape(page.__doc__)}</p>"
    code = f"<pre>{html.escape(inspect.cleandoc(body))}</pre>"
    try:
        shown = page(picture)
    except ImportError as error:
        console.print(f"{name} is left out: {first_line(error)}")
        return f"{head}\n<p>Left out: {html.escape(first_line(error))}.</p>\n{code}"
    data = io.BytesIO()
    _draw(shown).savefig(data, format="png")
    (out / f"{page.__name__}.png").write_bytes(data.getvalue())
    source = base64.b64encode(data.getvalue()).decode()
    return f'{head}\n<img alt="{name}" src="data:image/png;base64,{source}">\n{code}'


def _draw(shown: Shown) -> Figure:
    """Side by side: pictures in gray, and curves."""
    figure = Figure(figsize=(3.2 * len(shown), 3.4), dpi=100, layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        axes.set_title(title, fontsize=10)
        if np.ndim(values) == 1:
            axes.plot(values, linewidth=1)
        else:
            axes.imshow(values, cmap="gray")
            axes.set_axis_off()
    return figure


def _document(sections: list[str]) -> str:
    """All that it shows is in it: it opens without a network."""
    head = f'<meta charset="utf-8">\n<title>xconv: a gallery</title>\n<style>\n{STYLE}\n</style>'
    names = "import numpy as np\nimport xconv\nfrom scipy.sparse.linalg import lsqr\nfrom xconv import ndimage, signal"
    about = "Each picture is made by the lines below it, from <code>picture</code>, after"
    intro = f"<h1>xconv</h1>\n<p>{about}</p>\n<pre>{names}</pre>"
    return "\n".join(["<!doctype html>", '<html lang="en">', head, intro, *sections, "</html>"])
