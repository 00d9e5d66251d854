"""Which items of a store failed, and why, read without holding the outcomes of all inputs in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from coldpress.cli._format import clip, table

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

SHOWN = 5


def first_failures(store: EmbeddingStore) -> list[dict[str, str]]:
    """The first few, as JSON values."""
    return [{"key": key, "reason": reason} for key, reason in islice(store.failures(), SHOWN)]


def reasons(store: EmbeddingStore, most: int = 10) -> dict[str, int]:
    """The most frequent reasons with their counts."""
    return dict(Counter(reason for _, reason in store.failures()).most_common(most))


def render_failures(
    console: Console, first: Sequence[Mapping[str, str]], failed: int, where: object | None = None
) -> None:
    """The first few failures of `failed`, and where all of them are listed."""
    if not failed:
        return
    shown = table("failed", "reason")
    for failure in first:
        shown.add_row(Text(clip(failure["key"], 60), style="red"), Text(clip(failure["reason"], 120)))
    console.print()
    console.print(shown)
    if failed > len(first):
        console.print(f"[dim]… and {failed - len(first):,} more[/]")
    if where is not None:
        console.print(f"[dim]Every item's outcome:[/] {where}/outcomes", soft_wrap=True)
