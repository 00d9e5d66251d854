"""Figures for the report. Colours work on light and dark ground; `page.css` sets the colour of all text in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import MissingExtra

ACCENT, QUIET = "#2f7fd8", "rgba(128,136,150,0.45)"
PALETTE = (
    "#2f7fd8", "#e8823a", "#2ca58d", "#d64f6b", "#8d6fd1", "#c9a227",
    "#17a2c4", "#b0683c", "#5b9a3c", "#d16fb4", "#6c7fb0", "#8a8f2a",
)  # fmt: skip
OTHER = "other"
RING = "#d6404f"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_CONFUSION_SCALE = [[0.0, "rgba(47,127,216,0)"], [1.0, "rgba(47,127,216,0.8)"]]
_ANNOTATE_UP_TO = 20  # classes; beyond, numbers in the cells of a confusion matrix are too small to read


def graph_objects() -> Any:
    """``plotly.graph_objects``.

    Raises
    ------
    MissingExtra
        If plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingExtra("A report", "plotly", "report") from error
    return go


def stages_figure(busy: Mapping[str, float], utilisation: Mapping[str, float]) -> Any:
    """Horizontal bars: the share of a run for which the threads of each stage were busy, with the busy seconds."""
    go = graph_objects()
    names = list(busy)[::-1]
    shares = [utilisation[name] for name in names]
    bars = go.Bar(
        x=shares,
        y=names,
        orientation="h",
        marker_color=[QUIET if name.startswith("waiting") else ACCENT for name in names],
        text=[f"{share:.0%}  ({busy[name]:.1f} s)" for name, share in zip(names, shares, strict=True)],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    figure = go.Figure(bars)
    figure.update_xaxes(tickformat=".0%", range=[0, max(1.0, *shares) * 1.18], title="utilisation")
    figure.update_yaxes(ticksuffix="  ")
    return styled(figure, height=90 + 38 * len(names))


def map_figure(
    points: npt.NDArray[Any],
    labels: Sequence[str],
    hover: Sequence[str],
    shown: Sequence[str],
    ringed: Sequence[int] = (),
) -> Any:
    """A scatter of `points` (N, 2): the labels in `shown` in colour, all others quiet; `hover` is HTML.

    Rings are drawn around the places `ringed`.
    """
    go = graph_objects()
    figure = go.Figure()
    coloured = dict(zip(shown, (PALETTE[i % len(PALETTE)] for i in range(len(shown))), strict=True))
    groups = np.asarray([label if label in coloured else OTHER for label in labels], dtype=np.str_)
    for label in (OTHER, *coloured):
        rows = np.flatnonzero(groups == label).tolist()
        if not rows:
            continue
        figure.add_scatter(
            x=points[rows, 0].round(2),
            y=points[rows, 1].round(2),
            mode="markers",
            name=label,
            marker={"size": 6 if label in coloured else 4, "color": coloured.get(label, QUIET), "opacity": 0.8},
            customdata=[hover[row] for row in rows],
            hovertemplate="%{customdata}<extra></extra>",
            legendrank=2000 if label == OTHER else 1000,
        )
    return _map_style(figure, points, ringed, "mistakes")


def number_map_figure(
    points: npt.NDArray[Any], values: Sequence[float], hover: Sequence[str], ringed: Sequence[int] = ()
) -> Any:
    """The same, coloured by numbers."""
    figure = graph_objects().Figure()
    figure.add_scatter(
        x=points[:, 0].round(2),
        y=points[:, 1].round(2),
        mode="markers",
        marker={"size": 6, "color": list(values), "colorscale": "Portland", "showscale": True, "opacity": 0.85},
        customdata=list(hover),
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )
    figure.update_traces(marker={"colorbar": {"thickness": 12, "outlinewidth": 0}})
    return _map_style(figure, points, ringed, "largest errors")


def _map_style(figure: Any, points: npt.NDArray[Any], ringed: Sequence[int], what: str) -> Any:
    """A figure of points in the plane, with rings around some."""
    if ringed:
        figure.add_scatter(
            x=points[list(ringed), 0].round(2),
            y=points[list(ringed), 1].round(2),
            mode="markers",
            name=what,
            marker={"size": 14, "symbol": "circle-open", "color": RING, "line": {"width": 2}},
            hoverinfo="skip",
            legendrank=3000,
        )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    figure.update_layout(
        hovermode="closest", legend={"itemsizing": "constant", "orientation": "h", "y": 0, "yanchor": "top"}
    )
    return styled(figure, height=640)


def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[object], support: Sequence[int]) -> Any:
    """A heat map of the confusion matrix (K, K), each row divided by its label's items, `support` (K,)."""
    go = graph_objects()
    counts = np.asarray(confusion, dtype=np.int64)
    shares = counts / np.maximum(np.asarray(support)[:, None], 1)
    names = [str(name) for name in classes]
    heat = go.Heatmap(
        z=shares,
        x=names,
        y=names,
        zmin=0,
        zmax=1,
        colorscale=_CONFUSION_SCALE,
        xgap=2,
        ygap=2,
        showscale=False,
        customdata=counts,
        text=[[f"{share:.0%}" if share >= 0.005 else "" for share in row] for row in shares],
        texttemplate="%{text}" if len(names) <= _ANNOTATE_UP_TO else None,
        hovertemplate="%{y} taken for %{x}: %{z:.0%} (%{customdata} items)<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_xaxes(title="prediction", side="bottom", type="category", showgrid=False)
    figure.update_yaxes(title="label", autorange="reversed", type="category", showgrid=False)
    return styled(figure, height=180 + min(34 * len(names), max(34 * _ANNOTATE_UP_TO, 11 * len(names))))


def styled(figure: Any, *, height: int) -> Any:
    """The same figure in the looks of the page."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": _FONT, "size": 13},
        hoverlabel={"align": "left", "font": {"family": _FONT, "size": 13}},
    )
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(automargin=True, zeroline=False, title_standoff=14)  # else the margin leaves no room for it
    return figure
