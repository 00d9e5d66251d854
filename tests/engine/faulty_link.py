"""A link to a server that loses, delays and damages what goes through it: an HTTP proxy on loopback."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
UNKNOWN = "The AWS Access Key Id you provided does not exist."
REFUSALS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
}


class FaultyLink:
    """Forwards to `target` (host:port); of the requests, `faults` says which share meets which fault.

    ``500`` and ``503`` are answers, before or after the server has done what was asked; ``timeout`` is silence for
    longer than the client waits; ``lost`` closes the connection in the middle of the answer. All requests together
    get at most `bytes_per_s`. Anybody but `known_key` is refused as S3 does it.
    """

    def __init__(self, target: str, *, silence_s: float = 5.0, known_key: str = "somebody") -> None:
        self.faults: Mapping[str, float] = {}
        self.met, self.bytes_per_s = Counter[str](), float("inf")
        random_faults, lock = random.Random(0), threading.Lock()
        link = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout: ClassVar[int] = 30

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with lock:
                    draw, late = random_faults.random(), random_faults.random() < 0.5
                    fault = next((name for name, share in link.faults.items() if (draw := draw - share) < 0), "")
                    link.met[fault] += 1
                if f"Credential={known_key}/" not in self.headers.get("Authorization", f"Credential={known_key}/"):
                    return self.answer(403, *_refusal("InvalidAccessKeyId", UNKNOWN))
                if fault in REFUSALS and not late:
                    status, code, message = REFUSALS[fault]
                    return self.answer(status, *_refusal(code, message))
                if fault == "timeout":
                    time.sleep(silence_s)
                    self.close_connection = True
                    return None
                status, headers, content = self.ask(body)
                if fault in REFUSALS:
                    status, code, message = REFUSALS[fault]
                    return self.answer(status, *_refusal(code, message))
                return self.answer(status, headers, content, whole=fault != "lost")

            def ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                connection = http.client.HTTPConnection(target, timeout=60)
                connection.request(self.command, self.path, body, dict(self.headers))
                response = connection.getresponse()
                content = response.read()
                hop = ("Connection", "Transfer-Encoding")
                headers = {name: value for name, value in response.getheaders() if name not in hop}
                connection.close()
                return response.status, headers, content

            def answer(self, status: int, headers: dict[str, str], content: bytes, *, whole: bool = True) -> None:
                self.send_response_only(status)
                length = headers.get("Content-Length", str(len(content)))
                for name, value in {**headers, "Content-Length": length}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "HEAD":
                    return
                time.sleep(len(content) / link.bytes_per_s)
                self.wfile.write(content if whole else content[: len(content) // 2])
                if not whole:
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815 (names of the base class)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _refusal(code: str, message: str) -> tuple[dict[str, str], bytes]:
    return {"Content-Type": "application/xml"}, ERROR.format(code=code, message=message).encode()
