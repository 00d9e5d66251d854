"""Items as people know them: their pictures and texts, on cards and in tables."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

MOST_CHARACTERS = 280


@dataclass(frozen=True, slots=True)
class Original:
    """What a key stands for, as far as it was found: a text, or a small JPEG."""

    text: str | None = None
    picture: bytes | None = None


def pictures_html(cards: Sequence[tuple[Sequence[tuple[str, Original]], str]]) -> str:
    """A grid of cards: each some (key, original), and what is said of them as HTML."""
    made = "".join(
        f'<figure><div class="pictures">{"".join(_picture(*item) for item in items)}</div>'
        f"<figcaption>{said}</figcaption></figure>"
        for items, said in cards
    )
    return f'<div class="cards">{made}</div>'


def _picture(key: str, original: Original) -> str:
    name = escape(key, quote=True)
    if original.picture is None:
        return f'<div class="missing" title="{name}">not found</div>'
    data = b64encode(original.picture).decode()
    return f'<img alt="{name}" title="{name}" src="data:image/jpeg;base64,{data}">'


def text_of(key: str, originals: Mapping[str, Original]) -> str:
    """The text of an item on one line, clipped; else its key."""
    text = " ".join(((originals.get(key) or Original()).text or key).split())
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1].rstrip() + "…"
