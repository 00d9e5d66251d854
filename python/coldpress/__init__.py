"""coldpress: frozen pre-trained backbones as fixed feature extractors, at the speed of the machine.

>>> import coldpress
>>> extractor = coldpress.Extractor("all-MiniLM-L6-v2")
>>> store = extractor.embed_to("vectors/", "notes.txt")                       # doctest: +SKIP
>>> index = coldpress.VectorIndex.build(store)                                # doctest: +SKIP
>>> scores, keys = index.search(extractor.embed(["what was it again?"]))      # doctest: +SKIP

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from coldpress._version import __version__

if TYPE_CHECKING:
    from coldpress.client import Client
    from coldpress.data import Columns
    from coldpress.drift import DriftMonitor
    from coldpress.engine import Progress, Summary
    from coldpress.errors import ColdpressError, FingerprintMismatch
    from coldpress.extractor import Extractor
    from coldpress.index import VectorIndex
    from coldpress.models import from_module
    from coldpress.store import EmbeddingStore
    from coldpress.together import embed_together
    from coldpress.types import Certificate, Fingerprint, ImageSpec, Item, TextSpec

__all__ = [
    "Certificate",
    "Client",
    "ColdpressError",
    "Columns",
    "DriftMonitor",
    "EmbeddingStore",
    "Extractor",
    "Fingerprint",
    "FingerprintMismatch",
    "ImageSpec",
    "Item",
    "Progress",
    "Summary",
    "TextSpec",
    "VectorIndex",
    "__version__",
    "embed_together",
    "from_module",
]

_HOMES = {
    "coldpress.client": ("Client",),
    "coldpress.data": ("Columns",),
    "coldpress.drift": ("DriftMonitor",),
    "coldpress.engine": ("Progress", "Summary"),
    "coldpress.errors": ("ColdpressError", "FingerprintMismatch"),
    "coldpress.extractor": ("Extractor",),
    "coldpress.index": ("VectorIndex",),
    "coldpress.models": ("from_module",),
    "coldpress.store": ("EmbeddingStore",),
    "coldpress.together": ("embed_together",),
    "coldpress.types": ("Certificate", "Fingerprint", "ImageSpec", "Item", "TextSpec"),
}
_PARTS = ("assess", "data", "distributed", "drift", "probes", "report", "serve", "sklearn")
"""Subpackages that are used by their own names: ``coldpress.probes.fit_probe``."""
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    if name in _PARTS:
        return importlib.import_module(f"coldpress.{name}")
    raise AttributeError(f"module 'coldpress' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_PARTS]
