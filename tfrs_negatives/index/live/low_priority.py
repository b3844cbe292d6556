"""Work that lets the other threads of its process go before it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")

# A tenth of the processor's time of threads that search.
_NICENESS = 10


def at_low_priority(make: Callable[[], _T]) -> _T:
    """What a function returns, or raises, in a thread of low priority.

    For long work that does not hold Python's lock: who waits for the lock waits for
    a thread of low priority too.
    """
    made: Future[_T] = Future()

    def run() -> None:
        if sys.platform == "linux":
            # There a thread, and those that it starts, have a priority of their own.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            made.set_result(make())
        except BaseException as error:
            made.set_exception(error)

    # No executor: it takes no work once the main thread has ended.
    thread = threading.Thread(target=run, name="low priority", daemon=True)
    thread.start()
    thread.join()
    return made.result()
