"""Orders in which the rows of a table can come in an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfrs_negatives.data import RequestCounts, spread_requests

ORDERS = ("shuffled", "request_sorted", "spread")

# Rows handed to the pipeline at a time.
_CHUNK = 65_536


def shuffled_order(num_rows: int, seed: int) -> np.ndarray:
    """A random order: [n] row numbers, int32 where they fit."""
    dtype = np.int32 if num_rows < 2**31 else np.int64
    order = np.arange(num_rows, dtype=dtype)
    np.random.default_rng([seed, 1]).shuffle(order)
    return order


def request_order(
    request: np.ndarray, seed: int, epoch: int, window: int = 0
) -> np.ndarray:
    """An order of rows in which the rows of a request stay next to each other.

    Args:
      request: [n] numbers of requests, 0 to R - 1.
      seed: Seed of the run.
      epoch: Number of the epoch; each has another order.
      window: Which of the epoch's windows these rows are, of a table that is larger
        than one.

    Returns:
      [n] row numbers. Requests are in random order, the rows of one in file order.
    """
    shuffled = shuffled_requests(int(request.max()) + 1, seed, epoch, window)
    return np.argsort(shuffled[request], kind="stable")


def shuffled_requests(
    num_requests: int, seed: int, epoch: int, window: int = 0
) -> np.ndarray:
    """The place of each request in the order of an epoch: see `request_order`."""
    entropy = [seed, epoch, window] if window else [seed, epoch]
    return np.random.default_rng(entropy).permutation(num_requests)


def spread_order(
    order: np.ndarray,
    request: np.ndarray,
    batch_size: int,
    *,
    min_distinct_keys: int,
    buffer_size: int,
    seed: int,
) -> tuple[np.ndarray, int]:
    """What `data.spread_requests` makes of an order.

    Args:
      order: [n] row numbers.
      request: [n] numbers of the rows' requests.
      batch_size, min_distinct_keys, buffer_size, seed: Of `spread_requests`.

    Returns:
      `(order, short_batches)`: its batches one after the other, [n] row numbers, all
      but the last of `batch_size` rows; and how many have fewer than
      `min_distinct_keys` requests.
    """

    def chunks() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(order), _CHUNK):
            rows = order[start : start + _CHUNK].astype(np.int64)
            yield {"row": rows, "request": request[rows].astype(np.int64)}

    spec = tf.TensorSpec([None], tf.int64)
    rows = tf.data.Dataset.from_generator(
        chunks, output_signature={"row": spec, "request": spec}
    )
    counts = RequestCounts()
    batches = spread_requests(
        rows,
        "request",
        batch_size,
        min_distinct_keys=min_distinct_keys,
        buffer_size=buffer_size,
        seed=seed,
        counts=counts,
    )
    found, end = np.empty_like(order), 0
    for batch in batches.as_numpy_iterator():
        found[end : end + len(batch["row"])] = batch["row"]
        end += len(batch["row"])
    return found, counts.short_batches


def spread_settings(
    batch_size: int, num_rows: int, num_requests: int, buffer_batches: int
) -> dict[str, int]:
    """The buffer, and how many requests a batch of `spread` shall have.

    Half as many requests as the buffer holds on average: more could often not be had.

    Returns:
      Dict of `buffer_size` and `min_distinct_keys`.
    """
    buffer_size = max(batch_size, min(buffer_batches * batch_size, num_rows))
    held = buffer_size * num_requests / num_rows
    distinct = max(1, min(batch_size, int(held / 2), num_requests))
    return {"buffer_size": buffer_size, "min_distinct_keys": distinct}
