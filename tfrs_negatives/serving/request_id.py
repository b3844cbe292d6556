"""The name of a request, by which logs of several servers are put together."""

from __future__ import annotations

import contextvars
import re
import uuid
from collections.abc import Sequence

#: Header field of REST, and key of gRPC's metadata.
FIELD = "x-request-id"

#: The id of the request that a task or thread works on; "" outside of requests.
current: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

# What cannot break a line of a log, nor a field of a header.
_WELL_FORMED = re.compile(r"[A-Za-z0-9._~:+/=-]{1,128}")


def request_id_of(given: Sequence[str]) -> str:
    """The id of a request: that which the client sent, or a new one.

    Args:
      given: The request's fields of the name `FIELD`.

    Returns:
      The only one of them, if it is well-formed: 1 to 128 letters, digits and
      `._~:+/=-`. Else 32 random hexadecimal digits.
    """
    if len(given) == 1 and _WELL_FORMED.fullmatch(given[0]):
        return given[0]
    return uuid.uuid4().hex
