"""What a run will take, before it: rows, bytes, seconds by stage, hours and money, from half a minute of it."""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from coldpress._urls import is_url
from coldpress.data import Source
from coldpress.engine import Progress, Summary
from coldpress.engine.plan import CHUNK_ITEMS
from coldpress.errors import SourceError
from coldpress.store import EmbeddingStore
from coldpress.types import FileRef, Item, Modality

Run = Callable[..., Summary]
"""``run(out, source, shard_rows=..., on_progress=..., should_stop=...)``, with all other options settled."""

_LOOKING_S, _HASHING_S, _RUNNING_S = 6.0, 4.0, 15.0
_DRAWN = {"text": 1 << 15, "image": 1 << 12}
_DRAWN_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take.

    `inputs` are all items of the source and `distinct` those that have to be computed; where the source was too large
    to be looked through, they are estimated from its front (`looked_at` items). `seconds` are of the whole run but the
    loading of the model, `stages` busy seconds as in a summary. `calibrated` items were run for it, in
    `calibration_s`. `cost` and `cost_per_million` are None without a price.
    """

    inputs: int
    distinct: int
    looked_at: int
    source_bytes: int
    store_bytes: int
    seconds: float
    machine_hours: float
    rows_per_s: float
    stages: Mapping[str, float]
    precision: str
    calibrated: int
    calibration_s: float
    cost: float | None
    cost_per_million: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def forecast(
    run: Run, source: Source, modality: Modality, *, price_per_hour: float | None = None, done: int = 0
) -> Forecast:
    """Look through a source, run a random sample of it into a store that is dropped, and extrapolate.

    Parameters
    ----------
    run : does a run, as the real one will.
    source : of the real run.
    price_per_hour : of all machines together.
    done : inputs that the store of the real run has already.

    Raises
    ------
    SourceError
        If there is nothing in the source.
    Exception
        Whatever `run` raises: what would fail fails now.
    """
    begin = time.perf_counter()
    seen = _look(source, modality)
    if not seen.items:
        raise SourceError(f"{source.name}: holds nothing to embed")
    watch = _Watch(time.perf_counter())
    rows = 8 * CHUNK_ITEMS[modality]
    with tempfile.TemporaryDirectory(prefix="coldpress-plan-") as scratch:
        drawn = Drawn(source.name, seen.drawn())
        summary = run(Path(scratch) / "store", drawn, shard_rows=rows, on_progress=watch, should_stop=watch.is_over)
        nbytes = EmbeddingStore(Path(scratch) / "store").nbytes
    left = max(seen.inputs - done, 0)
    share = left / seen.inputs
    distinct = round(seen.distinct * share)
    processed = max(summary.processed - summary.duplicates, 1)
    fixed = {"certify": summary.stages["certify"]}
    stages = fixed | {n: s * distinct / processed for n, s in summary.stages.items() if n not in fixed}
    seconds = (
        (fixed["certify"] + distinct * watch.seconds_per_item(summary) * summary.processed / processed) if left else 0.0
    )
    hours = seconds / 3600
    cost = None if price_per_hour is None else hours * price_per_hour
    return Forecast(
        inputs=seen.inputs,
        distinct=seen.distinct,
        looked_at=seen.looked_at,
        source_bytes=seen.nbytes,
        store_bytes=round(nbytes * seen.inputs / max(summary.inputs, 1)),
        seconds=seconds,
        machine_hours=hours,
        rows_per_s=left / seconds if seconds else 0.0,
        stages={name: round(value, 4) for name, value in stages.items()},
        precision=summary.precision,
        calibrated=summary.processed,
        calibration_s=time.perf_counter() - begin,
        cost=cost,
        cost_per_million=None if cost is None or not left else cost / left * 1e6,
    )


class Budget:
    """Says at the end of a shard whether another one would take a run beyond its hours."""

    def __init__(self, hours: float) -> None:
        self._limit_s, self._begun = hours * 3600, time.monotonic()
        self._last = self._begun

    def __call__(self) -> bool:
        """Whether to stop here."""
        now = time.monotonic()
        shard_s, self._last = now - self._last, now
        return now - self._begun + shard_s > self._limit_s


@dataclass(frozen=True)
class Drawn:
    """Some items of a source, as a source."""

    name: str
    drawn: Sequence[Item]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.drawn)

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from number `start` on."""
        return iter(self.drawn[start:])


