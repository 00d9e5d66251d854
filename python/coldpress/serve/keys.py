"""API keys: 32 random bytes each, of which the file has the SHA-256 only.

::

    # name: sha256 of the key
    alice: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from coldpress.errors import ColdpressError

_LINE = re.compile(r"([\w.@-]+)\s*:\s*([0-9a-f]{64})")
PREFIX = "cp-"


def new_key(path: Path, name: str) -> str:
    """Make a key, add its hash to the file, readable by its owner only, and return the key: it is nowhere else.

    Raises
    ------
    ColdpressError
        If the name is taken or has odd characters, or the file cannot be written.
    """
    if not re.fullmatch(r"[\w.@-]+", name):
        raise ColdpressError(f"the name of a key is {name!r}, expected letters, digits and . _ @ - only")
    if path.exists() and name in read_keys(path):
        raise ColdpressError(f"{path} has a key of {name!r} already: delete its line first, or take another name")
    key = PREFIX + secrets.token_urlsafe(32)
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+", encoding="utf-8") as file:
            begun = file.read()[-1:] not in ("", "\n")  # an editor has left the last line without its end
            file.write("\n" * begun + f"{name}: {_digest(key)}\n")
    except OSError as error:
        raise ColdpressError(f"cannot write {path}: {error.strerror}") from error
    return key


def read_keys(path: Path) -> Mapping[str, str]:
    """Name to hash of every key in a file.

    Raises
    ------
    ColdpressError
        If the file cannot be read, has no key or a line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ColdpressError(f"cannot read the keys in {path}: {error}") from error
    keys = {}
    for number, line in enumerate(lines, 1):
        if not (entry := line.split("#")[0].strip()):
            continue
        if (found := _LINE.fullmatch(entry)) is None:
            raise ColdpressError(f"{path}:{number}: not 'name: sha256': make keys with coldpress serve --new-key NAME")
        keys[found[1]] = found[2]
    if not keys:
        raise ColdpressError(f"{path} has no key: make one with coldpress serve --new-key NAME --api-keys {path}")
    return keys


def owner_of(key: str, keys: Mapping[str, str]) -> str | None:
    """The name that a key belongs to, or None; takes the same time for every key, right or wrong."""
    digest, owner = _digest(key), None
    for name, known in keys.items():
        if hmac.compare_digest(digest, known):
            owner = name
    return owner


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
