"""``coldpress probe`` for labels that are no classes: numbers, or several labels an item."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli._command import Result
from coldpress.cli._format import bar, clip, count, duration, facts, table
from coldpress.cli._probe_page import write

if TYPE_CHECKING:
    from coldpress import EmbeddingStore
    from coldpress.probes import MultilabelResult, NumberEvaluation, Recipe, RegressionResult, SetEvaluation

LABELS_SHOWN, ERRORS_SHOWN = 30, 5


class Task(str, Enum):
    """What labels are for."""

    AUTO = "auto"
    CLASSIFY = "classify"
    REGRESS = "regress"
    MULTILABEL = "multilabel"


def choose_task(store: EmbeddingStore, labels: str, task: Task, separator: str | None) -> tuple[Task, str]:
    """The task, and why it is this one."""
    if separator is not None:
        if task not in (Task.AUTO, Task.MULTILABEL):
            raise typer.BadParameter(f"--separator is for several labels an item, and --task is {task.value}")
        return Task.MULTILABEL, "--separator was given"
    if task is not Task.AUTO:
        return task, "as asked"
    from coldpress.probes import task_of

    found, why = task_of(store, labels)
    return Task(found), f"{why}: --task says otherwise"


def probe_numbers(
    stores: Sequence[EmbeddingStore],
    labels: str,
    recipe: Recipe,
    out: Path,
    why: str,
    *,
    report: Path | None,
    **tests: Any,
) -> Result:
    """Train, test and save a regression."""
    from coldpress.probes import fit_regression

    result = fit_regression(stores, labels, recipe=recipe, **tests)
    result.head.save(out)
    data = {"head": str(out), "inferred": why, **result.to_json()}
    if report is not None:
        write(report, result, stores, tests["test_store"], labels, data)

    def render(console: Console) -> None:
        found = result.evaluation
        low, high = found.r2_interval
        console.print(_headline("R²", f"{found.r2:.3f}", f"{low:.3f} to {high:.3f}", found.items))
        console.print(facts({"task": f"numbers ({why})", **_number_facts(found), **_how(result)}))
        console.print()
        console.print(_errors(found))
        _next(console, out, report)

    return Result(data, render)


def probe_sets(
    stores: Sequence[EmbeddingStore],
    labels: str,
    recipe: Recipe,
    out: Path,
    why: str,
    *,
    separator: str | None,
    report: Path | None,
    **tests: Any,
) -> Result:
    """Train, test and save a head for several labels an item."""
    from coldpress.probes import fit_multilabel

    result = fit_multilabel(stores, labels, separator=separator, recipe=recipe, **tests)
    result.head.save(out)
    data = {"head": str(out), "inferred": why, **result.to_json()}
    if report is not None:
        write(report, result, stores, tests["test_store"], labels, data, separator)

    def render(console: Console) -> None:
        found = result.evaluation
        low, high = found.map_interval
        value = f"{found.mean_average_precision:.1%}"
        console.print(_headline("mean average precision", value, f"{low:.1%} to {high:.1%}", found.items))
        console.print(facts({"task": f"several labels an item ({why})", **_set_facts(found), **_how(result)}))
        console.print()
        console.print(_labels(found))
        if (hidden := len(found.per_label) - LABELS_SHOWN) > 0:
            console.print(f"[dim]… and {count(hidden, 'more label')}: see --json[/]")
        _next(console, out, report)

    return Result(data, render)


def _headline(name: str, value: str, interval: str, items: int) -> Text:
    tested = (f"  on {count(items, 'item')} not trained on", "dim")
    return Text.assemble(f"{name} ", (value, "bold green"), f"  95 % interval {interval}", tested)


def _how(result: RegressionResult | MultilabelResult) -> dict[str, object]:
    chosen = f"chosen among {len(result.candidates)} by cross-validation" if result.candidates else "as asked"
    dropped = "left out of the test" if result.leaks_dropped else "leave them out with --drop-leaks"
    leaks = f"{count(len(result.leaks), 'test item')} with one among the training items: {dropped}"
    return {
        "head": f"{result.head.title} ({chosen})",
        "features": result.features or None,
        "trained on": f"{count(result.train_items, 'item')} in {duration(result.seconds)}",
        "near duplicates": leaks if result.leaks else None,
        "without label": f"{result.missing_labels:,}" if result.missing_labels else None,
    }


def _number_facts(found: NumberEvaluation) -> dict[str, object]:
    rank, spread = found.spearman, found.spearman_interval
    return {
        "mean error": f"{found.mae:.4g} ({found.mae_interval[0]:.4g} to {found.mae_interval[1]:.4g})",
        "root mean square": f"{found.rmse:.4g} ({found.rmse_interval[0]:.4g} to {found.rmse_interval[1]:.4g})",
        "rank correlation": f"{rank:.3f} ({spread[0]:.3f} to {spread[1]:.3f})" if rank and spread else None,
        "baseline": f"{found.baseline_mae:.4g} and {found.baseline_rmse:.4g} root mean square (always the mean)",
    }


def _set_facts(found: SetEvaluation) -> dict[str, object]:
    micro, macro = found.micro_f1_interval, found.macro_f1_interval
    return {
        "F1 of all decisions": f"{found.micro_f1:.1%} ({micro[0]:.1%} to {micro[1]:.1%})",
        "mean F1 of labels": f"{found.macro_f1:.1%} ({macro[0]:.1%} to {macro[1]:.1%})",
        "all labels right": f"{found.exact:.1%} of items",
        "by chance": f"{found.chance:.1%} mean average precision",
    }


def _errors(found: NumberEvaluation) -> Table:
    shown = table("largest errors", ">label", ">prediction")
    for one in found.errors[:ERRORS_SHOWN]:
        shown.add_row(Text(clip(one.key, 50)), f"{one.label:.4g}", f"{one.prediction:.4g}")
    return shown


def _labels(found: SetEvaluation) -> Table:
    shown = table("label", ">average precision", ">precision", ">recall", ">F1", ">items", "")
    for one in found.per_label[:LABELS_SHOWN]:
        precision = one.average_precision
        shown.add_row(
            Text(clip(str(one.label), 40)),
            "" if precision is None else f"{precision:.1%}",
            f"{one.precision:.1%}",
            f"{one.recall:.1%}",
            f"{one.f1:.1%}",
            f"{one.support:,}",
            Text(bar(precision or 0, 12), "cyan"),
        )
    return shown


def _next(console: Console, out: Path, report: Path | None) -> None:
    if report is not None:
        console.print(f"\n[dim]Page:[/] {report}", soft_wrap=True)
    console.print(f"\n[dim]Head:[/] {out}   [dim]Next:[/] coldpress predict {out} SOURCE", soft_wrap=True)
