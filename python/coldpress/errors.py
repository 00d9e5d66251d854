"""Every exception that coldpress raises on purpose.

All derive from :class:`ColdpressError`, whose message is complete on one line: what was got, what was
expected, what to do. The command line prints that line and nothing else (``--debug`` adds the traceback).
"""

from __future__ import annotations


class ColdpressError(Exception):
    """Base class: anything wrong that the user can do something about."""


class ModelError(ColdpressError):
    """The model cannot be used: incomplete directory, unknown architecture, mis-shaped or unsafe weights."""


class SourceError(ColdpressError):
    """The data source as a whole cannot be read. A single bad item is an outcome instead, never an exception."""


class ItemError(ColdpressError):
    """One item cannot be embedded; raised only where the caller asked to stop on the first failure."""


class StoreError(ColdpressError):
    """The store on disk is missing, incomplete, damaged or not writable."""


class FingerprintMismatch(ColdpressError):
    """Vectors of two different spaces were about to meet."""


class CertificateError(ColdpressError):
    """The computed vectors are too far from the fp32 reference forward."""


class MissingExtra(ColdpressError):
    """A capability needs an optional dependency that is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs the package '{package}': pip install 'coldpress[{extra}]'")


class ServerError(ColdpressError):
    """What a server answered instead of a result; `status` is that of HTTP, 0 where it did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status
