"""Which devices workers run on: one process for each of a list of names."""

from __future__ import annotations

import re

import torch

from coldpress._process import cores
from coldpress.errors import ColdpressError


def parse_devices(text: str) -> tuple[str, ...]:
    """Read ``cuda:0,cuda:1``, ``2xcpu``, or ``all`` for every GPU: a name for each process.

    Raises
    ------
    ColdpressError
        If there are no GPUs to take all of, or a part is empty.

    Examples
    --------
    >>> parse_devices("2xcpu,cuda:0")
    ('cpu', 'cpu', 'cuda:0')
    """
    names: list[str] = []
    for part in text.split(","):
        match = re.fullmatch(r"(?:([1-9]\d*)x)?([A-Za-z][\w:]*)", part.strip())
        if match is None:
            raise ColdpressError(f"device {text!r}: got {part.strip()!r}, expected a name such as cuda:1, 2xcpu or all")
        times, name = int(match[1] or 1), match[2]
        names += _every_gpu() if name == "all" else [name] * times
    return tuple(names)


def threads_of(devices: tuple[str, ...], threads: int | None) -> int:
    """CPU threads of each process: as asked, else an equal share of the cores."""
    return threads or max(1, cores() // len(devices))


def _every_gpu() -> list[str]:
    if not torch.cuda.device_count():
        raise ColdpressError("device all: there is no GPU here; name how many processes of the CPU, such as 2xcpu")
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
