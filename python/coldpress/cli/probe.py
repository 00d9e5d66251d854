"""``coldpress probe``: a linear classifier on the vectors of a store, judged on items it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli import _options as options
from coldpress.cli._command import Command, Result
from coldpress.cli._format import bar, clip, count, duration, facts, table

if TYPE_CHECKING:
    from coldpress.probes import Evaluation, ProbeResult

CLASSES_SHOWN = 30


def probe(
    store: options.StorePath,
    labels: Annotated[
        str,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Metadata column, or a .csv, .jsonl or .parquet file with key and label.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="HEAD", help="Directory of the head.", parser=options.local_path, show_default=False),
    ],
    test_store: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="Test on these items, not on a part split off.", rich_help_panel="Testing"),
    ] = None,
    test_size: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share split off for the test, within each class.", rich_help_panel="Testing"
        ),
    ] = 0.2,
    seed: Annotated[int, typer.Option(metavar="N", help="For the split and the folds.", rich_help_panel="Testing")] = 0,
    strength: Annotated[
        float | None,
        typer.Option(
            "--C",
            metavar="C",
            help="Inverse regularisation strength. [dim]Default: by cross-validation.[/]",
            rich_help_panel="Training",
        ),
    ] = None,
    standardize: Annotated[
        bool,
        typer.Option("--standardize", help="Scale each feature to variance 1 first.", rich_help_panel="Training"),
    ] = False,
) -> Result:
    """Train a logistic regression on labelled vectors and say how far to trust it."""
    from coldpress import EmbeddingStore
    from coldpress.probes import fit_probe

    result = fit_probe(
        EmbeddingStore(store),
        labels,
        test_store=None if test_store is None else EmbeddingStore(test_store),
        test_size=test_size,
        seed=seed,
        C=strength,
        standardize=standardize,
    )
    result.head.save(out)

    def render(console: Console) -> None:
        console.print(headline(result.evaluation))
        console.print(facts(_facts(result)))
        console.print()
        console.print(class_table(result.evaluation))
        hidden = len(result.evaluation.per_class) - CLASSES_SHOWN
        if hidden > 0:
            console.print(f"[dim]… and {count(hidden, 'more class', 'more classes')}: see --json[/]")
        console.print(f"\n[dim]Head:[/] {out}   [dim]Next:[/] coldpress predict {out} SOURCE", soft_wrap=True)

    return Result({"head": str(out), **result.to_json()}, render)


def headline(evaluation: Evaluation) -> Text:
    """Accuracy with its interval."""
    low, high = evaluation.interval
    return Text.assemble(
        "accuracy ",
        (f"{evaluation.accuracy:.1%}", "bold green"),
        f"  95 % interval {low:.1%} to {high:.1%}",
        (f"  on {count(evaluation.items, 'item')} not trained on", "dim"),
    )


def _facts(result: ProbeResult) -> dict[str, object]:
    evaluation = result.evaluation
    how = f"chosen among {len(result.candidates)} by cross-validation" if result.candidates else "as asked"
    return {
        "balanced accuracy": f"{evaluation.balanced_accuracy:.1%}",
        "majority baseline": f"{evaluation.majority_baseline:.1%} (always answering the most frequent class)",
        "C": f"{result.C:g} ({how})",
        "trained on": f"{count(result.train_items, 'item')} in {duration(result.seconds)}",
        "without label": f"{result.missing_labels:,}" if result.missing_labels else None,
    }


def class_table(evaluation: Evaluation, most: int = CLASSES_SHOWN) -> Table:
    """Precision and recall of each class."""
    shown = table("class", ">precision", ">recall", ">F1", ">items", "")
    for score in evaluation.per_class[:most]:
        shown.add_row(
            Text(clip(str(score.label), 40)),
            f"{score.precision:.1%}",
            f"{score.recall:.1%}",
            f"{score.f1:.1%}",
            f"{score.support:,}",
            Text(bar(score.f1, 12), "cyan"),
        )
    return shown


COMMAND = Command(
    probe,
    group="Learn",
    position=1,
    examples=(
        "coldpress probe reviews.store --labels label --out stars.head",
        "coldpress probe train.store --labels labels.csv --test-store test.store --out species.head",
    ),
)
