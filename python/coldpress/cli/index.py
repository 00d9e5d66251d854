"""``coldpress index``: a store to a FAISS index."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from coldpress.cli import _options as options
from coldpress.cli import _terminal as terminal
from coldpress.cli._command import Command, Result
from coldpress.cli._format import count, directory_size, duration, facts, size

if TYPE_CHECKING:
    from coldpress import EmbeddingStore


class Kind(str, Enum):
    """How neighbours are found."""

    AUTO = "auto"
    EXACT = "exact"
    IVF = "ivf"


class Metric(str, Enum):
    """What near means."""

    COSINE = "cosine"
    DOT = "dot"


def index(
    store: options.StorePath,
    out: Annotated[
        Path,
        typer.Option(metavar="INDEX", help="Directory of the index.", parser=options.local_path, show_default=False),
    ],
    kind: Annotated[
        Kind, typer.Option(help="exact compares with every row, ivf with clusters; auto: by the number of rows.")
    ] = Kind.AUTO,
    metric: Annotated[Metric, typer.Option(help="Cosine scales vectors to unit length.")] = Metric.COSINE,
    output: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which output, of a store that holds several.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="For the clustering and the recall measurement.")] = 0,
    threads: options.Threads = None,
) -> Result:
    """Build a FAISS index of a store and measure its recall.

    Recall is the part of the 10 nearest stored vectors that a search finds. A store of signs (embed --dtype binary) no
    longer has the vectors to compare with: its index states none.
    """
    from coldpress import EmbeddingStore, VectorIndex

    started = time.perf_counter()
    opened = EmbeddingStore(store)
    if not opened.complete:
        terminal.complain(f"warning: {store} is incomplete: only its {count(len(opened), 'row')} so far are indexed")
    built = VectorIndex.build(opened, kind=kind.value, metric=metric.value, output=output, threads=threads, seed=seed)
    built.save(out)
    seconds, num_bytes = time.perf_counter() - started, directory_size(out)
    data = {
        "index": str(out),
        "rows": len(built),
        "dim": built.dim,
        "kind": built.kind,
        "metric": built.metric,
        "model": built.model,
        "bytes": num_bytes,
        "seconds": round(seconds, 4),
        "settings": dict(built.settings),
    }

    def render(console: Console) -> None:
        head = Text.assemble(("✓ ", "green"), (count(len(built), "vector"), "bold"), f" indexed in {out}")
        head.append(f"  ({duration(seconds)})", "dim")
        console.print(head, soft_wrap=True)
        console.print(
            facts(index_facts(built.kind, built.metric, built.settings["recall_at_10"]) | {"size": size(num_bytes)})
        )
        console.print(f"\n[dim]Next:[/] coldpress search {out} {_query(opened)} --store {store}", soft_wrap=True)

    return Result(data, render)


def index_facts(kind: str, metric: str, recall: float | None) -> dict[str, object]:
    """What matters of an index."""
    how = {
        "exact": "every row is compared",
        "ivf": "rows of the nearest clusters are compared",
        "binary": "the signs of every row are compared, the nearest ranked by the numbers of the query",
    }
    shown = "unknown: the store keeps signs alone" if recall is None else f"{recall:.3f}"
    return {"kind": f"{kind} ({how[kind]})", "metric": metric, "recall@10": shown}


def _query(store: EmbeddingStore) -> str:
    """How to ask: by text wherever that finds anything."""
    images = store.description.get("modality") == "image" and "space" not in store.fingerprint.fields
    return "--image FILE" if images else '--text "…"'


COMMAND = Command(
    index,
    group="Search",
    position=1,
    examples=(
        "coldpress index photos.store --out photos.index",
        "coldpress index passages.store --out passages.index --kind ivf",
    ),
)
