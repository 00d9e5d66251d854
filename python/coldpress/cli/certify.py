"""``coldpress certify``: how close vectors are to the fp32 reference, without storing any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
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
from coldpress.cli._variants import Drawing, compare, variants_of

if TYPE_CHECKING:
    from coldpress import Columns, Extractor
    from coldpress.engine import Trial
    from coldpress.types import Item

POOL_ITEMS, POOL_LABELLED = 4096, 100_000
"""Items of the front of the source that the sample, or the labelled items, are drawn from where no limit is given."""
PROBED = {"text": 2000, "image": 1000}
"""Labelled items that are embedded by every variant where no number is given: a few minutes on two cores."""

_VARIANTS = "Variants"


def certify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Directory or hub id.", show_default=False)],
    data: Annotated[
        list[str],
        typer.Option(metavar="SOURCE", help="Your own items; may be repeated.", show_default=False),
    ],
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="Items to compare.")] = 64,
    layers: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Compare with the first N blocks of a transformer alone; may be repeated.",
            rich_help_panel=_VARIANTS,
        ),
    ] = None,
    merge_tokens: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Compare with a vision transformer whose blocks merge N patches each; may be repeated.",
            rich_help_panel=_VARIANTS,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Say what each variant costs a linear probe in accuracy. Column of the data, or a .csv, .jsonl or "
            ".parquet file with key and label.",
            rich_help_panel=_VARIANTS,
        ),
    ] = None,
    probe_items: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Labelled items to draw at random. [dim]Default: 2,000 texts or 1,000 images.[/]",
            rich_help_panel=_VARIANTS,
        ),
    ] = None,
    test_size: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share split off for the test, within each class.", rich_help_panel=_VARIANTS
        ),
    ] = 0.2,
    seed: Annotated[int, options.seed_option("For the draw, the split and the folds.", _VARIANTS)] = 0,
    report: options.Report = None,
    arch: options.Arch = None,
    image_size: options.ImageSize = None,
    modality: options.ModalityOption = None,
    precision: options.PrecisionOption = options.Precision.AUTO,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    key_column: options.KeyColumn = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Read only the first so many items. [dim]Default: 4,096; 100,000 with --labels.[/]",
            rich_help_panel="Reading",
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> Result:
    """Compare the vectors of some of your items with the fp32 reference forward.

    Tries every mode that may pay on this machine, or the one that is named. Exits 1 if none is close enough.
    [dim]embed[/] does the same on a sample of every run, and takes the fastest mode that passes.

    With --layers, --merge-tokens or --labels it compares variants, fewer layers or patches and coarser arithmetic, with
    the whole model in fp32: speed, memory, neighbours kept and, with labels, accuracy.
    """
    compared = bool(layers or merge_tokens) or labels is not None
    if report is not None and not compared:
        raise typer.BadParameter("--report is a page of variants: give --labels, --layers or --merge-tokens")
    with loading(model):
        from coldpress import Extractor
        from coldpress.probes import is_label_file

        build = partial(
            Extractor,
            model,
            device=device,
            threads=threads,
            modality=options.modality_of(model, modality, data, text_column, image_column, arch=arch),
            arch=arch,
            image_size=options.image_size_of(image_size),
        )
        extractor = build(precision=precision.value)
    column = None if labels is None or is_label_file(labels) else labels
    items = _items(
        extractor,
        data,
        options.columns(text_column, image_column, key_column, column),
        limit or (POOL_ITEMS if labels is None else POOL_LABELLED),
    )
    if not compared:
        return _modes(extractor, items, samples)
    variants = variants_of(build, extractor, layers or [], merge_tokens or [], precision.value)
    most = probe_items or PROBED[extractor.modality]
    drawing = Drawing(labels, most, samples, test_size, seed)
    return compare(extractor, variants, items, drawing, report)


def _items(extractor: Extractor, data: list[str], columns: Columns, limit: int) -> Iterator[Item]:
    from coldpress.data import open_source

    return open_source(data, modality=extractor.modality, columns=columns, limit=limit).items()


def _modes(extractor: Extractor, items: Iterable[Item], samples: int) -> Result:
    """Every mode of the whole model beside the reference."""
    from coldpress.types import Failed

    contents = [item.content for item in items if not isinstance(item.content, Failed)]
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


COMMAND = Command(
    certify,
    group="Extract",
    position=2,
    examples=(
        "coldpress certify all-MiniLM-L6-v2 --data notes.txt",
        "coldpress certify facebook/dinov2-small --data photos/ --merge-tokens 8 --merge-tokens 16",
        "coldpress certify all-MiniLM-L6-v2 --data reviews.csv --labels stars --layers 4 --layers 2 --report cost.html",
    ),
)
