"""Similarity search over stores: FAISS behind one class."""

from __future__ import annotations

from coldpress.index.vector_index import VectorIndex

__all__ = ["VectorIndex"]
