"""An assessment for people: the verdict, one table of all scores, what they rest on and where they disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli._format import clip, count, duration, facts, table

if TYPE_CHECKING:
    from coldpress.assess import Assessment, Candidate, Distance, Scores, Share

COLOURS = {"positive": "bold green", "no": "bold yellow", "negative": "bold red", "undecided": "bold yellow"}
MARKS = {"positive": ("beaten", "green"), "no": ("not beaten", "yellow"), "negative": ("not reached", "red")}
SIMILARITIES_SHOWN = 8
NARROW = 108
"""Columns of a terminal below which the table leaves out intervals and widths."""


def render_assessment(console: Console, found: Assessment) -> None:
    """Show all of it."""
    head, _, rest = found.verdict.partition(":")
    console.print(Text.assemble((head, COLOURS[found.outcome]), f":{rest}"))
    console.print()
    console.print(score_table(found, narrow=console.width < NARROW))
    console.print()
    for line in found.disagreements:
        console.print(Text.assemble(("≠ ", "yellow"), f"{line}."))
    if found.disagreements:
        console.print()
    if 1 < len(found.candidates) <= SIMILARITIES_SHOWN:
        console.print(similarity_table(found))
        console.print()
    for distance in found.distances:
        console.print(facts({f"distance from {distance.reference}": _distance(distance)}))
    console.print(facts(_basis(found)))


def score_table(found: Assessment, *, narrow: bool = False) -> Table:
    """Every candidate, with its untrained twin below it, and the raw input."""
    wide = () if narrow else (">dim", ">95 %")
    shown = table("", "features", ">probe", ">kNN", ">LogME", ">H-score", ">NLEEP", *wide, "baselines")
    for one in found.candidates:
        mark = "★" if one is found.best else "=" if one.tied else ""
        style = "bold" if one is found.best else ""
        cells = _cells(one.scores, narrow=narrow)
        shown.add_row(Text(mark, "yellow"), Text(clip(one.name, 50), style), *cells, _outcome(one))
        if one.random is not None:
            shown.add_row("", "  random weights", *_cells(one.random, narrow=narrow), "", style="dim")
    if found.raw is not None:
        shown.add_row("", Text("raw input"), *_cells(found.raw, narrow=narrow), "")
    return shown


def _cells(scores: Scores, *, narrow: bool) -> tuple[str, ...]:
    shown = (
        f"{scores.probe.accuracy:.1%}",
        f"{scores.knn.accuracy:.1%}",
        f"{scores.log_me:.3f}",
        f"{scores.h_score_shrunk:.2f}",
        f"{scores.nleep:.3f}",
    )
    return shown if narrow else (*shown, f"{scores.dim:,}", _interval(scores.probe))


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{100 * low:.1f}–{100 * high:.1f}"


def _outcome(one: Candidate) -> Text:
    text, colour = MARKS.get(one.outcome, ("", ""))
    return Text(text, colour)


def similarity_table(found: Assessment) -> Table:
    """CKA of each with each, of the candidates in the order of the table above."""
    shown = table("CKA", *(f">{number}" for number in range(1, len(found.candidates) + 1)))
    for number, (one, row) in enumerate(zip(found.candidates, found.cka, strict=True), 1):
        shown.add_row(Text(f"{number} {clip(one.name, 50)}"), *(f"{value:.2f}" for value in row))
    return shown


def _distance(one: Distance) -> str:
    low, high = one.proxy_a_interval
    frechet = "too few items" if one.frechet is None else f"{one.frechet / one.variance:.2f} of its variance"
    chance = f"p = {one.mmd_p:.2g}" if one.mmd_p > 0.01 else "not chance"
    return (
        f"MMD² {one.mmd:.4f} ({chance}), Fréchet {frechet}, proxy A {one.proxy_a:.2f} of 2 ({low:.2f} to {high:.2f}),"
        f" by {one.output}"
    )


def _basis(found: Assessment) -> dict[str, object]:
    drawn = f"{found.items:,}"
    if found.items < found.labelled:
        drawn += f" drawn at random of {found.labelled:,} with a label"
    tied = sum(one.tied for one in found.candidates) - 1
    return {
        "items": f"{drawn}; each classified by a model of the other {found.folds - 1} of {found.folds} parts",
        "always the most frequent class": f"{found.majority:.1%} of {count(len(found.classes), 'class', 'classes')}",
        "marks": f"★ best probe{', = not shown to be worse' if tied else ''}" if len(found.candidates) > 1 else None,
        "lacking": "; ".join(f"{name}: {why}" for name, why in found.lacking.items()) or None,
        "error rate": f"{found.alpha:.0%} for all that is said of baselines together (paired, Nadeau-Bengio, Holm)",
        "time": duration(found.seconds),
    }
