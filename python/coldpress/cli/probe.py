"""``coldpress probe``: a linear classifier on the vectors of a store, judged on items it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli import _options as options
from coldpress.cli._command import Command, Result
from coldpress.cli._examination import render_examination
from coldpress.cli._format import bar, clip, count, duration, facts, size, table
from coldpress.cli._probe_page import write
from coldpress.cli._probe_tasks import Task, choose_task, probe_numbers, probe_sets

if TYPE_CHECKING:
    from coldpress.probes import Candidate, Evaluation, ProbeResult

CLASSES_SHOWN = 30


class HeadKind(str, Enum):
    """Heads that a store can train."""

    LOGISTIC = "logistic"
    RIDGE = "ridge"
    LDA = "lda"
    CENTROID = "centroid"
    KNN = "knn"


def probe(
    stores: options.Stores,
    labels: options.Labels,
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
    keep_together: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Metadata column whose equal values (a patient, a video) are never split.",
            rich_help_panel="Testing",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Say how good it is within each value of this column.", rich_help_panel="Testing"
        ),
    ] = None,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Train on 1, 2, 4, ... labels a class too.", rich_help_panel="Testing"),
    ] = False,
    drop_leaks: Annotated[
        bool,
        typer.Option(
            "--drop-leaks",
            help="Leave out test items whose near duplicate is in the training part.",
            rich_help_panel="Testing",
        ),
    ] = False,
    seed: Annotated[int, options.seed_option("For the split and the folds.", "Testing")] = 0,
    task: Annotated[
        Task,
        typer.Option(
            metavar="TASK",
            help="classify (classes), regress (numbers), multilabel (several an item), or auto: as the labels look.",
            rich_help_panel="Training",
        ),
    ] = Task.AUTO,
    separator: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Between several labels of an item.", rich_help_panel="Training"),
    ] = None,
    head: Annotated[
        list[HeadKind] | None,
        typer.Option(
            metavar="KIND",
            help="logistic, ridge, lda, centroid or knn; of several the best in cross-validation. "
            "[dim]Default: logistic; for numbers ridge.[/]",
            rich_help_panel="Training",
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Output of the store, or all; of several the best. [dim]Default: its first.[/]",
            rich_help_panel="Training",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--C",
            metavar="C",
            help="Inverse regularisation strength of logistic regression. [dim]Default: by cross-validation.[/]",
            rich_help_panel="Training",
        ),
    ] = None,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Let rare classes weigh as much.", rich_help_panel="Training")
    ] = False,
    standardize: Annotated[
        bool,
        typer.Option("--standardize", help="Scale each feature to variance 1 first.", rich_help_panel="Training"),
    ] = False,
    report: options.Report = None,
) -> Result:
    """Train a classifier, or a regression, on labelled vectors and say how far to trust it.

    Several stores, outputs and heads are compared by cross-validation on the training part, and the best is tested.
    """
    from coldpress import EmbeddingStore
    from coldpress.probes import Recipe, fit_probe

    opened = [EmbeddingStore(store) for store in stores]
    recipe = Recipe(
        heads=tuple(kind.value for kind in head or ()),
        outputs=tuple(output or ()),
        C=strength,
        balanced=balanced,
        standardize=standardize,
        groups=keep_together,
        seed=seed,
    )
    tests: dict[str, Any] = {
        "test_store": None if test_store is None else EmbeddingStore(test_store),
        "test_size": test_size,
        "drop_leaks": drop_leaks,
    }
    task, why = choose_task(opened[0], labels, task, separator)
    if task is not Task.CLASSIFY and (group is not None or curve):
        raise typer.BadParameter(f"--group and --curve are for classes, and the task is {task.value} ({why})")
    if task is Task.REGRESS:
        return probe_numbers(opened, labels, recipe, out, why, report=report, **tests)
    if task is Task.MULTILABEL:
        return probe_sets(opened, labels, recipe, out, why, separator=separator, report=report, **tests)
    result = fit_probe(opened, labels, recipe=recipe, by=group, curve=curve, **tests)
    result.head.save(out)
    data = {"head": str(out), "inferred": why, **result.to_json()}
    if report is not None:
        write(report, result, opened, tests["test_store"], labels, data)

    def render(console: Console) -> None:
        console.print(headline(result.evaluation))
        console.print(facts({"task": f"classes ({why})", **_facts(result)}))
        console.print()
        from coldpress.report.probe_parts import best_of_each

        if len(best := best_of_each(result)) > 1:
            console.print(candidate_table(best, result))
            console.print()
        console.print(class_table(result.evaluation))
        render_examination(console, result)
        hidden = len(result.evaluation.per_class) - CLASSES_SHOWN
        if hidden > 0:
            console.print(f"[dim]… and {count(hidden, 'more class', 'more classes')}: see --json[/]")
        if report is not None:
            console.print(f"\n[dim]Page:[/] {report}", soft_wrap=True)
        console.print(f"\n[dim]Head:[/] {out}   [dim]Next:[/] coldpress predict {out} SOURCE", soft_wrap=True)

    return Result(data, render)


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
    from coldpress.report.words import calibration_line, leaks_line

    evaluation = result.evaluation
    balanced = result.examination.balanced_interval
    chosen = f"chosen among {len(result.candidates)} by cross-validation" if result.candidates else "as asked"
    return {
        "balanced accuracy": f"{evaluation.balanced_accuracy:.1%} ({balanced[0]:.1%} to {balanced[1]:.1%})",
        "calibration": calibration_line(result.examination),
        "majority baseline": f"{evaluation.majority_baseline:.1%} (always answering the most frequent class)",
        "head": f"{result.head.title} ({chosen})",
        "size": f"{size(result.head.nbytes)}: it keeps the training vectors" if result.head.kind == "knn" else None,
        "features": result.features or None,
        "trained on": f"{count(result.train_items, 'item')} in {duration(result.seconds)}",
        "near duplicates": leaks_line(result),
        "without label": f"{result.missing_labels:,}" if result.missing_labels else None,
    }


def candidate_table(candidates: Sequence[Candidate], result: ProbeResult) -> Table:
    """What cross-validation said of each head and features."""
    from coldpress.probes.heads import described

    several = len({one.features for one in candidates}) > 1
    shown = table("", *(("features",) if several else ()), "head", ">in cross-validation", ">std of folds")
    for one in candidates:
        kept = (one.features, one.head) == (result.features, result.head.kind)
        shown.add_row(
            Text("★" if kept else "", "yellow"),
            *((Text(one.features),) if several else ()),
            described(one.head, one.setting),
            f"{one.score:.1%}",
            f"{one.score_std:.1%}",
        )
    return shown


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
        "coldpress probe reviews.store --labels stars --task classify --out stars.head",
        "coldpress probe train.store --labels labels.csv --test-store test.store --out species.head",
        "coldpress probe flats.store --labels price --out price.head",
        "coldpress probe photos.store --labels label --out species.head --output all --curve --report species.html",
        "coldpress probe small.store large.store --labels label --output all --head lda --head ridge --out best.head",
    ),
)
