"""The extractor that belongs to an index or a head: the same model and settings, read from its fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from coldpress.cli._progress import loading
from coldpress.errors import ColdpressError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from coldpress import Extractor, Fingerprint
    from coldpress.store import Projection


class Space(Protocol):
    """What an index and a head have in common: they belong to one vector space."""

    @property
    def model(self) -> str:
        """The model that made the vectors."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the vectors."""

    @property
    def projection(self) -> Projection | None:
        """What the vectors were mapped by, if they were."""

    def check(self, fingerprint: Fingerprint) -> None:
        """Refuse another space."""


def extractor_for(space: Space, model: str | None, *, device: str = "auto", threads: int | None = None) -> Extractor:
    """Load the extractor whose vectors belong to `space`; `model` says where the model lies if it has moved.

    Raises
    ------
    FingerprintMismatch
        If what was loaded makes other vectors.
    """
    name = model or space.model
    fields: Any = space.fingerprint.fields
    preprocessing = fields["preprocessing"]
    with loading(name):
        from coldpress import Extractor

        extractor = Extractor(
            name,
            device=device,
            precision=fields["precision"],
            layer_precision=fields.get("layer_precision"),
            output=",".join(output["name"] for output in fields["output"]),
            prompt=preprocessing.get("prompt") or None,
            exif=bool(preprocessing.get("exif", False)),
            fast_decode=bool(preprocessing.get("fast_decode", False)),
            threads=threads,
            calibration=fields.get("calibration"),
            truncate_dim=fields.get("truncate_dim"),
            pca=space.projection,
            modality="text" if "tokenizer" in preprocessing else "image",
            arch=fields["config"].get("architecture") if Path(name).is_file() else None,
        )
    space.check(extractor.fingerprint)
    return extractor


def embed_output(extractor: Extractor, items: Sequence[Any], output: str | None) -> npt.NDArray[np.float32]:
    """Embed `items` and keep one output, (N, D); None is the first, as for a store."""
    dims = {o.name: extractor.dims[o.name] for o in extractor.outputs if not o.dense}
    wanted = output or next(iter(dims))
    if wanted not in dims:
        raise ColdpressError(f"output {wanted!r} is not among those of the vectors: {', '.join(dims)}")
    names = list(dims)
    start = sum(dims[name] for name in names[: names.index(wanted)])
    return extractor.embed(items)[:, start : start + dims[wanted]]
