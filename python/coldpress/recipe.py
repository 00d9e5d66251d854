"""The extractor that belongs to an index or a head: the same arguments, read from its description."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol

from coldpress.errors import ColdpressError

if TYPE_CHECKING:
    from coldpress.extractor import Extractor
    from coldpress.index import VectorIndex
    from coldpress.store import Projection
    from coldpress.types import Fingerprint, Modality


class Made(Protocol):
    """What an index and a head have in common: they belong to the vectors of one extractor."""

    @property
    def model(self) -> str:
        """The model that made the vectors."""

    @property
    def description(self) -> Mapping[str, Any]:
        """The arguments of that extractor."""

    @property
    def projection(self) -> Projection | None:
        """What the vectors were mapped by, if they were."""

    def check(self, fingerprint: Fingerprint) -> None:
        """Refuse another space."""


def extractor_for(made: Made, model: str | None = None, arch: str | None = None, **options: Any) -> Extractor:
    """Load the extractor that made the vectors again.

    Parameters
    ----------
    model, arch : where the model lies, and what its architecture is, if they have moved.
    options : other arguments than those it was made with.

    Raises
    ------
    FingerprintMismatch
        If what was loaded makes other vectors.
    ColdpressError
        If no extractor of coldpress made them.
    """
    from coldpress.extractor import Extractor

    if "model" not in made.description:
        raise ColdpressError(f"the vectors of {made.model} were not made by coldpress embed, nor can a query be")
    moved = {name: value for name, value in (("model", model), ("arch", arch)) if value is not None}
    arguments = {**made.description, "pca": made.projection, **moved, **options}
    if unknown := sorted(arguments.keys() - signature(Extractor).parameters.keys()):
        raise ColdpressError(
            f"the extractor of {made.model} is described by {', '.join(unknown)}, which this coldpress does not"
            " know: use the one that embedded"
        )
    extractor = Extractor(**arguments)
    made.check(extractor.fingerprint)
    return extractor


def query_modalities(index: VectorIndex) -> tuple[Modality, ...]:
    """What an index can be searched with, its own modality first: with two towers in one space either."""
    own: Modality = index.description.get("modality") or "text"
    other: Modality = "image" if own == "text" else "text"
    return (own, other) if "space" in index.fingerprint.fields else (own,)


def query_options(index: VectorIndex, modality: Modality) -> dict[str, Any]:
    """Options of :func:`extractor_for` for queries of a modality: the other tower runs plainly, in fp32."""
    if index.description.get("modality", modality) == modality:
        return {}
    plain = {"output": "pooled", "layers": None, "merge_tokens": 0}
    arithmetic = {"precision": "fp32", "layer_precision": None, "calibration": None}
    inputs = {"prompt": None, "exif": False, "fast_decode": False, "image_size": None}
    return {"modality": modality, **plain, **arithmetic, **inputs}


def columns_of(extractor: Extractor, output: str) -> slice:
    """Where one output lies among the numbers that :meth:`Extractor.embed` gives.

    Raises
    ------
    ColdpressError
        If the extractor has no such pooled output.
    """
    dims = {o.name: extractor.dims[o.name] for o in extractor.outputs if not o.dense}
    if output not in dims:
        raise ColdpressError(f"output {output!r} is not among those of the vectors: {', '.join(dims)}")
    names = list(dims)
    start = sum(dims[name] for name in names[: names.index(output)])
    return slice(start, start + dims[output])
