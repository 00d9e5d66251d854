"""``coldpress predict``: the classes of a head for a store, or for items that are embedded on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli import _options as options
from coldpress.cli._command import Command, Result
from coldpress.cli._extractors import extractor_for
from coldpress.cli._format import bar, clip, count, table
from coldpress.cli._outcomes import first_failures, render_failures
from coldpress.cli._progress import ProgressDisplay

if TYPE_CHECKING:
    from coldpress import Columns, EmbeddingStore, Extractor
    from coldpress.cli._predictions import Predictions

ROWS_SHOWN = 20
FORMATS = (".csv", ".jsonl", ".parquet")


def predict(
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="Written by coldpress probe.", show_default=False)],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="STORE|SOURCE", help="A store, or anything that embed takes.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all predictions to a .csv, .jsonl or .parquet file.")
    ] = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    key_column: options.KeyColumn = None,
    limit: options.Limit = None,
    model: options.ModelOverride = None,
    arch: options.ArchOverride = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
) -> Result:
    """Predict the class, the number or the labels of every row of a store, or of every item of a source."""
    if out is not None and out.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"--out {out}: expected a file ending in {', '.join(FORMATS)}")
    from coldpress import EmbeddingStore
    from coldpress.cli._predictions import Predictions
    from coldpress.probes import Head
    from coldpress.store import is_store

    opened = Head.open(head)
    if len(sources) == 1 and is_store(sources[0]):
        if (text_column, image_column, key_column, limit, model, arch) != (None,) * 6:
            raise typer.BadParameter(f"{sources[0]} is a store: options for reading and embedding are for a SOURCE")
        store = EmbeddingStore(sources[0])
        return _result(head, Predictions.of(opened, store), [], 0, out)
    extractor = extractor_for(opened, model, arch, device=device, threads=threads)
    columns = options.columns(text_column, image_column, key_column, None)
    with _embedded(extractor, sources, columns, limit, workers) as store:
        return _result(head, Predictions.of(opened, store), first_failures(store), store.failed, out)


@contextmanager
def _embedded(
    extractor: Extractor, sources: list[str], columns: Columns, limit: int | None, workers: int | None
) -> Iterator[EmbeddingStore]:
    """The sources as a store that is gone afterwards: bad items are passed over as in any run."""
    with TemporaryDirectory(prefix="coldpress-") as directory:
        with ProgressDisplay() as progress:
            store = extractor.embed_to(
                Path(directory) / "store",
                sources,
                columns=columns,
                limit=limit,
                workers=workers,
                on_progress=progress,
            )
        yield store


def _result(
    head: Path, predictions: Predictions, failures: list[dict[str, str]], failed: int, out: Path | None
) -> Result:
    numbers = predictions.probabilities is None
    counts = {} if numbers else dict(Counter(_each(predictions.labels)).most_common())
    data: dict[str, Any] = {
        "head": str(head),
        "rows": len(predictions.labels),
        "failed": failed,
        "failures": failures,
        "counts": {str(label): number for label, number in counts.items()},
        "out": None if out is None else str(out),
    }
    if out is None:
        data["predictions"] = predictions.to_json()
    else:
        from coldpress.cli._predictions import write_predictions

        write_predictions(out, predictions)

    def render(console: Console) -> None:
        if out is None:
            console.print(_rows(predictions))
            if (hidden := len(predictions.labels) - ROWS_SHOWN) > 0:
                console.print(f"[dim]… and {count(hidden, 'more row')}: see --out FILE or --json[/]")
            console.print()
        console.print(_range(predictions.labels) if numbers else _shares(counts, len(predictions.labels)))
        render_failures(console, failures, failed)
        if out is not None:
            console.print(f"\n[green]✓[/] {count(len(predictions.labels), 'prediction')} in {out}", soft_wrap=True)

    return Result(data, render)


def _rows(predictions: Predictions) -> Table:
    if predictions.probabilities is None:
        shown = table("key", ">prediction")
        for key, number in zip(predictions.keys[:ROWS_SHOWN], predictions.labels, strict=False):
            shown.add_row(Text(clip(key, 60)), Text(f"{number:.6g}", "bold"))
        return shown
    shown = table("key", "prediction", ">probability")
    rows = zip(predictions.keys[:ROWS_SHOWN], predictions.labels, predictions.probabilities, strict=False)
    for key, label, probability in rows:
        named = ", ".join(map(str, label)) if isinstance(label, list) else str(label)
        shown.add_row(Text(clip(key, 60)), Text(clip(named, 40), "bold"), f"{probability:.1%}")
    return shown


def _each(labels: list[Any]) -> Iterator[str | int]:
    """The labels, those of lists one by one."""
    for label in labels:
        yield from label if isinstance(label, list) else [label]


def _range(numbers: list[float]) -> Text:
    if not numbers:
        return Text("no rows", "dim")
    mean = sum(numbers) / len(numbers)
    return Text(f"{count(len(numbers), 'number')} from {min(numbers):.6g} to {max(numbers):.6g}, mean {mean:.6g}")


def _shares(counts: dict[str | int, int], rows: int) -> Table:
    shown = table("class", ">items", ">share", "")
    for label, number in counts.items():
        share = number / rows
        shown.add_row(Text(clip(str(label), 40)), f"{number:,}", f"{share:.1%}", Text(bar(share), "cyan"))
    return shown


COMMAND = Command(
    predict,
    group="Learn",
    position=2,
    examples=(
        "coldpress predict stars.head new-reviews.csv --text-column review --out predictions.csv",
        "coldpress predict species.head photos.store --json",
    ),
)
