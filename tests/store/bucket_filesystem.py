"""``bucket://``: a directory that does no more than an object store does, and fails when it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem


class ServiceError(Exception):
    """What a storage service raises: nothing that derives from OSError."""


class Bucket(LocalFileSystem):
    """Files are written in place, without a rename: a kill in the middle leaves a part, as SFTP or HDFS would."""

    protocol = "bucket"
    uploads: ClassVar[int] = 0
    fail_at: ClassVar[int | None] = None
    how: ClassVar[str] = "refused"
    short_downloads: ClassVar[bool] = False

    @classmethod
    def tell(cls, *, fail_at: int | None = None, how: str = "refused") -> None:
        """Fail at the n-th upload from now on: ``refused``, ``cut off`` in the middle, ``short`` without an error."""
        cls.uploads, cls.fail_at, cls.how, cls.short_downloads = 0, fail_at, how, False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("bucket://"))

    def put_file(self, path1: str, path2: str, callback: Any = None, **kwargs: Any) -> None:
        Bucket.uploads += 1
        fails = Bucket.uploads == Bucket.fail_at
        if fails and Bucket.how == "refused":
            raise ServiceError("AccountProblem:\n please pay")
        content, target = Path(path1).read_bytes(), Path(self._strip_protocol(path2))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content[: len(content) // 2] if fails else content)
        if fails and Bucket.how == "cut off":
            raise ServiceError("quota exceeded")

    def get_file(self, path1: str, path2: str, callback: Any = None, **kwargs: Any) -> None:
        content = Path(self._strip_protocol(path1)).read_bytes()
        Path(path2).write_bytes(content[:-1] if Bucket.short_downloads else content)


fsspec.register_implementation("bucket", Bucket, clobber=True)
