"""What a server serves: opened at its start, index and head again at each reload, one vector space throughout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coldpress.embedding_map import EmbeddingMap
from coldpress.errors import ColdpressError
from coldpress.recipe import columns_of, extractor_for, query_modalities, query_options
from coldpress.serve.catalogue import Catalogue
from coldpress.serve.encoder import Encoder
from coldpress.serve.limits import Limits
from coldpress.types import Modality

if TYPE_CHECKING:
    from coldpress.extractor import Extractor
    from coldpress.index import VectorIndex
    from coldpress.probes import Head


@dataclass(frozen=True, slots=True)
class Places:
    """Where model, index and head lie, and how they are to be run.

    Attributes
    ----------
    model : needed where there is neither index nor head; else only if it has moved.
    precision : of a model without index and head, whose vectors are as these were made.
    batch_cost : tokens or images computed at a time; None: as many as keep the machine busy.
    media : directory of the files that the items of the index are of; None: nothing of them is shown.
    drift : a store of queries that later ones are compared with, or a directory where the first ones are kept for
        that; None: the first ones of this process.
    drift_window : queries that are compared at a time.
    """

    model: str | None = None
    index: Path | None = None
    head: Path | None = None
    arch: str | None = None
    device: str = "auto"
    threads: int | None = None
    precision: str = "auto"
    batch_cost: int | None = None
    media: Path | None = None
    drift: str | None = None
    drift_window: int = 500
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Opened:
    """Encoders by modality, that of index and head first; index with its catalogue and head, if there are any."""

    encoders: Mapping[Modality, Encoder]
    index: VectorIndex | None
    catalogue: Catalogue | None
    head: Head | None


def open_all(places: Places) -> Opened:
    """Load models, index and head.

    Raises
    ------
    ColdpressError
        If there is nothing to serve, or something cannot be opened.
    FingerprintMismatch
        If index, head and model are not of one space.
    """
    if places.media is not None and not places.media.is_dir():
        raise ColdpressError(f"{places.media} is not a directory: --media names that of the files of the items")
    index, catalogue, head = _made(places)
    if index is None and head is None and places.model is None:
        raise ColdpressError("nothing to serve: give --model, --index or --head")
    return checked(Opened(_encoders(places, index, head), index, catalogue, head))


def reopen(places: Places, before: Opened) -> Opened:
    """The same with index and head as they are on disk now; errors as of :func:`open_all`."""
    index, catalogue, head = _made(places)
    return checked(replace(before, index=index, catalogue=catalogue, head=head))


def _made(places: Places) -> tuple[VectorIndex | None, Catalogue | None, Head | None]:
    from coldpress.index import VectorIndex
    from coldpress.probes import Head

    head = None if places.head is None else Head.open(places.head)
    if head is not None and head.task != "classify":
        raise ColdpressError(f"the head is for the task {head.task}, the server answers with classes: use predict")
    if head is not None:
        head.predict_proba(np.zeros((1, head.dim), np.float32))  # scikit-learn is loaded now, not by the first request
    if places.index is None:
        return None, None, head
    index = VectorIndex.open(places.index).to("cpu" if places.device == "cpu" else "auto")
    drawn = EmbeddingMap.open(places.index)
    return index, Catalogue(index, places.media, drawn, places.limits.pixels), head


def checked(opened: Opened) -> Opened:
    """Itself, if all of it is of one space; raises FingerprintMismatch if not."""
    own = next(iter(opened.encoders.values()))
    if opened.index is not None:
        for encoder in opened.encoders.values():
            opened.index.check(encoder.extractor.fingerprint)
    if opened.head is not None:
        opened.head.check(own.extractor.fingerprint)
        learned = opened.head.output or _first_output(own.extractor)
        if columns_of(own.extractor, learned) != own.columns:
            other = "another" if opened.index is None else f"{opened.index.output}, which the index has"
            raise ColdpressError(f"the head has learned from output {learned}, this server computes {other}")
    return opened


def _encoders(places: Places, index: VectorIndex | None, head: Head | None) -> dict[Modality, Encoder]:
    common: dict[str, Any] = {"device": places.device, "threads": places.threads}
    moved = {"model": places.model, "arch": places.arch}
    if index is not None:
        made = {m: extractor_for(index, **moved, **common, **query_options(index, m)) for m in query_modalities(index)}
        output = index.output
    elif head is not None:
        made = _by_modality([extractor_for(head, **moved, **common)])
        output = head.output or _first_output(next(iter(made.values())))
    else:
        made = _of_model(places, common)
        output = _first_output(next(iter(made.values())))
    return {m: Encoder(extractor, columns_of(extractor, output), places.limits) for m, extractor in made.items()}


def _of_model(places: Places, common: Mapping[str, Any]) -> dict[Modality, Extractor]:
    from coldpress import models
    from coldpress.extractor import Extractor

    assert places.model is not None
    towers = () if places.arch is not None else models.modalities(places.model)
    options = {"arch": places.arch, "precision": places.precision, **common}
    return _by_modality(
        [Extractor(places.model, modality=m, **options) for m in (towers if len(towers) > 1 else [None])]
    )


def _by_modality(extractors: list[Extractor]) -> dict[Modality, Extractor]:
    return {extractor.modality: extractor for extractor in extractors}


def _first_output(extractor: Extractor) -> str:
    return next(output.name for output in extractor.outputs if not output.dense)
