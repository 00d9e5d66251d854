"""``coldpress embed``: a source of items to a store of vectors."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from coldpress._urls import is_url
from coldpress.cli import _options as options
from coldpress.cli._command import Command, Result
from coldpress.cli._outcomes import first_failures
from coldpress.cli._planning import planned, run_of, stops
from coldpress.cli._progress import ProgressDisplay, loading
from coldpress.cli._signals import finish_shard_on_signal
from coldpress.cli._summary import render_summary

if TYPE_CHECKING:
    from coldpress import Extractor
    from coldpress.engine import Summary


class Dtype(str, Enum):
    """How vectors are stored."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    INT8 = "int8"
    BINARY = "binary"


class OnError(str, Enum):
    """What a bad item does to the run."""

    SKIP = "skip"
    FAIL = "fail"


def embed(
    sources: options.Sources,
    model: Annotated[
        list[str],
        typer.Option(
            metavar="MODEL",
            help="Model directory, all-MiniLM-L6-v2 (packaged), or a hub id. Repeated: images are decoded once, and "
            "STORE holds a store for each.",
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
    merge_tokens: options.MergeTokens = 0,
    image_size: options.ImageSize = None,
    modality: options.ModalityOption = None,
    precision: options.PrecisionOption = options.Precision.AUTO,
    output: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="pooled, cls, mean, last, layer:K, tokens, patches, or several with commas.",
            rich_help_panel="Model",
        ),
    ] = "pooled",
    truncate_dim: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Keep the first N numbers of each vector, for Matryoshka models.",
            rich_help_panel="Model",
        ),
    ] = None,
    pca: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Keep N principal directions of each vector, fitted on the first 2,048 items.",
            rich_help_panel="Model",
        ),
    ] = None,
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
    gpu_decode: Annotated[
        int | None,
        typer.Option(
            metavar="PERCENT",
            min=1,
            max=100,
            help="Have a GPU decode so many of the JPEG files, not to upstream's pixels; certified with the rest.",
            rich_help_panel="Model",
        ),
    ] = None,
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
    dtype: Annotated[
        Dtype,
        typer.Option(
            help="How vectors are stored; int8 with a scale a row, binary as signs, for search.",
            rich_help_panel="Store",
        ),
    ] = Dtype.FLOAT16,
    shard_rows: Annotated[
        int, typer.Option(metavar="N", min=1, help="Inputs per shard, the unit of resuming.", rich_help_panel="Store")
    ] = 65_536,
    reuse: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Copy the vectors of contents that STORE has, and compute the others as it did: one space.",
            rich_help_panel="Store",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICES",
            help="auto, cpu, cuda or cuda:N; for a process on each of several: cuda:0,cuda:1, 2xcpu, or all GPUs.",
            rich_help_panel="Machine",
        ),
    ] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on a Ray cluster: its address, auto for the one that Ray finds, local for a new one here.",
            show_default=False,
            rich_help_panel="Machine",
        ),
    ] = None,
    threads: options.Threads = None,
    workers: options.Workers = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what the run will take, and stop.", rich_help_panel="Planning")
    ] = False,
    price: Annotated[
        float | None,
        typer.Option(metavar="PRICE", min=0, help="What an hour of all machines costs.", rich_help_panel="Planning"),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(metavar="N", min=0, help="Stop at the end of a shard, in time.", rich_help_panel="Planning"),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(metavar="PRICE", min=0, help="The same by cost; needs --price.", rich_help_panel="Planning"),
    ] = None,
) -> Result:
    """Embed images or texts into a store of vectors on disk.

    Run the same command again after an interruption: it continues where the last complete shard ends. Run it again when
    the source has grown: only what is new is embedded. An item that cannot be embedded does not stop the run; the
    store's outcomes say why. Ctrl-C finishes the shard under way.
    """
    if repeated := next((name for name in model if model.count(name) > 1), None):
        raise typer.BadParameter(f"--model {repeated}: named {model.count(repeated)} times, expected once")
    if len(model) > 1 and (arch, reuse) != (None, None):
        raise typer.BadParameter("--arch and --reuse are for one model")
    if max_cost is not None and not price:
        raise typer.BadParameter("--max-cost needs --price, what an hour costs")
    if plan and len(model) > 1:
        raise typer.BadParameter("--plan is for one model")
    columns = options.columns(text_column, image_column, key_column, label_column, metadata_column)
    with loading(", ".join(model)):
        from coldpress import Extractor
        from coldpress.distributed import parse_devices

        devices = parse_devices(device)
        if len(model) > 1 and (ray is not None or len(devices) > 1):
            raise typer.BadParameter("--ray and several devices are for one model")
        if fast_decode and gpu_decode is not None:
            raise typer.BadParameter("--fast-decode and --gpu-decode are two ways to decode a file: leave one out")
        decoding = fast_decode if gpu_decode is None else "gpu" if gpu_decode == 100 else f"gpu:{gpu_decode}"
        extractors = [
            Extractor(
                name,
                device=devices[0],
                precision=precision.value,
                output=output,
                prompt=prompt,
                exif=exif,
                fast_decode=decoding,
                threads=threads,
                modality=options.modality_of(name, modality, sources, text_column, image_column, arch=arch),
                arch=arch,
                layers=layers,
                merge_tokens=merge_tokens,
                image_size=options.image_size_of(image_size),
                truncate_dim=truncate_dim,
                pca=pca,
            )
            for name in model
        ]
    outs = _places(out, model)
    running: dict[str, Any] = {
        "dtype": dtype.value,
        "shard_rows": shard_rows,
        "columns": columns,
        "limit": limit,
        "on_error": on_error.value,
        "retry_failed": retry_failed,
        "workers": workers,
    }
    if ray is not None or len(devices) > 1:
        several: dict[str, Any] | None = {"devices": devices, "ray": ray, "threads": threads}
    else:
        several = None
    if plan:
        return planned(extractors[0], out, sources, price, several, reuse=reuse, **running)
    try:
        with (
            ProgressDisplay() as progress,
            finish_shard_on_signal(lambda: progress.left_of_shard(shard_rows)) as stopping,
        ):
            running |= {"on_progress": progress, "should_stop": stops(stopping, price, max_hours, max_cost)}
            summaries = _run(extractors, out, sources, several, reuse=reuse, **running)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_what_is_safe(outs)) from None
    return _result(outs, summaries, stopping.exit_status if stopping.signal is not None else 0)


