"""A bound on the bodies and answers that a server holds at a time."""

from __future__ import annotations

from types import TracebackType

from tfrs_negatives.serving.request_error import RequestError

# Of each request, beyond the bound: small ones pass whatever large ones hold.
FREE = 2**14


class BytesInFlight:
    """Counts bytes; used in the event loop only.

    Args:
      most: The bound, for what requests hold beyond `FREE` each.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def hold(self) -> Hold:
        """What one request holds, until the end of a `with` block."""
        return Hold(self)


class Hold:
    """The bytes of one request.

    Args:
      total: `BytesInFlight`.
    """

    def __init__(self, total: BytesInFlight) -> None:
        self._total, self._free, self._held = total, FREE, 0

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._total.held -= self._held
        self._held = 0

    def add(self, size: int) -> None:
        """Holds more.

        Raises:
          RequestError: The bound is reached.
        """
        free = min(size, self._free)
        wanted = size - free
        if wanted and self._total.held + wanted > self._total.most:
            raise RequestError(
                f"The server holds {self._total.held} bytes of requests and answers "
                f"already, of {self._total.most}. Try again later, or send fewer rows "
                "at a time.",
                "UNAVAILABLE",
            )
        self._free -= free
        self._held += wanted
        self._total.held += wanted
