"""What ``coldpress bench`` prints: the machine, the modes of the model, the stages of its fastest one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli._format import bar, count, size, table

if TYPE_CHECKING:
    from coldpress.bench import Limits, Mode, Report

_FLOATS = ("fp32", "bf16")
_BAR = 10
_FREE_ENOUGH = 0.9


def render_limits(console: Console, machine: str, limits: Limits) -> None:
    """What the machine can do at most."""
    from coldpress.bench.limits import INSTRUCTIONS

    console.print(Text.assemble((machine, "bold"), f", {count(limits.threads, 'thread')}"))
    if limits.free_share < _FREE_ENOUGH:
        taken = f"Other programs take {1 - limits.free_share:.0%} of the processor"
        console.print(f"{taken}: every figure below is too low.", style="yellow")
    console.print()
    peaks = table("arithmetic", "instruction", ">one core", ">all cores", ">gain")
    for peak in limits.peaks:
        if peak.one is None or peak.all is None:
            peaks.add_row(peak.arithmetic, Text(f"no {INSTRUCTIONS[peak.arithmetic]} here", "dim"), "–", "–", "")
        else:
            unit = "GFLOP/s" if peak.arithmetic in _FLOATS else "GOP/s"
            rates = [f"{rate / 1e9:,.0f} {unit}" for rate in (peak.one, peak.all)]
            peaks.add_row(peak.arithmetic, INSTRUCTIONS[peak.arithmetic], *rates, f"x{peak.all / peak.one:.2f}")
    console.print(peaks)
    console.print()
    memory = table("memory", ">a core", ">read, one", ">all cores", ">copy, one", ">all cores")
    for level in limits.memory:
        speeds = (level.read_one, level.read_all, level.copy_one, level.copy_all)
        memory.add_row(level.level, _cache(level.size), *(f"{speed / 1e9:,.0f} GB/s" for speed in speeds))
    disk = limits.disk
    console.print(memory)
    around = "from the page cache" if disk.cached else "read"
    console.print()
    console.print(
        Text.assemble(
            ("disk    ", "dim"),
            f"written {size(disk.write)}/s, {around} {size(disk.read)}/s",
            (f"  {disk.directory}", "dim"),
        )
    )


def render_report(console: Console, report: Report) -> None:
    """The modes side by side, then the stages of the best one."""
    kind = "text" if report.modality == "text" else "image"
    tokens = "" if report.tokens_per_item is None else f"{report.tokens_per_item:,.0f} tokens, "
    work = f"{tokens}{size(report.bytes_per_item)} and {report.flop_per_item / 1e9:,.2f} GFLOP in linear layers each"
    console.print()
    console.print(Text.assemble((report.model, "bold"), f" on {count(report.items, kind)}"))
    console.print(Text(work, "dim"))
    console.print()
    console.print(_modes(report))
    best = report.best
    if best.bottleneck is not None:
        console.print()
        console.print(_stages(best))
        console.print(best.bottleneck, style="dim")


def _modes(report: Report) -> Table:
    shown = table("mode", ">engine", ">to a store", ">of peak", ">mean cosine", ">lowest", ">10-NN", "certificate")
    for mode in report.modes:
        tested = mode.certificate
        fidelity = (
            ("–", "–", "–", Text("none", "dim"))
            if tested is None
            else (
                f"{tested.cosine_mean:.5f}",
                f"{tested.cosine_min:.5f}",
                f"{tested.neighbour_overlap:.1%}",
                Text("passed", "green") if tested.passed else Text("failed", "red"),
            )
        )
        shown.add_row(
            Text(mode.precision, "bold" if mode is report.best else ""),
            f"{rate(mode.engine_per_s)}/s",
            "refused" if mode.store_per_s is None else f"{rate(mode.store_per_s)}/s",
            "–" if mode.peak_share is None else f"{mode.peak_share:.0%}",
            *fidelity,
        )
    return shown


def _stages(mode: Mode) -> Table:
    """How much of its own limit each stage reaches while it is busy, and how much of the run it is busy."""
    assert mode.run is not None
    shown = table(f"{mode.precision} run", ">busy", ">items/s", ">limit", ">reached", "", "of the limit:")
    binds = max(mode.stages, key=lambda stage: stage.utilisation)
    for stage in mode.stages:
        share = stage.reached
        shown.add_row(
            Text.assemble(stage.name, " ◂", style="bold yellow") if stage is binds else stage.name,
            f"{stage.utilisation:.0%}",
            rate(stage.items_per_s),
            "–" if stage.limit is None else rate(stage.limit),
            "–" if share is None else f"{share:.0%}",
            Text(bar(share or 0.0, _BAR), "cyan"),
            Text(stage.limited_by, "dim"),
        )
    certify = mode.run.stages.get("certify", 0.0)
    shown.add_row("certificate", "", "", "", "", "", Text(f"once a run, {certify:.1f} s", "dim"))
    return shown


def _cache(num_bytes: int) -> str:
    """Powers of 1024, as caches are sold."""
    return f"{num_bytes >> 20} MiB" if num_bytes >= 1 << 20 else f"{num_bytes >> 10} KiB"


def rate(per_s: float) -> str:
    """``4.2``, ``1,504``, ``18.9 M``."""
    if per_s < 100:
        return f"{per_s:.1f}"
    return f"{per_s:,.0f}" if per_s < 1e6 else f"{per_s / 1e6:,.1f} M"
