"""``coldpress search``: the nearest neighbours of a text, an image or a key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from coldpress.cli import _options as options
from coldpress.cli._command import Command, Result
from coldpress.cli._extractors import embed_output, extractor_for_query
from coldpress.cli._format import clip, table
from coldpress.cli._originals import labels_and_texts

if TYPE_CHECKING:
    from coldpress.types import Modality

MOST_COLUMNS = 3
"""Of metadata that a person sees beside the key; the label comes first."""


def search(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Written by coldpress index.", show_default=False)],
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Find what is near this text.", rich_help_panel="Query")
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="Find what is near this image.", rich_help_panel="Query")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Find what is near this item of the index.", rich_help_panel="Query"),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Neighbours.", rich_help_panel="Query")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help='Only what meets it, such as "label = cat" (or !=, <, <=, >, >=); may be repeated.',
            rich_help_panel="Query",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="Show texts too, found through this store."),
    ] = None,
    model: options.ModelOverride = None,
    arch: options.ArchOverride = None,
    device: options.Device = "auto",
) -> Result:
    """Search an index by text, by image, or by the key of an item in it.

    An index of images takes texts, and the other way round, where its model has a tower for each that end in one space
    (CLIP, SigLIP): the query runs in fp32, whatever the vectors of the index ran in.
    """
    if sum(query is not None for query in (text, image, key)) != 1:
        raise typer.BadParameter("give exactly one of --text, --image and --key")
    if text is not None and not text.strip():
        raise typer.BadParameter("--text is empty: say what to look for")
    from coldpress import EmbeddingStore, VectorIndex
    from coldpress.data.rows import STORE_COLUMNS
    from coldpress.errors import ItemError

    opened = VectorIndex.open(index, verify=False, memory_map=True)  # coldpress info reads and checks all of it
    of_hits = None if store is None else EmbeddingStore(store)
    if of_hits is not None:
        opened.check(of_hits.fingerprint)
    if key is not None:
        scores, keys = opened.search_key(key, k, where=where or None)
    else:
        given: Modality = "text" if text is not None else "image"
        extractor = extractor_for_query(opened, given, model, arch, device=device)
        try:
            query = embed_output(extractor, [text if text is not None else image], opened.output)
        except ItemError as error:
            raise ItemError(f"{image or 'the text'} {str(error).removeprefix('item 0 ')}") from error
        scores, keys = (found[0] for found in opened.search(query, k, where=where or None))
    carried = [name for name in opened.columns if name not in STORE_COLUMNS]
    kept = opened.metadata(list(keys), carried).to_pylist()
    originals = {} if of_hits is None else labels_and_texts(of_hits, list(keys))
    hits: list[dict[str, Any]] = [
        {**row, "rank": rank, "score": round(float(score), 6), **originals.get(row["key"], {})}
        for rank, (score, row) in enumerate(zip(scores, kept, strict=True), 1)
    ]
    data = {
        "index": str(index),
        "query": {"text": text, "image": image, "key": key},
        "k": k,
        "where": where or [],
        "hits": hits,
    }

    def render(console: Console) -> None:
        if not hits:
            console.print("[dim]Nothing meets the conditions.[/]" if where else "[dim]The index has no other item.[/]")
            return
        told = [name for name in carried if name != "text" and any(hit[name] is not None for hit in hits)]
        extra = [*told[:MOST_COLUMNS], *(["text"] if any(hit.get("text") for hit in hits) else [])]
        shown = table(">", ">score", "key", *extra)
        for hit in hits:
            cells = [clip(str(hit.get(name, "")), 90) for name in extra]
            shown.add_row(
                Text(str(hit["rank"]), "dim"), Text(f"{hit['score']:.3f}", "cyan"), Text(hit["key"]), *map(Text, cells)
            )
        console.print(shown)

    return Result(data, render)


COMMAND = Command(
    search,
    group="Search",
    position=2,
    examples=(
        'coldpress search passages.index --text "how do I cancel my order" -k 5',
        "coldpress search photos.index --image holiday.jpg",
        'coldpress search photos.index --key cats/001.jpg --where "label != cat"',
        'coldpress search clip-photos.index --text "a dog on a beach"',
        "coldpress search photos.index --key cats/001.jpg --json",
    ),
)
