"""Why a request is not answered: one exception for all reasons, each with the status that clients know it by."""

from __future__ import annotations

from math import ceil

INVALID = "invalid_request_error"


class Refused(Exception):  # noqa: N818 (an answer like others)
    """A request that gets an error instead of an answer.

    Attributes
    ----------
    status : HTTP status.
    kind : what sort of error, in OpenAI's words.
    field : which part of the request is meant, if one is.
    retry_after_s : when another try makes sense.
    """

    def __init__(
        self, status: int, message: str, *, kind: str = INVALID, field: str | None = None, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.field = status, message, kind, field
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """``Retry-After`` in whole seconds where there is one."""
        return {"retry-after": str(max(1, ceil(self.retry_after_s)))} if self.retry_after_s else {}


def invalid(message: str, field: str | None = None) -> Refused:
    """422: a field that makes no sense."""
    return Refused(422, message, field=field)


def too_large(message: str, field: str | None = None) -> Refused:
    """413: more than the server takes at once."""
    return Refused(413, message, field=field)


def not_found(message: str, field: str | None = None) -> Refused:
    """404: no such thing here."""
    return Refused(404, message, field=field)


def overloaded(retry_after_s: float) -> Refused:
    """429: come back later."""
    message = f"the server is busy: try again in {max(1, ceil(retry_after_s))} s"
    return Refused(429, message, kind="rate_limit_error", retry_after_s=max(retry_after_s, 1.0))


def late(deadline_s: float) -> Refused:
    """504: the deadline has passed."""
    return Refused(504, f"no answer within the deadline of {deadline_s:g} s", kind="server_error")


def engine_down() -> Refused:
    """503: nothing can be computed."""
    return Refused(503, "the engine cannot compute; see the log of the server", kind="server_error", retry_after_s=5.0)
