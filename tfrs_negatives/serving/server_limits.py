"""How much a server takes on."""

from __future__ import annotations

import dataclasses
import os

from tfrs_negatives.serving.request_error import RequestError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds that keep one client from using up a server.

    Attributes:
      max_batch: Rows of one request, and of the requests that are answered together.
      max_wait_ms: How long a request waits for others to be answered together with,
        while a thread is idle. At 0 requests gather only while all threads are busy.
      max_waiting: Requests that wait for a thread; more are refused (503).
      max_answers: Rows of one request times k.
      max_request_bytes: Size of a request's body or message.
      threads: How many batches run at a time; None: as many as there are processors.
    """

    max_batch: int = 256
    max_wait_ms: float = 0.0
    max_waiting: int = 1024
    max_answers: int = 100_000
    max_request_bytes: int = 4 * 2**20
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_waiting", "max_answers", "max_request_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be at least 1, received {getattr(self, name)}."
                )
        if self.max_wait_ms < 0:
            raise ValueError(
                f"`max_wait_ms` must be at least 0, received {self.max_wait_ms}."
            )
        if self.threads is not None and self.threads < 1:
            raise ValueError(
                f"`threads` must be None or at least 1, received {self.threads}."
            )

    def num_threads(self) -> int:
        return self.threads or os.cpu_count() or 1

    def check_bytes(self, size: int) -> None:
        """Raises `RequestError` for a request of `size` bytes that is too large."""
        if size > self.max_request_bytes:
            raise RequestError(
                f"A request may have {self.max_request_bytes} bytes, received {size} "
                "or more. Send fewer rows at a time.",
                "RESOURCE_EXHAUSTED",
            )

    def check_rows(self, rows: int, k: int) -> None:
        """Raises `RequestError` for too many rows, or too many answers in all."""
        if rows > self.max_batch:
            raise RequestError(
                f"A request may have {self.max_batch} rows, received {rows}. Send "
                "fewer at a time.",
                "RESOURCE_EXHAUSTED",
            )
        if rows * k > self.max_answers:
            raise RequestError(
                f"Rows times k may be {self.max_answers}, received {rows} x {k}. Send "
                "fewer rows at a time, or ask for fewer candidates.",
                "RESOURCE_EXHAUSTED",
            )
