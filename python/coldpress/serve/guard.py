"""`Guard`: what happens to every request before and after the application: key, size, deadline, headers, metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coldpress.serve.answers import error_answer
from coldpress.serve.keys import owner_of
from coldpress.serve.limits import Limits
from coldpress.serve.metrics import Metrics
from coldpress.serve.refusals import Refused, late, overloaded, too_large

logger = logging.getLogger(__name__)

OPEN = ("/", "/health", "/docs", "/openapi.json")
"""Without a key: none of them says anything about the data."""

UNCOUNTED = (*OPEN, "/metrics")
"""Answered however busy the server is."""

EMBEDDING = ("/v1/embed", "/v1/embeddings", "/embed")
"""Where everything has to be computed: refused unread while nothing can be."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
UNHURRIED = "/v1/reload"
"""Reading a large index may take longer than any request should."""

DRAINED_BYTES = 64 << 20
"""Of a body that is too large so much is read and dropped: who is cut off while sending may not see why."""

HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": (
        b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'"
    ),
}


class Guard:
    """An ASGI application around another.

    Parameters
    ----------
    keys : name to hash; whoever has none of them gets 401. None lets everybody in.
    hosts : what the ``Host`` header may say; None for anything. So pages of other sites that have a browser call a
        server on this machine are kept out.
    full_for_s : says for how many seconds nothing more can be computed.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        metrics: Metrics,
        keys: Mapping[str, str] | None = None,
        hosts: tuple[str, ...] | None = None,
        full_for_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.app, self.limits, self.metrics, self.keys, self.hosts = app, limits, metrics, keys, hosts
        self._full_for_s = full_for_s
        self.active = 0
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        counted = scope["path"] not in UNCOUNTED and not scope["path"].startswith("/static/")
        exchange = _Exchange(scope, receive, send, self._hold)
        begun = time.perf_counter()
        self.active += counted
        self.metrics.active.set(self.active)
        try:
            await self._answer(scope, exchange, counted=counted)
        finally:
            self.active -= counted
            self.held_bytes -= exchange.received
            self.metrics.active.set(self.active)
            if counted:
                self.metrics.saw_request(_route(scope), exchange.status, time.perf_counter() - begun)

    async def _answer(self, scope: Scope, exchange: _Exchange, *, counted: bool) -> None:
        try:
            with anyio.fail_after(None if scope["path"] == UNHURRIED else self.limits.deadline_s):
                self._admit(scope, counted=counted)
                _check_length(exchange.announced, self.limits.body_bytes)
                await self.app(scope, exchange.receive, exchange.send)
                if exchange.problem is not None:
                    raise exchange.problem
        except TimeoutError:
            slow = Refused(408, f"the request did not arrive within {self.limits.deadline_s:g} s")
            await exchange.refuse(late(self.limits.deadline_s) if exchange.arrived else slow)
        except Refused as refused:
            await exchange.refuse(refused)

    def _admit(self, scope: Scope, *, counted: bool) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts is not None and _hostname(host) not in self.hosts:
            raise Refused(
                403, "unknown host: a server without API keys answers to its own address and what --allow-host names"
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        if self.keys is None and origin and origin.split("://")[-1] != host:  # a key is nothing that a browser adds
            raise Refused(403, "requests of other sites' pages are not answered")
        path = scope["path"]
        if self.keys is not None and path not in OPEN and not path.startswith("/static/"):
            scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            if scheme.lower() != "bearer" or (owner := owner_of(key.strip(), self.keys)) is None:
                raise Refused(
                    401, "no valid API key: send it as Authorization: Bearer KEY", kind="authentication_error"
                )
            scope["state"] = {**scope.get("state", {}), "owner": owner}
        if counted and self.active > self.limits.requests:
            raise overloaded(1.0)
        if path in EMBEDDING and (full_for_s := self._full_for_s()):
            raise overloaded(full_for_s)

    def _hold(self, received: int, more: int) -> None:
        """Count what has come of a body, and refuse one that is too large, or what is too much of all together."""
        self.held_bytes += more
        _check_length(received + more, self.limits.body_bytes)
        if self.held_bytes > self.limits.bodies_bytes:
            raise overloaded(1.0)


class _Exchange:
    """A request and its answer on their way through: counts the bytes that come, dresses the answer that goes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, hold: Callable[[int, int], None]) -> None:
        self._scope, self._receive, self._send, self._hold = scope, receive, send, hold
        self.received = 0
        self.problem: Refused | None = None
        self._begun = time.perf_counter()
        self.status = 0
        self.arrived = False

    @property
    def announced(self) -> int:
        """Bytes of the body by its head; -1 where that does not say."""
        headers = dict(self._scope["headers"])
        length = headers.get(b"content-length", b"-1" if b"transfer-encoding" in headers else b"0")
        return int(length) if length.isdigit() else -1

    async def receive(self) -> Message:
        """The next part of the body."""
        message = await self._receive()
        more = len(message.get("body", b""))
        self.arrived = not message.get("more_body", False)
        try:
            self._hold(self.received, more)
        except Refused as refused:
            self.problem = refused
            raise
        finally:
            self.received += more
        return message

    async def send(self, message: Message) -> None:
        """The next part of the answer; none of the application's own once the request was refused on its way in."""
        if self.problem is not None:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name.lower() for name, _ in message["headers"]}
            timing = f"total;dur={1e3 * (time.perf_counter() - self._begun):.2f}".encode()
            added = [(name, value) for name, value in HEADERS.items() if name not in own]
            message["headers"] = [*message["headers"], *added, (b"server-timing", timing)]
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        """Answer with an error, unless an answer is on its way."""
        if self.status:
            return
        self.problem = None
        if refused.status == 413:
            await self._drain()
        answer = error_answer(self._scope["path"], refused)
        if not self.arrived and (refused.status in (408, 413) or not 0 <= self.announced <= DRAINED_BYTES):
            answer.headers["connection"] = "close"  # else uvicorn passes over the rest of the body
        if refused.status == 401:
            answer.headers["www-authenticate"] = "Bearer"
        await answer(self._scope, self._receive, self.send)

    async def _drain(self) -> None:
        drained = 0
        with anyio.move_on_after(2):
            while not self.arrived and drained < DRAINED_BYTES:
                message = await self._receive()
                drained += len(message.get("body", b""))
                self.arrived = not message.get("more_body", False)


def _check_length(length: int, most: int) -> None:
    if length > most:
        raise too_large(f"a body of {length} bytes or more, limit {most}")


def _hostname(host: str) -> str:
    """A ``Host`` header without its port."""
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


def _route(scope: Scope) -> str:
    """The template of the route, so that the number of time series does not depend on what clients ask for."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", None) or "none")
