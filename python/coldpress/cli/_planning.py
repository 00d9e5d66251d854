"""``embed --plan``, ``--max-hours`` and ``--max-cost``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from coldpress.cli._command import Result
from coldpress.cli._format import count, duration, facts, size
from coldpress.cli._progress import busy
from coldpress.cli._summary import WAITING

if TYPE_CHECKING:
    from coldpress import Extractor
    from coldpress.engine import Summary
    from coldpress.forecast import Forecast


def planned(
    extractor: Extractor,
    out: str,
    sources: list[str],
    price: float | None,
    several: dict[str, Any] | None,
    **options: Any,
) -> Result:
    """The forecast of a run with these options."""
    from coldpress.data import open_source
    from coldpress.forecast import forecast
    from coldpress.store import EmbeddingStore, is_store

    source = open_source(
        sources, modality=extractor.modality, columns=options.pop("columns"), limit=options.pop("limit")
    )
    for name in ("shard_rows", "retry_failed", "on_error"):
        del options[name]
    run = partial(run_of(extractor, several), **options)
    with busy("Trying a sample"):
        done = EmbeddingStore(out).inputs if is_store(out) else 0
        found = forecast(run, source, extractor.modality, price_per_hour=price, done=done)
    return Result(found.to_json(), lambda console: _render(console, found))


def run_of(extractor: Extractor, several: dict[str, Any] | None) -> Callable[..., Summary]:
    """What does a run: the extractor itself, or several workers."""
    if several is None:
        return extractor.run
    from coldpress.distributed import embed

    def run(out: Any, source: Any, **options: Any) -> Summary:
        return embed(source, extractor, out, **several, **options)

    return run


def stops(
    stopping: Callable[[], bool], price: float | None, max_hours: float | None, max_cost: float | None
) -> Callable[[], bool]:
    """Whether a run is to end with a shard: because of a signal, or because the next one would exceed a limit."""
    limits = [max_hours, None if max_cost is None or not price else max_cost / price]
    hours = [limit for limit in limits if limit is not None]
    if not hours:
        return stopping
    from coldpress.forecast import Budget

    budget = Budget(min(hours))
    return lambda: budget() or stopping()


def _render(console: Console, found: Forecast) -> None:
    repeated = found.inputs - found.distinct
    looked = "" if found.looked_at >= found.inputs else f", estimated from the first {found.looked_at:,}"
    costs = None
    if found.cost is not None:
        per_million = "" if found.cost_per_million is None else f", {found.cost_per_million:,.2f} a million"
        costs = f"{found.cost:,.2f}{per_million}"
    busy_s = [(name, s) for name, s in found.stages.items() if name not in WAITING and s >= found.seconds / 100]
    shown = {
        "inputs": f"{found.inputs:,} ({size(found.source_bytes)}{looked})",
        "duplicates": f"{repeated:,}" if repeated else None,
        "time": f"{duration(found.seconds)} at {found.rows_per_s:,.0f}/s ({found.machine_hours:,.2f} machine hours)",
        "stages": ", ".join(f"{name} {duration(seconds)}" for name, seconds in busy_s) or None,
        "cost": costs,
        "store": size(found.store_bytes),
        "precision": found.precision,
        "tried": f"{count(found.calibrated, 'item')} in {duration(found.calibration_s)}",
    }
    console.print(facts(shown))
