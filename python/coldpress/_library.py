"""Finds and loads the compiled parts, once, and never raises: what is missing is served by references.

``_ops.so`` holds the CPU kernels, ``_ops_cuda.so`` their CUDA twins, ``_image`` (loaded by
:mod:`coldpress.preprocess.image`) the image path. Without ``_ops`` every op runs its plain-torch reference:
slower, same numbers up to rounding, one warning.
"""

from __future__ import annotations

import ctypes
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

logger = logging.getLogger(__name__)


@cache
def _load(name: str) -> str | None:
    """Load one shared library into torch. Returns None on success, else the reason why it is not there."""
    path = Path(__file__).parent / f"{name}.so"
    if not path.exists():
        return f"{path.name} is not part of this installation"
    try:
        torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        return f"{path.name} cannot be loaded: {str(error).splitlines()[0]}"
    return None


def load() -> None:
    """Load what there is: `_ops` always, `_ops_cuda` where torch sees a CUDA device."""
    reason = _load("_ops")
    if reason is not None:
        warnings.warn(
            f"coldpress runs without its compiled kernels, several times slower: {reason}. "
            "Reinstall coldpress where a C++ compiler is at hand.",
            RuntimeWarning,
            stacklevel=2,
        )
    if torch.cuda.is_available() and (reason := _load("_ops_cuda")) is not None:
        logger.warning("coldpress runs plain torch on CUDA: %s", reason)


def compiled() -> dict[str, str]:
    """Each compiled part and ``loaded`` or the reason why it is not."""
    parts = {"_ops": _load("_ops") or "loaded"}
    parts["_ops_cuda"] = (_load("_ops_cuda") or "loaded") if torch.cuda.is_available() else "no CUDA device"
    return parts


@cache
def _c_api() -> ctypes.CDLL | None:
    if _load("_ops") is not None:
        return None
    library = ctypes.CDLL(str(Path(__file__).parent / "_ops.so"))
    library.coldpress_isa.restype = ctypes.c_char_p
    library.coldpress_isa_levels.restype = ctypes.c_char_p
    library.coldpress_multiply_add.restype = ctypes.c_double
    library.coldpress_multiply_add.argtypes = [ctypes.c_char_p, ctypes.c_int64]
    library.coldpress_read_memory.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    library.coldpress_read_memory.restype = None
    library.coldpress_copy_memory.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    library.coldpress_copy_memory.restype = None
    return library


def isa() -> str:
    """Instruction set that the CPU kernels use: one of :func:`isa_levels`, or ``reference`` without kernels."""
    library = _c_api()
    return library.coldpress_isa().decode() if library else "reference"


def isa_levels() -> list[str]:
    """Levels that this machine and build can run, slowest first, of ``scalar avx2 avx512 avx512-vnni``."""
    library = _c_api()
    return library.coldpress_isa_levels().decode().split(",") if library else []


@contextmanager
def use_isa(level: str) -> Iterator[None]:
    """Run the kernels of the whole process at one level; for tests and measurements."""
    library, before = _c_api(), isa()
    if library is None or library.coldpress_set_isa(level.encode()) != 0:
        raise ValueError(f"ISA level {level!r} cannot run here; can: {', '.join(isa_levels()) or 'none'}")
    try:
        yield
    finally:
        library.coldpress_set_isa(before.encode())


def multiply_add(arithmetic: str, rounds: int) -> float:
    """Keep the units of this thread's core busy, for measurements; returns the operations done, two a multiply-add.

    `arithmetic` is ``fp32``, ``int8``, ``int16`` or ``bf16``. 0 where the active level has no instruction for it.
    """
    library = _c_api()
    return float(library.coldpress_multiply_add(arithmetic.encode(), rounds)) if library else 0.0


def touch_memory(source: npt.NDArray[np.float32], target: npt.NDArray[np.float32] | None, rounds: int) -> bool:
    """Read `source` `rounds` times, or copy it to `target`, for measurements; False without kernels.

    Its length is a multiple of 128, and that of `target` the same.
    """
    library = _c_api()
    if library is None:
        return False
    if target is None:
        library.coldpress_read_memory(source.ctypes.data, source.size, rounds)
    else:
        library.coldpress_copy_memory(source.ctypes.data, target.ctypes.data, source.size, rounds)
    return True
