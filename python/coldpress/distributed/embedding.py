"""`embed`: a run whose chunks several processes, or the actors of a Ray cluster, prepare and compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coldpress import engine
from coldpress.data import Columns, Source, open_source
from coldpress.distributed.devices import parse_devices, threads_of
from coldpress.distributed.processes import ProcessCrew
from coldpress.engine import Progress, Summary
from coldpress.extractor import Extractor


def embed(
    source: str | Path | Sequence[Any] | Iterable[Any] | Source,
    extractor: Extractor,
    out: str | Path,
    *,
    devices: str | Sequence[str],
    threads: int | None = None,
    dtype: str = "float16",
    shard_rows: int = 65_536,
    columns: Columns | None = None,
    limit: int | None = None,
    on_error: str = "skip",
    retry_failed: bool = False,
    reuse: str | Path | None = None,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Summary:
    """Do what :meth:`Extractor.run` does with several processes: the same store, byte for byte, resumed in either way.

    Parameters
    ----------
    source : as of :meth:`Extractor.run`.
    extractor : settles the precision and computes the certificate in this process; each worker builds its own.
    devices : a process for each: names, or ``"cuda:0,cuda:1"``, ``"2xcpu"``, ``"all"`` GPUs.
    threads : CPU threads of each process; by default an equal share of the cores.
    workers : threads that read and preprocess, of all processes together.
    out, dtype, shard_rows, columns, limit, on_error, retry_failed, reuse, on_progress, should_stop :
        as of :meth:`Extractor.run`.

    Raises
    ------
    ColdpressError
        If a device is not there, the extractor cannot be sent to other processes, or these are lost time and again.
    FingerprintMismatch, CertificateError, ItemError, SourceError, StoreError
        Committed shards stay intact; the same call continues.

    Examples
    --------
    >>> extractor = coldpress.Extractor("facebook/dinov2-small")                                  # doctest: +SKIP
    >>> coldpress.distributed.embed("photos/", extractor, "photos.store", devices="2xcpu").rows   # doctest: +SKIP
    4000
    """
    names = parse_devices(devices if isinstance(devices, str) else ",".join(devices))
    for name in set(names):
        engine.open_device(name)
    options = engine.run_options(
        extractor.modality, workers, on_error, retry_failed=retry_failed, reuse=reuse, on_progress=on_progress
    )
    options = replace(options, should_stop=should_stop)
    opened = open_source(source, modality=extractor.modality, columns=columns or Columns(), limit=limit)
    with extractor.begin(out, opened, options, dtype, shard_rows) as run:
        slots = 1 + -(-options.workers // len(names))
        with ProcessCrew(extractor, names, threads=threads_of(names, threads), slots=slots) as crew:
            run.options = replace(run.options, crew=crew)
            return run()