def _places(out: str, models: list[str]) -> list[str]:
    """Where the store of each model lies."""
    from coldpress.together import store_names

    return [out] if len(models) == 1 else [f"{out.rstrip('/')}/{name}" for name in store_names(models)]


def _run(
    extractors: list[Extractor], out: str, sources: list[str], several: dict[str, Any] | None, **options: Any
) -> list[Summary]:
    """Embed with each of the extractors, or with one on several devices."""
    from coldpress import embed_together

    if len(extractors) == 1:
        return [run_of(extractors[0], several)(out, sources, **options)]
    del options["reuse"]
    return [*embed_together(extractors, out, sources, **options).values()]


def _result(outs: list[str], summaries: list[Summary], interrupted_status: int) -> Result:
    """What is printed of runs into these stores, and the exit status."""
    from coldpress import EmbeddingStore

    stores = [EmbeddingStore(place) for place in outs]
    interrupted = any(summary.interrupted for summary in summaries)

    def render(console: Console) -> None:
        for number, (summary, store) in enumerate(zip(summaries, stores, strict=True)):
            console.print("\n" * (number > 0), end="")
            render_summary(console, summary, store)
        if not interrupted and summaries[0].rows:
            console.print(f"\n[dim]Next:[/] coldpress index {outs[0]} --out {_index_beside(outs[0])}", soft_wrap=True)

    data = [
        {**summary.to_json(), "failures": first_failures(store)}
        for summary, store in zip(summaries, stores, strict=True)
    ]
    status = interrupted_status if interrupted else 0
    shown = data[0] if len(data) == 1 else {"stores": data, "interrupted": interrupted}
    failed = next((summary for summary in summaries if summary.fruitless and not interrupted), None)
    failure = None if failed is None else f"not one of {failed.inputs:,} inputs could be embedded into {failed.store}"
    return Result(shown, render, failure, status)


def _index_beside(out: str) -> Path:
    """A name for the index: beside a local store, here for one behind a URL."""
    return Path(out.rstrip("/").rpartition("/")[2] if is_url(out) else out).with_suffix(".index")


def _what_is_safe(outs: list[str]) -> str:
    from coldpress import ColdpressError, EmbeddingStore

    safe = []
    for out in outs:
        try:
            inputs = EmbeddingStore(out).inputs
        except ColdpressError:
            inputs = 0
        safe.append(f"{inputs:,} inputs are safe in {out}")
    return f"{', '.join(safe)}; run the same command again to continue from there"


COMMAND = Command(
    embed,
    group="Extract",
    position=1,
    examples=(
        "coldpress embed photos/ --model facebook/dinov2-small --out photos.store",
        "coldpress embed reviews.csv --label-column stars --model all-MiniLM-L6-v2 --out reviews.store",
        "coldpress embed photos/ --model facebook/dinov2-small --out photos.store --retry-failed",
        "coldpress embed photos/ --model ./dinov2-small --model ./clip --output pooled,patches --out stores",
        "coldpress embed photos/ --model facebook/dinov2-small --out photos.store --device all",
        "coldpress embed 's3://bucket/part-*.parquet' --model ./e5-small --prompt 'passage: ' --out s3://bucket/store",
    ),
)
