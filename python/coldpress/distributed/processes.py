"""`ProcessCrew`: worker processes on this machine, each with a device of its own, and a pipe for each chunk under way.

Processes are started as programs of their own, not forked: torch, CUDA and OpenMP survive no fork, and a script that
starts them needs no ``if __name__ == "__main__"``. A worker ends when its pipes close, however this process ends.
"""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Any

from coldpress.distributed.worker import QUESTION, name_of
from coldpress.errors import ColdpressError
from coldpress.types import KnownHashes

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""So many workers may be lost over one chunk: then it is the chunk, or the memory, and not bad luck."""


_PROGRAM = "from coldpress.distributed.worker import main; main()"


class ProcessCrew:
    """Workers of this machine; a context manager that ends them.

    Parameters
    ----------
    payload : of `pack`, what makes the worker of every process.
    devices : one process each.
    threads : CPU threads of each.
    slots : chunks that each has at a time: one that it computes, the others being prepared.
    """

    def __init__(self, payload: bytes, devices: Sequence[str], *, threads: int, slots: int = 2) -> None:
        self._members = [_Member(payload, device, threads, slots) for device in devices]
        self._idle: queue.SimpleQueue[tuple[_Member, int]] = queue.SimpleQueue()
        self.size, self.slots = len(devices), len(devices) * slots
        for number in range(slots):
            for member in self._members:
                self._idle.put((member, number))

    def __call__(self, chunk: Any, known: KnownHashes) -> Any:
        """Have whoever is free do a chunk."""
        member, number = self._idle.get()
        try:
            for _ in range(ATTEMPTS):
                connection, life = member.connect(number)
                try:
                    return _ask(connection, chunk, known)
                except (EOFError, ConnectionError):
                    member.bury(life)
        finally:
            self._idle.put((member, number))
        raise ColdpressError(
            f"{ATTEMPTS} worker processes were lost (the last one: {member.epitaph}) over "
            f"{name_of(chunk)}; committed shards are intact: if memory is short, use fewer processes, then run the "
            "same command again"
        )

    def __enter__(self) -> ProcessCrew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            member.stop()


class _Member:
    """A worker process and whatever replaces it; each `life` of it is one process. Started when first needed."""

    def __init__(self, payload: bytes, device: str, threads: int, slots: int) -> None:
        self._payload, self._device, self._threads, self._slots = payload, device, threads, slots
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connections: list[Connection[Any, Any]] = []
        self._life = 0
        self.epitaph = ""

    def connect(self, number: int) -> tuple[Connection[Any, Any], int]:
        """The pipe of a slot, and the life that it leads to."""
        with self._lock:
            if self._process is None:
                self._start()
            return self._connections[number], self._life

    def bury(self, life: int) -> None:
        """Note that a life has ended; whoever connects next begins another one."""
        with self._lock:
            if life == self._life and self._process is not None:
                self._process.kill()
                status = self._process.wait()
                self.epitaph = f"signal {-status}" if status < 0 else f"exit status {status}"
                logger.warning(
                    "the worker process on %s was lost (%s): another one replaces it", self._device, self.epitaph
                )
                self._let_go()

    def stop(self) -> None:
        """End the process: at once, for nothing that it may still be doing is wanted."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._let_go()

    def _start(self) -> None:
        pairs = [Pipe() for _ in range(self._slots)]
        theirs = [str(their.fileno()) for _, their in pairs]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(self._threads))
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *theirs],
            env={**os.environ, **threads, **path},
            pass_fds=[their.fileno() for _, their in pairs],
            stdin=subprocess.DEVNULL,
        )
        for _, their in pairs:
            their.close()
        self._connections = [ours for ours, _ in pairs]
        self._life += 1
        with suppress(ConnectionError):  # it has ended already: whoever asks first finds out
            self._connections[0].send((self._payload, self._device, self._threads))

    def _let_go(self) -> None:
        """Forget the process; a pipe is closed by the last one to hold it, who may be reading from it just now."""
        self._process, self._connections = None, []


def _ask(connection: Connection[Any, Any], chunk: Any, known: KnownHashes) -> Any:
    """Send a chunk, answer what its worker asks, and return what it delivers."""
    connection.send(chunk)
    while True:
        kind, content = connection.recv()
        if kind == QUESTION:
            connection.send(known(content))
        elif isinstance(content, BaseException):
            raise content
        else:
            return content
