"""An index of signs: 1 bit a dimension in memory, found by Hamming distance, ranked by the numbers of the query.

The query is not rounded to signs for the ranking: its product with the signs of a row tells rows apart that lie at the
same Hamming distance, of which there are many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.index.vectors import Floats, Rows, block_rows
from coldpress.store.encoding import decode, encode

CANDIDATES = 8
"""Rows ranked for each one that is asked for."""


class SignIndex:
    """What `VectorIndex` asks of a faiss index, over packed signs: rows are +-1 / sqrt(D).

    Parameters
    ----------
    faiss : the module.
    index : an ``IndexBinaryFlat`` over D rounded up to whole bytes.
    dim : D.
    """

    def __init__(self, faiss: Any, index: Any, dim: int) -> None:
        self._faiss, self._index, self.d = faiss, index, dim

    @property
    def ntotal(self) -> int:
        """Rows."""
        return int(self._index.ntotal)

    def search(self, queries: Floats, k: int) -> tuple[Floats, Rows]:
        """Scores (N, k) and rows (N, k), in falling order."""
        (signs,) = encode(queries, "binary")
        _, found = self._index.search(signs, min(CANDIDATES * k, self.ntotal))
        found = np.sort(found, axis=1)
        scores = np.empty(found.shape, np.float32)
        codes = self._codes()
        step = max(1, block_rows(self.d) // found.shape[1])
        for begin in range(0, len(queries), step):
            part = slice(begin, begin + step)
            scores[part] = np.einsum("nkd,nd->nk", decode((codes[found[part]],), "binary", self.d), queries[part])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)

    def _codes(self) -> npt.NDArray[np.uint8]:
        """All rows (N, bytes): a view of what faiss holds."""
        width = int(self._index.code_size)
        codes = self._faiss.rev_swig_ptr(self._index.xb.data(), self.ntotal * width)
        return np.asarray(codes, np.uint8).reshape(self.ntotal, width)

    def reconstruct(self, row: int) -> Floats:
        """The vector (D,) of a row."""
        return np.asarray(decode((self._index.reconstruct(row),), "binary", self.d))

    def write(self, path: str) -> None:
        """Save it as faiss does."""
        self._faiss.write_index_binary(self._index, path)


def build_signs(faiss: Any, bits: Any, dim: int) -> SignIndex:
    """An index over packed signs (N, ceil(D / 8)), read block by block."""
    rows, width = bits.shape
    index = faiss.IndexBinaryFlat(8 * width)
    step = block_rows(dim)
    for begin in range(0, rows, step):
        index.add(np.ascontiguousarray(bits[begin : begin + step]))
    return SignIndex(faiss, index, dim)
