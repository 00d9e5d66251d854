"""The pages of probes whose labels are no classes: numbers, and several labels an item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coldpress.probes import MultilabelResult, NumberEvaluation, RegressionResult, SetEvaluation
from coldpress.report.curves import F1, VARIANCE, labels_figure, prediction_figure
from coldpress.report.figures import PALETTE, map_figure, number_map_figure
from coldpress.report.page import Section, figure_html, paragraph, table_html, write_page
from coldpress.report.probe_parts import (
    Shown,
    Wrong,
    compared,
    doubts,
    item_map,
    lead,
    making,
    near_duplicates,
    paths,
    wrong_items,
)


def write_numbers(path: Path, result: RegressionResult, shown: Shown, data: Mapping[str, Any]) -> None:
    """Write the page of a regression; `shown.labels` are numbers. Raises as :func:`write_page` does."""
    found = result.evaluation
    low, high = found.r2_interval
    wrong = {one.key: f", predicted {one.prediction:.4g}" for one in found.errors}
    made = [
        doubts(result),
        _predictions(found),
        compared(result, VARIANCE),
        *paths(result, VARIANCE),
        _errors(found, shown),
        item_map(
            shown,
            wrong,
            "largest errors",
            lambda hover, ringed: number_map_figure(shown.points, shown.labels, hover, ringed),
        ),
        near_duplicates(result, shown),
        making(result),
    ]
    numbers = {
        f"R², 95 % interval {low:.3f} to {high:.3f}": f"{found.r2:.3f}",
        f"mean error; {found.baseline_mae:.4g} by always answering the mean": f"{found.mae:.4g}",
        f"root mean square; {found.baseline_rmse:.4g} by the mean": f"{found.rmse:.4g}",
    }
    if found.spearman is not None:
        numbers["rank correlation"] = f"{found.spearman:.3f}"
    write_page(
        path,
        title=f"Numbers that {Path(result.head.model).name} can tell",
        lead=lead(result),
        numbers=numbers,
        sections=made,
        data=data,
    )


def _predictions(found: NumberEvaluation) -> Section:
    count = len(found.sample)
    which = f"{count:,} of {found.items:,} test items, drawn at random" if count < found.items else "All test items"
    note = f"{which}: on the dotted line a prediction equals its label."
    return Section("Predictions", paragraph(note, "note") + figure_html(prediction_figure(found.sample)))


def _errors(found: NumberEvaluation, shown: Shown) -> Section | None:
    wrong = [
        Wrong(
            one.key,
            f"<b>{one.label:.4g}</b>, predicted <b>{one.prediction:.4g}</b>",
            (f"{one.label:.4g}", f"{one.prediction:.4g}"),
        )
        for one in found.errors
    ]
    note = "Where prediction and label are furthest apart: look here for wrong labels first."
    return wrong_items("Largest errors", note, (">label", ">prediction"), wrong, shown)


def write_sets(path: Path, result: MultilabelResult, shown: Shown, data: Mapping[str, Any]) -> None:
    """Write the page of several labels an item, `shown.labels` with commas; raises as :func:`write_page` does."""
    found = result.evaluation
    low, high = found.map_interval
    often = Counter(label for labels in shown.labels for label in labels.split(", "))
    coloured = [label for label, _ in often.most_common(len(PALETTE))]
    leading = [min(labels.split(", "), key=lambda one: (-often[one], one)) for labels in shown.labels]
    made = [
        doubts(result),
        _labels(found),
        compared(result, F1),
        *paths(result, F1),
        item_map(shown, {}, "", lambda hover, ringed: map_figure(shown.points, leading, hover, coloured, ringed)),
        near_duplicates(result, shown),
        making(result),
    ]
    write_page(
        path,
        title=f"What {Path(result.head.model).name} knows about {len(result.head.classes)} labels",
        lead=lead(result),
        numbers={
            f"mean average precision, 95 % interval {low:.1%} to {high:.1%}": f"{found.mean_average_precision:.1%}",
            "of an order at random": f"{found.chance:.1%}",
            "F1 of all decisions": f"{found.micro_f1:.1%}",
            "of items with all labels right": f"{found.exact:.1%}",
        },
        sections=made,
        data=data,
    )


def _labels(found: SetEvaluation) -> Section:
    rows = [
        (
            one.label,
            "–" if one.average_precision is None else f"{one.average_precision:.1%}",
            f"{one.precision:.1%}",
            f"{one.recall:.1%}",
            f"{one.f1:.1%}",
            f"{one.support:,}",
        )
        for one in found.per_label
    ]
    columns = ("label", ">average precision", ">precision", ">recall", ">F1", ">test items")
    note = "Average precision: of items in the order of their scores, how pure the front is. Precision, recall and F1 "
    note += "are of the answers with yes."
    body = paragraph(note, "note") + figure_html(labels_figure(found.per_label)) + table_html(columns, rows)
    return Section("Each label", body)
