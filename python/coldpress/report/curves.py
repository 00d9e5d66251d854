"""Figures of a probe: accuracy over labels, settings, features, confidence and groups, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from typing import Any

from coldpress.probes import Candidate, CurvePoint
from coldpress.probes.evaluate import wilson_interval
from coldpress.probes.evaluate_numbers import Error
from coldpress.probes.evaluate_sets import LabelScore
from coldpress.probes.examine import Bin, GroupScore
from coldpress.report.figures import ACCENT, PALETTE, QUIET, graph_objects, styled


@dataclass(frozen=True, slots=True)
class Measure:
    """What cross-validation goes by: its name, how a value is written, and the loss beside it."""

    name: str
    form: str
    loss: str

    @property
    def axis(self) -> str | None:
        """How its axis is written."""
        return ".0%" if self.form.endswith("%") else None


ACCURACY = Measure("accuracy", ".1%", "log loss")
VARIANCE = Measure("R²", ".3f", "mean squared error")
F1 = Measure("F1 over all decisions", ".1%", "log loss")

LABELS_DRAWN = 60
_BAND = "rgba(47,127,216,0.16)"


def learning_figure(points: Sequence[CurvePoint], classes: int, baseline: float) -> Any:
    """Accuracy over labels a class: the mean of the draws in the band from the lowest to the highest."""
    go = graph_objects()
    x = [one.items / classes if one.per_class is None else float(one.per_class) for one in points]
    names = ["all" if one.per_class is None else f"{one.per_class:,}" for one in points]
    figure = go.Figure()
    _band(figure, x, [one.spread[0] for one in points], [one.spread[1] for one in points])
    figure.add_scatter(
        x=x,
        y=[one.accuracy for one in points],
        mode="lines+markers",
        line={"color": ACCENT, "width": 2.5},
        marker={"size": 8},
        showlegend=False,
        customdata=[[name, *one.spread] for name, one in zip(names, points, strict=True)],
        hovertemplate="%{customdata[0]} labels a class: %{y:.1%} (%{customdata[1]:.1%} to %{customdata[2]:.1%})"
        "<extra></extra>",
    )
    _line(figure, baseline, "always the most frequent class")
    crowded = [later < 1.5 * value for value, later in zip(x, [*x[1:], float("inf")], strict=True)]
    ticks = ["" if hidden else name for name, hidden in zip(names, crowded, strict=True)]
    figure.update_xaxes(type="log", title="labels a class", tickvals=x, ticktext=ticks, showgrid=False)
    figure.update_yaxes(title="accuracy", tickformat=".0%")
    return styled(figure, height=380)


def path_figure(candidates: Sequence[Candidate], chosen: float | None, letter: str, measure: Measure) -> Any:
    """The score in cross-validation over the settings of a head, with the band of its folds, and the loss below."""
    graph_objects()
    from plotly.subplots import make_subplots

    x = [one.setting or 0.0 for one in candidates]
    lossy = all(one.loss is not None for one in candidates)
    figure = make_subplots(rows=1 + lossy, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    high = [min(1.0, one.score + one.score_std) for one in candidates]
    _band(figure, x, [one.score - one.score_std for one in candidates], high)
    curves: list[tuple[list[float], str, str]] = [([one.score for one in candidates], measure.name, measure.form)]
    if lossy:
        curves.append(([one.loss or 0.0 for one in candidates], measure.loss, ".4g"))
    for row, (y, name, form) in enumerate(curves, 1):
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            line={"color": ACCENT if row == 1 else PALETTE[1], "width": 2.2},
            marker={"size": [13 if setting == chosen else 0 for setting in x], "opacity": 1, "line": {"width": 0}},
            showlegend=False,
            hovertemplate=f"{letter} = %{{x:.3g}}: {name} %{{y:{form}}}<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(title=name, tickformat=measure.axis if row == 1 else None, row=row, col=1)
    if chosen is not None:
        figure.add_vline(x=chosen, line={"color": QUIET, "dash": "dot"})
    ticks = {"tickvals": x} if len(x) < 8 else {"dtick": 1, "exponentformat": "power"}
    figure.update_xaxes(type="log", showgrid=False, **ticks)
    first, last = log10(min(x)), log10(max(x))
    pad = 0.03 * (last - first)
    figure.update_xaxes(range=[first - pad, last + pad])
    figure.update_xaxes(title=letter, row=1 + lossy, col=1)
    return styled(figure, height=300 + 180 * lossy)


def features_figure(scores: Mapping[str, Sequence[tuple[str, float, float]]], measure: Measure) -> Any:
    """The score in cross-validation and its spread over folds, of (name, mean, std) for each head: the first on top."""
    go = graph_objects()
    figure = go.Figure()
    names = list(dict.fromkeys(name for found in scores.values() for name, *_ in found))
    for place, (head, found) in enumerate(scores.items()):
        beside = 0.16 * (place - (len(scores) - 1) / 2)  # so that bars do not lie on each other
        figure.add_scatter(
            x=[mean for _, mean, _ in found],
            y=[names.index(name) + beside for name, *_ in found],
            error_x={"type": "data", "array": [std for *_, std in found], "thickness": 1.4, "width": 4},
            mode="lines+markers",
            name=head,
            line={"color": PALETTE[place % len(PALETTE)], "width": 1.6, "dash": "dot"},
            marker={"size": 10},
            customdata=[[name, std] for name, _, std in found],
            hovertemplate=f"%{{customdata[0]}}: %{{x:{measure.form}}} ± %{{customdata[1]:{measure.form}}}<extra>"
            + head
            + "</extra>",
        )
    figure.update_xaxes(title=f"{measure.name} in cross-validation", tickformat=measure.axis)
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5])
    figure.update_yaxes(ticksuffix="  ", showgrid=False)
    figure.update_layout(showlegend=len(scores) > 1, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return styled(figure, height=130 + 42 * len(names) + 24 * (len(scores) > 1))


def calibration_figure(bins: Sequence[Bin]) -> Any:
    """How often the head is right where it is so sure, with 95 % intervals; on the diagonal it keeps its word."""
    go = graph_objects()
    intervals = [wilson_interval(round(one.accuracy * one.items), one.items) for one in bins]
    largest = max(one.items for one in bins)
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": QUIET, "dash": "dot"}, hoverinfo="skip", showlegend=False
    )
    figure.add_scatter(
        x=[one.confidence for one in bins],
        y=[one.accuracy for one in bins],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [high - one.accuracy for (_, high), one in zip(intervals, bins, strict=True)],
            "arrayminus": [one.accuracy - low for (low, _), one in zip(intervals, bins, strict=True)],
            "thickness": 1.4,
            "width": 4,
        },
        mode="markers",
        cliponaxis=False,
        marker={
            "color": ACCENT,
            "size": [8 + 22 * (one.items / largest) ** 0.5 for one in bins],
            "opacity": 0.85,
            "line": {"width": 0},
        },
        showlegend=False,
        customdata=[one.items for one in bins],
        hovertemplate="%{customdata:,} items, confidence %{x:.1%}: %{y:.1%} right<extra></extra>",
    )
    figure.update_xaxes(title="confidence", tickformat=".0%", range=[0, 1.04])
    figure.update_yaxes(title="share that is right", tickformat=".0%", range=[-0.02, 1.04])
    return styled(figure, height=420)


def groups_figure(groups: Sequence[GroupScore], overall: float) -> Any:
    """Accuracy within each group with its 95 % interval, and that of all as a line."""
    go = graph_objects()
    figure = go.Figure()
    figure.add_scatter(
        x=[one.accuracy for one in groups],
        y=[one.group for one in groups],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [one.interval[1] - one.accuracy for one in groups],
            "arrayminus": [one.accuracy - one.interval[0] for one in groups],
            "thickness": 1.4,
            "width": 4,
        },
        mode="markers",
        marker={"size": 10, "color": ACCENT},
        showlegend=False,
        customdata=[one.items for one in groups],
        hovertemplate="%{y}: %{x:.1%} of %{customdata:,} items<extra></extra>",
    )
    figure.add_vline(x=overall, line={"color": QUIET, "dash": "dot"})
    figure.update_xaxes(title="accuracy", tickformat=".0%")
    figure.update_yaxes(range=[len(groups) - 0.4, -0.6], type="category", ticksuffix="  ")
    return styled(figure, height=110 + 32 * len(groups))


def prediction_figure(sample: Sequence[Error]) -> Any:
    """Predicted numbers over those of the labels."""
    labels, predictions = [one.label for one in sample], [one.prediction for one in sample]
    ends = [min(*labels, *predictions), max(*labels, *predictions)]
    figure = graph_objects().Figure()
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": QUIET, "dash": "dot"}, hoverinfo="skip", showlegend=False
    )
    figure.add_scatter(
        x=labels,
        y=predictions,
        mode="markers",
        marker={"size": 7, "color": ACCENT, "opacity": 0.6},
        showlegend=False,
        customdata=[escape(one.key) for one in sample],
        hovertemplate="%{customdata}: %{x:.4g}, predicted %{y:.4g}<extra></extra>",
    )
    figure.update_xaxes(title="label")
    figure.update_yaxes(title="prediction")
    return styled(figure, height=440)


def labels_figure(scores: Sequence[LabelScore]) -> Any:
    """The average precision of the labels that occur most often, the best on top."""
    occurring = sorted((one for one in scores if one.average_precision is not None), key=lambda one: -one.support)
    found = sorted(occurring[:LABELS_DRAWN], key=lambda one: one.average_precision or 0)
    figure = graph_objects().Figure()
    figure.add_bar(
        x=[one.average_precision for one in found],
        y=[str(one.label) for one in found],
        orientation="h",
        marker={"color": ACCENT},
        text=[f"{one.average_precision:.0%}" for one in found],
        textposition="outside",
        cliponaxis=False,
        customdata=[one.support for one in found],
        hovertemplate="%{y}: %{x:.1%}, %{customdata:,} items<extra></extra>",
    )
    figure.update_xaxes(title="average precision", tickformat=".0%", range=[0, 1.06])
    figure.update_yaxes(type="category", ticksuffix="  ")
    return styled(figure, height=100 + 26 * len(found))


def _band(figure: Any, x: Sequence[Any], low: Sequence[float], high: Sequence[float]) -> None:
    figure.add_scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        fill="toself",
        fillcolor=_BAND,
        mode="none",
        hoverinfo="skip",
        showlegend=False,
    )


def _line(figure: Any, y: float, name: str) -> None:
    figure.add_hline(
        y=y,
        line={"color": QUIET, "dash": "dot"},
        annotation={"text": name, "xanchor": "right", "yanchor": "bottom", "showarrow": False},
    )
