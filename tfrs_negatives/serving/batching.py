"""Concurrent requests answered together."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

import numpy as np

from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.serving.server_limits import Limits

#: Arrays by name.
Arrays: TypeAlias = dict[str, np.ndarray]


@dataclasses.dataclass
class _Request:
    run: Callable[[Arrays], Arrays]
    inputs: Arrays
    rows: int
    due: float
    future: asyncio.Future[Arrays]


class Batcher:
    """Runs requests in a pool of threads, those of one kind merged into batches.

    Requests of one kind that wait at the same time become one batch of at most
    `limits.max_batch` rows, as soon as a thread is idle and the batch is full or its
    oldest request has waited `limits.max_wait_ms`. Where a batch fails, its requests
    run alone, so that one of them cannot fail the others.

    All methods are called in the event loop.

    Args:
      limits: `Limits`.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._threads = limits.num_threads()
        self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, "batch")
        self._busy = 0
        self.waiting = 0
        # From kind to requests, the oldest first.
        self._groups: dict[Hashable, collections.deque[_Request]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(
        self,
        run: Callable[[Arrays], Arrays],
        inputs: Arrays,
        rows: int,
        kind: Hashable = None,
    ) -> Arrays:
        """Answers a request.

        Args:
          run: Function from inputs to outputs, dicts of arrays; runs in a thread.
          inputs: Dict of arrays; those that are no scalars have `rows` rows.
          rows: Number of rows.
          kind: Hashable. Requests of equal kind have a `run` that does the same, equal
            scalars, and arrays whose shapes differ in the number of rows only. None:
            runs alone.

        Returns:
          Dict of arrays with `rows` rows each.

        Raises:
          RequestError: Too many requests wait already, or what `run` raises.
        """
        if self.waiting >= self._limits.max_waiting:
            raise RequestError(
                f"{self.waiting} requests wait already. Try again later.",
                "UNAVAILABLE",
            )
        loop = asyncio.get_running_loop()
        wait = 0.0 if kind is None else self._limits.max_wait_ms / 1000
        request = _Request(run, inputs, rows, loop.time() + wait, loop.create_future())
        kind = object() if kind is None else kind
        self._groups.setdefault(kind, collections.deque()).append(request)
        self.waiting += 1
        self._dispatch()
        return await request.future

    def close(self) -> None:
        """Ends the threads; nothing may be waiting any more."""
        self._pool.shutdown()

    def _dispatch(self) -> None:
        """Starts batches while there are idle threads."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._busy < self._threads and self._groups:
            due, kind = min(
                (self._due(requests), place, kind)
                for place, (kind, requests) in enumerate(self._groups.items())
            )[::2]
            if due > loop.time():
                self._timer = loop.call_at(due, self._dispatch)
                return
            self._busy += 1
            task = loop.create_task(self._run(self._take(kind)))
            # The loop itself holds tasks weakly.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _due(self, requests: Sequence[_Request]) -> float:
        """When a batch of these is to run; long ago if it is full."""
        full = sum(request.rows for request in requests) >= self._limits.max_batch
        return 0.0 if full else requests[0].due

    def _take(self, kind: Hashable) -> list[_Request]:
        """The next batch of a kind, at least one request."""
        requests = self._groups.pop(kind)
        batch = [requests.popleft()]
        rows = batch[0].rows
        while requests and rows + requests[0].rows <= self._limits.max_batch:
            batch.append(requests.popleft())
            rows += batch[-1].rows
        if requests:
            self._groups[kind] = requests
        self.waiting -= len(batch)
        return [request for request in batch if not request.future.done()]

    async def _run(self, batch: list[_Request]) -> None:
        try:
            work = functools.partial(_run_merged, batch)
            loop = asyncio.get_running_loop()
            answers = await loop.run_in_executor(self._pool, work)
        except Exception as error:
            answers = [error for _ in batch]
        finally:
            self._busy -= 1
            self._dispatch()
        for request, answer in zip(batch, answers, strict=True):
            if request.future.done():  # Its client has gone.
                continue
            if isinstance(answer, Exception):
                request.future.set_exception(answer)
            else:
                request.future.set_result(answer)


def _run_merged(batch: list[_Request]) -> list[Arrays | Exception]:
    """Answers or exceptions, one for each request."""
    if not batch:
        return []
    if len(batch) > 1:
        try:
            outputs = batch[0].run(
                {
                    name: value
                    if value.ndim == 0
                    else np.concatenate([request.inputs[name] for request in batch])
                    for name, value in batch[0].inputs.items()
                }
            )
        except Exception:
            return [answer for one in batch for answer in _run_merged([one])]
        ends = np.cumsum([request.rows for request in batch])
        parts = {name: np.split(value, ends[:-1]) for name, value in outputs.items()}
        return [
            {name: part[place] for name, part in parts.items()}
            for place in range(len(batch))
        ]
    try:
        return [batch[0].run(batch[0].inputs)]
    except Exception as error:
        return [error]
