"""What happened to the rows of a pipeline that batches requests."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import tensorflow as tf

#: Scalar int64 tensors by name.
Counts: TypeAlias = dict[str, tf.Tensor]


class RequestCounts:
    """Counts of one pass of `group_by_request` or `spread_requests`.

    Pass one as `counts` and read its attributes at any time. They count what the
    pipeline has done. That is ahead of the batches that came out of it, by the
    prefetched ones and a chunk of rows. Each pass over the dataset starts from 0. An
    iterator that is restored from a checkpoint continues with its own counts.

    The counts are part of the iterator's state; this object only shows them. A Python
    function fills it, so a dataset with counts cannot be sent to another process
    (tf.data service). A dataset without counts is a graph only, and can.

    Attributes:
      rows_in: Rows read: with `input_context`, those of this pipeline's requests.
      rows_out: Rows in batches. The others are held back for the next batches until
        the dataset ends; then `rows_in == rows_out + dropped_rows`.
      dropped_rows: Rows of an incomplete last batch, with `drop_remainder`.
      batches: Batches made.
      rows_without_key: Rows that `key_mask` says have no key: each is a request by
        itself.
      cut_requests: Requests larger than a batch, which were cut in pieces
        (`group_by_request`).
      late_requests: How often a key came back after its rows had left
        (`group_by_request` with a `buffer_size`).
      short_batches: Batches with fewer than `min_distinct_keys` keys, because the
        buffer held no more (`spread_requests`).

    Example:
      >>> rows = tf.data.Dataset.from_tensor_slices({"request": [1, 1, 2, 3, 3, 3]})
      >>> counts = tn.data.RequestCounts()
      >>> batches = tn.data.group_by_request(rows, "request", 3, counts=counts)
      >>> [batch["request"].tolist() for batch in batches.as_numpy_iterator()]
      [[1, 1, 2], [3, 3, 3]]
      >>> counts.rows_out, counts.batches, counts.cut_requests
      (6, 2, 0)
    """

    names = (
        "rows_in",
        "rows_out",
        "dropped_rows",
        "batches",
        "rows_without_key",
        "cut_requests",
        "late_requests",
        "short_batches",
    )

    def __init__(self) -> None:
        self._values = (0,) * len(self.names)

    def __getattr__(self, name: str) -> int:
        if name in self.names:
            return self._values[self.names.index(name)]
        raise AttributeError(f"`RequestCounts` has no attribute {name!r}.")

    def __repr__(self) -> str:
        pairs = zip(self.names, self._values, strict=True)
        return f"RequestCounts({', '.join(f'{n}={v}' for n, v in pairs)})"

    def _show(self, values: np.ndarray) -> np.ndarray:
        self._values = tuple(int(value) for value in values)
        return values


def no_counts() -> Counts:
    """The state of a pass that begins: a dict of scalar int64 tensors."""
    return {name: tf.zeros([], tf.int64) for name in RequestCounts.names}


def add_counts(before: Counts, **added: int | tf.Tensor) -> Counts:
    """The state with integers added to some of its counts."""
    after = {n: before[n] + tf.cast(value, tf.int64) for n, value in added.items()}
    return {**before, **after}


def show_counts(counts: RequestCounts | None, state: Counts) -> Counts:
    """Returns the state, having shown it in `counts` (a `RequestCounts` or None)."""
    if counts is None:
        return state
    stacked = tf.stack([state[name] for name in counts.names])
    # Not stateful, says this to tf.data: else it would not save iterators.
    shown = tf.numpy_function(counts._show, [stacked], tf.int64, stateful=False)
    shown = tf.unstack(tf.ensure_shape(shown, [len(counts.names)]))
    return dict(zip(counts.names, shown, strict=True))


def warn_once(before: tf.Tensor, after: tf.Tensor, message: str) -> tf.Tensor:
    """Prints a warning to stderr when a count leaves zero; returns `after`."""

    def warn() -> tf.Operation:
        return tf.group(tf.print("WARNING:", message))

    with tf.control_dependencies(
        [tf.cond((before == 0) & (after > 0), warn, tf.no_op)]
    ):
        return tf.identity(after)
