"""What every benchmark shares: engines timed in turn, medians and spread, a line about the machine, JSON.

Engines alternate inside one process run, so that a slow minute of a shared machine hits all of them alike; what is
reported is a ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from coldpress import __version__, _library

RESULTS = Path(__file__).parent / "results"


@dataclass
class Engine:
    """One way to do the work: `run` does all of it once."""

    name: str
    run: Callable[[], Any]
    extra: Mapping[str, Any] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    """Describe where the figures come from."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "isa": _library.isa(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "coldpress": __version__,
        "threads": torch.get_num_threads(),
    }


def compare(engines: list[Engine], items: int, unit: str, repeats: int, *, warm: bool = True) -> list[dict[str, Any]]:
    """Time the engines in turn, `repeats` rounds after one to `warm` up; the last engine is the baseline."""
    for engine in engines if warm else ():
        engine.run()
    seconds: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for _ in range(repeats):
        for engine in engines:
            start = time.perf_counter()
            engine.run()
            seconds[engine.name].append(time.perf_counter() - start)
    baseline = seconds[engines[-1].name]
    rows = []
    for engine in engines:
        ratios = [b / s for b, s in zip(baseline, seconds[engine.name], strict=True)]
        rows.append(
            {
                "engine": engine.name,
                unit: items / statistics.median(seconds[engine.name]),
                "ratio": statistics.median(ratios),
                "ratio_low": min(ratios),
                "ratio_high": max(ratios),
                "seconds": seconds[engine.name],
                **engine.extra,
            }
        )
    return rows


def versus(rows: list[dict[str, Any]], ours: str, theirs: str) -> dict[str, Any]:
    """How many times as fast one engine is as another: median and spread over the rounds."""
    seconds = {row["engine"]: row["seconds"] for row in rows}
    ratios = [b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    return {"of": ours, "to": theirs, "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def report(question: str, rows: list[dict[str, Any]], unit: str, out: Path | None, **context: Any) -> None:
    """Print a table and write the figures."""
    facts = machine()
    print(f"\n{question}\n{facts['cpu']}, {facts['threads']} threads, {facts['isa']}, torch {facts['torch']}\n")
    for row in rows:
        notes = "  ".join(
            f"{k} {v:.7g}" if isinstance(v, float) else f"{k} {v}"
            for k, v in row.items()
            if k not in ("engine", unit, "seconds", "ratio", "ratio_low", "ratio_high")
        )
        spread = f"[{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        print(f"{row['engine']:34s} {row[unit]:9.1f} {unit}  x{row['ratio']:.2f} {spread}  {notes}")
    for pair in context.get("versus", ()):
        print(f"{pair['of']} / {pair['to']}: x{pair['ratio']:.2f} [{pair['low']:.2f}, {pair['high']:.2f}]")
    write(out, question=question, **context, rows=rows)


def write(out: Path | None, **figures: Any) -> None:
    """Write figures and machine as JSON."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n")
        print(f"\nwritten to {out}")


def arguments(description: str, result: str) -> argparse.ArgumentParser:
    """Return a parser with the options all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: all cores)")
    parser.add_argument(
        "--json", type=Path, default=RESULTS / result, help=f"where to write (default results/{result})"
    )
    return parser
