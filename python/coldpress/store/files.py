"""Writing so that a file is either wholly there or not at all, whatever kills the process or the machine."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from coldpress.errors import StoreError

NPY_HEADER_BYTES = 128
LOCK_NAME = ".lock"
SCRATCH_PREFIX = ".scratch-"
_HASH_CHUNK = 1 << 20


def npy_header(rows: int, dim: int, dtype: str) -> bytes:
    """The header of an npy file of shape (rows, dim), always 128 bytes.

    Its length does not depend on the number of rows, so it can be written again once that is known. The bytes are
    those of ``numpy.save``.
    """
    text = f"{{'descr': '{np.dtype(dtype).newbyteorder('<').str}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}"
    body = text.ljust(NPY_HEADER_BYTES - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body.encode("latin1")


def temporary(path: Path) -> Path:
    """Where `path` is written before it is renamed: hidden, so that no glob of a reader finds it."""
    return path.with_name(f".{path.name}.tmp")


def scratch_file(directory: Path) -> IO[bytes]:
    """An unbuffered file without a name; where a system cannot do that it has one for a moment, told by its prefix."""
    return tempfile.TemporaryFile(dir=directory, prefix=SCRATCH_PREFIX, buffering=0)


def sync_file(path: Path) -> None:
    """Force a file, or the entries of a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` with `content`; a crash leaves the old file or the new one."""
    beside = temporary(path)
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_file(path.parent)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def explained(root: object) -> Iterator[None]:
    """Turn any failure to write into a `StoreError` that says what survives and how to go on."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"{root}: cannot be written: {reason}; committed shards are intact: "
            "free the space or fix the permission, then run the same command again"
        ) from error


class DirectoryLock:
    """An exclusive lock on a directory. The kernel drops it with the process, so none is ever stale."""

    def __init__(self, root: Path) -> None:
        try:
            import fcntl
        except ImportError as error:
            raise StoreError(f"{root}: this system has no fcntl file locks; write stores on Linux or macOS") from error
        self._descriptor = os.open(root / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise StoreError(
                f"{root}: another process is writing to this store; wait for it to end, or choose another output"
            ) from error
        except OSError:
            self.release()
            raise

    def confirm(self) -> None:
        """The kernel keeps the lock: nothing to do."""

    def release(self) -> None:
        """Let others write; harmless when repeated."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
