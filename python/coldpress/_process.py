"""What this process may use of the machine, and what it takes."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

_PAGES = Path("/proc/self/statm")


def cores() -> int:
    """CPU cores that this process may use: in a container, or under a scheduler, not all that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resident_bytes(*, mapped: bool = True) -> int:
    """Memory of this process, with or without what it has mapped of files; 0 where the system does not say. 13 us."""
    try:
        resident, shared = map(int, _PAGES.read_bytes().split()[1:3])
    except OSError:
        return 0
    return (resident if mapped else resident - shared) * mmap.PAGESIZE
