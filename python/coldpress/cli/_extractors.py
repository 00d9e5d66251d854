"""The extractor that belongs to an index or a head: the same arguments, read from its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol

import typer

from coldpress.cli._progress import loading
from coldpress.errors import ColdpressError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from coldpress import Extractor, Fingerprint, VectorIndex
    from coldpress.store import Projection
    from coldpress.types import Modality


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
    if "model" not in made.description:
        raise ColdpressError(f"the vectors of {made.model} were not made by coldpress embed, nor can a query be")
    moved = {name: value for name, value in (("model", model), ("arch", arch)) if value is not None}
    arguments = {**made.description, "pca": made.projection, **moved, **options}
    with loading(arguments["model"]):
        from coldpress import Extractor

        if unknown := sorted(arguments.keys() - signature(Extractor).parameters.keys()):
            raise ColdpressError(
                f"the extractor of {made.model} is described by {', '.join(unknown)}, which this coldpress does not"
                " know: use the one that embedded"
            )
        extractor = Extractor(**arguments)
    made.check(extractor.fingerprint)
    return extractor


def extractor_for_query(
    index: VectorIndex, modality: Modality, model: str | None = None, arch: str | None = None, *, device: str = "auto"
) -> Extractor:
    """Load an extractor of queries of a modality: that of the index, or the other tower of its checkpoint in fp32.

    Raises
    ------
    FingerprintMismatch
        If its vectors cannot be compared with those of the index.
    BadParameter
        If the index takes no such queries.
    """
    own = index.description.get("modality", modality)
    if own == modality:
        return extractor_for(index, model, arch, device=device)
    if "space" not in index.fingerprint.fields:
        layers = index.description.get("layers")
        part = f" (--layers {layers})" if layers else ""
        raise typer.BadParameter(
            f"{index.model}{part} embeds {own}s, and no other tower of it ends in this space ({index.output}): search "
            f"by --{own} or --key"
        )
    plain = {
        "output": "pooled",
        "layers": None,
        "merge_tokens": 0,
        "precision": "fp32",
        "layer_precision": None,
        "calibration": None,
    }
    inputs = {"prompt": None, "exif": False, "fast_decode": False, "image_size": None}
    return extractor_for(index, model, arch, modality=modality, device=device, **plain, **inputs)


def embed_output(extractor: Extractor, items: Sequence[Any], output: str) -> npt.NDArray[np.float32]:
    """Embed `items` and keep one output, (N, D)."""
    dims = {o.name: extractor.dims[o.name] for o in extractor.outputs if not o.dense}
    if output not in dims:
        raise ColdpressError(f"output {output!r} is not among those of the vectors: {', '.join(dims)}")
    names = list(dims)
    start = sum(dims[name] for name in names[: names.index(output)])
    return extractor.embed(items)[:, start : start + dims[output]]
