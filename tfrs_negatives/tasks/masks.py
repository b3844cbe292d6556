"""Which pairs may not be negatives: the rules of columns, the mask of row negatives."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives._ids import pairs
from tfrs_negatives._sorted_keys import SortedKeys
from tfrs_negatives.losses import rules
from tfrs_negatives.losses.repeat_groups import Groups
from tfrs_negatives.tasks.batch import Batch
from tfrs_negatives.tasks.columns import Columns
from tfrs_negatives.tasks.keys import KnownPositives
from tfrs_negatives.tasks.options import Options


def rules_of(
    batch: Batch, columns: Columns, options: Options, groups: Groups | None = None
) -> list[rules.Rule]:
    """The rules that drop columns, as options and batch ask for.

    Args:
      batch, columns, options: Of the call.
      groups: Groups of rows: the rules are for these, and without accidental hits, in
        which rows of a group differ. None: for rows.
    """
    collected = []
    chosen = None if groups is None else groups.first
    if options.remove_accidental_hits and groups is None:
        own = columns.own(columns.ids.values)
        collected.append(rules.same_key(own, columns.by_item))
    if batch.known is not None:
        collected.append(known_positives_of(batch.known, columns, chosen))
    if batch.strata is not None:
        of_columns = columns.strata(batch.strata.candidates)
        by_stratum = rules.SortedColumns(
            of_columns.values, columns.size, of_columns.mask
        )
        collected.append(rules.other_keys(batch.strata.rows, by_stratum))
    for name, keys in batch.keys.items():
        own = keys
        if chosen is not None:
            own = keys.map(lambda values: tf.gather(values, chosen))
        if options.mask_shared_positives:
            of_positives = columns.keys_of_positives[name]
            collected.append(
                rules.shared_positives(
                    own.values,
                    of_positives.values,
                    columns.positives(columns.ids.values),
                    columns.by_item,
                    own.mask,
                    of_positives.mask,
                )
            )
        of_columns = columns.keys(name)
        by_key = rules.SortedColumns(of_columns.values, columns.size, of_columns.mask)
        collected.append(rules.same_key(own.values, by_key, own.mask))
    return collected


def known_positives_of(
    known: KnownPositives, columns: Columns, rows: tf.Tensor | None = None
) -> rules.Rule:
    """The rule that drops columns in the lists, of all rows or of some [r]."""
    starts, ends = known.starts, known.ends
    if rows is not None:
        starts, ends = tf.gather(starts, rows), tf.gather(ends, rows)
    return rules.known_positives(
        known.ids, starts, ends, known.longest, columns.by_item
    )


def accidental_hits_of(
    rows: tf.Tensor, num_rows: tf.Tensor, columns: Columns
) -> rules.Rule:
    """The rule that drops columns that hold the row's own item again, for some rows.

    Args:
      rows: [r] int32, distinct row numbers; other rows drop nothing.
      num_rows: B, scalar int32.
      columns: Of the call.
    """
    # Lists of one item each; those of other rows are empty.
    numbers, places = tf.range(tf.size(rows)), rows[:, tf.newaxis]
    none = tf.zeros(num_rows[tf.newaxis], tf.int32)
    return rules.Rule(
        tf.gather(columns.ids.values, rows),
        columns.by_item,
        row_starts=tf.tensor_scatter_nd_update(none, places, numbers),
        row_ends=tf.tensor_scatter_nd_update(none, places, numbers + 1),
    )


def mask_of_negatives(
    batch: Batch, columns: Columns, options: Options
) -> tf.Tensor | None:
    """Which of the rows' own negatives count: the caller's mask and the rules on ids.

    The rules on keys do not apply: a negative that was chosen for a row carries no
    other row's key.

    Returns:
      [B, M] bool, or None if there are none or all count.
    """
    negatives = batch.negatives
    if negatives is None:
        return None
    ids, mask = negatives.item_ids, negatives.mask
    dropped = []
    if options.remove_accidental_hits:
        positives = batch.of_rows(batch.item_ids)
        dropped.append(tf.equal(ids, positives[:, tf.newaxis]))
        if batch.targets is not None:
            dropped.append(batch.targets.hold(ids))
    if batch.known is not None:
        dropped.append(are_known(batch.known, ids, tf.range(batch.num_rows)))
    if options.mask_shared_positives:
        dropped += _shared(ids, batch, columns)
    if not dropped:
        return mask
    allowed = ~tf.reduce_any(tf.stack(dropped), axis=0)
    return allowed if mask is None else allowed & mask


def are_known(known: KnownPositives, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Whether each of `ids` [r, M] is in the list of its row, `rows` [r] int32."""
    listed = pairs(tf.cast(known.rows, tf.int64), known.ids)
    return _among(pairs(tf.cast(rows, tf.int64)[:, tf.newaxis], ids), listed)


def _shared(ids: tf.Tensor, batch: Batch, columns: Columns) -> list[tf.Tensor]:
    """Which of `ids` [B, M] are positives of a row with the same key, key by key."""
    everyones = columns.positives(columns.ids.values)
    found = []
    for name, keys in batch.keys.items():
        of_positives = columns.keys_of_positives[name]
        listed = pairs(of_positives.values, everyones)
        wanted = pairs(keys.values[:, tf.newaxis], ids)
        shared = _among(wanted, listed, of_positives.mask)
        found.append(shared & keys.present()[:, tf.newaxis])
    return found


def _among(
    wanted: tf.Tensor, values: tf.Tensor, valid: tf.Tensor | None = None
) -> tf.Tensor:
    """Whether each of `wanted`, of any shape, is among `values` [n] that are valid."""
    first, last = SortedKeys(values, valid).ranges(tf.reshape(wanted, [-1]))
    return tf.reshape(first < last, tf.shape(wanted))
