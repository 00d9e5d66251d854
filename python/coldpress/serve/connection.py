"""`PatientProtocol`: uvicorn's HTTP protocol, with an end to its patience.

uvicorn waits for the head of a request for ever, and keeps all that comes of it: a client that sends a byte a minute
(slow loris), or a header without end, holds a connection and memory for nothing. Bodies are :class:`Guard`'s business.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from coldpress.serve.limits import Limits

_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose head is too long or takes too long, or that is one too many."""

    limits = Limits()
    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless it is a head that does not end."""
        super().data_received(data)
        if self._head_timer is not None and not (self.cycle and self.cycle.more_body):
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.header_bytes:
                self._refuse(_TOO_LONG)

    def on_message_begin(self) -> None:
        """A further request of a connection that is kept: its head may take as long as the first."""
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is there: from here on the deadline of the request counts."""
        self._head_arrived()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """A body that nobody reads any more may take as long as the next head."""
        unread = self.cycle.more_body
        super().on_response_complete()
        if unread and self._head_timer is None:
            self._await_head()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.limits.deadline_s, self._refuse, _TOO_SLOW)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        self._head_arrived()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
