"""A small batch for the tests of `SampledSoftmax`, and what they all do with it."""

import numpy as np
import tensorflow as tf
from oracles import dropped_pairs

from tfrs_negatives.losses import rules

B, C, D = 5, 8, 3


def key_rules(batch):
    keys = tf.constant(batch["keys"], tf.int64)
    ids = tf.constant(batch["ids"], tf.int64)
    return [
        rules.same_key(keys, rules.SortedColumns(keys, C)),
        rules.same_key(ids[:B], rules.SortedColumns(ids, C)),
    ]


def key_dropped(batch):
    keys = list(batch["keys"])
    return dropped_pairs(
        B,
        C,
        ids=batch["ids"],
        accidental_hits=True,
        row_keys=[keys],
        column_keys=[keys + [None] * (C - B)],
    )


def value_and_gradients(loss, queries, candidates, **kwargs):
    queries, candidates = (
        tf.convert_to_tensor(queries),
        tf.convert_to_tensor(candidates),
    )
    with tf.GradientTape() as tape:
        tape.watch([queries, candidates])
        value = loss(queries, candidates, **kwargs)
    return value, *tape.gradient(value, [queries, candidates])


def zeros(*shape):
    return np.zeros(shape, np.float32)


def everything_on(batch, dtype=tf.float64):
    """One of each rule, a mask, log q and weights."""
    keys = tf.constant(batch["keys"], tf.int64)
    ids = tf.constant(batch["ids"], tf.int64)
    known = tf.constant([[4, -1], [7, 3], [-1, -1], [5, 4], [3, 7]], tf.int64)
    starts = 2 * tf.range(B)
    by_id = rules.SortedColumns(ids, C)
    return {
        "rules": [
            *key_rules(batch),
            rules.shared_positives(keys, keys, ids[:B], by_id),
            rules.known_positives(
                tf.reshape(known, [-1]),
                starts,
                starts + 2,
                2,
                by_id,
            ),
        ],
        "score_mask": tf.constant(np.eye(B, C, dtype=bool) | (batch["ids"] != 6)),
        "candidate_log_q": tf.constant(batch["log_q"], dtype),
        "sample_weight": tf.constant(batch["weights"], dtype),
    }
