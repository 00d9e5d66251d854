"""Similarity search over stores: FAISS behind one class."""

from __future__ import annotations

from coldpress.index.plan import IndexPlan
from coldpress.index.recall import RecallCertificate
from coldpress.index.vector_index import VectorIndex

__all__ = ["IndexPlan", "RecallCertificate", "VectorIndex"]
