"""The store: memory-mappable vectors, metadata and outcomes, in shards that are committed atomically."""

from coldpress.store.keys import Keys
from coldpress.store.matrix import DecodedMatrix, ShardedMatrix
from coldpress.store.projection import Projection
from coldpress.store.ragged import RaggedMatrix
from coldpress.store.reader import EmbeddingStore
from coldpress.store.root import is_store
from coldpress.store.writer import StoreWriter, check_place

__all__ = [
    "DecodedMatrix",
    "EmbeddingStore",
    "Keys",
    "Projection",
    "RaggedMatrix",
    "ShardedMatrix",
    "StoreWriter",
    "check_place",
    "is_store",
]
