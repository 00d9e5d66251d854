"""What one request, and all of them together, may ask of the server."""

from __future__ import annotations

from dataclasses import dataclass

MAX_NEIGHBOURS = 1000
"""The largest k: part of the schema, so no option."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that no request passes; each is refused with a status of its own.

    Attributes
    ----------
    body_bytes : of a request, else 413.
    items : texts, images, vectors or keys of a request, else 413.
    characters : of all texts of a request, else 413: they are tokenised before anything is cut.
    pixels : of an image, else 413, before any of them is allocated.
    deadline_s : from the first byte of a request to its answer, else 504; also for sending its body, else 408.
    requests, bodies_bytes : under way at a time, and the bytes that have come of all of them, else 429.
    header_bytes, connections : a connection that sends longer headers, or is one too many, is closed.
    """

    body_bytes: int = 16 << 20
    items: int = 256
    characters: int = 1_000_000
    pixels: int = 40_000_000
    deadline_s: float = 10.0
    requests: int = 1024
    bodies_bytes: int = 256 << 20
    header_bytes: int = 32 << 10
    connections: int = 4096
