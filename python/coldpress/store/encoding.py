"""How a vector is stored: as floats, as bytes with a scale a row, or as its signs.

=========  ======================================================================================================
float32    as computed
float16    rounded to it
int8       ``rint(x / scale)`` under ``embeddings/``; ``scale``, a float32 a row, in a file of the same name under
           ``scales/``. All rows stay memory-mappable, and a reader that knows nothing of scales gets the right cosines.
binary     one bit a dimension, 1 where it is above 0, in the order of ``numpy.packbits``: "ubinary" elsewhere
=========  ======================================================================================================

Of ``tokens`` and ``patches`` the rows of all items of a shard are one below the other under ``embeddings/<output>/``,
and ``offsets/<output>/`` has an int64 (N, 2): where those of each item begin and end. A duplicate has rows of its own.

Scales are rounded up to 16 significant bits: times a byte they are exact, so that what has been read and is stored
again keeps its bytes. Rows are encoded one by one: no row depends on its company.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import StoreError

DTYPES = ("float16", "float32", "int8", "binary")

Floats = npt.NDArray[np.float32]
Stored = tuple[npt.NDArray[Any], ...]
"""One array (N, width) for each of the `parts` of a dtype."""

_LARGEST = np.float32(127)
_SMALLEST_SCALE = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True)
class Part:
    """One of the arrays that the vectors of an output are stored in: its folder, width and type."""

    folder: str
    width: int
    dtype: str


def parts(dtype: str, dim: int) -> tuple[Part, ...]:
    """The arrays for vectors of width `dim`."""
    if dtype == "int8":
        return Part("embeddings", dim, "int8"), Part("scales", 1, "float32")
    if dtype == "binary":
        return (Part("embeddings", (dim + 7) // 8, "uint8"),)
    return (Part("embeddings", dim, dtype),)


OFFSETS = Part("offsets", 2, "int64")
"""Of an output with a matrix an item: where the rows of each item begin and end among those of its shard."""


def encode(vectors: Floats, dtype: str) -> Stored:
    """Vectors (N, D) as they are stored.

    Raises
    ------
    StoreError
        If a value is too large for float16.
    ValueError
        If one is not finite.
    """
    if not np.isfinite(vectors).all():
        raise ValueError("vectors hold NaN or infinity; such items must be marked as failed before they are stored")
    if dtype == "int8":
        return _quantize(vectors)
    if dtype == "binary":
        return (np.packbits(vectors > 0, axis=1),)
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(vectors, dtype=np.dtype(dtype).newbyteorder("<"))
    if not np.isfinite(stored).all():
        raise StoreError(
            f"a vector holds {np.abs(vectors).max():.6g}, more than {dtype} can (65504); store with --dtype float32"
        )
    return (stored,)


def decode(stored: Stored, dtype: str, dim: int) -> npt.NDArray[Any]:
    """What is stored (..., width) as vectors (..., D); signs become +-1 / sqrt(D), of length 1."""
    if dtype == "int8":
        codes, scales = stored
        return np.asarray(codes * scales, np.float32)
    if dtype == "binary":
        bits = np.unpackbits(stored[0], axis=-1, count=dim).astype(np.float32)
        return np.asarray((2 * bits - 1) / np.float32(np.sqrt(dim)), np.float32)
    return stored[0]


def _quantize(vectors: Floats) -> Stored:
    exact = np.abs(vectors).max(axis=1, keepdims=True, initial=0) / _LARGEST
    scales = ((exact.view(np.uint32) + 0xFF) & ~np.uint32(0xFF)).view(np.float32)
    scales[exact < _SMALLEST_SCALE] = 0  # a vector this short has no digits left to store
    codes = np.rint(np.divide(vectors, scales, out=np.zeros_like(vectors), where=scales > 0))
    return codes.astype(np.int8), scales
