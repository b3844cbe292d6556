"""Which of the negatives that rows have of their own may count."""

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable, pairs
from tfrs_negatives._sorted_keys import SortedKeys
from tfrs_negatives.tasks.keys import KnownPositives, row_keys


def allowed(
    negative_ids,
    candidate_ids,
    shape,
    columns,
    *,
    negative_mask=None,
    remove_accidental_hits=False,
    query_keys=None,
    query_key_mask=None,
    known_positive_ids=None,
    mask_shared_positives=False,
):
    """Applies the rules on ids to the negatives of single rows.

    The rules on keys do not apply: a negative that was chosen for a row carries no
    other row's key.

    Args:
      negative_ids: [B, M]; None if no rule compares ids.
      candidate_ids: [C], whose first B are the rows' positives, or None.
      shape: `(B, M)`, scalars int32.
      columns: `tasks.columns.Columns`.
      negative_mask: [B, M] bool or None.
      remove_accidental_hits, query_keys, query_key_mask, known_positive_ids,
        mask_shared_positives: As in `tasks.Retrieval`.

    Returns:
      [B, M] bool, or None if all are allowed.

    Raises:
      ValueError: A rule without `negative_ids`; ids of other kinds or shapes.
    """
    asked = {
        "remove_accidental_hits=True": remove_accidental_hits,
        "known_positive_ids": known_positive_ids is not None,
        "mask_shared_positives=True": mask_shared_positives,
    }
    if negative_ids is None:
        for rule, on in asked.items():
            if on:
                raise ValueError(
                    f"`{rule}` compares ids: expected `negative_ids` of shape [B, M] "
                    "beside `negative_embeddings`, received None. Pass them, or leave "
                    "the rule out."
                )
        return negative_mask

    negative_ids = _checks.dense("negative_ids", negative_ids)
    hint = "Pass one id for each negative, [B, M]."
    _checks.check_rank("negative_ids", negative_ids, (2,), hint)
    for axis, size in enumerate(shape):
        negative_ids = _checks.check_size(
            "negative_ids", negative_ids, axis, size, hint
        )
    if candidate_ids is not None:
        check_comparable("negative_ids", negative_ids, "candidate_ids", candidate_ids)
    if not any(asked.values()):
        return negative_mask
    num_rows = shape[0]
    ids = as_int64("negative_ids", negative_ids)
    positives = as_int64("candidate_ids", candidate_ids)[:num_rows]
    mask = tf.ones_like(ids, tf.bool) if negative_mask is None else negative_mask
    if remove_accidental_hits:
        mask &= tf.not_equal(ids, positives[:, tf.newaxis])
    if known_positive_ids is not None:
        known = KnownPositives(known_positive_ids, candidate_ids, num_rows)
        rows = tf.range(tf.cast(num_rows, tf.int64))[:, tf.newaxis]
        listed = pairs(tf.cast(known.rows, tf.int64), known.ids)
        mask &= ~_contains(listed, pairs(rows, ids))
    if mask_shared_positives:
        everyones = columns.of_positives(positives)
        for keys in row_keys(query_keys, query_key_mask, num_rows).values():
            of_positives = keys.map(columns.of_positives)
            listed = pairs(of_positives.values, everyones)
            shared = _contains(
                listed, pairs(keys.values[:, tf.newaxis], ids), of_positives.mask
            )
            mask &= ~(shared & keys.present()[:, tf.newaxis])
    return mask


def _contains(values, wanted, valid=None):
    """Whether each of `wanted`, of any shape, is among `values` [n] that are valid."""
    ordered = SortedKeys(values, valid)
    flat = tf.reshape(wanted, [-1])
    first, last = ordered.ranges(flat)
    return tf.reshape(first < last, tf.shape(wanted))
