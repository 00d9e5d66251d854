"""What is said of a head beside its accuracy: groups, labels a class, calibration, mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli._format import bar, clip, table

if TYPE_CHECKING:
    from coldpress.probes import CurvePoint, Examination, ProbeResult

GROUPS_SHOWN, MISTAKES_SHOWN = 12, 5


def render_examination(console: Console, result: ProbeResult) -> None:
    """Groups, curve and mistakes, where there are any."""
    from coldpress.report.words import gap_line

    examined = result.examination
    if examined.groups:
        console.print()
        console.print(_groups(examined))
        console.print(gap_line(examined), style="dim")
    if result.curve:
        console.print()
        console.print(_curve(result.curve))
    if examined.mistakes:
        console.print()
        console.print(_mistakes(examined))


def _groups(examined: Examination) -> Table:
    shown = table("group", ">accuracy", ">95 % interval", ">items", "")
    for one in examined.groups[:GROUPS_SHOWN]:
        low, high = one.interval
        shown.add_row(
            Text(clip(one.group, 40)),
            f"{one.accuracy:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{one.items:,}",
            Text(bar(one.accuracy, 12), "cyan"),
        )
    return shown


def _curve(points: tuple[CurvePoint, ...]) -> Table:
    shown = table(">labels a class", ">items", ">accuracy", ">of five draws", "")
    for one in points:
        low, high = one.spread
        shown.add_row(
            "all" if one.per_class is None else f"{one.per_class:,}",
            f"{one.items:,}",
            f"{one.accuracy:.1%}",
            "" if one.per_class is None else f"{low:.1%} to {high:.1%}",
            Text(bar(one.accuracy, 12), "cyan"),
        )
    return shown


def _mistakes(examined: Examination) -> Table:
    shown = table("most confident mistakes", "label", "taken for", ">probability")
    for one in examined.mistakes[:MISTAKES_SHOWN]:
        shown.add_row(
            Text(clip(one.key, 50)),
            Text(clip(str(one.label), 30)),
            Text(clip(str(one.prediction), 30)),
            f"{one.probability:.1%}",
        )
    return shown
