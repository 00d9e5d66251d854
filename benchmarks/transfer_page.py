"""The page of the transfer study, in the looks of coldpress's own reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from coldpress.report import Section, write_page
from coldpress.report.figures import ACCENT, PALETTE, graph_objects, styled
from coldpress.report.page import figure_html, folded, paragraph, table_html

Row = dict[str, Any]
METHODS = {
    "frozen": ("frozen vectors and a logistic regression", ACCENT),
    "scratch": ("a small network from scratch", PALETTE[1]),
    "raw": ("raw features and a logistic regression", PALETTE[2]),
}


def write_study(path: Path, rows: Sequence[Row], needed: Sequence[Row]) -> None:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    few = [row for row in rows if row["per_class"] == 16]
    numbers = {}
    for task in tasks:
        scores = {row["method"]: row["accuracy"] for row in few if row["task"] == task}
        others = max(scores["raw"], scores["scratch"])
        numbers[f"{task}: points of accuracy gained by frozen features, with 16 labels a class"] = (
            f"{100 * (scores['frozen'] - others):+.0f}"
        )
    write_page(
        path,
        title="Fewer labels, less time?",
        lead="What frozen features are worth beside raw features and a network trained from scratch, on the same "
        "labels. The gain is over the better of the two.",
        numbers=numbers,
        sections=[_section([row for row in rows if row["task"] == task], needed) for task in tasks],
        data={"rows": list(rows), "needed": list(needed)},
    )


def _section(rows: Sequence[Row], needed: Iterable[Row]) -> Section:
    notes = [
        f"What frozen vectors reach with {one['frozen']} labels a class, {one['accuracy']:.1%}, takes "
        f"{_many(one['scratch'])} a class from scratch and {_many(one['raw'])} with raw features."
        for one in needed
        if one["task"] == rows[0]["task"] and one["frozen"] in (4, 16)
    ]
    cells = [
        (
            METHODS[row["method"]][0],
            "all" if row["per_class"] is None else row["per_class"],
            f"{row['labels']:,}",
            f"{row['accuracy']:.1%}",
            f"{row['low']:.1%} to {row['high']:.1%}",
            row["draws"],
            f"{row['seconds']:.2f}",
        )
        for row in rows
    ]
    columns = ("method", ">labels a class", ">labels", ">accuracy", ">lowest to highest", ">draws", ">seconds")
    body = [
        paragraph(" ".join(notes), "note"),
        figure_html(curves(rows, "labels", "labels")),
        figure_html(curves(rows, "seconds", "seconds of the processor, embedding included")),
        folded("The numbers", table_html(columns, cells)),
    ]
    return Section(rows[0]["title"], "\n".join(body))


def _many(labels: int | str | None) -> str:
    return "more than all" if labels is None else str(labels)


def curves(rows: Sequence[Row], across: str, title: str) -> Any:
    """Accuracy over labels or seconds, with the lowest and the highest of the draws."""
    figure = graph_objects().Figure()
    for method, (name, colour) in METHODS.items():
        points = [row for row in rows if row["method"] == method]
        figure.add_scatter(
            x=[row[across] for row in points],
            y=[row["accuracy"] for row in points],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [row["high"] - row["accuracy"] for row in points],
                "arrayminus": [row["accuracy"] - row["low"] for row in points],
                "thickness": 1.2,
                "width": 3,
            },
            mode="lines+markers" if across == "labels" else "markers",
            name=name,
            line={"color": colour, "width": 2.2},
            marker={"size": 8},
            customdata=[[row["labels"], row["seconds"]] for row in points],
            hovertemplate="%{y:.1%} with %{customdata[0]:,} labels in %{customdata[1]:.2f} s<extra></extra>",
        )
    figure.update_xaxes(type="log", title=title, showgrid=False, dtick=1)
    figure.update_yaxes(title="accuracy", tickformat=".0%")
    figure.update_layout(showlegend=across == "labels", legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return styled(figure, height=380 if across == "labels" else 320)
