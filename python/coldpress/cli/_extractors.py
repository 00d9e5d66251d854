"""The extractor that belongs to an index or a head, with what the terminal shows while it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from coldpress.cli._progress import loading

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from coldpress import Extractor, VectorIndex
    from coldpress.recipe import Made
    from coldpress.types import Modality


def extractor_for(made: Made, model: str | None = None, arch: str | None = None, **options: Any) -> Extractor:
    """As :func:`coldpress.recipe.extractor_for`."""
    with loading(model or made.model):
        from coldpress import recipe

        return recipe.extractor_for(made, model, arch, **options)


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
    from coldpress.recipe import query_options

    own = index.description.get("modality", modality)
    if own != modality and "space" not in index.fingerprint.fields:
        layers = index.description.get("layers")
        part = f" (--layers {layers})" if layers else ""
        raise typer.BadParameter(
            f"{index.model}{part} embeds {own}s, and no other tower of it ends in this space ({index.output}): search "
            f"by --{own} or --key"
        )
    return extractor_for(index, model, arch, device=device, **query_options(index, modality))


def embed_output(extractor: Extractor, items: Sequence[Any], output: str) -> npt.NDArray[np.float32]:
    """Embed `items` and keep one output, (N, D)."""
    from coldpress.recipe import columns_of

    return extractor.embed(items)[:, columns_of(extractor, output)]
