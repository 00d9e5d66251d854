"""Settings of the GPU libraries under which float32 is float32, sums are in float32, and each run gives the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch

_lock = threading.Lock()
_inside = ExitStack()
_users = 0


@contextmanager
def exact_libraries() -> Iterator[None]:
    """No TF32, no sums in 16 bits, no choosing of convolutions by a stopwatch, as long as somebody asks.

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
    cudnn, matmul = cast(Any, torch.backends.cudnn), cast(Any, torch.backends.cuda.matmul)
    with ExitStack() as restore:
        for module, name, value in (
            (cudnn, "enabled", True),
            (cudnn, "benchmark", False),
            (cudnn, "deterministic", True),
            (cudnn.conv, "fp32_precision", "ieee"),
            (matmul, "fp32_precision", "ieee"),
        ):
            restore.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        for name in ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"):
            before, split = getattr(matmul, name), getattr(matmul, f"{name}_split_k", True)
            restore.callback(setattr, matmul, name, before if split else (before, split))
            setattr(matmul, name, False)  # sums may be split: all rows of a shape are, in the same way
        yield
