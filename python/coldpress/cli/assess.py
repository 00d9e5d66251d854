"""``coldpress assess``: which features suit the labels, and is transfer positive at all?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from coldpress.cli import _options as options
from coldpress.cli._assessment import render_assessment
from coldpress.cli._command import Command, Result
from coldpress.cli._progress import steps


def assess(
    stores: options.Stores,
    labels: options.Labels,
    output: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Output of the stores; may be repeated. [dim]Default: all.[/]"),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="Also say how far the items are from those of this store."),
    ] = None,
    items: Annotated[
        int, typer.Option(metavar="N", min=20, help="Judge so many items, drawn at random of more.")
    ] = 2000,
    seed: Annotated[int, options.seed_option("For the draw, the folds and the random weights.")] = 0,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Where the original items are now; may be repeated. [dim]Default: where they were embedded from.[/]",
            rich_help_panel="Reading",
        ),
    ] = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    key_column: options.KeyColumn = None,
    report: options.Report = None,
) -> Result:
    """Say which features suit the labels, and whether transfer is positive, absent or negative.

    Every output is scored without training (LogME, H-score, NLEEP) and by a probe and nearest neighbours on items that
    they have not seen, beside two baselines on the same items: the raw input, and the same network with random weights.
    """
    from coldpress import EmbeddingStore
    from coldpress.assess import assess as run

    with steps("Assessing") as say:
        found = run(
            [EmbeddingStore(store) for store in stores],
            labels,
            outputs=tuple(output or ()),
            reference=None if reference is None else EmbeddingStore(reference),
            items=items,
            data=data,
            columns=options.columns(text_column, image_column, key_column, None),
            seed=seed,
            on_step=say,
        )
    if report is not None:
        from coldpress.report.assess import write_assessment

        write_assessment(report, found)

    def render(console: Console) -> None:
        render_assessment(console, found)
        if report is not None:
            console.print(f"\n[dim]Page:[/] {report}", soft_wrap=True)

    return Result(found.to_json(), render)


COMMAND = Command(
    assess,
    group="Learn",
    position=3,
    examples=(
        "coldpress assess photos.store --labels label",
        "coldpress assess small.store large.store --labels species.csv --report species.html",
        "coldpress assess new.store --labels label --reference old.store --data photos/",
    ),
)
