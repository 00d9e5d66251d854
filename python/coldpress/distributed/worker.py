"""The program that a worker process runs, `main`: its arguments are file descriptors, each of a pipe.

The first pipe brings what makes the worker; every pipe brings chunks, and takes questions (which of these contents are
known?) and deliveries.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.types import Fingerprint

QUESTION, DELIVERY = "question", "delivery"


def main() -> None:
    """Serve until the pipes close."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that writes: it ends the workers
    connections: list[Connection[Any, Any]] = [Connection(int(number)) for number in sys.argv[1:]]
    try:
        payload, device, threads = connections[0].recv()
    except EOFError:
        return
    work = open_worker(payload, device, threads)
    serving = [threading.Thread(target=_serve, args=(one, work)) for one in connections]
    for thread in serving:
        thread.start()
    for thread in serving:
        thread.join()
    os._exit(0)  # nothing here is worth a second of tidying up


def pack(make: Callable[..., Any], *arguments: Any) -> bytes:
    """What makes a worker elsewhere: ``make(device, threads, *arguments)``, a function of a chunk and `known`."""
    return pickle.dumps((make, arguments))


def pack_extractor(extractor: Any) -> bytes:
    """An extractor for other processes: how to build it, with what its run has settled, and what must come out.

    Raises
    ------
    ColdpressError
        If it was made of something that cannot be sent.
    """
    _, (model, options) = extractor.__reduce__()
    try:
        return pack(extractor_worker, model, options, extractor.fingerprint)
    except Exception as error:  # whatever the parts of a module of the user's own raise
        raise ColdpressError(
            f"{extractor.name} cannot be sent to another process ({error}); name a model directory, or define the "
            "module in an importable file"
        ) from error


def extractor_worker(
    device: str, threads: int, model: Any, options: Mapping[str, Any], fingerprint: Fingerprint
) -> Any:
    """The worker of an extractor that another process has packed, on a device of this one.

    Raises
    ------
    FingerprintMismatch
        If the model that is found here is another one.
    """
    import torch

    from coldpress.extractor import Extractor

    torch.set_num_threads(threads)
    extractor = Extractor(model, **{**options, "device": device, "threads": threads})
    if extractor.fingerprint.digest != fingerprint.digest:
        differences = "; ".join(fingerprint.diff(extractor.fingerprint))
        raise FingerprintMismatch(f"{extractor.name} is another model for this worker (run != worker): {differences}")
    return extractor.worker()


def open_worker(payload: bytes, device: str, threads: int) -> Callable[..., Any]:
    """The worker; or, where there can be none, what says why to everybody who asks."""
    try:
        make, arguments = pickle.loads(payload)
        worker: Callable[..., Any] = make(device, threads, *arguments)
    except Exception as error:
        reason = error

        def refuse(*_: Any) -> Any:
            raise reason

        return refuse
    return worker


def _serve(connection: Connection[Any, Any], work: Callable[..., Any]) -> None:
    lock = threading.Lock()

    def known(hashes: Sequence[str]) -> Sequence[bool]:
        with lock:  # several threads of one chunk may ask
            connection.send((QUESTION, hashes))
            answer: Sequence[bool] = connection.recv()
            return answer

    with connection, suppress(EOFError, ConnectionError):  # closed whatever happens: who asks must not wait for ever
        while True:
            items = connection.recv()
            try:
                delivery = work(items, known)
            except (EOFError, ConnectionError):
                raise
            except Exception as error:
                delivery = sendable(error)
            connection.send((DELIVERY, delivery))


def name_of(chunk: Any) -> str:
    """What a chunk is called when its workers are lost."""
    if isinstance(chunk, Sequence):
        return f"the inputs from '{chunk[0].key}' to '{chunk[-1].key}'"
    return str(chunk)


def sendable(error: Exception) -> Exception:
    """The error itself where it can be pickled both ways, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
