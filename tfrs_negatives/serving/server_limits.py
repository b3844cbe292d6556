"""How much a server takes on."""

from __future__ import annotations

import dataclasses
import math
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
      max_exclusions: Rows of one request times the exclusions of each.
      max_filters: Different filters of one request.
      max_values: Numbers and strings of one request in all. In JSON, its commas and
        opening brackets are counted.
      max_request_bytes: Size of a request's body or message.
      max_bytes_in_flight: Bodies and answers in memory at a time, over REST; a request
        that would exceed it is refused (503), save those of up to 16 KiB, so that
        large ones cannot shut them out.
      max_connections: Over REST, open connections; over gRPC, connections and requests
        in flight. For a new REST connection the one that has been silent longest is
        closed.
      head_seconds: Over REST, as is what follows: how long a connection may take to
        send the head of a request, and to take an answer.
      body_seconds: How long the body of a request may take (408).
      idle_seconds: How long a connection may be silent between requests.
      threads: How many batches run at a time; None: as many as there are processors.

    Example:
      >>> tn.serving.Limits(max_batch=256, max_wait_ms=2.0).max_batch
      256
    """

    max_batch: int = 256
    max_wait_ms: float = 0.0
    max_waiting: int = 1024
    max_answers: int = 100_000
    max_exclusions: int = 100_000
    max_filters: int = 16
    max_values: int = 2**17
    max_request_bytes: int = 4 * 2**20
    max_bytes_in_flight: int = 32 * 2**20
    max_connections: int = 1024
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    idle_seconds: int = 5
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in (
            "max_batch",
            "max_waiting",
            "max_answers",
            "max_exclusions",
            "max_filters",
            "max_values",
            "max_request_bytes",
            "max_bytes_in_flight",
            "max_connections",
            "idle_seconds",
        ):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be at least 1, received {getattr(self, name)}."
                )
        for name in ("head_seconds", "body_seconds"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds > 0):
                raise ValueError(f"`{name}` must be above 0, received {seconds}.")
        if self.max_wait_ms < 0:
            raise ValueError(
                f"`max_wait_ms` must be at least 0, received {self.max_wait_ms}."
            )
        if self.threads is not None and self.threads < 1:
            raise ValueError(
                f"`threads` must be None or at least 1, received {self.threads}."
            )

    def num_threads(self) -> int:
        """How many batches run at a time."""
        return self.threads or os.cpu_count() or 1

    def check_bytes(self, size: int) -> None:
        """Raises `RequestError` for a request of `size` bytes that is too large."""
        if size > self.max_request_bytes:
            raise RequestError(
                f"A request may have {self.max_request_bytes} bytes, received {size} "
                "or more. Send fewer rows at a time.",
                "RESOURCE_EXHAUSTED",
            )

    def check_values(self, number: int) -> None:
        """Raises `RequestError` for a request of too many values."""
        if number > self.max_values:
            raise RequestError(
                f"A request may have {self.max_values} values, received {number}. "
                "Send fewer rows at a time.",
                "RESOURCE_EXHAUSTED",
            )

    def check_exclusions(self, rows: int, each: int) -> None:
        """Raises `RequestError` for too many exclusions in all."""
        if rows * each > self.max_exclusions:
            raise RequestError(
                f"Rows times exclusions may be {self.max_exclusions}, received {rows} "
                f"x {each}. Send fewer rows at a time, or exclude fewer candidates.",
                "RESOURCE_EXHAUSTED",
            )

    def check_filters(self, number: int) -> None:
        """Raises `RequestError` for too many filters: each is a pass over all items."""
        if number > self.max_filters:
            raise RequestError(
                f"A request may have {self.max_filters} different filters, received "
                f"{number}. Send fewer rows at a time.",
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
