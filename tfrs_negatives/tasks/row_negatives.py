"""Which of the negatives that rows have of their own may count."""

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable, is_padding, pairs
from tfrs_negatives.tasks import negative_rules


def allowed(
    negative_ids,
    candidate_ids,
    shape,
    columns,
    *,
    negative_mask=None,
    remove_accidental_hits=False,
    query_keys=None,
    known_positive_ids=None,
    mask_shared_positives=False,
):
    """Applies the rules on ids to the negatives of single rows.

    The rules on keys do not apply: a negative that was chosen for a row carries no
    other row's key.

    Args:
      negative_ids: [B, M], padded with any negative number or ""; None if no rule
        compares ids.
      candidate_ids: [C], whose first B are the rows' positives, or None.
      shape: `(B, M)`, scalars int32.
      columns: `tasks.columns.Columns`.
      negative_mask: [B, M] bool or None.
      remove_accidental_hits, query_keys, known_positive_ids, mask_shared_positives:
        As in `tasks.Retrieval`.

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

    negative_ids = tf.convert_to_tensor(negative_ids)
    hint = "Pass one id for each negative, [B, M]."
    _checks.check_rank("negative_ids", negative_ids, (2,), hint)
    for axis, size in enumerate(shape):
        negative_ids = _checks.check_size(
            "negative_ids", negative_ids, axis, size, hint
        )
    num_rows = shape[0]
    mask = ~is_padding(negative_ids)
    if negative_mask is not None:
        mask &= negative_mask
    if candidate_ids is None:
        return mask
    check_comparable("negative_ids", negative_ids, "candidate_ids", candidate_ids)
    ids = as_int64("negative_ids", negative_ids)
    positives = as_int64("candidate_ids", candidate_ids)[:num_rows]
    if remove_accidental_hits:
        mask &= tf.not_equal(ids, positives[:, tf.newaxis])
    if known_positive_ids is not None:
        known = negative_rules.KnownPositives(
            known_positive_ids, candidate_ids, num_rows
        )
        rows = tf.range(tf.cast(num_rows, tf.int64))[:, tf.newaxis]
        listed = pairs(tf.cast(known.rows, tf.int64), known.ids)
        mask &= ~_contains(listed, pairs(rows, ids))
    if mask_shared_positives:
        everyones = columns.of_positives(positives)
        for keys in negative_rules.named_keys(query_keys, num_rows).values():
            listed = pairs(columns.of_positives(keys), everyones)
            mask &= ~_contains(listed, pairs(keys[:, tf.newaxis], ids))
    return mask


def _contains(values, wanted):
    """Whether each of `wanted` is among `values` [n]; any shape."""
    # With one more than there are, so that none at all can be looked into.
    ordered = tf.concat([tf.sort(values), [tf.int64.max]], axis=0)
    flat = tf.reshape(wanted, [-1])
    places = tf.minimum(tf.searchsorted(ordered, flat), tf.size(values))
    found = tf.equal(tf.gather(ordered, places), flat) & (places < tf.size(values))
    return tf.reshape(found, tf.shape(wanted))
