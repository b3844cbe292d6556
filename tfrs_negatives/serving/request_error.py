"""Why a request gets no answer, in the terms of both protocols."""

from __future__ import annotations

# Names of gRPC status codes, and the HTTP status of each.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "DEADLINE_EXCEEDED": 408,
    "RESOURCE_EXHAUSTED": 413,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}


# Messages repeat what a client sent; gRPC's clients take 8 KiB, non-ASCII escaped.
_LONGEST = 500


class RequestError(Exception):
    """A request that is refused or failed.

    Args:
      message: What was expected, what came, how to fix it; cut where it is long.
      code: One of `HTTP_STATUS`.
    """

    def __init__(self, message: str, code: str = "INVALID_ARGUMENT") -> None:
        if len(message) > _LONGEST:
            message = message[:_LONGEST] + "..."
        super().__init__(message)
        self.code = code
        self.http_status = HTTP_STATUS[code]
