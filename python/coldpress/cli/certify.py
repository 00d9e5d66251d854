"""``coldpress certify``: how close vectors are to the fp32 reference, without storing any."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli import _options as options
from coldpress.cli._command import Command, Result
from coldpress.cli._format import facts, table
from coldpress.cli._progress import loading
from coldpress.cli._summary import certificate_line

if TYPE_CHECKING:
    from coldpress import Columns, Extractor
    from coldpress.engine import Trial

POOL_ITEMS = 4096
"""Items of the front of the source that the sample is drawn from, where no limit says otherwise."""


def certify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Directory or hub id.", show_default=False)],
    data: Annotated[
        list[str],
        typer.Option(metavar="SOURCE", help="Your own items; may be repeated.", show_default=False),
    ],
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="Items to compare.")] = 64,
    arch: options.Arch = None,
    merge_tokens: options.MergeTokens = 0,
    image_size: options.ImageSize = None,
    modality: options.ModalityOption = None,
    precision: options.PrecisionOption = options.Precision.AUTO,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    limit: options.Limit = POOL_ITEMS,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> Result:
    """Compare the vectors of some of your items with the fp32 reference forward.

    Tries every mode that may pay on this machine, or the one that is named. Exits 1 if none is close enough.
    [dim]embed[/] does the same on a sample of every run, and takes the fastest mode that passes.
    """
    with loading(model):
        from coldpress import Extractor

        extractor = Extractor(
            model,
            device=device,
            precision=precision.value,
            threads=threads,
            modality=options.modality_of(model, modality, data, text_column, image_column, arch=arch),
            arch=arch,
            merge_tokens=merge_tokens,
            image_size=options.image_size_of(image_size),
        )
    contents = _contents(extractor, data, options.columns(text_column, image_column, None, None), limit)
    trials = extractor.compare(contents, samples=samples)
    best = next((trial for trial in trials if trial.certificate.passed), trials[-1])
    certificate = best.certificate

    def render(console: Console) -> None:
        verdict = Text("✓ certified", "green bold") if certificate.passed else Text("✗ not certified", "red bold")
        console.print(verdict)
        values = {
            "model": f"{extractor.name} on {extractor.device}",
            "precision": certificate.label,
            "certificate": certificate_line(certificate),
            "largest error": f"{certificate.max_abs_error:.2g} in any component",
        }
        console.print(facts(values))
        console.print()
        console.print(_trial_table(trials))

    failure = None if certificate.passed else f"{certificate.label} vectors are too far from the fp32 reference"
    modes = [{"items_per_s": round(trial.items_per_s, 1), **trial.certificate.to_json()} for trial in trials]
    return Result({"model": extractor.name, **certificate.to_json(), "modes": modes}, render, failure)


def _trial_table(trials: Sequence[Trial]) -> Table:
    """Fidelity and speed of every mode, side by side."""
    shown = table("mode", ">mean cosine", ">lowest", ">10-NN overlap", ">items/s", "certificate")
    for trial in trials:
        tested = trial.certificate
        shown.add_row(
            trial.mode,
            f"{tested.cosine_mean:.6f}",
            f"{tested.cosine_min:.6f}",
            f"{tested.neighbour_overlap:.1%}",
            f"{trial.items_per_s:,.0f}",
            Text("passed", "green") if tested.passed else Text("failed", "red"),
        )
    return shown


def _contents(extractor: Extractor, data: list[str], columns: Columns, limit: int | None) -> list[object]:
    from coldpress.data import open_source
    from coldpress.types import Failed

    source = open_source(data, modality=extractor.modality, columns=columns)
    items = islice(source.items(), limit or POOL_ITEMS)
    return [item.content for item in items if not isinstance(item.content, Failed)]


COMMAND = Command(
    certify,
    group="Extract",
    position=2,
    examples=(
        "coldpress certify all-MiniLM-L6-v2 --data notes.txt",
        "coldpress certify facebook/dinov2-small --data photos/ --samples 128",
    ),
)
