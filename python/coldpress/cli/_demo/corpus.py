"""A corpus that every Python installation carries: the paragraphs of its documentation strings.

Sources are parsed, never run: looking at `turtle` opens no window. Only the few modules written in C are imported,
all of them parts of the interpreter. The order is that of `MODULES`, then of files, then of lines, so that the same
installation gives the same corpus.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.machinery import PathFinder
from inspect import cleandoc, getdoc
from itertools import islice, zip_longest
from pathlib import Path

from coldpress.store.files import write_atomically

# Those with the most to say come first: a small corpus takes only these, and the probe tells them apart.
_SOURCES = """
asyncio logging email unittest http xml turtle numpy scipy sklearn torch PIL typing urllib pyarrow inspect
difflib xmlrpc multiprocessing configparser pdb threading statistics smtplib shutil ipaddress pathlib subprocess
concurrent ssl tarfile datetime imaplib traceback argparse platform random zipfile json ftplib base64
collections socket ast mailbox tempfile bz2 timeit os locale contextlib queue poplib mimetypes calendar optparse
tokenize functools shelve uuid selectors re dataclasses gzip lzma textwrap heapq enum sched dis copy weakref
webbrowser warnings sysconfig sqlite3 hmac pickle types trace bisect operator csv fractions secrets html
zoneinfo shlex wave colorsys zipapp hashlib gettext string netrc cProfile
"""
MODULES = tuple(_SOURCES.split())
COMPILED = ("builtins", "math", "itertools", "time", "decimal", "unicodedata", "select", "cmath", "struct", "signal")
PER_MODULE = 150
MIN_PER_MODULE = 25
MAX_FILES = 400
MIN_CHARACTERS, MAX_CHARACTERS = 50, 700
_SKIPPED = re.compile(
    r"(^|/)(tests?|_vendor|vendor|externals|__pycache__|idlelib|_pytesttester)(/|$)|/(test_|setup|conftest)"
)
_NOT_PROSE = re.compile(r"^\s*(>>>|\.\. |[-=~^*+|#]{3,}|:\w+|[|+])|[-=~]{4,}|\w+ : |::\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One text of the corpus: `key` is unique, `label` the module that it documents."""

    key: str
    text: str
    label: str


def collect(limit: int) -> list[Paragraph]:
    """At most `limit` different paragraphs, drawn from the modules in turn so that none outweighs the others.

    A small corpus is about fewer modules, so that each still has enough to learn from.
    """
    seen: set[str] = set()
    piles = []
    for module in islice((*MODULES, *COMPILED), max(4, limit // MIN_PER_MODULE)):
        pile = []
        for paragraph in _paragraphs(module):
            if paragraph.text.lower() not in seen:
                seen.add(paragraph.text.lower())
                pile.append(paragraph)
            if len(pile) == PER_MODULE:
                break
        piles.append(pile)
    rounds = zip_longest(*piles)
    return list(islice((paragraph for turn in rounds for paragraph in turn if paragraph is not None), limit))


def write(path: Path, corpus: Iterable[Paragraph]) -> None:
    """Write the corpus as ``.jsonl``: key, text, label."""
    lines = (json.dumps(asdict(paragraph), ensure_ascii=False) + "\n" for paragraph in corpus)
    write_atomically(path, "".join(lines).encode())


def _paragraphs(module: str) -> Iterator[Paragraph]:
    documented = _compiled_docs(module) if module in COMPILED else _source_docs(module)
    numbers: dict[str, int] = {}
    for name, text in documented:
        for paragraph in re.split(r"\n\s*\n", cleandoc(text)):
            prose = " ".join(paragraph.split())
            if MIN_CHARACTERS <= len(prose) <= MAX_CHARACTERS and _is_prose(paragraph):
                number = numbers[name] = numbers.get(name, 0) + 1
                yield Paragraph(f"{name}#{number}", prose, module)


def _is_prose(paragraph: str) -> bool:
    letters = sum(c.isalpha() or c == " " for c in paragraph)
    return letters > 0.82 * len(paragraph) and len(paragraph.split()) >= 8 and not _NOT_PROSE.search(paragraph)


def _source_docs(module: str) -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) of everything public in the Python sources of a module or package."""
    for name, path in islice(_sources(module), MAX_FILES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in other people's sources
                tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        yield from _docs(tree, name)


def _sources(module: str) -> Iterator[tuple[str, Path]]:
    """(module name, file) of the module, and of everything below it if it is a package."""
    spec = PathFinder.find_spec(module)  # finds without importing anything
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return
    origin = Path(spec.origin)
    yield module, origin
    if spec.submodule_search_locations is None:
        return
    root = origin.parent
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if path != origin and not _SKIPPED.search(relative.as_posix()):
            parts = [part for part in relative.with_suffix("").parts if part != "__init__"]
            public = [part for part in parts if not part.startswith("_")]
            yield ".".join([module, *public]), path


def _docs(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node, clean=True)
        if text:
            yield name, text
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
                yield from _docs(child, f"{name}.{child.name}")


def _compiled_docs(module: str) -> Iterator[tuple[str, str]]:
    """The same for a module of the interpreter that has no Python source."""
    found = importlib.import_module(module)
    yield module, getdoc(found) or ""
    for name, value in sorted(vars(found).items()):
        if name.startswith("_") or not callable(value):
            continue
        yield f"{module}.{name}", getdoc(value) or ""
        if isinstance(value, type):
            for attribute, member in sorted(vars(value).items()):
                if not attribute.startswith("_") and callable(member):
                    yield f"{module}.{name}.{attribute}", getdoc(member) or ""
