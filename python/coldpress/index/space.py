"""What vectors must share to be compared: where they come from and how near is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from coldpress.errors import FingerprintMismatch
from coldpress.index.vectors import Metric
from coldpress.store.projection import Projection
from coldpress.types import Fingerprint

if TYPE_CHECKING:
    from coldpress.index.joined import JoinedStore
    from coldpress.store import EmbeddingStore


@dataclass(frozen=True)
class Space:
    """The space of an index: attributes as those of `VectorIndex`."""

    fingerprint: Fingerprint
    model: str
    output: str
    metric: Metric
    projection: Projection | None = None
    description: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def check(self, fingerprint: Fingerprint) -> None:
        """Raise `FingerprintMismatch`, naming what differs, unless vectors of that space can be compared with these."""
        if not self.fingerprint.meets(fingerprint):
            differences = "; ".join(self.fingerprint.diff(fingerprint))
            raise FingerprintMismatch(
                f"the index and the vectors come from different spaces (index != vectors: {differences}): embed with"
                f" {self.model} and the same settings, or build an index of these vectors"
            )


def space_of(store: EmbeddingStore | JoinedStore, output: str, metric: Metric) -> Space:
    """Of one output of a store: only the model's own vectors live in the space of two towers."""
    fingerprint = store.fingerprint
    if output != "pooled" and "space" in fingerprint.fields:
        fingerprint = Fingerprint({name: value for name, value in fingerprint.fields.items() if name != "space"})
    description = MappingProxyType(dict(store.description))
    return Space(fingerprint, store.model, output, metric, store.projection, description)
