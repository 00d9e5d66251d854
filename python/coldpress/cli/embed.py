"""``coldpress embed``: a source of items to a store of vectors."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from coldpress._urls import is_url
from coldpress.cli import _options as options
from coldpress.cli._command import Command, Result
from coldpress.cli._outcomes import first_failures
from coldpress.cli._progress import ProgressDisplay, loading
from coldpress.cli._signals import finish_shard_on_signal
from coldpress.cli._summary import render_summary


class Dtype(str, Enum):
    """How vectors are stored."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


class OnError(str, Enum):
    """What a bad item does to the run."""

    SKIP = "skip"
    FAIL = "fail"


def embed(
    sources: options.Sources,
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Model directory, all-MiniLM-L6-v2 (packaged), or a hub id.",
            show_default=False,
            rich_help_panel="Model",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="STORE",
            help="Directory of the store, or a URL such as s3://…",
            show_default=False,
            rich_help_panel="Store",
        ),
    ],
    arch: options.Arch = None,
    layers: options.Layers = None,
    modality: options.ModalityOption = None,
    precision: options.PrecisionOption = options.Precision.AUTO,
    output: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="pooled, cls, mean, last, layer:K, or several with commas.", rich_help_panel="Model"
        ),
    ] = "pooled",
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Text in front of every text, or a prompt that the model names.",
            rich_help_panel="Model",
        ),
    ] = None,
    exif: Annotated[
        bool, typer.Option("--exif", help="Turn images upright as their EXIF data says.", rich_help_panel="Model")
    ] = False,
    fast_decode: Annotated[
        bool,
        typer.Option(
            "--fast-decode",
            help="Read large JPEG files at reduced size: faster, not upstream's pixels; certified with the rest.",
            rich_help_panel="Model",
        ),
    ] = False,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    key_column: options.KeyColumn = None,
    label_column: options.LabelColumn = None,
    metadata_column: options.MetadataColumn = None,
    limit: options.Limit = None,
    on_error: Annotated[
        OnError, typer.Option(help="Log items that fail and go on, or stop.", rich_help_panel="Reading")
    ] = OnError.SKIP,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed in earlier runs.", rich_help_panel="Reading")
    ] = False,
    dtype: Annotated[Dtype, typer.Option(help="How vectors are stored.", rich_help_panel="Store")] = Dtype.FLOAT16,
    shard_rows: Annotated[
        int, typer.Option(metavar="N", min=1, help="Inputs per shard, the unit of resuming.", rich_help_panel="Store")
    ] = 65_536,
    reuse: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="Copy the vectors of contents that STORE has.", rich_help_panel="Store"),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
) -> Result:
    """Embed images or texts into a store of vectors on disk.

    Run the same command again after an interruption: it continues where the last complete shard ends. Run it again when
    the source has grown: only what is new is embedded. An item that cannot be embedded does not stop the run; the
    store's outcomes say why. Ctrl-C finishes the shard under way.
    """
    with loading(model):
        from coldpress import EmbeddingStore, Extractor

        extractor = Extractor(
            model,
            device=device,
            precision=precision.value,
            output=output,
            prompt=prompt,
            exif=exif,
            fast_decode=fast_decode,
            threads=threads,
            modality=options.modality_of(model, modality, sources, text_column, image_column, arch=arch),
            arch=arch,
            layers=layers,
        )
    try:
        with finish_shard_on_signal() as stopping, ProgressDisplay() as progress:
            summary = extractor.run(
                out,
                sources,
                dtype=dtype.value,
                shard_rows=shard_rows,
                columns=options.columns(text_column, image_column, key_column, label_column, metadata_column),
                limit=limit,
                on_error=on_error.value,
                retry_failed=retry_failed,
                reuse=reuse,
                workers=workers,
                on_progress=progress,
                should_stop=stopping,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_what_is_safe(out)) from None
    store = EmbeddingStore(out)

    def render(console: Console) -> None:
        render_summary(console, summary, store)
        if not summary.interrupted:
            console.print(f"\n[dim]Next:[/] coldpress index {out} --out {_index_beside(out)}", soft_wrap=True)

    status = stopping.exit_status if summary.interrupted else 0
    return Result({**summary.to_json(), "failures": first_failures(store)}, render, status=status)


def _index_beside(out: str) -> Path:
    """A name for the index: beside a local store, here for one behind a URL."""
    return Path(out.rstrip("/").rpartition("/")[2] if is_url(out) else out).with_suffix(".index")


def _what_is_safe(out: str) -> str:
    from coldpress import ColdpressError, EmbeddingStore

    try:
        inputs = EmbeddingStore(out).inputs
    except ColdpressError:
        inputs = 0
    return f"{inputs:,} inputs are safe in {out}; run the same command again to continue from there"


COMMAND = Command(
    embed,
    group="Extract",
    position=1,
    examples=(
        "coldpress embed photos/ --model facebook/dinov2-small --out photos.store",
        "coldpress embed reviews.csv --label-column stars --model all-MiniLM-L6-v2 --out reviews.store",
        "coldpress embed photos/ --model facebook/dinov2-small --out photos.store --retry-failed",
        "coldpress embed 's3://bucket/part-*.parquet' --model ./e5-small --prompt 'passage: ' --out s3://bucket/store",
    ),
)
