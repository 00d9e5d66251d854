"""Paths and fsspec URLs told apart, for what is read (`data`) and what is written (`store`)."""

from __future__ import annotations

import errno
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import fsspec

logger = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE_S = 300.0
"""How long a service may be out of order before a run gives up; what it has committed stays."""

FIRST_PATIENCE_S = 5.0
"""The same before its first word: its address may be a typing error."""

_LONGEST_WAIT_S = 20.0
_DEFINITE = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_PASSING_NUMBERS = {
    getattr(errno, name, None)
    for name in ("EREMOTEIO", "EBUSY", "EAGAIN", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN")
}
_PASSING_NAMES = {"HTTPClientError", "EndpointConnectionError", "ClientConnectionError", "ClientPayloadError"}
_PASSING_NAMES |= {"ConnectTimeoutError", "ReadTimeoutError", "ResponseParserError", "IncompleteRead"}
_PASSING_WORDS = re.compile(
    r"\(?5(00|02|03|04)\b|slow ?down|reduce your request rate|too many requests|internal ?error|service ?unavailable|"
    r"timed? ?out|connection (was )?(reset|aborted|closed|broken)|server disconnected|temporar",
    re.IGNORECASE,
)
_LOST_CREDENTIALS = {"ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "TokenRefreshRequired"}


def is_url(location: str) -> bool:
    """Whether fsspec has to open it."""
    return "://" in location


def normalise(spec: str | os.PathLike[str]) -> str:
    """A path or URL as one string: ``file://`` becomes a plain path, which is the fast way to open it."""
    location = os.fspath(spec)
    if location.startswith(("file://", "local://")):
        return str(fsspec.core.url_to_fs(location)[1])
    return location


def open_filesystem(location: str) -> tuple[Any, str]:
    """The filesystem of a URL and the path in it.

    Raises
    ------
    ImportError, ValueError
        If its package is not installed (the message names it), or the URL is of an unknown kind.
    """
    filesystem, path = fsspec.core.url_to_fs(location)
    return filesystem, str(path)


def describe(error: Exception) -> str:
    """The bare reason: ``No such file or directory`` rather than errno, text and path."""
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"


@contextmanager
def os_errors() -> Iterator[None]:
    """Every filesystem has exceptions of its own: make them what a local one raises, on one line."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(" ".join(describe(error).split())) from error


def retrying(work: Callable[[], T], *, reached: bool = True) -> T:
    """Call `work`, again after growing pauses as long as it fails in a way that may pass, until patience is out."""
    end, wait_s = time.monotonic() + (PATIENCE_S if reached else FIRST_PATIENCE_S), 0.1
    while True:
        try:
            return work()
        except Exception as error:
            if not may_pass(error) or time.monotonic() + wait_s > end:
                raise
            logger.info("tried again in %.1f s: %s", wait_s, " ".join(describe(error).split()))
        time.sleep(wait_s * random.uniform(0.5, 1.0))  # or all workers would come back at once
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def may_pass(error: BaseException) -> bool:
    """Whether an error of a filesystem is one of the moment: an overload, a lost connection, a timeout."""
    if isinstance(error, _DEFINITE):
        return False
    if isinstance(error, TimeoutError | ConnectionError) or getattr(error, "errno", None) in _PASSING_NUMBERS:
        return True
    status = getattr(error, "status", None) or getattr(error, "code", None)  # of aiohttp and gcsfs
    if isinstance(status, int) and (status in (408, 429) or 500 <= status < 600):
        return True
    names = {base.__name__ for base in type(error).__mro__}
    return bool(names & _PASSING_NAMES) or _PASSING_WORDS.search(str(error)) is not None


def concerns_all(error: BaseException) -> bool:
    """Whether an error with one file says that no other could be read either: the service or the credentials."""
    response = getattr(error.__cause__ or error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return may_pass(error) or code in _LOST_CREDENTIALS or type(error).__name__ == "NoCredentialsError"
