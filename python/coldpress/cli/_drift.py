"""Drift for people: the verdict, how large the difference is in plain words, and what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli._format import bar, clip, count, facts, table

if TYPE_CHECKING:
    from coldpress.drift import Drift, Item, Overrepresented, Refit, Window

WINDOWS_SHOWN = 40
ITEMS_SHOWN = 5


def render_drift(console: Console, found: Drift, by: str | None) -> None:
    """Show all of it; what a difference is made of only where there is one."""
    verdict = found.verdict
    mark = ("drift", "bold red") if verdict.alarm else ("no drift", "bold green")
    console.print(Text.assemble(mark, f"  {found.sentence}", (f"  p = {verdict.p_value:.2g}", "dim")), soft_wrap=True)
    console.print(facts(_facts(found)))
    if verdict.alarm:
        driving = found.driving
        _print(console, "New items that are least like the reference", _items(driving.items[:ITEMS_SHOWN]))
        _print(console, "Items of the reference whose like is missing", _items(driving.missing[:ITEMS_SHOWN]))
        if driving.values:
            _print(console, "What the unlike items have in common", _values(driving.values))
    if found.windows:
        alarms = sum(one.verdict.alarm for one in found.windows)
        expected = verdict.level * len(found.windows)
        title = f"{count(alarms, 'alarm')} in {count(len(found.windows), 'window')}, by chance {expected:.2g}"
        _print(console, title, _windows(found.windows, by or "from item"))


def _facts(found: Drift) -> dict[str, object]:
    effects, apart = found.effects, found.effects.separation
    low, high = apart.interval
    frechet = f"; Frechet distance {effects.frechet:.3g}" if effects.frechet is not None else ""
    return {
        "changed": f"at least {apart.changed:.0%} of the new items would have to be others ({low:.0%} to {high:.0%})",
        "classifier": f"picks the new item out of a new and an old one in {apart.auc:.0%} of cases (50% is guessing)",
        "unlike": f"{found.driving.unlike:.1%} of the new items lie where 1% of the reference does",
        "mean": f"moved by {effects.frechet_mean / effects.variance:.1%} of the variance of the reference{frechet}"
        if effects.variance
        else None,
        "dimensions": f"{effects.shifted} of {effects.dimensions} have another distribution",
        "items": f"{found.reference_items:,} and {found.new_items:,} new, of which {found.tested[0]:,} and"
        f" {found.tested[1]:,} tested",
        "false alarms": f"one in {1 / found.verdict.level:,.0f} comparisons where nothing has changed",
    }


def _print(console: Console, title: str, shown: Table) -> None:
    console.print(Text(f"\n{title}", "bold"), soft_wrap=True)
    console.print(shown)


def _items(items: Sequence[Item]) -> Table:
    shown = table("key", "")
    for item in items:
        shown.add_row(Text(clip(item.key, 40)), Text(clip(item.snippet, 90), "dim"))
    return shown


def _values(values: Sequence[Overrepresented]) -> Table:
    shown = table("", ">of the unlike", ">of the other new", ">of the reference", "")
    for one in values:
        cells = ("" if share is None else f"{share:.1%}" for share in (one.unlike, one.other, one.reference))
        shown.add_row(Text(clip(f"{one.column} = {one.value}", 60)), *cells, Text(bar(one.unlike, 12), "cyan"))
    return shown


def _windows(windows: Sequence[Window], name: str) -> Table:
    shown = table(name, ">items", ">p", "", "")
    most = max(max(one.verdict.statistic, one.verdict.threshold) for one in windows) or 1.0
    for one in windows[-WINDOWS_SHOWN:]:
        alarm = one.verdict.alarm
        height = Text(bar(one.verdict.statistic / most, 16), "red" if alarm else "cyan")
        mark = Text("alarm" if alarm else "", "red")
        shown.add_row(Text(clip(one.name, 30)), f"{one.items:,}", f"{one.verdict.p_value:.2g}", height, mark)
    return shown


def render_refit(console: Console, found: Refit, out: Path | None) -> None:
    """What training again has brought."""
    low, high = found.change_interval
    better = "better" if low > 0 else "worse" if high < 0 else "no different, as far as these items can tell"
    console.print(Text(f"\nThe head trained again is {better}", "bold"), soft_wrap=True)
    console.print(
        facts(
            {
                "before": _accuracy(found.before, found.before_interval),
                "after": _accuracy(found.after, found.after_interval),
                "change": f"{100 * found.change:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f})",
                "tested on": f"{count(found.items, 'new item')} that neither was trained on"
                + (f"; {count(found.leaks, 'near duplicate')} of training items left out" if found.leaks else ""),
                "trained on": f"{found.trained_old:,} old and {found.trained_new:,} new items",
                "new classes": ", ".join(found.new_classes) or None,
            }
        )
    )
    console.print(f"[dim]Head:[/] {out}", soft_wrap=True)


def _accuracy(share: float, interval: tuple[float, float]) -> str:
    return f"{share:.1%} (95 % interval {interval[0]:.1%} to {interval[1]:.1%})"
