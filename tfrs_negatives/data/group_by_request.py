"""Batches that keep the rows of a request together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfrs_negatives.data import row_chunks
from tfrs_negatives.data.request_counts import (
    Counts,
    RequestCounts,
    add_counts,
    no_counts,
    show_counts,
    warn_once,
)
from tfrs_negatives.data.row_chunks import Key, Rows

# How many of the requests that have left are remembered.
RECENT_REQUESTS = 16_384


# Nothing here depends on tensors' values; converting would only warn.
@tf.autograph.experimental.do_not_convert
def group_by_request(
    dataset: tf.data.Dataset,
    key: Key | Sequence[Key],
    batch_size: int,
    *,
    buffer_size: int | None = None,
    input_context: tf.distribute.InputContext | None = None,
    key_mask: Key | None = None,
    counts: RequestCounts | None = None,
) -> tf.data.Dataset:
    """Makes batches of whole requests, so that none that fits is split.

    A batch takes requests in the order of their first rows as long as they fit into
    `batch_size`. So batches vary in size, and no row is dropped. A request that is
    larger than a batch is cut into pieces of `batch_size`; the last piece shares its
    batch with other requests. Such requests are counted, and the first one warns.

    Rows of a request need not be adjacent: those that are in the buffer together stay
    together. By default rows must be sorted by request, and the buffer is as large as
    a batch. A key that comes back after its rows have left is then an error, if it is
    among the 16,384 requests that left last; otherwise it begins a new request
    unnoticed. So repeat a dataset after grouping it, not before.

    Memory: `buffer_size` rows, and a chunk of `max(batch_size, 1024)`, twice over.
    A stream's rows wait until a chunk is full. The iterators checkpoint.

    Args:
      dataset: A `tf.data.Dataset` of rows, or of batches of rows of any sizes:
        dicts or tuples of dense tensors of known shapes. It may be infinite.
      key: Name of the feature that says which request a row belongs to (or its place in
        a tuple): integers or strings; or a list of several, which then have to agree.
        Every value is a key, negative numbers and "" too.
      batch_size: Most rows of a batch.
      buffer_size: None: the rows are sorted by request. Else how many rows wait for
        others of their request, at least `batch_size`; a key that comes back later
        begins a new request (counted, with a warning at the first).
      input_context: The `tf.distribute.InputContext` of this pipeline, from
        `strategy.distribute_datasets_from_function`: each pipeline has the requests
        that a hash of their keys assigns to it, if all read the same rows in the same
        order. (`experimental_distribute_dataset` cuts batches into replicas' parts,
        and requests with them.)
      key_mask: Name (or place) of a bool feature, False where a row has no key: it is
        a request by itself. None: every row has one.
      counts: A `RequestCounts` that shows what was done.

    Returns:
      A `tf.data.Dataset` of batches [n, ...], 1 <= n <= `batch_size`.

    Raises:
      ValueError: Numbers out of range, no such key, keys that are neither integers nor
        strings, features that cannot be batched.
      tf.errors.InvalidArgumentError: While iterating: rows declared sorted are not.
    """
    is_sorted = buffer_size is None
    num_waiting = batch_size if buffer_size is None else buffer_size
    row_chunks.check_sizes(batch_size, num_waiting)
    chunks = row_chunks.row_chunks(dataset, key, batch_size, input_context, key_mask)

    def step(
        state: dict[str, Any], chunk: dict[str, Any]
    ) -> tuple[dict[str, Any], tuple[Rows, tf.Tensor]]:
        keys = tf.concat([state["keys"], chunk["keys"]], 0)
        has_key = tf.concat([state["has_key"], chunk["has_key"]], 0)
        # `unique` numbers keys in the order in which they first occur.
        requests, number, sizes = tf.unique_with_counts(keys)
        num_held = _num_different(number[: tf.size(state["keys"])])
        num_late = _num_common(state["recent"], requests[num_held:])
        if is_sorted:
            num_late = _check_sorted(num_late, key)
        ends = tf.cumsum(sizes)
        kept = tf.where(chunk["is_last"], 0, num_waiting)
        cuts, num_cut, continues = _cut(ends, batch_size, kept, state["continues"])
        left = tf.concat([[0], cuts], 0)[-1]
        rows = _sort(row_chunks.join(state["rows"], chunk["rows"]), number)
        totals = add_counts(
            state["counts"],
            rows_in=tf.size(chunk["keys"]),
            rows_out=left,
            batches=tf.size(cuts),
            rows_without_key=tf.math.count_nonzero(~chunk["has_key"]),
            cut_requests=num_cut,
            late_requests=num_late,
        )
        totals = _with_warnings(state["counts"], totals, batch_size, num_waiting)
        num_gone = tf.searchsorted(ends, [left], side="right")[0]
        has_key = tf.math.unsorted_segment_max(
            tf.cast(has_key, tf.int32), number, tf.size(requests)
        )
        gone = tf.boolean_mask(requests[:num_gone], has_key[:num_gone] > 0)
        recent = tf.concat([state["recent"], gone], 0)
        after = {
            "rows": tf.nest.map_structure(lambda feature: feature[left:], rows),
            "keys": tf.repeat(requests, sizes)[left:],
            "has_key": tf.repeat(has_key > 0, sizes)[left:],
            "recent": recent[-RECENT_REQUESTS:],
            "continues": continues,
            "counts": show_counts(counts, totals),
        }
        return after, (rows, cuts)

    specs = chunks.element_spec
    state = {
        "rows": tf.nest.map_structure(row_chunks.empty_rows, specs["rows"]),
        "keys": tf.zeros([0], tf.int64),
        "has_key": tf.zeros([0], tf.bool),
        "recent": tf.zeros([0], tf.int64),
        "continues": False,
        "counts": no_counts(),
    }
    return chunks.scan(state, step).flat_map(row_chunks.slices)


def _cut(
    ends: tf.Tensor, batch_size: int, kept: tf.Tensor, continues: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Where batches end.

    Args:
      ends: [R] int32, where requests end.
      batch_size: Most rows of a batch.
      kept: Scalar; once no more rows than this are left, they stay.
      continues: Whether the first request's rows continue one that was cut.

    Returns:
      Ends of batches [k] int32, how many requests were cut, and whether the first
      request after the last batch continues one.
    """
    num_rows = tf.concat([[0], ends], 0)[-1]

    def next_cut(
        start: tf.Tensor, cuts: tf.Tensor, num_cut: tf.Tensor, continues: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        limit = start + batch_size
        num_fit = tf.searchsorted(ends, [limit], side="right")[0]
        end = tf.concat([[0], ends], 0)[num_fit]
        too_large = end <= start
        num_cut += tf.cast(too_large & ~continues, tf.int32)
        end = tf.where(too_large, limit, end)
        return end, tf.concat([cuts, [end]], 0), num_cut, too_large

    start = tf.zeros([], tf.int32)
    _, cuts, num_cut, continues = tf.while_loop(
        lambda start, *_: num_rows - start > kept,
        next_cut,
        [start, tf.zeros([0], tf.int32), start, continues],
        shape_invariants=[
            start.shape,
            tf.TensorShape([None]),
            start.shape,
            start.shape,
        ],
    )
    return cuts, num_cut, continues


def _sort(rows: Rows, number: tf.Tensor) -> Rows:
    """The rows of one request after those of another; most often they are already."""
    return tf.cond(
        tf.reduce_all(number[1:] >= number[:-1]),
        lambda: rows,
        lambda: row_chunks.take(rows, tf.argsort(number, stable=True)),
    )


def _num_different(number: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(tf.concat([[-1], number], 0)) + 1


def _num_common(recent: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """How many of the keys `new` [m], all different, are among `recent` [n]."""
    number = tf.unique(tf.concat([recent, new], 0))[1]
    known = _num_different(number[: tf.size(recent)])
    return tf.math.count_nonzero(number[tf.size(recent) :] < known)


def _check_sorted(num_late: tf.Tensor, key: Key | Sequence[Key]) -> tf.Tensor:
    message = (
        f"Rows must be sorted by request (`{key}`): received rows of requests whose "
        "others have left in batches before. Sort them, or pass `buffer_size`, the "
        "number of rows among which to look for a request's others; and repeat a "
        "dataset only after grouping it. Requests that came back:"
    )
    with tf.control_dependencies(
        [tf.debugging.Assert(num_late == 0, [message, num_late])]
    ):
        return tf.identity(num_late)


def _with_warnings(
    before: Counts, after: Counts, batch_size: int, buffer_size: int
) -> Counts:
    name, late = "cut_requests", "late_requests"
    return {
        **after,
        name: warn_once(
            before[name],
            after[name],
            f"group_by_request cuts a request of more than {batch_size} rows. Raise "
            "`batch_size` to keep it together.",
        ),
        late: warn_once(
            before[late],
            after[late],
            "group_by_request: a key came back after its rows had left. Raise "
            f"`buffer_size` ({buffer_size}) to keep such requests together.",
        ),
    }
