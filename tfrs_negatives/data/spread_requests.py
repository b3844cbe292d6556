"""Batches of rows of many requests, from rows that are sorted by request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.data import row_chunks
from tfrs_negatives.data.request_counts import (
    RequestCounts,
    add_counts,
    no_counts,
    show_counts,
    warn_once,
)
from tfrs_negatives.data.row_chunks import Key, Rows


# Nothing here depends on tensors' values; converting would only warn.
@tf.autograph.experimental.do_not_convert
def spread_requests(
    dataset: tf.data.Dataset,
    key: Key | Sequence[Key],
    batch_size: int,
    *,
    min_distinct_keys: int,
    buffer_size: int,
    seed: int = 0,
    drop_remainder: bool = False,
    input_context: tf.distribute.InputContext | None = None,
    key_mask: Key | None = None,
    counts: RequestCounts | None = None,
) -> tf.data.Dataset:
    """Makes batches with rows of at least `min_distinct_keys` requests.

    Rows wait in a buffer. A batch first takes one row each of `min_distinct_keys`
    requests, then any rows, all at random. If the buffer holds fewer requests, for
    example in the middle of a request that is longer than the buffer, the batch has a
    row of each and is filled with any rows. Such batches are counted, and the first one
    warns. A last, incomplete batch has the rows that are left.

    The larger the buffer, the fewer rows of its own request a row shares its batch
    with. A buffer of all rows is a shuffle.

    Memory: `buffer_size` rows, and a chunk of `max(batch_size, 1024)`, twice over. A
    stream's first batch waits until the buffer is full. The iterators checkpoint.

    Args:
      dataset: A `tf.data.Dataset` of rows, or of batches of rows of any sizes:
        dicts or tuples of dense tensors of known shapes. It may be infinite.
      key: Name of the feature that says which request a row belongs to (or its place in
        a tuple): integers or strings; or a list of several, which then have to agree.
        Every value is a key, negative numbers and "" too.
      batch_size: Rows of a batch.
      min_distinct_keys: How many requests a batch shall have rows of, at most
        `batch_size`.
      buffer_size: How many rows wait, at least `batch_size`. For batches of
        `min_distinct_keys` requests it must hold that many.
      seed: Equal seeds give equal batches; passes over the dataset differ.
      drop_remainder: Whether to drop the last batch if it is incomplete (counted), so
        that the batches' shape is known.
      input_context: The `tf.distribute.InputContext` of this pipeline, from
        `strategy.distribute_datasets_from_function`: each pipeline has the requests
        that a hash of their keys assigns to it, if all read the same rows in the same
        order.
      key_mask: Name (or place) of a bool feature, False where a row has no key: it is
        a request by itself. None: every row has one.
      counts: A `RequestCounts` that shows what was done.

    Returns:
      A `tf.data.Dataset` of batches [`batch_size`, ...].

    Raises:
      ValueError: Numbers out of range, no such key, keys that are neither integers nor
        strings, features that cannot be batched.
    """
    row_chunks.check_sizes(batch_size, buffer_size)
    _checks.check_at_least("seed", seed, 0)
    _checks.check_at_least("min_distinct_keys", min_distinct_keys, 1)
    if min_distinct_keys > batch_size:
        raise ValueError(
            "A batch cannot have more requests than rows: expected `min_distinct_keys` "
            f"of at most {batch_size}, received {min_distinct_keys}."
        )
    chunks = row_chunks.row_chunks(dataset, key, batch_size, input_context, key_mask)
    pipeline = input_context.input_pipeline_id if input_context else 0
    folded = np.random.SeedSequence([seed, pipeline]).generate_state(1, np.uint64)[0]
    # Seeds from a dataset beside the other are in its iterators' checkpoints.
    seeds = tf.data.Dataset.random(
        seed=int(folded >> np.uint64(1)), rerandomize_each_iteration=True
    ).batch(2, drop_remainder=True)
    specs = chunks.element_spec

    def step(
        state: dict[str, Any], element: tuple[dict[str, Any], tf.Tensor]
    ) -> tuple[dict[str, Any], tuple[Rows, tf.Tensor]]:
        chunk, seed = element
        keys = tf.concat([state["keys"], chunk["keys"]], 0)
        rows = row_chunks.join(state["rows"], chunk["rows"])
        least = batch_size if drop_remainder else 1
        needed = tf.where(chunk["is_last"], least, buffer_size + 1)
        picked, ends, waiting, num_short = _draw(
            tf.unique(keys)[1], batch_size, min_distinct_keys, needed, seed
        )
        num_dropped = tf.where(chunk["is_last"], tf.size(waiting), 0)
        totals = add_counts(
            state["counts"],
            rows_in=tf.size(chunk["keys"]),
            rows_out=tf.size(picked),
            dropped_rows=num_dropped,
            batches=tf.size(ends),
            rows_without_key=tf.math.count_nonzero(~chunk["has_key"]),
            short_batches=num_short,
        )
        name = "short_batches"
        totals[name] = warn_once(
            state["counts"][name],
            totals[name],
            f"spread_requests makes a batch of fewer than {min_distinct_keys} distinct "
            f"keys, all that its buffer of {buffer_size} rows holds. Raise "
            "`buffer_size`, or lower `min_distinct_keys`.",
        )
        after = {
            "rows": row_chunks.take(rows, waiting),
            "keys": tf.gather(keys, waiting),
            "counts": show_counts(counts, totals),
        }
        return after, (row_chunks.take(rows, picked), ends)

    state = {
        "rows": tf.nest.map_structure(row_chunks.empty_rows, specs["rows"]),
        "keys": tf.zeros([0], tf.int64),
        "counts": no_counts(),
    }
    batches = tf.data.Dataset.zip(chunks, seeds).scan(state, step)
    batches = batches.flat_map(row_chunks.slices)
    if not drop_remainder:
        return batches

    def with_shape(feature: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(feature, [batch_size, *feature.shape[1:]])

    return batches.map(
        lambda *batch: tf.nest.map_structure(
            with_shape, batch if type(specs["rows"]) is tuple else batch[0]
        )
    )


def _draw(
    number: tf.Tensor,
    batch_size: int,
    min_distinct: int,
    needed: tf.Tensor,
    seed: tf.Tensor,
) -> list[tf.Tensor]:
    """Draws batches until fewer rows are left than needed for one.

    Args:
      number: [n] int32, which request each row belongs to, from 0.
      batch_size: Most rows of a batch.
      min_distinct: Distinct requests wanted.
      needed: Scalar int32: fewer rows than these stay.
      seed: [2] int64.

    Returns:
      Places of the rows drawn [m] int32, ends of batches in them [k] int32, places of
      the others, ascending, and how many batches were short of requests.
    """

    def draw(
        picked: tf.Tensor, ends: tf.Tensor, waiting: tf.Tensor, num_short: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        priority = tf.random.stateless_uniform(
            tf.shape(waiting),
            tf.stack([seed[0], seed[1] + tf.size(ends, tf.int64)]),
            minval=0,
            maxval=2**62,
            dtype=tf.int64,
        )
        size = tf.minimum(batch_size, tf.size(waiting))
        chosen, is_short = _choose(
            tf.gather(number, waiting), priority, size, min_distinct
        )
        # In random order, so that parts of a batch are like the whole.
        order = tf.argsort(tf.gather(priority, chosen))
        batch = tf.gather(waiting, tf.gather(chosen, order))
        taken = tf.scatter_nd(
            chosen[:, tf.newaxis], tf.ones_like(chosen), [tf.size(waiting)]
        )
        return (
            tf.concat([picked, batch], 0),
            tf.concat([ends, [tf.size(picked) + size]], 0),
            tf.boolean_mask(waiting, taken == 0),
            num_short + tf.cast(is_short & (size == batch_size), tf.int32),
        )

    none, zero = tf.zeros([0], tf.int32), tf.zeros([], tf.int32)
    any_size = tf.TensorShape([None])
    return tf.while_loop(
        lambda picked, ends, waiting, _: tf.size(waiting) >= needed,
        draw,
        [none, none, tf.range(tf.size(number)), zero],
        shape_invariants=[any_size, any_size, any_size, zero.shape],
    )


def _choose(
    number: tf.Tensor, priority: tf.Tensor, size: tf.Tensor, min_distinct: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Places of `size` rows, and whether they lack requests.

    First come `min_distinct` rows that are their request's first by priority, then the
    others by priority.
    """
    best = tf.math.unsorted_segment_min(
        priority, number, tf.reduce_max(tf.concat([[-1], number], 0)) + 1
    )
    # Requests whose rows have left have no best one; it is larger than all.
    num_distinct = tf.math.count_nonzero(best < 2**62, dtype=tf.int32)
    num_first = tf.minimum(tf.minimum(size, min_distinct), num_distinct)
    last_best = -tf.math.top_k(-best, num_first).values[-1]
    comes_first = (priority == tf.gather(best, number)) & (priority <= last_best)
    score = priority - tf.where(comes_first, tf.constant(2**62, tf.int64), 0)
    return tf.math.top_k(-score, size).indices, num_distinct < min_distinct
