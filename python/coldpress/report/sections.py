"""The parts of a report: each takes the values of one subject and returns one section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy.typing as npt

from coldpress.engine import Summary
from coldpress.probes import Evaluation
from coldpress.report.figures import confusion_figure, map_figure, stages_figure
from coldpress.report.page import Section, figure_html, folded, paragraph, table_html
from coldpress.types import Certificate

WAITING = {"wait_input": "waiting for inputs", "wait_write": "waiting for the disk"}
CLASSES_DRAWN = 60
"""Of more, the confusion matrix shows those that are confused most."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer to a question."""

    score: float
    key: str
    text: str


def throughput(summary: Summary) -> Section:
    """How long each stage of a run was busy, and which of them limits it."""
    shown = {name: WAITING.get(name, name) for name in summary.stages}
    busy = {shown[name]: seconds for name, seconds in summary.stages.items()}
    utilisation = {shown[name]: share for name, share in summary.utilisation.items()}
    rows = [(name, f"{seconds:.2f}", f"{utilisation[name]:.0%}") for name, seconds in busy.items()]
    body = [
        paragraph(
            f"{summary.processed:,} inputs in {summary.seconds:.1f} s: {summary.rows_per_s:,.0f} a "
            f"second, {summary.tokens / (summary.seconds or 1.0):,.0f} tokens a second. Stages overlap.",
            "note",
        ),
        figure_html(stages_figure(busy, utilisation)),
        paragraph(summary.bottleneck),
        folded("The numbers", table_html(("stage", ">busy seconds", ">utilisation"), rows)),
    ]
    return Section("Throughput by stage", "\n".join(body))


def certificate(measured: Certificate, reason: str) -> Section:
    """How close the vectors are to the fp32 reference forward; `reason` says why that precision was chosen."""
    verdict = '<span class="good">passed</span>' if measured.passed else '<span class="bad">failed</span>'
    rows = [
        ("precision", f"{measured.label} ({reason})"),
        ("items compared", f"{measured.samples:,}"),
        ("mean cosine", f"{measured.cosine_mean:.7f}"),
        ("lowest cosine", f"{measured.cosine_min:.7f}"),
        ("largest difference of a component", f"{measured.max_abs_error:.1e}"),
        (f"same {measured.neighbours} nearest neighbours", f"{measured.neighbour_overlap:.1%}"),
    ]
    lead = "Items of this very run, embedded again by the fp32 reference forward and compared."
    body = f"<p class='note'>{escape(lead)} Verdict: {verdict}.</p>" + table_html(("measured", "value"), rows)
    return Section("Fidelity certificate", body)


def embedding_map(
    points: npt.NDArray[Any], labels: Sequence[str], keys: Sequence[str], texts: Sequence[str], shown: Sequence[str]
) -> Section:
    """Every item as a point in the plane; the labels in `shown` in colour. Pointing at one shows its text."""
    hover = [hover_html(key, "", text) for key, text in zip(keys, texts, strict=True)]
    counts = {label: sum(other == label for other in labels) for label in shown}
    body = [
        paragraph(
            f"{len(points):,} items, laid out by t-SNE: near points have similar meaning, distances between clusters "
            "mean little. Point at one to read it.",
            "note",
        ),
        figure_html(map_figure(points, labels, hover, shown)),
        folded("Items by label", table_html(("label", ">items on the map"), list(counts.items()))),
    ]
    return Section("Embedding map", "\n".join(body))


def questions(answers: Mapping[str, Sequence[Hit]]) -> Section:
    """Queries and what was found for them."""
    body = [paragraph("Answered by meaning: the nearest vectors of each question, by cosine.", "note")]
    for question, hits in answers.items():
        rows = [(f"{hit.score:.3f}", hit.key, hit.text) for hit in hits]
        body += [f'<h3 class="question">{escape(question)}</h3>', table_html((">score", "key", "text"), rows, "hits")]
    return Section("Questions answered", "\n".join(body))


def probe(evaluation: Evaluation, train_items: int, head: str) -> Section:
    """How good a linear classifier on the vectors, called `head`, is: overall and for each class."""
    low, high = evaluation.interval
    rows = [
        (score.label, f"{score.precision:.0%}", f"{score.recall:.0%}", f"{score.f1:.0%}", f"{score.support:,}")
        for score in evaluation.per_class
    ]
    lead = (
        f"A linear classifier ({head}, by cross-validation) trained on {train_items:,} items and tested on "
        f"{evaluation.items:,} others. Accuracy {evaluation.accuracy:.1%}, 95 % interval {low:.1%} to {high:.1%}; "
        f"balanced {evaluation.balanced_accuracy:.1%}. Always answering the most frequent class: "
        f"{evaluation.majority_baseline:.1%}."
    )
    table = table_html(("class", ">precision", ">recall", ">F1", ">test items"), rows)
    return Section("Linear probe", paragraph(lead, "note") + table)


def confusion(evaluation: Evaluation) -> Section:
    """Which classes are taken for which."""
    scores = evaluation.per_class
    classes = [score.label for score in scores]
    wrong = sorted(
        (
            (number, label, prediction)
            for label, row in zip(classes, evaluation.confusion, strict=True)
            for prediction, number in zip(classes, row, strict=True)
            if label != prediction and number
        ),
        key=lambda mistake: -mistake[0],
    )
    rows = [(label, prediction, number) for number, label, prediction in wrong[:10]]
    note, shown = (
        "Rows are labels, columns predictions; all predictions of a label make 100 %.",
        list(range(len(classes))),
    )
    if len(classes) > CLASSES_DRAWN:
        mistakes = [score.support + score.predicted - 2 * evaluation.confusion[i][i] for i, score in enumerate(scores)]
        shown = sorted(sorted(shown, key=lambda i: -mistakes[i])[:CLASSES_DRAWN])
        note = f"The {CLASSES_DRAWN} of {len(classes)} classes with the most mistakes. {note}"
    body = [
        paragraph(note, "note"),
        figure_html(
            confusion_figure(
                [[evaluation.confusion[i][j] for j in shown] for i in shown],
                [classes[i] for i in shown],
                [scores[i].support for i in shown],
            )
        ),
        folded("The most frequent mistakes", table_html(("label", "taken for", ">items"), rows)),
    ]
    return Section("Confusion matrix", "\n".join(body))


def hover_html(key: str, label: str, text: str, width: int = 70, lines: int = 5) -> str:
    """What a point says of its item; of the text at most `lines` lines. Nothing is said of what is empty."""
    from textwrap import wrap

    parts = [f"<b>{escape(key)}</b>", escape(label), *map(escape, wrap(text, width, max_lines=lines, placeholder=" …"))]
    return "<br>".join(filter(None, parts))
