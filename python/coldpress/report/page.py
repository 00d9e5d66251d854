"""The page around the sections: styles and plotly once, inline, so that the file can be mailed and archived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from coldpress._version import __version__
from coldpress.errors import MissingExtra, StoreError

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
<footer>Made by coldpress {version}. Nothing in this file is loaded from elsewhere.</footer>
</main>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of the page; `body` is HTML."""

    title: str
    body: str


def write_page(path: Path, *, title: str, lead: str, numbers: Mapping[str, str], sections: Iterable[Section]) -> None:
    """Write the report.

    Parameters
    ----------
    path : Path
    title, lead : str
        Plain text.
    numbers : mapping
        What a number means -> the number as text: the headline.
    sections : iterable of Section

    Raises
    ------
    MissingExtra
        If plotly is not installed.
    StoreError
        If the file cannot be written.
    """
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
            f"<section>\n<h2>{escape(section.title)}</h2>\n{section.body}\n</section>" for section in sections
        ),
        version=__version__,
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; choose a writable place") from error


def figure_html(figure: Any) -> str:
    """A plotly figure as a part of the page; without JavaScript a line points to the numbers below."""
    drawn: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
    )
    hint = "<noscript><p>This figure is drawn by JavaScript; the numbers below need none.</p></noscript>"
    return f"{hint}\n{drawn}"


def table_html(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of plain values; the names of columns that hold numbers start with ``>``."""
    marks = [' class="number"' if column.startswith(">") else "" for column in columns]
    head = "".join(f"<th{mark}>{escape(name.lstrip('>'))}</th>" for name, mark in zip(columns, marks, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{escape(str(cell))}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


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
        raise MissingExtra("The HTML report", "plotly", "demo") from error
    return str(get_plotlyjs())
