"""Work in blocks of rows, in threads, with progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from tfrs_negatives._keras import keras

Result = TypeVar("Result")


def in_parallel(
    work: Callable[[slice], Result],
    blocks: Sequence[slice],
    threads: int | None,
    progress: bool,
    unit: str,
) -> Iterator[Result]:
    """Calls a function for each block, several at once.

    Args:
      work: Function of a slice of rows. What it calls of NumPy and SciPy runs outside
        of Python's lock.
      blocks: Slices.
      threads: How many; None: one for each core that the process may use.
      progress: Whether to show how many rows are done.
      unit: What a row is.

    Yields:
      Results in the order of the blocks.
    """
    rows = sum(block.stop - block.start for block in blocks)
    bar = keras.utils.Progbar(rows, unit_name=unit) if progress and rows else None
    with ThreadPoolExecutor(threads or num_cores()) as pool:
        try:
            for block, result in zip(blocks, pool.map(work, blocks), strict=True):
                yield result
                if bar is not None:
                    bar.add(block.stop - block.start)
        finally:
            # Where one failed, the rest is not worth waiting for.
            pool.shutdown(wait=True, cancel_futures=True)


def num_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def even_blocks(num_rows: int, size: int) -> list[slice]:
    """Slices of so many rows each, the last of the rest."""
    starts = range(0, num_rows, max(size, 1))
    return [slice(start, min(start + max(size, 1), num_rows)) for start in starts]


def blocks_of_cost(costs: np.ndarray, limit: int) -> list[slice]:
    """Slices of rows that cost about as much each.

    Args:
      costs: [n] of each row, at least 0.
      limit: What the rows of a block may cost together; of a single row that costs
        more, a block has that row and at most as much again.
    """
    if not len(costs):
        return []
    turn = np.cumsum(costs, dtype=np.int64) // limit
    ends = np.append(np.flatnonzero(np.diff(turn)) + 1, len(costs))
    starts = np.concatenate([[0], ends[:-1]])
    return [slice(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]
