"""What the pages of all probes have: how it came to be, what was compared, and what speaks against trusting it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy.typing as npt

from coldpress.probes import Candidate
from coldpress.probes.candidates import best
from coldpress.probes.heads import SETTINGS, described
from coldpress.probes.result import Conditions
from coldpress.report.curves import Measure, features_figure, path_figure
from coldpress.report.items import Original, pictures_html, text_of
from coldpress.report.page import Section, figure_html, folded, paragraph, table_html
from coldpress.report.sections import hover_html
from coldpress.report.words import leaks_line

PAIRS_SHOWN = 12
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
    labels: Sequence[Any]
    mapped: Mapping[str, Original] = field(default_factory=dict)
    tested: Mapping[str, Original] = field(default_factory=dict)
    trained: Mapping[str, Original] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wrong:
    """An item that went wrong: what is said of it, as HTML on a card and as cells in a table."""

    key: str
    said: str
    cells: tuple[object, ...]


def sentence(text: str) -> str:
    """The text with a capital."""
    return text[:1].upper() + text[1:]


def lead(result: Conditions) -> str:
    """What was done, in a sentence."""
    return (
        f"{sentence(result.head.title)} on frozen vectors, trained on {result.train_items:,} items and tested on "
        f"{result.test_items:,} others. Nothing of the model itself was trained."
    )


def doubts(result: Conditions) -> Section | None:
    """What speaks against the headline."""
    found = []
    if (leaks := leaks_line(result)) is not None:
        found.append(f"Near duplicates: {leaks}.")
    if result.shared_content:
        found.append(
            f"{result.shared_content:,} of {result.test_items:,} test items have the same content as a training item: "
            "the result is too optimistic."
        )
    if result.missing_labels:
        found.append(f"{result.missing_labels:,} rows have no label and were skipped.")
    if result.unknown_keys:
        found.append(f"{result.unknown_keys:,} labels name keys that no store holds.")
    if not result.converged:
        found.append("The solver did not come to its end: try --standardize.")
    if not found:
        return None
    return Section("Before you trust it", f"<ul>{''.join(f'<li>{escape(doubt)}</li>' for doubt in found)}</ul>")


def best_of_each(result: Conditions) -> list[Candidate]:
    """The best setting of each head on each features, the best first."""
    kinds = dict.fromkeys((one.features, one.head) for one in result.candidates)
    found = [best(one for one in result.candidates if (one.features, one.head) == kind) for kind in kinds]
    return sorted(found, key=lambda one: -one.score)


def compared(result: Conditions, measure: Measure) -> Section | None:
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
            described(one.head, one.setting, result.head.task),
            format(one.score, measure.form),
            format(one.score_std, measure.form),
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
        figure_html(features_figure(scores, measure)),
        folded("The numbers", table_html(columns, rows)),
    ]
    return Section("Features and heads compared", "\n".join(body))


def _depth(features: str) -> tuple[str, float]:
    """Sorts layers of a model by their depth, and what comes after all layers behind them."""
    layer = _LAYER.search(features)
    return (features[: layer.start()], float(layer[1])) if layer else (features.rpartition(" ")[0], float("inf"))


def paths(result: Conditions, measure: Measure) -> list[Section]:
    """Of each head on the features that were taken, its score over its settings."""
    made = []
    for kind, letter in SETTINGS.items():
        along = [one for one in result.candidates if one.head == kind and one.features == result.features]
        if len(along) < 2:
            continue
        taken = kind == result.head.kind
        chosen = result.head.setting if taken else best(along).setting
        what = "The large point was taken." if taken else "Another head was taken; the large point is its best."
        rows = [
            (
                f"{one.setting:.3g}",
                format(one.score, measure.form),
                format(one.score_std, measure.form),
                "–" if one.loss is None else f"{one.loss:.4g}",
            )
            for one in along
        ]
        body = [
            paragraph(
                f"{len(along)} values of {letter} in cross-validation on the training part; the band is the standard "
                f"deviation between folds. {what}",
                "note",
            ),
            figure_html(path_figure(along, chosen, letter, measure)),
            folded(
                "The numbers", table_html((f">{letter}", f">{measure.name}", ">std of folds", f">{measure.loss}"), rows)
            ),
        ]
        made.append(Section(f"{sentence(described(kind, None, result.head.task))}: {letter}", "\n".join(body)))
    return made


def item_map(
    shown: Shown, wrong: Mapping[str, str], what: str, draw: Callable[[Sequence[str], Sequence[int]], Any]
) -> Section:
    """Labelled items in the plane, with rings around those that are `wrong`, which are `what`.

    `wrong` has what is said of a key behind its label; `draw` takes what is said of each point, and which have rings.
    """
    hover = []
    for key, label in zip(shown.keys, shown.labels, strict=True):
        text = text_of(key, shown.mapped)
        hover.append(hover_html(key, f"{label}{wrong.get(key, '')}", "" if text == key else text))
    ringed = [place for place, key in enumerate(shown.keys) if key in wrong]
    rings = f" Rings: the {len(ringed)} {what}." if ringed else ""
    note = (
        f"{len(shown.keys):,} labelled items, laid out by t-SNE: near points have near vectors, distances between "
        f"clusters mean little.{rings}"
    )
    return Section("Embedding map", paragraph(note, "note") + figure_html(draw(hover, ringed)))


def near_duplicates(result: Conditions, shown: Shown) -> Section | None:
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


def wrong_items(title: str, note: str, columns: Sequence[str], wrong: Sequence[Wrong], shown: Shown) -> Section | None:
    """Items that went wrong: on cards where they have pictures, else in a table with their texts."""
    if not wrong:
        return None
    if any(original.picture for original in shown.tested.values()):
        cards = [
            ([(one.key, shown.tested.get(one.key, Original()))], f"{one.said}<code>{escape(one.key)}</code>")
            for one in wrong
        ]
        return Section(title, paragraph(note, "note") + pictures_html(cards))
    rows = [(text_of(one.key, shown.tested), *one.cells) for one in wrong]
    return Section(title, paragraph(note, "note") + table_html(("item", *columns), rows, "items"))


def making(result: Conditions) -> Section:
    """What it takes to make it again."""
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
