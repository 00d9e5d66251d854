"""Search, embedding and prediction over HTTP (extra ``serve``).

Way of a request: `connection` (head) -> `guard` (key, size, deadline) -> `native` or `compatible` (routes) -> `service`
(one vector space) -> `batching` (all requests together, one compute thread) -> the extractor.
"""

from __future__ import annotations

from coldpress.errors import MissingExtra

try:
    import fastapi  # noqa: F401 (all of them here, so that one that is missing is named at once)
    import httptools  # noqa: F401
    import orjson  # noqa: F401
    import prometheus_client  # noqa: F401
    import python_multipart  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise MissingExtra("coldpress serve", error.name or "fastapi", "serve") from error

from coldpress.serve.app import build
from coldpress.serve.keys import new_key, read_keys
from coldpress.serve.limits import Limits
from coldpress.serve.metrics import Metrics
from coldpress.serve.opening import Places
from coldpress.serve.running import is_loopback, open_socket, run
from coldpress.serve.service import Service

__all__ = [
    "Limits",
    "Metrics",
    "Places",
    "Service",
    "build",
    "is_loopback",
    "new_key",
    "open_socket",
    "read_keys",
    "run",
]
