"""The page of drift: verdict, time, dimensions, where the new items lie, and what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from coldpress.drift import Drift, Item, Refit
from coldpress.report.figures import ACCENT, QUIET, graph_objects, styled
from coldpress.report.items import Original, pictures_html, text_of
from coldpress.report.page import Section, figure_html, folded, paragraph, table_html, write_page
from coldpress.store import EmbeddingStore

ALARM = "#d64f6b"
BINS = 60
TEXT_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Shown:
    """What keys of the reference and of the new store stand for, as far as it was found."""

    reference: Mapping[str, Original]
    new: Mapping[str, Original]


def write_drift(
    path: Path,
    stores: tuple[EmbeddingStore, EmbeddingStore],
    found: Drift,
    fitted: Refit | None,
    shown: Shown,
    data: Mapping[str, Any],
) -> None:
    """Write the page, with the numbers `data`; raises as :func:`write_page` does."""
    reference, new = (Path(str(store.path)).name for store in stores)
    apart = found.effects.separation
    sections = [_size(found), *([_windows(found)] if found.windows else []), _scores(found), _dimensions(found)]
    if found.verdict.alarm:
        sections += [_items(found, shown)]
    if fitted is not None:
        sections.append(_refit(fitted))
    write_page(
        path,
        title=f"{new} against {reference}: {'drift' if found.verdict.alarm else 'no drift'}",
        lead=f"{found.sentence[0].upper()}{found.sentence[1:]}. Where nothing has changed, one comparison in"
        f" {1 / found.verdict.level:,.0f} says otherwise.",
        numbers={
            "p-value": f"{found.verdict.p_value:.2g}",
            "of the new items would have to be others": f"{apart.changed:.0%}",
            "how often a classifier tells new from old": f"{apart.auc:.0%}",
            "of the new items where 1% of the reference lies": f"{found.driving.unlike:.1%}",
            "items, new items": f"{found.reference_items:,}, {found.new_items:,}",
        },
        sections=sections,
        data=data,
    )


def _size(found: Drift) -> Section:
    effects, (low, high) = found.effects, found.effects.separation.interval
    rows = [
        ("squared maximum mean discrepancy (decides)", f"{found.verdict.statistic:.3g}"),
        ("what that exceeds by chance", f"{found.verdict.threshold:.3g}, at a rate of {found.verdict.level:g}"),
        ("items tested", f"{found.tested[0]:,} and {found.tested[1]:,}"),
        (
            "new items that would have to be others, at least",
            f"{effects.separation.changed:.1%} ({low:.1%} to {high:.1%})",
        ),
        ("a new item looks newer than an old one (AUC)", f"{effects.separation.auc:.3f}"),
        ("squared shift of the mean", f"{effects.frechet_mean:.3g}, variance of the reference {effects.variance:.3g}"),
        ("Frechet distance", "too few items for it" if effects.frechet is None else f"{effects.frechet:.3g}"),
        ("dimensions with another distribution", f"{effects.shifted} of {effects.dimensions}"),
    ]
    note = "The first line decides, at an exact rate of false alarms; the others say how large the difference is."
    return Section("How large it is", paragraph(note, "note") + table_html(("measured", "value"), rows))


def _windows(found: Drift) -> Section:
    names = [one.name for one in found.windows]
    verdicts = [one.verdict for one in found.windows]
    expected = found.verdict.level * len(verdicts)
    alarms = sum(one.alarm for one in verdicts)
    note = (
        f"{alarms} of {len(verdicts)} windows exceed their threshold (red); {expected:.2g} would by chance where"
        " nothing has changed. All are compared with the same reference."
    )
    rows = [
        (one.name, f"{one.items:,}", f"{v.statistic:.3g}", f"{v.threshold:.3g}", f"{v.p_value:.2g}", "alarm" * v.alarm)
        for one, v in zip(found.windows, verdicts, strict=True)
    ]
    table = table_html(("window", ">items", ">statistic", ">threshold", ">p", ""), rows)
    figure = windows_figure(names, [v.statistic for v in verdicts], [v.threshold for v in verdicts])
    return Section("Drift over time", paragraph(note, "note") + figure_html(figure) + folded("The numbers", table))


def windows_figure(names: Sequence[str], statistics: Sequence[float], thresholds: Sequence[float]) -> Any:
    """The statistic of each window, red above its threshold, which is the line."""
    figure = graph_objects().Figure()
    alarms = [value > limit for value, limit in zip(statistics, thresholds, strict=True)]
    figure.add_scatter(
        x=list(names),
        y=list(statistics),
        mode="lines+markers",
        name="statistic",
        line={"color": QUIET},
        marker={"size": 9, "color": [ALARM if alarm else ACCENT for alarm in alarms]},
        hovertemplate="%{x}: %{y:.3g}<extra></extra>",
    )
    figure.add_scatter(
        x=list(names),
        y=list(thresholds),
        mode="lines",
        name="threshold",
        line={"color": ALARM, "dash": "dot", "shape": "hvh"},
        hovertemplate="threshold %{y:.3g}<extra></extra>",
    )
    figure.update_xaxes(type="category", title="window", nticks=20)
    figure.update_yaxes(title="discrepancy", rangemode="tozero", tickformat="~g")
    figure.update_layout(legend={"orientation": "h", "y": 1.1})
    return styled(figure, height=340)


def _scores(found: Drift) -> Section:
    note = (
        "The score of an item says how much denser the new items lie around it than those of the reference. Where"
        " nothing has changed, both curves are one. What lies right of the line counts as unlike: 1% of the reference,"
        f" {found.driving.unlike:.1%} of the new items."
    )
    return Section("Where the new items lie", paragraph(note, "note") + figure_html(scores_figure(found)))


def scores_figure(found: Drift) -> Any:
    """Histograms of the scores of both samples, over the same bins."""
    driving = found.driving
    edges = np.histogram_bin_edges(np.concatenate([driving.scores, driving.reference_scores]), BINS)
    middles = (edges[1:] + edges[:-1]) / 2
    figure = graph_objects().Figure()
    for name, scores, colour in (("reference", driving.reference_scores, QUIET), ("new", driving.scores, ACCENT)):
        shares = np.histogram(scores, edges)[0] / len(scores)
        figure.add_bar(
            x=middles.round(8),
            y=shares,
            name=name,
            marker_color=colour,
            opacity=0.75,
            hovertemplate=f"{name}: %{{y:.1%}}<extra></extra>",
        )
    limit = float(np.quantile(driving.reference_scores, 0.99))
    figure.add_vline(x=limit, line={"color": ALARM, "dash": "dot"})
    figure.update_layout(barmode="overlay", bargap=0, legend={"orientation": "h", "y": 1.1})
    figure.update_xaxes(title="score", tickformat="~g")
    figure.update_yaxes(title="share of items", tickformat=".0%")
    return styled(figure, height=340)


def _dimensions(found: Drift) -> Section:
    effects = found.effects
    order = np.argsort(-np.abs(found.shift), kind="stable")
    bars = graph_objects().Bar(
        x=np.arange(1, len(order) + 1),
        y=np.abs(found.shift[order]).round(4),
        marker_color=ACCENT,
        customdata=order,
        hovertemplate="dimension %{customdata}: %{y:.2f}<extra></extra>",
    )
    figure = graph_objects().Figure(bars)
    figure.update_xaxes(title="dimensions, those that moved most first")
    figure.update_yaxes(title="standard deviations", rangemode="tozero")
    figure.update_layout(bargap=0)
    note = (
        f"By how many standard deviations of the reference the mean of each dimension has moved. {effects.shifted} of"
        f" {effects.dimensions} have another distribution (Kolmogorov-Smirnov, Holm, at {found.verdict.level:g})."
    )
    rows = [(one.number, f"{one.shift:+.3f}") for one in effects.largest]
    table = folded("The largest shifts", table_html((">dimension", ">standard deviations"), rows))
    return Section("Dimension by dimension", paragraph(note, "note") + figure_html(styled(figure, height=300)) + table)


def _items(found: Drift, shown: Shown) -> Section:
    parts = []
    if found.driving.values:
        note = "Metadata that the unlike items have more often than the other new ones, and than chance."
        rows = [
            (one.column, one.value, *("" if s is None else f"{s:.1%}" for s in (one.unlike, one.other, one.reference)))
            for one in found.driving.values
        ]
        columns = ("column", "value", ">of the unlike", ">of the other new", ">of the reference")
        parts += [paragraph(note, "note"), table_html(columns, rows)]
    late, old = found.driving.items, found.driving.missing
    parts += [paragraph("The new items that are least like the reference:", "note"), _list(late, shown.new)]
    parts += [paragraph("Items of the reference whose like is missing:", "note"), _list(old, shown.reference)]
    return Section("What drives it", "\n".join(parts))


def _list(items: Sequence[Item], originals: Mapping[str, Original]) -> str:
    if any(original.picture for original in originals.values()):
        none = Original()
        return pictures_html(
            [
                ([(one.key, originals.get(one.key, none))], f"{one.score:+.3g}<code>{escape(one.key)}</code>")
                for one in items
            ]
        )
    rows = [(text_of(one.key, originals), one.snippet[:TEXT_SHOWN], f"{one.score:+.3g}") for one in items]
    return table_html(("item", "what is known of it", ">score"), rows, "items")


def _refit(fitted: Refit) -> Section:
    rows = [
        (name, f"{share:.1%}", f"{low:.1%} to {high:.1%}")
        for name, share, (low, high) in (
            ("before", fitted.before, fitted.before_interval),
            ("after", fitted.after, fitted.after_interval),
            ("change, on the same items", fitted.change, fitted.change_interval),
        )
    ]
    note = (
        f"Accuracy on {fitted.items:,} new items that neither head was trained on. The new one has learned from"
        f" {fitted.trained_old:,} old and {fitted.trained_new:,} new ones."
    )
    return Section("The head trained again", paragraph(note, "note") + table_html(("head", ">accuracy", ">95 %"), rows))
