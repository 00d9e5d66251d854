"""Vectors as bytes: rows in C order, little-endian, nothing around them."""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from coldpress.serve.refusals import invalid

BINARY = "application/octet-stream"
Dtype = Literal["float32", "float16"]
_DTYPES = {"float32": "<f4", "float16": "<f2"}


def to_bytes(vectors: npt.NDArray[np.float32], dtype: Dtype) -> bytes:
    """The rows (N, D) one after the other."""
    return np.ascontiguousarray(vectors, _DTYPES[dtype]).tobytes()


def from_bytes(data: bytes, dtype: Dtype, dim: int) -> npt.NDArray[np.float32]:
    """Rows of width D, as :func:`to_bytes` wrote them.

    Raises
    ------
    Refused
        422 if these are no whole rows, none at all, or not finite.
    """
    width = np.dtype(_DTYPES[dtype]).itemsize * dim
    if not data or len(data) % width:
        raise invalid(f"got {len(data)} bytes, expected a multiple of {width}: rows of {dim} {dtype}", "body")
    return checked(np.frombuffer(data, _DTYPES[dtype]).reshape(-1, dim).astype(np.float32), dim, "body")


def checked(vectors: Any, dim: int, field: str) -> npt.NDArray[np.float32]:
    """Finite rows (N, D) float32 of width `dim`, from an array or from lists.

    Raises
    ------
    Refused
        422 otherwise.
    """
    widths = {len(row) for row in vectors}
    if widths != {dim}:
        raise invalid(f"got vectors of width {', '.join(map(str, sorted(widths)))}, expected {dim}", field)
    with np.errstate(over="ignore"):
        rows = np.asarray(vectors, np.float32)
    if not np.isfinite(rows).all():
        raise invalid("a vector holds NaN or infinity, expected finite numbers", field)
    return rows


def to_base64(vector: npt.NDArray[np.float32]) -> str:
    """One vector as OpenAI has them: base64 of float32."""
    return base64.b64encode(to_bytes(vector, "float32")).decode("ascii")
