"""`Projection`: the principal directions of a sample of vectors, kept with the vectors that were mapped to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from coldpress.errors import StoreError
from coldpress.store.files import write_atomically
from coldpress.store.root import Root

PROJECTION_NAME = "projection.safetensors"


@dataclass(frozen=True, eq=False)
class Projection:
    """Linear maps to fewer numbers, one for each output: ``components[name]`` is (D', D) float32, rows orthonormal."""

    components: Mapping[str, npt.NDArray[np.float32]]

    @property
    def dim(self) -> int:
        """D', the same for every output."""
        return len(next(iter(self.components.values())))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file it is kept in: part of the fingerprint."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """A safetensors file."""
        return bytes(safetensors.numpy.save(dict(self.components)))

    @classmethod
    def from_bytes(cls, content: bytes) -> Projection:
        """The reverse of `to_bytes`; raises ValueError for anything else."""
        try:
            return cls(safetensors.numpy.load(content))
        except SafetensorError as error:
            raise ValueError(f"not a projection: {error}") from error


def write_projection(root: Root, projection: Projection) -> None:
    """Put it into a store; the manifest, written after it, has its hash in the fingerprint."""
    write_atomically(root.directory / PROJECTION_NAME, projection.to_bytes())
    root.publish([PROJECTION_NAME])


def read_projection(root: Root, digest: str) -> Projection:
    """Read that of a store.

    Raises
    ------
    StoreError
        If it is not there, or not as it was written.
    """
    try:
        content = Path(root.fetch(PROJECTION_NAME)).read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{root}/{PROJECTION_NAME}: cannot be read: {reason}; restore it, or embed again") from error
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise StoreError(
            f"{root}/{PROJECTION_NAME}: damaged: sha256 {found}, expected {digest}; restore it, or embed again"
        )
    return Projection.from_bytes(content)
