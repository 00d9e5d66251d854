"""The ladder of CONTRIBUTING.md: imports go downwards only, heavy packages stay where they belong, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import coldpress

PACKAGE = Path(coldpress.__file__).parent
LADDER = [
    {"errors", "types", "_version", "_urls", "_process"},
    {"_library", "_image", "client"},
    {"ops"},
    {"layers"},
    {"models"},
    {"preprocess", "data", "store"},
    {"engine"},
    {"extractor"},
    {"index", "probes", "sklearn", "together"},
    {"recipe", "embedding_map", "distributed", "drift", "forecast"},
    {"assess"},
    {"report", "bench", "serve"},
    {"cli"},
]
RUNG = {name: rung for rung, names in enumerate(LADDER) for name in names}
HOMES = {
    "faiss": {"index"},
    "sklearn": {"probes", "sklearn", "index", "assess"},
    "transformers": {"models"},
    "openvino": {"models"},
    "plotly": {"report", "bench"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
    "prometheus_client": {"serve"},
    "ray": {"distributed"},
}
LAZY = {"faiss", "sklearn", "transformers", "openvino", "plotly", "typer", "rich", "ray"}
"""Slow to import: inside functions only, but in `cli` (itself loaded by the command) and the estimator's file."""
FREE = {"__init__", "__main__"}
MODULES = sorted(PACKAGE.rglob("*.py"))
KERNELS = sorted(path for path in (Path(__file__).parents[1] / "csrc").rglob("*.*") if path.is_file())


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every absolute module name that a file imports, lazily or not, and the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            if module == "coldpress":
                yield from ((f"coldpress.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


def test_every_room_has_a_rung() -> None:
    assert {room_of(path) for path in MODULES} - FREE <= set(RUNG)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    room = room_of(path)
    if room in FREE:
        return
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] == "coldpress" and len(parts) > 1 and parts[1] != room and parts[1] in RUNG:
            below = RUNG[parts[1]] < RUNG[room] or RUNG[room] == 0
            assert below, f"{path.name}:{line}: {room} may not import {parts[1]}"
        if homes := HOMES.get(parts[0]):
            assert room in homes, f"{path.name}:{line}: {parts[0]} is imported in {', '.join(sorted(homes))} only"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_slow_imports_are_lazy(path: Path) -> None:
    if room_of(path) in {"cli", "sklearn"}:
        return
    at_import: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while at_import:
        node = at_import.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        slow = LAZY & {name.split(".")[0] for name in names}
        assert not slow, f"{path.name}: {slow} at module level"
        at_import += ast.iter_child_nodes(node)


@pytest.mark.parametrize("path", [*MODULES, *KERNELS], ids=lambda p: p.name)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_importing_coldpress_imports_nothing_heavy() -> None:
    code = (
        "import coldpress, sys; print([m for m in ('torch', 'faiss', 'sklearn', 'transformers') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_extractor_needs_neither_faiss_nor_sklearn_nor_transformers() -> None:
    code = (
        "import coldpress, sys; coldpress.Extractor; "
        "print([m for m in ('faiss', 'sklearn', 'transformers', 'plotly', 'typer', 'rich') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
