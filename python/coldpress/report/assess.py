"""The page of an assessment: how good every candidate is beside the baselines, by layer, and how alike they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coldpress.assess import Assessment, Candidate, Difference, Scores
from coldpress.report.figures import ACCENT, PALETTE, graph_objects, styled
from coldpress.report.page import Section, figure_html, paragraph, table_html, write_page

RAW_COLOUR = PALETTE[1]
LAYER = re.compile(r"^(.*?)layer:(\d+)$")
_SIMILARITY_SCALE = [[0.0, "rgba(47,127,216,0)"], [1.0, "rgba(47,127,216,0.8)"]]


def write_assessment(path: Path, found: Assessment) -> None:
    """Write the page; raises as :func:`write_page` does."""
    best = found.best
    numbers = {
        "accuracy of the best probe": f"{best.scores.probe.accuracy:.1%}",
        **{f"points more than {name}": f"{100 * one.change:+.1f}" for name, one in best.against.items()},
        "items": f"{found.items:,}",
    }
    write_page(
        path,
        title=f"Transfer: {found.outcome}",
        lead=found.verdict,
        numbers=numbers,
        sections=assessment(found),
        data=found.to_json(),
    )


def assessment(found: Assessment) -> list[Section]:
    """All of it: accuracies, layers, similarities, numbers."""
    note = (
        f"Share of {found.items:,} items that a probe gets right which has not seen them, with its 95 % interval; "
        f"{found.folds} folds, the same for all. The red mark: the same network with random weights. The dotted line: "
        f"always answering the most frequent of {len(found.classes)} classes, {found.majority:.1%}."
    )
    said = "".join(paragraph(f"{line}.") for line in found.disagreements)
    sections = [Section("Accuracy on unseen items", paragraph(note, "note") + figure_html(bars_figure(found)) + said)]
    if curves := layer_curves(found.candidates):
        lead = "The same by the depth at which the features are taken."
        sections.append(Section("By layer", paragraph(lead, "note") + figure_html(layers_figure(curves, found))))
    if len(found.candidates) > 1:
        lead = "Linear CKA, debiased: 1 are the same features but for turning and scaling, 0 have nothing in common."
        sections.append(Section("How alike", paragraph(lead, "note") + figure_html(similarity_figure(found))))
    if found.distances:
        sections.append(_distances(found))
    return [*sections, _numbers(found)]


def bars_figure(found: Assessment) -> Any:
    """Horizontal bars: each candidate, its untrained twin as a mark in it, and the raw input."""
    go = graph_objects()
    rows = [("raw input", found.raw)] if found.raw is not None else []
    rows += [(one.name, one.scores) for one in reversed(found.candidates)]
    names, scores = [name for name, _ in rows], [one for _, one in rows]
    figure = go.Figure()
    figure.add_bar(
        x=[one.probe.accuracy for one in scores],
        y=names,
        orientation="h",
        name="probe",
        marker_color=[RAW_COLOUR if name == "raw input" else ACCENT for name in names],
        error_x=_reach(scores),
        text=[f"{one.probe.accuracy:.1%}" for one in scores],
        textposition="inside",
        insidetextanchor="start",
        insidetextfont={"color": "white"},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    twins = [(one.name, one.random) for one in found.candidates if one.random is not None]
    figure.add_scatter(
        x=[one.probe.accuracy for _, one in twins],
        y=[name for name, _ in twins],
        mode="markers",
        name="with random weights",
        marker={"symbol": "line-ns", "size": 22, "line": {"width": 3, "color": PALETTE[3]}},
        hovertemplate="%{y} with random weights: %{x:.1%}<extra></extra>",
    )
    figure.add_vline(x=found.majority, line={"dash": "dot", "color": PALETTE[10], "width": 1.5})
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    figure.update_yaxes(ticksuffix="  ", type="category")
    figure.update_layout(showlegend=False)
    return styled(figure, height=90 + 38 * len(rows))


def _reach(scores: Sequence[Scores]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [one.probe.interval[1] - one.probe.accuracy for one in scores],
        "arrayminus": [one.probe.accuracy - one.probe.interval[0] for one in scores],
        "color": PALETTE[10],
        "thickness": 1.8,
    }


def layer_curves(candidates: Sequence[Candidate]) -> dict[str, list[tuple[int, Candidate]]]:
    """By what comes before ``layer:K`` in the name, those with two layers or more, rising."""
    curves: dict[str, list[tuple[int, Candidate]]] = {}
    for one in candidates:
        if (match := LAYER.match(one.name)) is not None:
            curves.setdefault(match[1].strip() or one.model, []).append((int(match[2]), one))
    return {name: sorted(curve, key=lambda pair: pair[0]) for name, curve in curves.items() if len(curve) > 1}


def layers_figure(curves: dict[str, list[tuple[int, Candidate]]], found: Assessment) -> Any:
    """Accuracy by layer with its interval, of trained and of random weights."""
    go = graph_objects()
    figure = go.Figure()
    for number, (name, curve) in enumerate(curves.items()):
        colour = PALETTE[number % len(PALETTE)]
        layers = [layer for layer, _ in curve]
        figure.add_scatter(
            x=layers,
            y=[one.scores.probe.accuracy for _, one in curve],
            error_y=_reach([one.scores for _, one in curve]),
            mode="lines+markers",
            name=Path(name).name,
            line={"color": colour},
        )
        if all(one.random is not None for _, one in curve):
            figure.add_scatter(
                x=layers,
                y=[one.random.probe.accuracy for _, one in curve if one.random is not None],
                mode="lines+markers",
                name=f"{Path(name).name}, random weights",
                line={"color": colour, "dash": "dot"},
            )
    if found.raw is not None:
        figure.add_hline(
            y=found.raw.probe.accuracy, line={"color": RAW_COLOUR, "dash": "dash"}, annotation_text="raw input"
        )
    figure.update_xaxes(title="layer", dtick=1)
    figure.update_yaxes(title="accuracy of the probe", tickformat=".0%")
    figure.update_layout(legend={"orientation": "h", "y": 1.1})
    return styled(figure, height=420)


def similarity_figure(found: Assessment) -> Any:
    """A heat map of CKA."""
    go = graph_objects()
    names = [f"{number}\u2002{one.name}" for number, one in enumerate(found.candidates, 1)]
    heat = go.Heatmap(
        z=found.cka,
        x=[str(number) for number in range(1, len(names) + 1)],
        y=names,
        zmin=0,
        zmax=1,
        colorscale=_SIMILARITY_SCALE,
        xgap=2,
        ygap=2,
        showscale=False,
        texttemplate="%{z:.2f}",
        customdata=[names] * len(names),
        hovertemplate="%{y} and %{customdata}: %{z:.3f}<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_xaxes(side="bottom", type="category", showgrid=False)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return styled(figure, height=70 + 34 * len(names))


def _distances(found: Assessment) -> Section:
    note = (
        "MMD² of a Gaussian kernel, with the chance of as much between items dealt at random; squared Fréchet distance "
        "and the variance of the reference; proxy A-distance of a linear classifier: 0 it cannot tell, 2 it never errs."
    )
    columns = ("items", "from", "output", ">MMD²", ">p", ">Fréchet", ">variance", ">proxy A", ">95 %")
    rows = [
        (
            *(one.store, one.reference, one.output, f"{one.mmd:.4f}", f"{one.mmd_p:.3g}"),
            *("–" if one.frechet is None else f"{one.frechet:.3g}", f"{one.variance:.3g}", f"{one.proxy_a:.2f}"),
            f"{one.proxy_a_interval[0]:.2f} to {one.proxy_a_interval[1]:.2f}",
        )
        for one in found.distances
    ]
    return Section("Distance from the reference", paragraph(note, "note") + table_html(columns, rows))


def _numbers(found: Assessment) -> Section:
    columns = ("features", "transfer", ">probe", ">95 %", ">kNN", ">LogME", ">H-score", ">shrunk", ">NLEEP", ">dim")
    rows: list[tuple[object, ...]] = []
    for one in found.candidates:
        rows.append((one.name, one.outcome, *_cells(one.scores)))
        if one.random is not None:
            rows.append((f"\u2003{one.name}, random weights", "", *_cells(one.random)))
    if found.raw is not None:
        rows.append(("raw input", "", *_cells(found.raw)))
    differences = [
        (one.name, name, *_difference(difference))
        for one in found.candidates
        for name, difference in one.against.items()
    ]
    heads = ("features", "against", ">points", ">95 %", ">p", ">adjusted")
    return Section(
        "The numbers", table_html(columns, rows) + "<h3>Probe against baselines</h3>" + table_html(heads, differences)
    )


def _difference(one: Difference) -> tuple[str, ...]:
    low, high = one.interval
    return (
        f"{100 * one.change:+.1f}",
        f"{100 * low:+.1f} to {100 * high:+.1f}",
        f"{one.p:.2g}",
        f"{one.p_adjusted:.2g}",
    )


def _cells(scores: Scores) -> tuple[str, ...]:
    low, high = scores.probe.interval
    return (
        f"{scores.probe.accuracy:.1%}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        f"{scores.knn.accuracy:.1%}",
        f"{scores.log_me:.4f}",
        f"{scores.h_score:.3f}",
        f"{scores.h_score_shrunk:.3f}",
        f"{scores.nleep:.4f}",
        f"{scores.dim:,}",
    )
