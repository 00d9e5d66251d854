"""What a run did, for people: headline, failures, certificate, stages, bottleneck."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli._format import bar, count, duration, facts, table
from coldpress.cli._outcomes import first_failures, render_failures

if TYPE_CHECKING:
    from coldpress.engine import Summary
    from coldpress.store import EmbeddingStore
    from coldpress.types import Certificate

ADVISED_S = 5.0
"""A shorter run needs no more speed, nor says much of where a long one would spend its time."""
WAITING = {"wait_input": "waiting for inputs", "wait_write": "waiting for the disk"}


def render_summary(console: Console, summary: Summary, store: EmbeddingStore) -> None:
    """Everything that is worth knowing after a run, on about a dozen lines."""
    fresh = summary.processed
    mark = ("■ ", "yellow") if summary.interrupted else ("✗ ", "red") if summary.fruitless else ("✓ ", "green")
    head = Text.assemble(mark, (count(summary.rows, "vector"), "bold"), f" in {summary.store}")
    if fresh:
        head.append(f"  ({count(fresh, 'input')} in {duration(summary.seconds)}, {summary.rows_per_s:,.0f}/s)", "dim")
    elif not summary.interrupted:
        head.append(f"  ({'complete already, nothing to do' if summary.inputs else 'the source is empty'})", "dim")
    if summary.interrupted:
        head.append("  stopped at the end of a shard: run the same command again to continue", "yellow")
    console.print(head, soft_wrap=True)
    console.print(facts(_counts(summary)))
    render_failures(console, first_failures(store), store.failed, store.path)
    if fresh:
        console.print()
        console.print(stage_table(summary))
        if summary.seconds >= ADVISED_S:
            console.print(summary.bottleneck, style="dim", soft_wrap=True)


def _counts(summary: Summary) -> dict[str, object]:
    certificate = summary.certificate
    return {
        "failed": Text(f"{summary.failed:,}", style="red") if summary.failed else None,
        "duplicates": f"{summary.duplicates:,} (computed once)" if summary.duplicates else None,
        "truncated": f"{count(summary.truncated, 'text')} longer than the model takes" if summary.truncated else None,
        "resumed": f"{count(summary.resumed, 'input')} of earlier runs, not looked at again"
        if summary.resumed
        else None,
        "retried": f"{count(summary.retried, 'input')} that had failed before" if summary.retried else None,
        "reused": f"{count(summary.reused, 'vector')} from another store, not computed" if summary.reused else None,
        "precision": f"{summary.label} ({summary.precision_reason})",
        "certificate": None if certificate is None else certificate_line(certificate),
    }


def certificate_line(certificate: Certificate) -> Text:
    """A certificate on one line, green or red."""
    verdict = ("passed", "green") if certificate.passed else ("failed", "red")
    kept, near = "", ""
    if certificate.neighbours:  # none of a single item
        near = f", {certificate.neighbours}-NN overlap {certificate.neighbour_overlap:.1%}"
    if certificate.merged_cosine is not None:
        kept = (
            f"; mean cosine {certificate.merged_cosine:.6f}, overlap {certificate.merged_overlap:.1%} with all patches "
            "unmerged"
        )
    if certificate.stored_dtype is not None:
        kept += (
            f"; stored as {certificate.stored_dtype}: mean cosine {certificate.stored_cosine:.6f}, "
            f"overlap {certificate.stored_overlap:.1%} with what was computed"
        )
    return Text.assemble(
        verdict,
        f": on {count(certificate.samples, 'item')} mean cosine {certificate.cosine_mean:.6f}, "
        f"lowest {certificate.cosine_min:.6f}{near} with the fp32 reference{kept}",
    )


def stage_table(summary: Summary) -> Table:
    """Busy seconds of every stage, and of its threads the share that was busy; stages overlap."""
    shown = table("stage", ">busy", ">utilisation", "")
    for name, seconds in summary.stages.items():
        share = summary.utilisation[name]
        style = "dim" if name in WAITING else ""
        colour = "bright_black" if name in WAITING else "cyan"
        shown.add_row(
            Text(WAITING.get(name, name), style),
            Text(duration(seconds), style),
            Text(f"{share:.0%}", style),
            Text(bar(share), colour),
        )
    return shown
