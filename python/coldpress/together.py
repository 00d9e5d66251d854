"""Several backbones over one source, read and decoded once, into a store each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from coldpress import engine
from coldpress.data import Columns, Source, open_source
from coldpress.engine import Progress, Summary
from coldpress.errors import ColdpressError, StoreError
from coldpress.extractor import Extractor
from coldpress.store import is_store


def embed_together(
    extractors: Sequence[Extractor],
    out: str | Path,
    source: str | Path | Sequence[Any] | Iterable[Any] | Source,
    *,
    dtype: str = "float16",
    shard_rows: int = 65_536,
    columns: Columns | None = None,
    limit: int | None = None,
    on_error: str = "skip",
    retry_failed: bool = False,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Summary]:
    """Embed a source with several backbones of one modality, each into its own store under `out`.

    Every store is, byte for byte, what :meth:`Extractor.run` would have written alone, and is resumed, extended and
    read like any other. In a first pass over the source, images are read and decoded once for all of them.

    Parameters
    ----------
    extractors : at least one.
    out : directory, or URL, of the stores; see :func:`store_names`.
    source, dtype, shard_rows, columns, limit, on_error, retry_failed, workers, on_progress, should_stop :
        as of :meth:`Extractor.run`.

    Returns
    -------
    The summary of each store, by its name under `out`.

    Raises
    ------
    ColdpressError
        If some of the models take texts and some images.
    FingerprintMismatch, CertificateError, ItemError, SourceError, StoreError
        Committed shards stay intact; the same call continues.

    Examples
    --------
    >>> dino, clip = (coldpress.Extractor(name) for name in ("facebook/dinov2-small", "clip"))     # doctest: +SKIP
    >>> coldpress.embed_together([dino, clip], "photos.stores", "photos/").keys()                  # doctest: +SKIP
    dict_keys(['dinov2-small', 'clip'])
    """
    modalities = {extractor.modality for extractor in extractors}
    if len(modalities) != 1:
        found = " and ".join(sorted(modalities)) or "nothing"
        raise ColdpressError(f"got models of {found}, expected models that take the same: texts or images")
    if is_store(out):
        raise StoreError(f"{out}: is a store of one model, expected a directory for several; choose another output")
    (modality,) = modalities
    options = engine.run_options(modality, workers, on_error, retry_failed=retry_failed, reuse=None, on_progress=None)
    opened = open_source(source, modality=modality, columns=columns or Columns(), limit=limit)
    names = store_names([extractor.name for extractor in extractors])
    with ExitStack() as stack:
        runs = []
        for name, extractor in zip(names, extractors, strict=True):
            place = f"{str(out).rstrip('/')}/{name}"
            runs.append(stack.enter_context(extractor.begin(place, opened, options, dtype, shard_rows)))
        runs[-1].options = replace(runs[-1].options, on_progress=on_progress)
        summaries = engine.run_together(runs, opened, options.workers, should_stop)
    return dict(zip(names, summaries, strict=True))


def store_names(models: Sequence[str]) -> list[str]:
    """A directory for each model: the last part of its name, numbered from the second of the same on."""
    names: list[str] = []
    for model in models:
        last = re.sub(r"[^A-Za-z0-9._-]+", "-", model.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]).lstrip(".-")
        name, number = last or "model", 2
        while name.lower() in (taken.lower() for taken in names):
            name, number = f"{last}-{number}", number + 1
        names.append(name)
    return names
