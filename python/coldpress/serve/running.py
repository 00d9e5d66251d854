"""`run`: a service behind a socket until a signal ends it; SIGHUP opens index and head anew."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn

from coldpress.errors import ColdpressError
from coldpress.serve.app import build
from coldpress.serve.connection import PatientProtocol
from coldpress.serve.guard import LOOPBACK
from coldpress.serve.keys import read_keys
from coldpress.serve.refusals import Refused
from coldpress.serve.service import Service

logger = logging.getLogger(__name__)

GRACE_S = 5.0
"""Beyond the deadline of the last request, until what is still under way is given up."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 takes a free one.

    Raises
    ------
    ColdpressError
        If that is not possible.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        raise ColdpressError(f"cannot listen on {host}:{port} ({error}): choose another --host or --port") from error
    return listening


def run(
    service: Service,
    listening: socket.socket,
    *,
    api_keys: Path | None,
    allow_hosts: Sequence[str],
    ready: Callable[[], None],
) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered before it returns.

    Parameters
    ----------
    listening : from :func:`open_socket`.
    api_keys : file with the hashes of the keys of those who may come in; None for everybody. SIGHUP reads it again.
    allow_hosts : names that a server on loopback without keys answers to besides its own.
    ready : called when requests are answered.
    """
    keys = None if api_keys is None else read_keys(api_keys)
    local = is_loopback(str(listening.getsockname()[0]))
    app = build(service, keys=keys, hosts=(*LOOPBACK, *allow_hosts) if keys is None and local else None)
    protocol = type("PatientProtocol", (PatientProtocol,), {"limits": service.limits})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        backlog=service.limits.connections,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(service.limits.deadline_s + GRACE_S),
    )

    async def reload() -> None:
        with suppress(Refused):  # the service has said why
            await service.reload()
        if api_keys is not None:
            try:
                app.keys = read_keys(api_keys)
            except ColdpressError as error:
                logger.error("the keys of before are good on: %s", error)

    asyncio.run(_Server(config, reload, ready).serve([listening]))


class _Server(uvicorn.Server):
    """uvicorn's, which on a signal ends with success once it has drained."""

    def __init__(
        self, config: uvicorn.Config, reload: Callable[[], Coroutine[Any, Any, None]], ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._reload, self._ready = reload, ready
        self._reloads: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers: dict[int, Callable[[], None]] = {
            number: lambda number=number: self.handle_exit(number, None)  # type: ignore[misc]
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = self._begin_reload
        with suppress(NotImplementedError):  # Windows
            for number, handler in handlers.items():
                loop.add_signal_handler(number, handler)
        yield
        with suppress(NotImplementedError):
            for number in handlers:
                loop.remove_signal_handler(number)

    def _begin_reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
