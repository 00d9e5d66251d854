"""``coldpress drift``: whether new data are still what the reference was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from coldpress.cli import _options as options
from coldpress.cli._command import Command, Result
from coldpress.cli._drift import render_drift, render_refit
from coldpress.cli._originals import find_originals
from coldpress.cli._progress import busy

if TYPE_CHECKING:
    from coldpress.drift import Refit

_PARTS, _REFIT, _REPORTING = "Over time", "A new head", "Reporting"


def drift(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE_STORE", help="What was fine.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW_STORE", help="What has come since.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Output of the stores. [dim]Default: their first, or that of --refit.[/]"),
    ] = None,
    level: Annotated[float, typer.Option(metavar="RATE", help="Of false alarms, where nothing has changed.")] = 0.01,
    seed: Annotated[int, options.seed_option("For the draws.")] = 0,
    window: Annotated[
        int | None,
        typer.Option(metavar="N", help="Test every N new items, in the order of the store.", rich_help_panel=_PARTS),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Test the new items by the values of a column (a day).", rich_help_panel=_PARTS
        ),
    ] = None,
    refit: Annotated[
        Path | None,
        typer.Option(
            metavar="HEAD",
            help="Train this head again, with the new labels too, and say what that brings on new items.",
            rich_help_panel=_REFIT,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Labels of the items of both stores.",
            rich_help_panel=_REFIT,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="HEAD", help="Directory of the new head.", parser=options.local_path, rich_help_panel=_REFIT
        ),
    ] = None,
    report: options.Report = None,
    fail_on_drift: Annotated[
        bool,
        typer.Option("--fail-on-drift", help="Exit with 1 if there is.", rich_help_panel=_REPORTING),
    ] = False,
) -> Result:
    """Say whether new items are still like those of a reference store, by how much they are not, and which ones.

    One test decides, and where nothing has changed it gives a false alarm at the stated rate. All else says how large a
    difference is and what it is made of. Rows are read block by block.
    """
    if (refit is None) != (labels is None) or (refit is None) != (out is None):
        raise typer.BadParameter("--refit HEAD, --labels COLUMN|FILE and --out HEAD belong together: give all three")
    from coldpress import EmbeddingStore
    from coldpress.drift import detect_drift, refit_head
    from coldpress.probes import Head

    stores = EmbeddingStore(reference), EmbeddingStore(new)
    head = None if refit is None else Head.open(refit)
    output = output or (None if head is None else head.output)
    with busy("Comparing"):
        found = detect_drift(*stores, output=output, level=level, window=window, by=by, seed=seed)
    fitted: Refit | None = None
    if head is not None and labels is not None and out is not None:
        with busy("Training"):
            fitted = refit_head(head, *stores, labels, seed=seed)
        fitted.head.save(out)
    data = {
        "reference": reference,
        "new": new,
        **found.to_json(),
        "refit": None if fitted is None else {"out": str(out), **fitted.to_json()},
        "report": None if report is None else str(report),
    }
    if report is not None:
        from coldpress.report.drift import Shown, write_drift

        old, late = ([one.key for one in items] for items in (found.driving.missing, found.driving.items))
        shown = Shown(find_originals(stores[0], old, pictures=True), find_originals(stores[1], late, pictures=True))
        write_drift(report, stores, found, fitted, shown, data)

    def render(console: Console) -> None:
        render_drift(console, found, by)
        if fitted is not None:
            render_refit(console, fitted, out)
        if report is not None:
            console.print(f"\n[dim]Report:[/] {report}", soft_wrap=True)

    failed = fail_on_drift and found.verdict.alarm
    why = f"{new} has drifted from {reference} (p = {found.verdict.p_value:.2g}, false alarms {level:g})"
    return Result(data, render, failure=why if failed else None)


COMMAND = Command(
    drift,
    group="Learn",
    position=4,
    examples=(
        "coldpress drift june.store july.store",
        "coldpress drift june.store july.store --by day --report july.html",
        "coldpress drift june.store july.store --fail-on-drift --json",
        "coldpress drift june.store july.store --refit stars.head --labels stars --out stars-july.head",
    ),
)
