"""Paths and fsspec URLs told apart, for what is read (`data`) and what is written (`store`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec


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
