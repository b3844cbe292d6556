"""Bodies of requests that are compressed, up to a size."""

from __future__ import annotations

import zlib

from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.serving.server_limits import Limits

# Of zlib: a header of gzip, and no other.
_GZIP = 16 + zlib.MAX_WBITS


def is_compressed(encoding: str) -> bool:
    """Whether a Content-Encoding says that the body is compressed by gzip.

    Raises:
      RequestError: Neither that nor none.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return False
    if encoding in ("gzip", "x-gzip"):
        return True
    raise RequestError(
        f"A body may have Content-Encoding gzip or none, received {encoding!r}. Send "
        "it as it is."
    )


def decompressed(body: bytes, limits: Limits) -> bytes:
    """What a body holds; no more than a body may have is ever made of it.

    Raises:
      RequestError: It holds too many bytes, or is no gzip of one part.
    """
    stream = zlib.decompressobj(_GZIP)
    try:
        content = stream.decompress(body, limits.max_request_bytes + 1)
    except zlib.error as error:
        raise RequestError(f"Expected a body by gzip, received none: {error}") from None
    limits.check_bytes(len(content))
    if not stream.eof or stream.unused_data:
        raise RequestError(
            "Expected a body by gzip, received one that is cut off, or is followed by "
            "something else."
        )
    return content
