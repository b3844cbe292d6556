"""Changes of many threads, written together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Ticket(Generic[T, R]):
    """One change that waits for its turn."""

    def __init__(self, change: T) -> None:
        self.change = change
        self.is_done = False
        self.result: R | None = None
        self.error: BaseException | None = None


class GroupCommit(Generic[T, R]):
    """Commits the changes that threads bring, all that wait at once.

    While one thread waits for the disk, others queue; the next of them writes what all
    have brought. So a flush of the disk is shared by as many as there are.

    Args:
      commit: Function from changes, in order, to their results. It is called by one
        thread at a time; what it raises, all of them get.

    Attributes:
      lock: Held while something is committed. Who holds it sees nothing change.
    """

    def __init__(self, commit: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._commit = commit
        self._queue: list[_Ticket[T, R]] = []
        self._queue_lock = threading.Lock()
        self.lock = threading.Lock()

    def submit(self, change: T) -> R:
        """Commits a change, and returns its result when that is done."""
        ticket: _Ticket[T, R] = _Ticket(change)
        with self._queue_lock:
            self._queue.append(ticket)
        with self.lock:
            if not ticket.is_done:
                self._commit_waiting()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]

    def _commit_waiting(self) -> None:
        with self._queue_lock:
            tickets, self._queue = self._queue, []
        try:
            results = self._commit([ticket.change for ticket in tickets])
            for ticket, result in zip(tickets, results, strict=True):
                ticket.result = result
        except BaseException as error:
            for ticket in tickets:
                ticket.error = error
        for ticket in tickets:
            ticket.is_done = True
