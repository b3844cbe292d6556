"""From the arguments of a task's call to the rules that drop negatives."""

import tensorflow as tf

from tfrs_negatives._ids import as_int64
from tfrs_negatives.losses import rules
from tfrs_negatives.tasks.keys import (
    Keys,
    KnownPositives,
    keys_of_candidates,
    need,
    row_keys,
)


def collect_rules(
    num_rows,
    num_candidates,
    columns,
    *,
    remove_accidental_hits=False,
    candidate_ids=None,
    column_ids=None,
    query_keys=None,
    query_key_mask=None,
    candidate_keys=None,
    candidate_key_mask=None,
    known_positive_ids=None,
    mask_shared_positives=False,
    memory=None,
    groups=None,
):
    """Builds the rules that the arguments ask for.

    Args:
      num_rows: B, scalar int32.
      num_candidates: C, scalar int32.
      columns: `tasks.columns.Columns`.
      remove_accidental_hits, candidate_ids, query_keys, query_key_mask,
        candidate_keys, candidate_key_mask, known_positive_ids, mask_shared_positives:
        As in `tasks.Retrieval`.
      column_ids: What `ids_of_columns` returned; None if no rule compares ids.
      memory: `layers.cross_batch_memory.Entries`, which become columns behind those of
        positives; None for none.
      groups: `losses.repeats.Groups` of rows: the rules are for these, and without
        accidental hits, in which rows of a group differ. None: for rows.

    Returns:
      A list of `losses.rules.Rule`.

    Raises:
      ValueError: A rule without the ids or keys that it compares.
    """
    by_row = row_keys(query_keys, query_key_mask, num_rows)
    by_candidate = keys_of_candidates(
        candidate_keys, candidate_key_mask, query_keys, num_candidates
    )
    if mask_shared_positives:
        need(query_keys, "mask_shared_positives=True", "query_keys", "[B]")

    collected, num_columns = [], columns.num_columns
    if memory is not None:
        num_columns += tf.size(memory.ids)

    def of_rows(values):
        return values if groups is None else tf.gather(values, groups.first)

    if column_ids is not None:
        by_item = rules.SortedColumns(column_ids.values, num_columns, column_ids.mask)
    if remove_accidental_hits and groups is None:
        collected.append(rules.same_key(column_ids.values[:num_rows], by_item))
    if known_positive_ids is not None:
        known = KnownPositives(known_positive_ids, candidate_ids, num_rows)
        collected.append(known.rule(by_item, groups and groups.first))
    for place, (name, keys) in enumerate(by_row.items()):
        keys_of_positives = keys.map(columns.of_positives)
        if name in by_candidate:
            keys_of_columns = by_candidate[name].map(columns.of)
        else:
            keys_of_columns = keys_of_positives
        own = keys.map(of_rows)
        if mask_shared_positives:
            collected.append(
                rules.shared_positives(
                    own.values,
                    keys_of_positives.values,
                    column_ids.values[: columns.num_positives],
                    by_item,
                    own.mask,
                    keys_of_positives.mask,
                )
            )
        if memory is not None:
            recalled = Keys(memory.keys[:, place], memory.has_key[:, place])
            keys_of_columns = _insert_keys(
                keys_of_columns, recalled, columns.num_positives
            )
        by_key = rules.SortedColumns(
            keys_of_columns.values, num_columns, keys_of_columns.mask
        )
        collected.append(rules.same_key(own.values, by_key, own.mask))
    return collected


def accidental_hits(column_ids, num_rows, rows):
    """The rule that drops columns that hold the row's own item again, for some rows.

    Args:
      column_ids: What `ids_of_columns` returned.
      num_rows: B, scalar int32.
      rows: [r] int32, distinct row numbers; other rows drop nothing.
    """
    ids, mask = column_ids
    by_item = rules.SortedColumns(ids, tf.size(ids), mask)
    # Lists of one item each; those of other rows are empty.
    numbers, places = tf.range(tf.size(rows)), rows[:, tf.newaxis]
    none = tf.zeros(num_rows[tf.newaxis], tf.int32)
    return rules.Rule(
        tf.gather(ids, rows),
        by_item,
        row_starts=tf.tensor_scatter_nd_update(none, places, numbers),
        row_ends=tf.tensor_scatter_nd_update(none, places, numbers + 1),
    )


def ids_of_columns(candidate_ids, columns, memory=None):
    """`Keys` [num_columns], the items of the columns, the memory's among them.

    Args:
      candidate_ids: [C], checked.
      columns, memory: As in `collect_rules`.
    """
    ids = Keys(columns.of(as_int64("candidate_ids", candidate_ids)))
    if memory is None:
        return ids
    return _insert_keys(ids, Keys(memory.ids, memory.has_id), columns.num_positives)


def check_ids(
    candidate_ids, remove_accidental_hits, known_positive_ids, mask_shared_positives
):
    """Returns whether a rule compares ids.

    Raises:
      ValueError: One does, and there are none.
    """
    by_id = {
        "remove_accidental_hits=True": remove_accidental_hits,
        "known_positive_ids": known_positive_ids is not None,
        "mask_shared_positives=True": mask_shared_positives,
    }
    for rule, asked in by_id.items():
        if asked:
            need(candidate_ids, rule, "candidate_ids", "[C]")
    return any(by_id.values())


def insert(values, others, num_rows):
    """Puts `others` behind the first `num_rows` values, the batch's own."""
    return tf.concat([values[:num_rows], others, values[num_rows:]], axis=0)


def batch_keys(
    num_rows,
    num_candidates,
    query_keys,
    query_key_mask,
    candidate_keys,
    candidate_key_mask,
):
    """The keys of the batch's own candidates, for a memory.

    Returns:
      `(keys, has_key)`, [B, number of keys] int64 and bool.
    """
    by_row = row_keys(query_keys, query_key_mask, num_rows)
    by_candidate = keys_of_candidates(
        candidate_keys, candidate_key_mask, query_keys, num_candidates
    )
    keys = [
        by_candidate.get(name, own).map(lambda values: values[:num_rows])
        for name, own in by_row.items()
    ]
    if not keys:
        shape = tf.stack([num_rows, 0])
        return tf.zeros(shape, tf.int64), tf.zeros(shape, tf.bool)
    return (
        tf.stack([key.values for key in keys], axis=1),
        tf.stack([key.present() for key in keys], axis=1),
    )


def _insert_keys(keys, others, num_rows):
    return Keys(
        insert(keys.values, others.values, num_rows),
        insert(keys.present(), others.present(), num_rows),
    )
