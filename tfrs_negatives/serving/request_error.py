"""Why a request gets no answer, in the terms of both protocols."""

from __future__ import annotations

import re

# Names of gRPC status codes, and the HTTP status of each.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
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


# The folders of an absolute path, up to its last part; not those of an address.
_FOLDERS = re.compile(r"(?<![\w:/.])(?:/[^/\s'\"]+)*/(?=[^/\s'\"])")


def without_folders(message: str, *folders: str) -> str:
    """A message for clients, in which paths have only their last part.

    Args:
      message: What was raised in the server.
      *folders: Those whose names are known, which may hold blanks.
    """
    for folder in sorted(folders, key=len, reverse=True):
        message = message.replace(folder.rstrip("/") + "/", "")
    return _FOLDERS.sub("", message)
