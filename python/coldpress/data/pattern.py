"""Brace and glob patterns, the same for local paths and for URLs.

``{a,b}`` and ``{000..127}`` (as WebDataset writes shards) are expanded without looking at the disk; ``*``, ``?``,
``[ab]`` and ``**`` (any number of directories) select among what is there.
"""

from __future__ import annotations

import re

from coldpress.errors import SourceError

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_MAGIC = re.compile(r"[*?\[]")


def is_pattern(spec: str) -> bool:
    """Whether `spec` has anything to expand or to match."""
    return bool(_BRACES.search(spec) or _MAGIC.search(spec))


def is_glob(spec: str) -> bool:
    """Whether `spec` has wildcards, leaving braces aside."""
    return bool(_MAGIC.search(spec))


def expand_braces(pattern: str) -> list[str]:
    """All strings that the braces of a pattern stand for, in order.

    Examples
    --------
    >>> expand_braces("part-{08..10}.{txt,csv}")[:3]
    ['part-08.txt', 'part-08.csv', 'part-09.txt']
    """
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    low, high, listed = match.groups()
    if listed is not None:
        alternatives = listed.split(",")
    else:
        step = 1 if int(low) <= int(high) else -1
        width = len(low) if low.startswith("0") else 0
        alternatives = [str(number).zfill(width) for number in range(int(low), int(high) + step, step)]
    before, after = pattern[: match.start()], pattern[match.end() :]
    expanded = (result for choice in alternatives for result in expand_braces(before + choice + after))
    return list(dict.fromkeys(expanded))


def split_root(pattern: str) -> tuple[str, str]:
    """The directory that a pattern starts from, and the rest of the pattern relative to it."""
    starts = [match.start() for match in (_BRACES.search(pattern), _MAGIC.search(pattern)) if match]
    slash = pattern.rfind("/", 0, min(starts))
    root, relative = pattern[: slash + 1], pattern[slash + 1 :]
    if root != "/" and not root.endswith("://"):
        root = root[:-1] or "."
    return root, relative


def depth(relative: str) -> int | None:
    """How many levels of sub-directories a relative glob can reach; None without bound."""
    parts = relative.split("/")
    return None if "**" in parts else len(parts) - 1


def compile_glob(relative: str) -> re.Pattern[str]:
    """A regular expression that matches whole relative paths as a recursive glob does."""
    *directories, last = relative.split("/")
    expression = "".join("(?:[^/]+/)*" if part == "**" else _segment(part) + "/" for part in directories)
    expression += "(?:[^/]+/)*[^/]+" if last == "**" else _segment(last)
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise SourceError(f"{relative}: not a valid pattern: {error}") from error


def _segment(part: str) -> str:
    pieces = []
    for match in re.finditer(r"\*+|\?|\[(!?)([^\]]+)\]|.", part, re.DOTALL):
        token = match.group()
        if token[0] == "*":
            pieces.append("[^/]*")
        elif token == "?":
            pieces.append("[^/]")
        elif match[2] is not None:
            members = match[2].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            pieces.append(f"[{'^/' if match[1] else ''}{members}]")
        else:
            pieces.append(re.escape(token))
    return "".join(pieces)
