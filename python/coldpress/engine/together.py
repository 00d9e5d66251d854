"""Several networks over one source: it is read once, images are decoded once, each network has its own store.

Every store goes through the very steps of a run of its own and ends with the same bytes. Runs that do not stand side by
side in a first pass over the source (it has grown, failures are tried again) go one after the other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

from coldpress.data import Source
from coldpress.engine.plan import chunk_items
from coldpress.engine.runner import Run
from coldpress.engine.sample import Prepared
from coldpress.engine.stages import Timed, ordered_map
from coldpress.engine.summary import Summary
from coldpress.preprocess.shared import PrepareAll, shared
from coldpress.types import Failed, Item

Stop = Callable[[], bool]
_Chunk = tuple[int, list[Item]]
_Prepared = tuple[int, list[Item], list[list[Prepared]]]


def run_together(runs: Sequence[Run], source: Source, workers: int, should_stop: Stop | None = None) -> list[Summary]:
    """Do several runs over `source`; errors as of :class:`Run`.

    Parameters
    ----------
    runs : of one modality and one shard size, without a `should_stop` of their own.
    workers : threads that read and preprocess.
    should_stop : asked at the end of each shard; with True all of them end there.
    """
    if all(run.todo.continues() for run in runs):
        return _side_by_side(runs, source, workers, should_stop)
    for run in runs:
        run.options = replace(run.options, should_stop=should_stop)
    return [_timed_anew(run)() for run in runs]


def _side_by_side(runs: Sequence[Run], source: Source, workers: int, should_stop: Stop | None) -> list[Summary]:
    shard_rows, start = runs[0].writer.shard_rows, min(run.written for run in runs)
    begins = [run.written for run in runs]  # behind a kill, one may be a shard ahead of another
    for run in runs:
        _timed_anew(run).todo.passed = run.written
    prepare_all = shared([run.preprocess for run in runs])
    before = _busy(runs)
    cut = chunk_items(source.items(start), min(run.chunk_size for run in runs), start, shard_rows)
    chunks = Timed(_numbered(cut, start))
    prepared = Timed(ordered_map(lambda chunk: _prepare(prepare_all, runs, begins, chunk), chunks, workers))
    stopped = False
    with closing(prepared), ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.background)
        for at, items, inputs in prepared:
            for run, begin, own in zip(runs, begins, inputs, strict=True):
                if at >= begin:
                    run.step(items, own)
            ends = (at + len(items)) % shard_rows == 0
            if stopped := ends and should_stop is not None and should_stop():
                break
        for run in runs:
            run.interrupted = stopped
            run.finish()
    preparing = {name: seconds - before[name] for name, seconds in _busy(runs).items()}
    for run in runs:
        run.seconds["wait_input"] = prepared.seconds
    return [run.summary(chunks.seconds, preparing) for run in runs]


def _timed_anew(run: Run) -> Run:
    """The same run, whose seconds do not count what others have settled since it was made."""
    run.begun = time.perf_counter() - run.options.settling_s
    return run


def _numbered(chunks: Iterator[list[Item]], at: int) -> Iterator[_Chunk]:
    for chunk in chunks:
        yield at, chunk
        at += len(chunk)


def _prepare(prepare_all: PrepareAll, runs: Sequence[Run], begins: Sequence[int], chunk: _Chunk) -> _Prepared:
    """What every run makes of a chunk; one that has it already need not decode it."""
    at, items = chunk
    contents = [item.content for item in items if not isinstance(item.content, Failed)]
    known = [
        run.assembler.known if at >= begin else (lambda hashes: [True] * len(hashes))
        for run, begin in zip(runs, begins, strict=True)
    ]
    made = [iter(one) for one in prepare_all(contents, known)]
    return at, items, [[i.content if isinstance(i.content, Failed) else next(one) for i in items] for one in made]


def _busy(runs: Sequence[Run]) -> Mapping[str, float]:
    """Busy seconds of all that prepares, by step."""
    total: Counter[str] = Counter()
    for preprocess in {id(run.preprocess): run.preprocess for run in runs}.values():
        for name, seconds in preprocess.seconds.items():
            total[name] += seconds  # type: ignore[assignment]
    return total
