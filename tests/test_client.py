"""The client in front of what is no server of coldpress: a proxy that has lost it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from coldpress import Client
from coldpress.errors import ServerError


@pytest.fixture(params=["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "inf", None])
def proxy(request: pytest.FixtureRequest) -> Iterator[str]:
    """Says 503, and when to come back in its own way."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(503)
            if request.param is not None:
                self.send_header("Retry-After", request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
    assert asked == ["/v1/info"] * 2


def test_a_proxy_may_say_when_to_come_back_in_its_own_way(proxy: str) -> None:
    with pytest.raises(ServerError, match="503"):
        Client(proxy, retries=1).info()
