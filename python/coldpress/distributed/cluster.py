"""`RayCrew`: workers that are actors of a Ray cluster, a device each. Ray places them and starts lost ones again."""

from __future__ import annotations

import itertools
import logging
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from coldpress.distributed.worker import name_of, open_worker, sendable
from coldpress.errors import ColdpressError, MissingExtra
from coldpress.types import KnownHashes

logger = logging.getLogger(__name__)

ATTEMPTS = 4
"""So many actors may be lost over one chunk."""

_ANSWERS_WITHIN_S = 10.0
_BACK_WITHIN_S = 600.0
"""How long a run without any worker waits for one to come back, on another node where need be."""


class RayCrew:
    """Actors that work like the processes of `ProcessCrew`; a context manager that ends them.

    Parameters
    ----------
    payload : of `pack`, what makes the worker of every actor.
    device : kind of device of each, ``cpu`` or ``cuda``.
    address : of the cluster; ``auto`` for the one that Ray finds, else a new one on this machine.
    count : how many; None for as many as the cluster has room for.
    threads : CPU threads of each.
    resources : what Ray reserves for each, ``num_cpus`` and ``num_gpus`` (which may be a fraction) among others.
    slots : chunks that each has at a time.
    spared_cpus : left for what the cluster does besides, if there is no `count`: the reading of a Ray dataset.

    Raises
    ------
    MissingExtra, ColdpressError
        If Ray is not installed, cannot be reached, or has no room for a single worker.
    """

    def __init__(
        self,
        payload: bytes,
        address: str,
        *,
        device: str = "cpu",
        count: int | None = None,
        threads: int = 1,
        resources: Mapping[str, Any] | None = None,
        slots: int = 2,
        spared_cpus: int = 0,
    ) -> None:
        self._ray = _import_ray()
        self._owns_cluster = _connect(self._ray, address)
        try:
            needs = {"num_cpus": threads, "num_gpus": int(device == "cuda"), **(resources or {})}
            self.size = count or _room(self._ray.cluster_resources(), needs, spared_cpus)
            options = {**needs, "max_restarts": -1, "max_concurrency": 3 * slots}
            remote = self._ray.remote(Member)
            self._members = [remote.options(**options).remote(payload, device, threads) for _ in range(self.size)]
        except BaseException:
            self._leave()
            raise
        self.slots = slots * self.size
        self._tickets = itertools.count()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for member in self._members * slots:
            self._idle.put(member)

    def __call__(self, chunk: Any, known: KnownHashes) -> Any:
        """Have whoever is free do a chunk, and somebody else if that one is lost."""
        for _ in range(ATTEMPTS):
            try:
                member = self._idle.get(timeout=_BACK_WITHIN_S)
            except queue.Empty:
                break
            try:
                delivery = self._ask(member, chunk, known)
            except self._ray.exceptions.RayError as error:
                logger.warning("an actor was lost (%s): its chunk is done by another", type(error).__name__)
                threading.Thread(target=self._await, args=(member,), daemon=True).start()
                continue
            except BaseException:
                self._idle.put(member)
                raise
            self._idle.put(member)
            return delivery
        raise ColdpressError(
            f"the actors that were given {name_of(chunk)} were lost, and no other did them; committed shards are "
            "intact: look at the memory of the nodes, then run the same command again"
        )

    def __enter__(self) -> RayCrew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            self._ray.kill(member)
        self._leave()

    def _ask(self, member: Any, chunk: Any, known: KnownHashes) -> Any:
        """Send a chunk, answer what its actor asks, and return what it delivers."""
        ticket = next(self._tickets)
        delivery = member.embed.remote(ticket, chunk)
        while (hashes := self._ray.get(member.question.remote(ticket))) is not None:
            member.answer.remote(ticket, known(hashes))
        delivered = self._ray.get(delivery)
        if isinstance(delivered, Exception):
            raise delivered
        return delivered

    def _await(self, member: Any) -> None:
        """Put a lost actor back to work once Ray has started it again."""
        end = time.monotonic() + _BACK_WITHIN_S
        while time.monotonic() < end and self._ray.is_initialized():
            try:
                self._ray.get(member.ready.remote())
            except self._ray.exceptions.RayError:
                time.sleep(0.5)
            else:
                self._idle.put(member)
                return

    def _leave(self) -> None:
        if self._owns_cluster:
            self._ray.shutdown()


class Member:
    """The actor. `question` and `answer` are called while `embed` is under way with the same ticket."""

    def __init__(self, payload: bytes, device: str, threads: int) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        self._work = open_worker(payload, device, threads)
        self._lock = threading.Lock()
        self._talks: dict[int, _Talk] = {}

    def ready(self) -> bool:
        """Say that it is there."""
        return True

    def embed(self, ticket: int, chunk: Any) -> Any:
        """The delivery of a chunk, or why there is none."""
        talk = self._talk(ticket)
        try:
            delivery = self._work(chunk, talk.known)
        except Exception as error:
            return sendable(error)
        finally:
            talk.questions.put(None)
        return delivery

    def question(self, ticket: int) -> Sequence[str] | None:
        """The next contents that `embed` wants to know about; None once there are no more of them."""
        hashes = self._talk(ticket).questions.get()
        if hashes is None:
            with self._lock:
                del self._talks[ticket]
        return hashes

    def answer(self, ticket: int, flags: Sequence[bool]) -> None:
        """Which of the contents last asked about are known."""
        self._talk(ticket).answers.put(flags)

    def _talk(self, ticket: int) -> _Talk:
        with self._lock:
            return self._talks.setdefault(ticket, _Talk())


class _Talk:
    """Questions and answers about one chunk."""

    def __init__(self) -> None:
        self.questions: queue.SimpleQueue[Sequence[str] | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Sequence[bool]] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def known(self, hashes: Sequence[str]) -> Sequence[bool]:
        """Ask, and wait for the answer."""
        with self._lock:
            self.questions.put(hashes)
            return self.answers.get()


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingExtra("--ray", "ray", "ray") from error
    return ray


def _connect(ray: Any, address: str) -> bool:
    """Join a cluster unless this process has; True if it is to be left again."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if match := re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:(\d+)", address):
        try:  # Ray itself tries for minutes, then ends the process
            socket.create_connection((match[1], int(match[2])), timeout=_ANSWERS_WITHIN_S).close()
        except OSError as error:
            raise ColdpressError(f"--ray {address}: no cluster answers there: {error.strerror or error}") from error
    try:
        ray.init(None if address == "auto" else address, include_dashboard=None, logging_level=logging.WARNING)
    except Exception as error:  # of many types, all of which mean the same here
        reason = " ".join(str(error).split())
        raise ColdpressError(f"--ray {address}: no cluster can be reached: {reason}") from error
    return True


def _room(available: Mapping[str, float], needs: Mapping[str, Any], spared_cpus: int) -> int:
    """How many workers of these needs the cluster has room for."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    available = {name: available.get(name, 0.0) - spared_cpus * (name == "CPU") for name in names.values()}
    fits = [int(available[names[name]] / needs[name] + 1e-9) for name in names if needs.get(name)]
    if not fits or min(fits) < 1:
        raise ColdpressError(
            f"a worker needs {dict(needs)}, the cluster has {available} for them: there is room for none"
        )
    return min(fits)
