"""`embed`: a run whose chunks several processes, or the actors of a Ray cluster, prepare and compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coldpress import engine
from coldpress.data import Columns, Source, open_source
from coldpress.distributed.cluster import RayCrew
from coldpress.distributed.dataset import is_ray_dataset, open_ray_dataset
from coldpress.distributed.devices import parse_devices, threads_of
from coldpress.distributed.processes import ProcessCrew
from coldpress.distributed.worker import pack_extractor
from coldpress.engine import Progress, Summary
from coldpress.errors import ColdpressError
from coldpress.extractor import Extractor


def embed(
    source: str | Path | Sequence[Any] | Iterable[Any] | Source,
    extractor: Extractor,
    out: str | Path,
    *,
    devices: str | Sequence[str] = "auto",
    ray: str | None = None,
    resources: Mapping[str, Any] | None = None,
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
    """Do what :meth:`Extractor.run` does with several workers: the same store, byte for byte, resumed in either way.

    Parameters
    ----------
    source : as of :meth:`Extractor.run`, or a ``ray.data.Dataset``, whose rows are taken in their order.
    extractor : settles the precision and computes the certificate in this process, so that this needs such a device
        too; each worker builds its own, from the same path or hub id.
    devices : a process for each: names, or ``"cuda:0,cuda:1"``, ``"2xcpu"``, ``"all"`` GPUs. With Ray ``"auto"`` is as
        many actors as the cluster has room for, ``"16xcuda"`` so many.
    ray : address of a cluster, ``auto`` for the one that Ray finds, else a new one on this machine; None: no Ray. A Ray
        dataset implies ``auto``.
    resources : what Ray reserves for each actor, such as ``{"num_gpus": 0.5}``; by default a GPU or `threads` CPUs.
    threads : CPU threads of each worker; by default an equal share of the cores, with Ray one.
    workers : threads that read and preprocess, of all processes together; with Ray of each actor.
    out, dtype, shard_rows, columns, limit, on_error, retry_failed, reuse, on_progress, should_stop :
        as of :meth:`Extractor.run`.

    Raises
    ------
    MissingExtra, ColdpressError
        If Ray or a device is not there, the extractor cannot be sent, or workers are lost time and again.
    FingerprintMismatch, CertificateError, ItemError, SourceError, StoreError
        Committed shards stay intact; the same call continues.

    Examples
    --------
    >>> extractor = coldpress.Extractor("facebook/dinov2-small")                                  # doctest: +SKIP
    >>> coldpress.distributed.embed("photos/", extractor, "photos.store", devices="2xcpu").rows   # doctest: +SKIP
    4000
    >>> dataset = ray.data.read_parquet("s3://bucket/reviews")                                    # doctest: +SKIP
    >>> coldpress.distributed.embed(dataset, extractor, "s3://bucket/store").rows                 # doctest: +SKIP
    """
    options = engine.run_options(
        extractor.modality, workers, on_error, retry_failed=retry_failed, reuse=reuse, on_progress=on_progress
    )
    options = replace(options, should_stop=should_stop)
    columns, spared = columns or Columns(), 0
    if is_ray_dataset(source):
        source, ray, spared = open_ray_dataset(source, extractor.modality, columns), ray or "auto", 1
    opened = open_source(source, modality=extractor.modality, columns=columns, limit=limit)
    names = parse_devices(devices if isinstance(devices, str) else ",".join(devices))
    _check(names, extractor, on_ray=ray is not None)
    with extractor.begin(out, opened, options, dtype, shard_rows) as run:
        payload = pack_extractor(extractor)
        if ray is None:
            slots = 1 + -(-options.workers // len(names))
            crew: Any = ProcessCrew(payload, names, threads=threads_of(names, threads), slots=slots)
        else:
            crew = RayCrew(
                payload,
                ray,
                device=extractor.device.type,
                count=None if names == ("auto",) else len(names),
                threads=threads or 1,
                resources=resources,
                slots=1 + (workers or 1),
                spared_cpus=spared,
            )
        with crew:
            run.options = replace(run.options, crew=crew)
            return run()


def _check(names: Sequence[str], extractor: Extractor, *, on_ray: bool) -> None:
    """Refuse devices that are not here; with Ray they are elsewhere, but must be of the kind that certifies."""
    here = extractor.device.type
    for name in sorted(set(names) - {"auto"}):
        if not on_ray:
            engine.open_device(name)
        if name.split(":")[0] != here:
            raise ColdpressError(f"device {name}: the certificate is computed in this process, on {here}: use the same")
