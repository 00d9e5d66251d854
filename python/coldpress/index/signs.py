"""An index of signs: 1 bit a dimension in memory, found by Hamming distance, ranked by the numbers of the query.

The query is not rounded to signs for the ranking: its product with the signs of a row tells rows apart that lie at the
same Hamming distance, of which there are many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.index.vectors import Floats, Rows
from coldpress.store.blocks import block_rows
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

    def search(self, queries: Floats, k: int, rows: Rows | None = None) -> tuple[Floats, Rows]:
        """Scores (N, k) and rows (N, k), in falling order; `rows` are those that may be found, None: all."""
        (signs,) = encode(queries, "binary")
        codes = self._codes() if rows is None else self._codes()[rows]
        if rows is None:
            _, found = self._index.search(signs, min(CANDIDATES * k, self.ntotal))
        else:
            _, found = self._faiss.knn_hamming(signs, codes, min(CANDIDATES * k, len(rows)))
        found = np.sort(found, axis=1).astype(np.int64)
        scores = np.empty(found.shape, np.float32)
        step = max(1, block_rows(self.d) // found.shape[1])
        for begin in range(0, len(queries), step):
            part = slice(begin, begin + step)
            scores[part] = np.einsum("nkd,nd->nk", decode((codes[found[part]],), "binary", self.d), queries[part])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(found, order, axis=1)
        return np.take_along_axis(scores, order, axis=1), found if rows is None else rows[found]

    def add(self, vectors: Floats) -> None:
        """Append the signs of vectors (N, D)."""
        self._index.add(encode(vectors, "binary")[0])

    def add_bits(self, bits: npt.NDArray[np.uint8]) -> None:
        """Append packed signs (N, ceil(D / 8))."""
        self._index.add(bits)

    def reconstruct_batch(self, rows: Rows) -> Floats:
        """The vectors (N, D) of rows."""
        return np.asarray(decode((self._codes()[rows],), "binary", self.d))

    def _codes(self) -> npt.NDArray[np.uint8]:
        """All rows (N, bytes): a view of what faiss holds."""
        width = int(self._index.code_size)
        codes = self._faiss.rev_swig_ptr(self._index.xb.data(), self.ntotal * width)
        return np.asarray(codes, np.uint8).reshape(self.ntotal, width)

    def write(self, path: str) -> None:
        """Save it as faiss does."""
        self._faiss.write_index_binary(self._index, path)


def empty_signs(faiss: Any, dim: int) -> SignIndex:
    """An index over vectors of width `dim` that holds none yet."""
    return SignIndex(faiss, faiss.IndexBinaryFlat(8 * -(-dim // 8)), dim)
