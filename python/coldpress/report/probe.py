"""The page of a probe: how good it is, how it came to be, what it gets wrong, and what speaks against trusting it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from coldpress.probes import ProbeResult
from coldpress.report import sections
from coldpress.report.curves import ACCURACY, calibration_figure, groups_figure, learning_figure
from coldpress.report.figures import PALETTE, map_figure
from coldpress.report.page import Section, figure_html, folded, paragraph, table_html, write_page
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
    sentence,
    wrong_items,
)
from coldpress.report.words import calibration_line, gap_line


def write_probe(path: Path, result: ProbeResult, shown: Shown, data: Mapping[str, Any]) -> None:
    """Write the page, with the numbers `data`; raises as :func:`write_page` does."""
    evaluation, examined = result.evaluation, result.examination
    low, high = evaluation.interval
    made = [
        doubts(result),
        _learning(result),
        compared(result, ACCURACY),
        *paths(result, ACCURACY),
        sections.confusion(evaluation),
        _classes(result),
        _calibration(result),
        _groups(result),
        _mistakes(result, shown),
        _map(result, shown),
        near_duplicates(result, shown),
        making(result),
    ]
    write_page(
        path,
        title=f"What {Path(result.head.model).name} knows about {_named(result)}",
        lead=lead(result),
        numbers={
            f"accuracy, 95 % interval {low:.1%} to {high:.1%}": f"{evaluation.accuracy:.1%}",
            "balanced accuracy (mean recall of the classes)": f"{evaluation.balanced_accuracy:.1%}",
            "always the most frequent class": f"{evaluation.majority_baseline:.1%}",
            "points between confidence and accuracy": f"{100 * examined.calibration_error:.1f}",
        },
        sections=made,
        data=data,
    )


def _named(result: ProbeResult) -> str:
    classes = [str(name) for name in result.head.classes]
    return " and ".join(classes) if len(classes) == 2 else f"{len(classes)} classes"


def _learning(result: ProbeResult) -> Section | None:
    if not result.curve:
        return None
    evaluation = result.evaluation
    rows = [
        (
            "all" if one.per_class is None else f"{one.per_class:,}",
            f"{one.items:,}",
            f"{one.accuracy:.1%}",
            "" if one.per_class is None else f"{one.spread[0]:.1%} to {one.spread[1]:.1%}",
        )
        for one in result.curve
    ]
    body = [
        paragraph(
            "Trained on so many labels a class and tested on all test items: the mean of five draws, and the band from "
            "the lowest to the highest. A curve that still rises on the right says that more labels would help.",
            "note",
        ),
        figure_html(learning_figure(result.curve, len(evaluation.per_class), evaluation.majority_baseline)),
        folded("The numbers", table_html((">labels a class", ">items", ">accuracy", ">of five draws"), rows)),
    ]
    return Section("Learning curve", "\n".join(body))


def _classes(result: ProbeResult) -> Section:
    rows = [
        (score.label, f"{score.precision:.1%}", f"{score.recall:.1%}", f"{score.f1:.1%}", f"{score.support:,}")
        for score in result.evaluation.per_class
    ]
    low, high = result.examination.f1_interval
    note = f"Mean F1 {result.examination.f1:.1%}, 95 % interval {low:.1%} to {high:.1%} by resampling the test items."
    table = table_html(("class", ">precision", ">recall", ">F1", ">test items"), rows)
    many = f"All {len(rows)} classes"
    return Section("Each class", paragraph(note, "note") + (folded(many, table) if len(rows) > 30 else table))


def _calibration(result: ProbeResult) -> Section:
    examined = result.examination
    rows = [(f"{one.confidence:.1%}", f"{one.accuracy:.1%}", f"{one.items:,}") for one in examined.calibration]
    body = [
        paragraph(
            f"Of the items it is 80 % sure of, 80 % should be right: {calibration_line(examined)}, log loss "
            f"{examined.log_loss:.3f}. Bars are 95 % intervals, the area of a point its items.",
            "note",
        ),
        figure_html(calibration_figure(examined.calibration)),
        folded("The numbers", table_html((">confidence", ">right", ">items"), rows)),
    ]
    return Section("Calibration", "\n".join(body))


def _groups(result: ProbeResult) -> Section | None:
    examined = result.examination
    if not examined.groups:
        return None
    rows = [
        (one.group, f"{one.accuracy:.1%}", f"{one.interval[0]:.1%} to {one.interval[1]:.1%}", f"{one.items:,}")
        for one in examined.groups
    ]
    body = [
        paragraph(f"{sentence(gap_line(examined))}. The dotted line is the accuracy over all.", "note"),
        figure_html(groups_figure(examined.groups, result.evaluation.accuracy)),
        folded("The numbers", table_html(("group", ">accuracy", ">95 % interval", ">items"), rows)),
    ]
    return Section("Within groups", "\n".join(body))


def _mistakes(result: ProbeResult, shown: Shown) -> Section | None:
    wrong = [
        Wrong(
            one.key,
            f"<b>{escape(str(one.label))}</b>, taken for <b>{escape(str(one.prediction))}</b> "
            f"<span>{one.probability:.0%} sure</span>",
            (one.label, one.prediction, f"{one.probability:.1%}"),
        )
        for one in result.examination.mistakes
    ]
    note = "What it was most sure of and got wrong: look here for wrong labels first."
    return wrong_items("Most confident mistakes", note, ("label", "taken for", ">sure"), wrong, shown)


def _map(result: ProbeResult, shown: Shown) -> Section | None:
    wrong = {one.key: f", taken for {one.prediction}" for one in result.examination.mistakes}
    coloured = [label for label, _ in Counter(shown.labels).most_common(len(PALETTE))]
    return item_map(
        shown,
        wrong,
        "most confident mistakes",
        lambda hover, ringed: map_figure(shown.points, shown.labels, hover, coloured, ringed),
    )
