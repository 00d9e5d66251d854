"""Workers that fail in their first life; a file says that it is over. Imported by the worker processes themselves."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def fatal(_device: str, _threads: int, died: Path) -> Callable[..., Any]:
    """Chunk 0 ends the process as soon as somebody asks about another chunk."""
    asked = threading.Event()

    def work(chunk: int, known: Callable[[list[str]], object]) -> int:
        if chunk == 0 and not died.exists():
            asked.wait(60)
            time.sleep(0.3)  # until the question has left
            died.touch()
            os._exit(3)
        asked.set()
        known(["content"])
        return chunk

    return work


def unsendable(_device: str, _threads: int, died: Path) -> Callable[..., Any]:
    """What it delivers first cannot be sent, as where the memory lacks for it."""

    def work(chunk: int, _known: object) -> Any:
        if died.exists():
            return chunk
        died.touch()
        return threading.Lock()

    return work
