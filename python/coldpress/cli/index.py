"""``coldpress index``: a store to a FAISS index."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from coldpress.cli import _options as options
from coldpress.cli import _terminal as terminal
from coldpress.cli._command import Command, Result
from coldpress.cli._format import count, directory_size, duration, facts, size
from coldpress.cli._progress import steps

if TYPE_CHECKING:
    from coldpress import EmbeddingStore, VectorIndex
    from coldpress.index import IndexPlan, RecallCertificate


class Kind(str, Enum):
    """How neighbours are found."""

    AUTO = "auto"
    EXACT = "exact"
    HNSW = "hnsw"
    IVF = "ivf"


AS_IT_IS = {"kind": "auto", "metric": "cosine", "factory": None, "output": None, "memory": None, "recall": 0.95}


class Metric(str, Enum):
    """What near means."""

    COSINE = "cosine"
    DOT = "dot"


def index(
    stores: options.StorePaths,
    out: Annotated[
        Path,
        typer.Option(metavar="INDEX", help="Directory of the index.", parser=options.local_path, show_default=False),
    ],
    kind: Annotated[
        Kind,
        typer.Option(
            help="exact compares with every row, hnsw walks a graph, ivf reads clusters; auto: by rows and memory."
        ),
    ] = Kind.AUTO,
    recall: Annotated[
        float, typer.Option(metavar="SHARE", min=0.01, max=1, help="Part of the 10 nearest that a search finds.")
    ] = 0.95,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="What building may take, such as 4GB. [dim]Default: 4/5 of what is left.[/]"),
    ] = None,
    factory: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Instead of --kind, an index in the language of FAISS.")
    ] = None,
    metric: Annotated[Metric, typer.Option(help="Cosine scales vectors to unit length.")] = Metric.COSINE,
    output: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which output, of a store that holds several.")
    ] = None,
    draw: Annotated[
        bool, typer.Option("--map", help="Lay 2,000 rows out in the plane too, for the page of coldpress serve: 5 s.")
    ] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Put the rows into the index that is there, in place of those of equal keys."),
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be built and what it takes, and stop.")] = False,
    seed: Annotated[int, options.seed_option("For the clustering and the recall measurement.")] = 0,
    processes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Add the rows in so many processes: inverted lists alone.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Add them on a Ray cluster, as of coldpress embed.", show_default=False),
    ] = None,
    threads: options.Threads = None,
) -> Result:
    """Build a FAISS index of a store, or of several of one space, and measure its recall.

    The memory it takes is forecast first: what does not fit is refused. The search is tuned to the recall on vectors
    held out from the store, and the certificate says what was reached. A store of signs (embed --dtype binary) no
    longer has the vectors to compare with: its index states no recall. After --update it is measured again, and said
    when to build anew.
    """
    from coldpress import EmbeddingStore, VectorIndex
    from coldpress.embedding_map import draw_map
    from coldpress.index.joined import JoinedStore

    started = time.perf_counter()
    opened = [EmbeddingStore(store) for store in stores]
    for store in opened:
        if not store.complete:
            rows = count(len(store), "row")
            terminal.complain(f"warning: {store.path} is incomplete: only its {rows} so far are indexed")
    how: dict[str, Any] = {"kind": kind.value, "metric": metric.value, "factory": factory, "output": output}
    how["memory"] = None if memory is None else options.memory_of(memory)
    if plan:
        return _forecast(VectorIndex.forecast(JoinedStore(opened), **how))
    if draw and len(opened) > 1:
        raise typer.BadParameter("--map lays out one store: leave it out")
    if update and (how | {"recall": recall} != AS_IT_IS):
        raise typer.BadParameter("--update keeps what the index is: leave out --kind, --recall, --metric and the like")
    with steps(f"Indexing {', '.join(stores)}") as say:
        if update:
            built = VectorIndex.open(out)
            for store in opened:
                built.upsert(store, threads=threads)
        else:
            how |= {"recall": recall, "threads": threads, "seed": seed, "progress": say}
            built = _build(opened, processes, ray, how)
        say("saving")
        built.save(out)
        if draw:
            say("drawing the map")
            draw_map(opened[0], output, seed=seed).save(out)
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
        "certificate": built.certificate.to_json(),
        "advice": built.advice,
    }

    def render(console: Console) -> None:
        head = Text.assemble(("✓ ", "green"), (count(len(built), "vector"), "bold"), f" indexed in {out}")
        head.append(f"  ({duration(seconds)})", "dim")
        console.print(head, soft_wrap=True)
        console.print(facts(index_facts(built.kind, built.metric, built.certificate) | {"size": size(num_bytes)}))
        if built.advice:
            console.print(f"[yellow]{built.advice}[/]", soft_wrap=True)
        console.print(f"\n[dim]Next:[/] coldpress search {out} {_query(opened[0])} --store {stores[0]}", soft_wrap=True)

    return Result(data, render)


def _build(stores: Sequence[EmbeddingStore], processes: int, ray: str | None, how: Mapping[str, Any]) -> VectorIndex:
    if ray is None and processes == 1:
        from coldpress import VectorIndex
        from coldpress.index.joined import JoinedStore

        return VectorIndex.build(stores[0] if len(stores) == 1 else JoinedStore(stores), **how)
    from coldpress.distributed import build_index  # half a second of torch

    return build_index(stores, workers=processes if ray is None or processes > 1 else None, ray=ray, **how)


def _forecast(plan: IndexPlan) -> Result:
    """What would be built."""

    def render(console: Console) -> None:
        values = {
            "kind": f"{plan.kind} ({plan.factory})" if plan.factory else plan.kind,
            "to build": size(plan.build_bytes),
            "index": size(plan.index_bytes),
            "opened, mapped": size(plan.open_bytes),
        }
        console.print(Text.assemble("An index of ", (count(plan.rows, "vector"), "bold"), f" of width {plan.dim}"))
        console.print(facts(values))

    return Result(asdict(plan), render)


def index_facts(kind: str, metric: str, certificate: RecallCertificate) -> dict[str, object]:
    """What matters of an index."""
    how = {
        "exact": "every row is compared",
        "hnsw": "a graph leads to the nearest rows",
        "ivf": "codes of the nearest clusters are compared, the best of them again",
        "binary": "the signs of every row are compared, the nearest ranked by the numbers of the query",
        "factory": "as described to FAISS",
    }
    recall = certificate.recall_at_10
    shown = (
        "unknown: the store keeps signs alone" if recall is None else f"{recall:.3f} of {certificate.target:g} asked"
    )
    latency = f"{certificate.latency_p50_ms:.2f} ms, 99 % below {certificate.latency_p99_ms:.2f} ms"
    built = f"{size(certificate.build_bytes)}, forecast {size(certificate.forecast_bytes)}"
    return {
        "kind": f"{kind} ({how[kind]})",
        "metric": metric,
        "recall@10": shown,
        "one query": latency,
        "built in": built,
    }


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
        "coldpress index passages.store --out passages.index --recall 0.99 --memory 4GB",
        "coldpress index new-passages.store --out passages.index --update",
        "coldpress index photos.store --out photos.index --map",
        "coldpress index 2024.store 2025.store --out photos.index --processes 8",
    ),
)
