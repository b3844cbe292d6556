"""A part of a coroutine that may take so long."""

from __future__ import annotations

import asyncio
from types import TracebackType


class TimeLimit:
    """Raises `asyncio.TimeoutError` out of a `with` block that takes longer.

    As `asyncio.timeout`, which Python 3.10 lacks, and without the task that
    `asyncio.wait_for` makes there, which costs a request a twentieth of its time.

    Args:
      seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._expired = seconds, False
        # There in the block.
        self._task: asyncio.Task[object]
        self._timer: asyncio.TimerHandle

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._task = task
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self._expire)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._expired and kind is asyncio.CancelledError:
            if hasattr(self._task, "uncancel"):  # Python 3.11.
                self._task.uncancel()
            raise asyncio.TimeoutError from error

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
