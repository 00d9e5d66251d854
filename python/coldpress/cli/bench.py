"""``coldpress bench``: what this machine can do, and how close a model comes to it, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from coldpress._process import cores
from coldpress.cli import _machine
from coldpress.cli import _options as options
from coldpress.cli._bench_tables import render_limits, render_report
from coldpress.cli._command import Command, Result
from coldpress.cli._progress import busy, loading

if TYPE_CHECKING:
    from coldpress import Columns
    from coldpress.data import Source

ITEMS = {"text": 2000, "image": 128}
"""Items at most, where no limit says otherwise; slow models take fewer of them."""


def bench(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Directory, all-MiniLM-L6-v2 (packaged), or a hub id.")
    ] = "all-MiniLM-L6-v2",
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Your own items; may be repeated. [dim]Default: documentation of this Python, or made-up photos.[/]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIRECTORY",
            help="Where a store would go: its disk is measured.",
            exists=True,
            file_okay=False,
            writable=True,
        ),
    ] = Path(),
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    limit: options.Limit = None,
    threads: options.Threads = None,
) -> Result:
    """Show the limits of this machine, and how close a model comes to them, stage by stage.

    Measures what its cores, caches, memory and disk can do at most; then embeds some items in every mode of the model
    and says how much of its limit each stage reaches, and which one holds up the others. Under a minute on two cores;
    close other programs first.
    """
    with busy("Measuring the machine"):
        from coldpress import bench as measure

        count = threads or cores()
        limits = measure.measure_limits(out.resolve(), count)
    with loading(model):
        from coldpress import models

        loaded = models.load(model)
    modality = loaded.backbone.modality
    columns = options.columns(text_column, image_column, None, None)
    with busy(f"Measuring {model}"), _items(modality, data, columns, limit or ITEMS[modality]) as source:
        report = measure.measure_model(loaded, source, limits, out)
    machine = _machine.processor()

    def render(console: Console) -> None:
        render_limits(console, machine, limits)
        render_report(console, report)

    return Result({"processor": machine, "limits": limits.to_json(), **report.to_json()}, render)


@contextmanager
def _items(modality: str, data: list[str] | None, columns: Columns, limit: int) -> Iterator[Source]:
    """The items to measure with: the user's own, or some that every machine has."""
    from coldpress.bench import write_photos
    from coldpress.cli._demo import corpus
    from coldpress.data import Columns, open_source

    if data:
        yield open_source(data, modality=modality, columns=columns, limit=limit)  # type: ignore[arg-type]
        return
    with TemporaryDirectory() as scratch:
        if modality == "text":
            path = Path(scratch) / "documentation.jsonl"
            corpus.write(path, corpus.collect(limit))
            yield open_source(path, modality="text", columns=Columns(text="text", key="key"))
        else:
            write_photos(Path(scratch), limit)
            yield open_source(scratch, modality="image")


COMMAND = Command(
    bench,
    group="Start here",
    position=3,
    examples=(
        "coldpress bench",
        "coldpress bench facebook/dinov2-small --data photos/",
        "coldpress bench ./e5-small --data notes.txt --out /mnt/stores --json",
    ),
)