@dataclass
class _Watch:
    """Times a calibration and ends it: what comes before the second report is warming up."""

    begun: float
    reports: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, progress: Progress) -> None:
        self.reports.append((progress.done, time.perf_counter()))

    def is_over(self) -> bool:
        return len(self.reports) > 4 and time.perf_counter() - self.reports[0][1] > _RUNNING_S

    def seconds_per_item(self, summary: Summary) -> float:
        if len(self.reports) < 3:
            return (summary.seconds - summary.stages["certify"]) / max(summary.processed, 1)
        (first, begin), (last, end) = self.reports[0], self.reports[-1]
        return (end - begin) / (last - first)


@dataclass
class _Seen:
    inputs: int
    distinct: int
    looked_at: int
    nbytes: int
    items: list[Item]

    def drawn(self) -> list[Item]:
        """The sample without repetitions: these cost next to nothing."""
        found: dict[Any, Item] = {}
        for item in self.items:
            found.setdefault(item.content if isinstance(item.content, str) else item.key, item)
        return list(found.values())


def _look(source: Source, modality: Modality) -> _Seen:
    """Count the items, their bytes and repetitions, and draw some: of all, or of those that a few seconds reach."""
    end, draw, chosen, held = time.perf_counter() + _LOOKING_S, random.Random(0), list[Item](), 0
    at = nbytes = 0
    sizes: Counter[int] = Counter()
    paths: dict[int, list[str]] = {}
    texts: set[bytes] = set()
    complete = True
    for at, item in enumerate(source.items(), 1):
        size = _size(item)
        nbytes += size
        held = _draw(chosen, item, at, size, held, draw, _DRAWN[modality])
        if isinstance(item.content, FileRef) and not is_url(item.content.url):
            sizes[size] += 1
            paths.setdefault(size, []).append(item.content.url)
        elif isinstance(item.content, str | bytes):
            texts.add(_digest(item.content))
        if time.perf_counter() > end:
            complete = False
            break
    repeated = _repeated(paths) if paths else (at - len(texts) if texts else 0)
    total = at if complete else (source.count or at)
    scale = total / max(at, 1)
    draw.shuffle(chosen)
    return _Seen(total, total - round(repeated * scale), at, round(nbytes * scale), chosen)


def _draw(chosen: list[Item], item: Item, at: int, size: int, held: int, draw: random.Random, most: int) -> int:
    """Keep each item with the same chance, as many as there is room for; returns the bytes that are held."""
    if len(chosen) < most and held + size <= _DRAWN_BYTES:
        chosen.append(item)
        return held + size
    if chosen and (place := draw.randrange(at)) < len(chosen):
        held += size - _size(chosen[place])
        chosen[place] = item
    return held


def _size(item: Item) -> int:
    content = item.content
    if isinstance(content, FileRef):
        if is_url(content.url):
            return 0
        try:
            return Path(content.url).stat().st_size
        except OSError:
            return 0
    return len(content) if isinstance(content, str | bytes) else int(getattr(content, "nbytes", 0))


def _digest(content: str | bytes) -> bytes:
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
    return hashlib.blake2b(raw, digest_size=8).digest()


def _repeated(paths: Mapping[int, Sequence[str]]) -> int:
    """How many files have the content of another one: only files of one size are compared, as many as time allows."""
    groups = [group for group in paths.values() if len(group) > 1]
    random.Random(0).shuffle(groups)
    end, read, repeated = time.perf_counter() + _HASHING_S, 0, 0
    for group in groups:
        found = set()
        for path in group:
            try:
                found.add(_digest(Path(path).read_bytes()))
            except OSError:
                found.add(path.encode())
        read += len(group)
        repeated += len(group) - len(found)
        if time.perf_counter() > end:
            break
    return round(repeated * sum(map(len, groups)) / read) if read else 0
