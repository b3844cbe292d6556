"""Rows and columns that repeat embeddings, in groups of equals.

In batches that are sorted by request most rows repeat a query, and popular items
repeat columns. Rows that agree in their query and in everything the rules ask for are
one group; columns that agree in embedding, item and log q are one column with a count.
The softmax over B x C pairs is then one over groups x distinct columns (Pinterest
Engineering, "Scaling recommendation systems with request-level deduplication", 2026,
has the idea for the towers; the algebra is in `repeat_blocks`).
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfrs_negatives._ids import pairs
from tfrs_negatives.losses.rules import Rule, enumerate_ranges


class Groups:
    """Entries that are equal in every respect, as groups in order of appearance.

    Args:
      *respects: [n] integers each.

    Attributes:
      of: [n] int32, the group of each entry.
      first: [G] int32, the first entry of each group.
      counts: [G] int32, how many entries a group has.
      size: G, scalar int32.
    """

    def __init__(self, *respects: tf.Tensor) -> None:
        identity = tf.cast(respects[0], tf.int64)
        for other in respects[1:]:
            identity = pairs(identity, tf.cast(other, tf.int64))
        distinct, self.of, self.counts = tf.unique_with_counts(identity)
        self.size = tf.size(distinct)
        self.first = tf.math.unsorted_segment_min(
            tf.range(tf.size(identity)), self.of, self.size
        )


class Layout:
    """Everything about a batch of repeats but its embeddings.

    Args:
      rows: `Groups` of the B rows.
      columns: `Groups` of the C columns; row i's positive is column i.
      rules: `rules.Rule`s of groups of rows (row g is group g) and C columns. Those on
        items want columns of one group to hold one item.
      accidental_ids: [C] int64, item ids: no row has another column of its positive's
        item as a negative. None: it may.
      accidental_mask: [C] bool, which columns have an id; None: all.
    """

    def __init__(
        self,
        rows: Groups,
        columns: Groups,
        rules: Sequence[Rule] = (),
        accidental_ids: tf.Tensor | None = None,
        accidental_mask: tf.Tensor | None = None,
    ) -> None:
        self.rows, self.columns = rows, columns
        #: Rules that drop all of a distinct column, and those that drop single copies.
        self.item_rules = [rule for rule in rules if rule.of_items]
        self.copy_rules = [rule for rule in rules if not rule.of_items]
        num_rows = tf.size(rows.of)
        #: [B] int32, the rows in the order of their groups.
        self.order = tf.argsort(rows.of, stable=True)
        #: [B] int32, in that order.
        self.group_of_row = tf.gather(rows.of, self.order)
        self.own = tf.gather(columns.of[:num_rows], self.order)
        self.without_hits = accidental_ids is not None
        # Columns that a row loses together: those of its positive's item, or its own.
        together = tf.range(columns.size)
        if self.without_hits:
            together = tf.unique(tf.gather(accidental_ids, columns.first)).idx
            if accidental_mask is not None:
                # A column without an id is lost with no other.
                has_id = tf.gather(accidental_mask, columns.first)
                alone = columns.size + tf.range(columns.size)
                together = tf.unique(tf.where(has_id, together, alone)).idx
        self._set_parts(together)
        self.own_is_counted = self._own_is_counted()

    def _set_parts(self, together: tf.Tensor) -> None:
        """Parts: the sets of columns that some row of a group loses."""
        num_sets = tf.cast(tf.size(together), tf.int64) + 1
        sets = tf.cast(tf.gather(together, self.own), tf.int64)
        identity = tf.cast(self.group_of_row, tf.int64) * num_sets + sets
        parts = tf.sort(tf.unique(identity).y)
        #: [B] int32, the part that a row loses.
        self.part_of_row = tf.searchsorted(parts, identity)
        #: [S] int32, sorted.
        self.group_of_part = tf.cast(parts // num_sets, tf.int32)
        # The distinct columns of each part, one part after the other.
        by_set = tf.argsort(together, stable=True)
        sorted_sets = tf.gather(together, by_set)
        wanted = tf.cast(parts % num_sets, tf.int32)
        starts = tf.searchsorted(sorted_sets, wanted, side="left")
        ends = tf.searchsorted(sorted_sets, wanted, side="right")
        #: [P] int32: the part and the distinct column of each pair.
        self.part_of_pair, listed = enumerate_ranges(starts, ends)
        self.column_of_pair = tf.gather(by_set, listed)
        self.group_of_pair = tf.gather(self.group_of_part, self.part_of_pair)
        own = tf.stack([self.part_of_row, self.own], axis=1)
        #: [B] int32, the pair of a row and its own positive.
        self.pair_of_row = _find(self.part_of_pair, self.column_of_pair, own)

    def _own_is_counted(self) -> tf.Tensor:
        """[B] bool, whether no rule drops the row's own column for its group."""
        counted = tf.fill(tf.shape(self.order), True)
        for rule in self.copy_rules:
            if rule.is_of_single_entries:
                counted &= ~rule.drops(self.group_of_row, self.order)
        return counted


def _find(parts: tf.Tensor, columns: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Where each `(part, column)` of `wanted` [n, 2] is among the pairs."""
    width = tf.reduce_max(columns) + 1
    width = tf.cast(tf.maximum(width, tf.reduce_max(wanted[:, 1]) + 1), tf.int64)
    parts, columns, wanted = (tf.cast(x, tf.int64) for x in (parts, columns, wanted))
    listed = parts * width + columns
    order = tf.argsort(listed)
    places = tf.searchsorted(
        tf.gather(listed, order), wanted[:, 0] * width + wanted[:, 1]
    )
    return tf.gather(order, places)
