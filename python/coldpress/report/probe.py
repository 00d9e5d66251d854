"""The page of a probe: how good it is, how it came to be, what it gets wrong, and what speaks against trusting it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy.typing as npt

from coldpress.probes import Candidate, ProbeResult
from coldpress.probes.candidates import best
from coldpress.probes.heads import described
from coldpress.report import sections
from coldpress.report.curves import (
    calibration_figure,
    features_figure,
    groups_figure,
    learning_figure,
    path_figure,
)
from coldpress.report.figures import PALETTE, map_figure
from coldpress.report.items import Original, pictures_html, text_of
from coldpress.report.page import Section, figure_html, folded, paragraph, table_html, write_page
from coldpress.report.words import calibration_line, gap_line, leaks_line

PAIRS_SHOWN = 12
_LETTERS = {"logistic": "C", "ridge": "alpha", "lda": "shrinkage"}
_LAYER = re.compile(r"layer:(\d+)$")


@dataclass(frozen=True, eq=False)
class Shown:
    """What the page shows of the items themselves.

    Attributes
    ----------
    points, keys, labels : (N, 2) and N each, items in the plane.
    mapped, tested, trained : what the keys of these, of test items and of training items stand for.
    """

    points: npt.NDArray[Any]
    keys: Sequence[str]
    labels: Sequence[str]
    mapped: Mapping[str, Original] = field(default_factory=dict)
    tested: Mapping[str, Original] = field(default_factory=dict)
    trained: Mapping[str, Original] = field(default_factory=dict)


def write_probe(path: Path, result: ProbeResult, shown: Shown, data: Mapping[str, Any]) -> None:
    """Write the page, with the numbers `data`; raises as :func:`write_page` does."""
    evaluation, examined = result.evaluation, result.examination
    low, high = evaluation.interval
    made = [
        _doubts(result),
        _learning(result),
        _features(result),
        *_paths(result),
        sections.confusion(evaluation),
        _classes(result),
        _calibration(result),
        _groups(result),
        _mistakes(result, shown),
        _map(result, shown),
        _pairs(result, shown),
        _making(result),
    ]
    write_page(
        path,
        title=f"What {Path(result.head.model).name} knows about {_named(result)}",
        lead=(
            f"{_sentence(result.head.title)} on frozen vectors, trained on {result.train_items:,} items and tested on "
            f"{evaluation.items:,} others. Nothing of the model itself was trained."
        ),
        numbers={
            f"accuracy, 95 % interval {low:.1%} to {high:.1%}": f"{evaluation.accuracy:.1%}",
            "balanced accuracy (mean recall of the classes)": f"{evaluation.balanced_accuracy:.1%}",
            "always the most frequent class": f"{evaluation.majority_baseline:.1%}",
            "points between confidence and accuracy": f"{100 * examined.calibration_error:.1f}",
        },
        sections=[section for section in made if section is not None],
        data=data,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _named(result: ProbeResult) -> str:
    classes = [str(name) for name in result.head.classes]
    return " and ".join(classes) if len(classes) == 2 else f"{len(classes)} classes"


def _doubts(result: ProbeResult) -> Section | None:
    """What speaks against the headline."""
    doubts = []
    if (leaks := leaks_line(result)) is not None:
        doubts.append(f"Near duplicates: {leaks}.")
    if result.shared_content:
        doubts.append(
            f"{result.shared_content:,} of {result.test_items:,} test items have the same content as a training item: "
            "the accuracy is too optimistic."
        )
    if result.missing_labels:
        doubts.append(f"{result.missing_labels:,} rows have no label and were skipped.")
    if result.unknown_keys:
        doubts.append(f"{result.unknown_keys:,} labels name keys that no store holds.")
    if not result.converged:
        doubts.append("The solver did not come to its end: try --standardize.")
    if not doubts:
        return None
    return Section("Before you trust it", f"<ul>{''.join(f'<li>{escape(doubt)}</li>' for doubt in doubts)}</ul>")


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


def best_of_each(result: ProbeResult) -> list[Candidate]:
    """The best setting of each head on each features, the best first."""
    kinds = dict.fromkeys((one.features, one.head) for one in result.candidates)
    found = [best(one for one in result.candidates if (one.features, one.head) == kind) for kind in kinds]
    return sorted(found, key=lambda one: -one.score)


def _features(result: ProbeResult) -> Section | None:
    """Outputs, stores and heads beside each other, layers in the order of their depth."""
    found = best_of_each(result)
    if len(found) < 2:
        return None
    scores: dict[str, list[tuple[str, float, float]]] = {}
    for one in sorted(found, key=lambda one: _depth(one.features)):
        scores.setdefault(one.head, []).append((one.features or "vectors", one.score, one.score_std))
    several = len({one.features for one in found}) > 1
    rows = [
        (
            "★" if (one.features, one.head) == (result.features, result.head.kind) else "",
            *((one.features,) if several else ()),
            described(one.head, one.setting),
            f"{one.score:.1%}",
            f"{one.score_std:.1%}",
        )
        for one in found
    ]
    columns = ("", *(("features",) if several else ()), "head", ">in cross-validation", ">std of folds")
    body = [
        paragraph(
            "Compared by cross-validation on the training part alone; the best, marked ★, was then tested. Bars are "
            "the standard deviation between folds: differences within them mean little.",
            "note",
        ),
        figure_html(features_figure(scores)),
        folded("The numbers", table_html(columns, rows)),
    ]
    return Section("Features and heads compared", "\n".join(body))


def _depth(features: str) -> tuple[str, float]:
    """Sorts layers of a model by their depth, and what comes after all layers behind them."""
    layer = _LAYER.search(features)
    return (features[: layer.start()], float(layer[1])) if layer else (features.rpartition(" ")[0], float("inf"))


def _paths(result: ProbeResult) -> list[Section]:
    """Of each head on the features that were taken, accuracy over its settings."""
    made = []
    for kind, letter in _LETTERS.items():
        along = [one for one in result.candidates if one.head == kind and one.features == result.features]
        if len(along) < 2:
            continue
        taken = kind == result.head.kind
        chosen = result.head.setting if taken else best(along).setting
        what = "The large point was taken." if taken else "Another head was taken; the large point is its best."
        rows = [
            (
                f"{one.setting:.3g}",
                f"{one.score:.2%}",
                f"{one.score_std:.2%}",
                "–" if one.loss is None else f"{one.loss:.4f}",
            )
            for one in along
        ]
        body = [
            paragraph(
                f"{len(along)} values of {letter} in cross-validation on the training part; the band is the standard "
                f"deviation between folds. {what}",
                "note",
            ),
            figure_html(path_figure(along, chosen, letter)),
            folded("The numbers", table_html((f">{letter}", ">accuracy", ">std of folds", ">log loss"), rows)),
        ]
        made.append(Section(f"Regularisation: {described(kind, None)}", "\n".join(body)))
    return made


def _classes(result: ProbeResult) -> Section:
    rows = [
        (score.label, f"{score.precision:.1%}", f"{score.recall:.1%}", f"{score.f1:.1%}", f"{score.support:,}")
        for score in result.evaluation.per_class
    ]
    low, high = result.examination.f1_interval
    note = f"Mean F1 {result.examination.f1:.1%}, 95 % interval {low:.1%} to {high:.1%} by resampling the test items."
    table = table_html(("class", ">precision", ">recall", ">F1", ">test items"), rows)
    return Section("Each class", paragraph(note, "note") + table)


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
        paragraph(f"{_sentence(gap_line(examined))}. The dotted line is the accuracy over all.", "note"),
        figure_html(groups_figure(examined.groups, result.evaluation.accuracy)),
        folded("The numbers", table_html(("group", ">accuracy", ">95 % interval", ">items"), rows)),
    ]
    return Section("Within groups", "\n".join(body))


def _mistakes(result: ProbeResult, shown: Shown) -> Section | None:
    mistakes = result.examination.mistakes
    if not mistakes:
        return None
    note = "What it was most sure of and got wrong: look here for wrong labels first."
    if any(original.picture for original in shown.tested.values()):
        cards = [
            (
                [(one.key, shown.tested.get(one.key, Original()))],
                f"<b>{escape(str(one.label))}</b>, taken for <b>{escape(str(one.prediction))}</b> "
                f"<span>{one.probability:.0%} sure</span><code>{escape(one.key)}</code>",
            )
            for one in mistakes
        ]
        return Section("Most confident mistakes", paragraph(note, "note") + pictures_html(cards))
    rows = [(text_of(one.key, shown.tested), one.label, one.prediction, f"{one.probability:.1%}") for one in mistakes]
    table = table_html(("item", "label", "taken for", ">sure"), rows, "items")
    return Section("Most confident mistakes", paragraph(note, "note") + table)


def _map(result: ProbeResult, shown: Shown) -> Section | None:
    if not len(shown.keys):
        return None
    wrong = {one.key: one for one in result.examination.mistakes}
    coloured = [label for label, _ in Counter(shown.labels).most_common(len(PALETTE))]
    hover = []
    for key, label in zip(shown.keys, shown.labels, strict=True):
        text = text_of(key, shown.mapped)
        taken = f"taken for {wrong[key].prediction}" if key in wrong else ""
        hover.append(sections.hover_html(key, f"{label}{', ' + taken if taken else ''}", "" if text == key else text))
    ringed = [place for place, key in enumerate(shown.keys) if key in wrong]
    rings = f" Rings: the {len(ringed)} most confident mistakes." if ringed else ""
    body = [
        paragraph(
            f"{len(shown.keys):,} labelled items, laid out by t-SNE: near points have near vectors, distances between "
            f"clusters mean little.{rings}",
            "note",
        ),
        figure_html(map_figure(shown.points, shown.labels, hover, coloured, ringed)),
    ]
    return Section("Embedding map", "\n".join(body))


def _pairs(result: ProbeResult, shown: Shown) -> Section | None:
    """Test items beside the training item that they repeat."""
    if not result.leaks:
        return None
    pairs, more = result.leaks[:PAIRS_SHOWN], len(result.leaks) - PAIRS_SHOWN
    note = f"{leaks_line(result)}. Found by the cosine of centred vectors." + (
        f" The closest {PAIRS_SHOWN} of {len(result.leaks):,}." if more > 0 else ""
    )
    if any(original.picture for original in shown.tested.values()):
        cards = [
            (
                [(one, shown.tested.get(one, Original())), (other, shown.trained.get(other, Original()))],
                f"cosine {cosine:.3f}<code>{escape(one)}<br>{escape(other)}</code>",
            )
            for one, other, cosine in pairs
        ]
        return Section("Near duplicates across the split", paragraph(note, "note") + pictures_html(cards))
    rows = [
        (text_of(one, shown.tested), text_of(other, shown.trained), f"{cosine:.3f}") for one, other, cosine in pairs
    ]
    table = table_html(("test item", "training item", ">cosine"), rows, "items pairs")
    return Section("Near duplicates across the split", paragraph(note, "note") + table)


def _making(result: ProbeResult) -> Section:
    head = result.head
    chosen = f"chosen among {len(result.candidates)} by cross-validation" if result.candidates else "as asked"
    rows = [
        ("model", head.model),
        ("head", f"{head.title} ({chosen})"),
        ("features", result.features or head.output or "the first output of the store"),
        ("standardized", "yes" if head.mean is not None else "no"),
        ("trained on, tested on", f"{result.train_items:,} and {result.test_items:,} items"),
        ("seed of split and folds", str(result.seed)),
        ("fingerprint of the vectors", head.fingerprint.digest[:16]),
        ("seconds", f"{result.seconds:.1f}"),
    ]
    return Section("How it was made", table_html(("", ""), rows))
