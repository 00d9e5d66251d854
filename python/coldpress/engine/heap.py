"""Giving freed memory back to the system, so that a long run stays as small as a short one."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import cache

from coldpress._process import resident_bytes

TRIM_EVERY_S = 3.0
TRIM_AFTER_BYTES = 192 << 20


class Trimmer:
    """Call it often; now and then it lets the C library return the pages that nothing uses any more.

    glibc keeps what threads with batches of ever-changing sizes have freed: over 100,000 texts a run grew from 480 to
    590 MB, of which a trim gave 190 back in 30 ms. MiniLM in fp32 can grow by 100 MB a second, so that growth counts as
    well as time: by time alone 200,000 texts peaked at 482 MiB above the loaded model. Without glibc it does nothing.
    """

    def __init__(self) -> None:
        self._last, self._bytes = time.monotonic(), resident_bytes()

    def __call__(self) -> None:
        """Trim if the last time is long enough ago, or the process has grown a lot since."""
        now = time.monotonic()
        if now - self._last >= TRIM_EVERY_S or resident_bytes() - self._bytes >= TRIM_AFTER_BYTES:
            _malloc_trim()(0)
            self._last, self._bytes = now, resident_bytes()


@cache
def _malloc_trim() -> Callable[[int], object]:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return lambda _: None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
