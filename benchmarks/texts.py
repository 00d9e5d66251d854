"""Real English of very mixed length that every Python installation has: its documentation strings."""

from __future__ import annotations

import importlib
import inspect
import random

MODULES = (
    "argparse",
    "asyncio",
    "collections",
    "concurrent.futures",
    "csv",
    "datetime",
    "decimal",
    "email",
    "functools",
    "http.client",
    "itertools",
    "json",
    "logging",
    "numpy",
    "os",
    "pathlib",
    "random",
    "re",
    "scipy.signal",
    "scipy.stats",
    "shutil",
    "sklearn.cluster",
    "sklearn.linear_model",
    "sklearn.metrics",
    "socket",
    "sqlite3",
    "ssl",
    "statistics",
    "subprocess",
    "threading",
    "torch",
    "torch.nn",
    "typing",
    "unittest",
    "urllib.request",
)


def documentation_paragraphs(count: int) -> list[str]:
    """Return `count` paragraphs in a fixed shuffled order (fixed for fixed versions of the packages)."""
    found: set[str] = set()
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for value in vars(module).values():
            members = list(vars(value).values()) if inspect.isclass(value) else []
            for item in (value, *members):
                for paragraph in (inspect.getdoc(item) or "").split("\n\n"):
                    text = " ".join(paragraph.split())
                    if len(text) > 30 and not text.startswith(">>>"):
                        found.add(text)
    ordered = sorted(found)
    random.Random(0).shuffle(ordered)
    if len(ordered) < count:
        raise SystemExit(
            f"only {len(ordered)} paragraphs found, {count} wanted: install numpy, scipy, scikit-learn, torch"
        )
    return ordered[:count]
