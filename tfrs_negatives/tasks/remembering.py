"""What a task adds to its memory of recent candidates."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives.layers.cross_batch_memory import CrossBatchMemory
from tfrs_negatives.tasks import log_q as log_q_lib
from tfrs_negatives.tasks.batch import Batch
from tfrs_negatives.tasks.columns import Columns
from tfrs_negatives.tasks.keys import Keys
from tfrs_negatives.tasks.log_q import LogQ
from tfrs_negatives.tasks.options import Options


def remember(
    memory: CrossBatchMemory,
    batch: Batch,
    columns: Columns,
    log_q: LogQ,
    positives: tf.Tensor,
    options: Options,
) -> None:
    """Adds everyone's positives to the memory, the same on each replica.

    Args:
      memory: The task's.
      batch, columns, log_q, options: Of the call.
      positives: [num_positives, d], their embeddings.
    """
    own_log_q = log_q_lib.of_batch_alone(batch, log_q, options)
    item_ids = None if batch.item_ids is None else batch.of_rows(batch.item_ids)
    keys = _keys(batch)
    checked = [*batch.all_checked(), *(part for part in log_q if part is not None)]
    with tf.control_dependencies(checked):
        memory.write(
            columns.in_replica_order(positives),
            ids=None if item_ids is None else distribute.gather(item_ids),
            keys=distribute.gather(keys.values),
            has_key=distribute.gather(keys.present()),
            log_q=None if own_log_q is None else distribute.gather(own_log_q),
        )


def _keys(batch: Batch) -> Keys:
    """The keys of the rows' own candidates, [B, number of keys]."""
    keys = []
    for name, own in batch.keys.items():
        candidate_keys = batch.candidate_keys.get(name)
        keys.append(
            own if candidate_keys is None else candidate_keys.map(batch.of_rows)
        )
    if not keys:
        shape = tf.stack([batch.num_rows, 0])
        return Keys(tf.zeros(shape, tf.int64), tf.zeros(shape, tf.bool))
    return Keys(
        tf.stack([key.values for key in keys], axis=1),
        tf.stack([key.present() for key in keys], axis=1),
    )
