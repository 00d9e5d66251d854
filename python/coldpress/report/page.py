"""The page around the sections: styles and plotly once, inline, so that the file can be mailed and archived."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from coldpress._version import __version__
from coldpress.errors import ColdpressError, MissingExtra, StoreError
from coldpress.report.picture import find_browser, photograph

SUFFIXES = (".html", ".png")
_STYLES = Path(__file__).with_name("page.css")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{styles}</style>
<script>{plotly}</script>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{numbers}
{sections}
<footer>Made by coldpress {version}. Nothing in this file is loaded from elsewhere.{saving}</footer>
</main>
{numbers_json}
</body>
</html>
"""
_SAVING = """ <a id="save" download="{name}" href="#numbers">Save the numbers as JSON</a>"""
_NUMBERS = """<script type="application/json" id="numbers">{numbers}</script>
<script>document.getElementById("save").href = URL.createObjectURL(
  new Blob([document.getElementById("numbers").textContent], {{ type: "application/json" }}));</script>"""


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of the page; `body` is HTML."""

    title: str
    body: str


def check_page(path: Path) -> None:
    """Say that a page cannot be written before minutes have gone into what it shows.

    Raises
    ------
    ColdpressError
        Neither ``.html`` nor ``.png``, no such directory, or no browser to draw a ``.png``.
    MissingExtra
        If plotly is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ColdpressError(f"a report is a page or a picture, {path} is neither: end it in {' or '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise ColdpressError(f"{path} cannot be written, there is no directory {path.parent}: make it first")
    _plotly_js()
    if path.suffix.lower() == ".png":
        find_browser()


def write_page(
    path: Path,
    *,
    title: str,
    lead: str,
    numbers: Mapping[str, str],
    sections: Iterable[Section | None],
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write the report: as HTML, or as a picture of it where the path ends in ``.png``.

    Parameters
    ----------
    path : Path
    title, lead : str
        Plain text.
    numbers : mapping
        What a number means -> the number as text: the headline.
    sections : iterable of Section or None
        None has nothing to show and is left out.
    data : mapping, optional
        Every number of the page, as plain JSON values: they can be saved from it.

    Raises
    ------
    ColdpressError, MissingExtra
        As :func:`check_page` does.
    StoreError
        If the file cannot be written.
    """
    check_page(path)
    cards = "".join(
        f"<div><b>{escape(number)}</b><span>{escape(what)}</span></div>" for what, number in numbers.items()
    )
    page = _PAGE.format(
        title=escape(title),
        lead=escape(lead),
        styles=_STYLES.read_text(encoding="utf-8"),
        plotly=_plotly_js(),
        numbers=f'<div class="numbers">{cards}</div>',
        sections="\n".join(
            f"<section>\n<h2>{escape(section.title)}</h2>\n{section.body}\n</section>"
            for section in sections
            if section
        ),
        version=__version__,
        saving="" if data is None else _SAVING.format(name=escape(f"{path.stem}.json")),
        numbers_json="" if data is None else _NUMBERS.format(numbers=json.dumps(data).replace("<", "\\u003c")),
    )
    written = photograph(page) if path.suffix.lower() == ".png" else page.encode()
    try:
        path.write_bytes(written)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; choose a writable place") from error


def figure_html(figure: Any) -> str:
    """A plotly figure as a part of the page; without JavaScript a line points to the numbers below."""
    drawn: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
    )
    hint = "<noscript><p>This figure is drawn by JavaScript; the numbers below need none.</p></noscript>"
    return f"{hint}\n{drawn}"


def table_html(columns: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "") -> str:
    """A table of plain values; the names of columns that hold numbers start with ``>``.

    Of `kind` ``items`` its first column is long, and gets a line of its own on narrow screens.
    """
    marks = [' class="number"' if column.startswith(">") else "" for column in columns]
    head = "".join(f"<th{mark}>{escape(name.lstrip('>'))}</th>" for name, mark in zip(columns, marks, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{escape(str(cell))}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll {kind}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def paragraph(text: str, kind: str = "") -> str:
    """Plain text as a paragraph."""
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{escape(text)}</p>"


def folded(summary: str, body: str) -> str:
    """HTML behind a line that opens it."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtra("A report", "plotly", "report") from error
    return str(get_plotlyjs())
