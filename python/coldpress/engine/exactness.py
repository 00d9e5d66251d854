"""Settings of the GPU libraries under which float32 is float32, sums are in float32, and each run gives the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_REDUCED = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
_lock = threading.Lock()
_inside = ExitStack()
_users = 0


@contextmanager
def exact_libraries() -> Iterator[None]:
    """No TF32, no sums in 16 bits, no split sums, no choosing of convolutions by a stopwatch, as long as somebody asks.

    The settings are the process's: the first thread to enter changes them, the last one to leave puts them back.
    """
    global _users  # noqa: PLW0603
    with _lock:
        if not _users:
            _inside.enter_context(_settings())
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _inside.close()


@contextmanager
def _settings() -> Iterator[None]:
    matmul: Any = torch.backends.cuda.matmul
    before = {name: getattr(matmul, name) for name in ("allow_tf32", *_REDUCED)}
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        matmul.allow_tf32 = False
        for name in _REDUCED:
            _forbid(matmul, name)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(matmul, name, value)


def _forbid(matmul: Any, name: str) -> None:
    """Forbid sums in 16 bits and, where torch can say so, sums that are split among blocks."""
    try:
        setattr(matmul, name, (False, False))
    except TypeError:  # a torch that takes one value
        setattr(matmul, name, False)
