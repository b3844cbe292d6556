"""Which (row, column) pairs may not be negatives, as vectors of keys.

Every rule of the package has one form: row i owns a list of keys, column k has
one key, and the pair is dropped when column k's key is in row i's list.

| rule | keys of row i | key of column k |
|---|---|---|
| accidental hit | id of i's positive | id of k |
| same key | key of i | key of k |
| known positives | ids known for i | id of k |
| shared positives | ids of the positives of all rows with i's key | id of k |
| other strata | all strata but that of i | stratum of k |

The columns are sorted by key once, at O(C log C); every key in a list then
stands for a range of sorted columns. From the ranges a block of rows gets
either the list of its dropped pairs, at the cost of the pairs, or, where keys
collide so heavily that the list would be long, a matrix of the block's size.
"""

from __future__ import annotations

import copy

import tensorflow as tf

from tfrs_negatives._sorted_keys import SortedKeys
from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.losses.row_blocks import AnyRows


class SortedColumns:
    """The columns in the order of their keys.

    Args:
      keys: [n] int64, n <= C; columns from n on have no key and come last.
      num_columns: C, scalar int32.
      mask: [n] bool, which of the n columns have a key; None: all.
    """

    def __init__(
        self, keys: tf.Tensor, num_columns: tf.Tensor, mask: tf.Tensor | None = None
    ) -> None:
        self._keys = SortedKeys(keys, mask)
        #: [C] int32, the columns in sorted order.
        self.order = self._keys.order
        #: [C] int64, the keys in the order of the columns.
        self.keys = keys
        #: [C] bool, which columns have one; None: all.
        self.mask = mask
        if keys.shape[0] is None or keys.shape[0] != tf.get_static_value(num_columns):
            keyless = tf.range(tf.size(keys), num_columns)
            self.order = tf.concat([self.order, keyless], axis=0)
            present = tf.range(num_columns) < tf.size(keys)
            without = [[0, tf.size(keyless)]]
            self.keys = tf.pad(keys, without)
            self.mask = present if mask is None else present & tf.pad(mask, without)
        #: [C] int32, the place of each column in sorted order.
        self.rank = tf.math.invert_permutation(self.order)

    @property
    def num_keyed(self) -> tf.Tensor:
        """How many columns have a key, scalar int32; they come first in the order."""
        if self.mask is None:
            return tf.size(self.order)
        return tf.math.count_nonzero(self.mask, dtype=tf.int32)

    def ranges(self, entries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """For each key in `entries` [L] the sorted columns that have it.

        Returns:
          `(first, last)`, [L] int32: the columns `order[first:last]`.
        """
        return self._keys.ranges(entries)


class Rule:
    """One rule, ready to be applied to any block of rows.

    Args:
      entries: [L] int64, the rows' lists of keys, one after the other.
      columns: `SortedColumns`, by the keys that the lists are compared with.
      row_starts: [B] int32, where each row's list starts. None: row i's list is
        entry i alone.
      row_ends: [B] int32, one past where it ends.
      longest: No list is longer, scalar int32.
      mask: [L] bool, which entries are keys, the others match nothing; None: all.
      of_items: Whether the keys are items, so that a row loses all columns of an item.

    Attributes:
      entries, columns, mask, of_items: As given.
      num_columns: C, scalar int32.
    """

    def __init__(
        self,
        entries: tf.Tensor,
        columns: SortedColumns,
        row_starts: tf.Tensor | None = None,
        row_ends: tf.Tensor | None = None,
        longest: int | tf.Tensor = 1,
        mask: tf.Tensor | None = None,
        of_items: bool = False,
    ) -> None:
        self.entries, self.columns, self.mask = entries, columns, mask
        self.of_items = of_items
        self.num_columns = tf.size(columns.order)
        self._first, self._last = columns.ranges(entries)
        if mask is not None:
            self._last = tf.where(mask, self._last, self._first)
        self._starts, self._ends, self._longest = row_starts, row_ends, longest

    @property
    def num_rows(self) -> tf.Tensor:
        """B, scalar int32."""
        return tf.size(self._first if self._starts is None else self._starts)

    @property
    def is_of_single_entries(self) -> bool:
        """Whether each row has one key instead of a list."""
        return self._starts is None

    @property
    def ranges(self) -> tuple[tf.Tensor, tf.Tensor]:
        """`(first, last)`, [L] int32: entry i drops the sorted columns `first:last`."""
        return self._first, self._last

    def of_repeats(self) -> Rule:
        """The rule of lists without the keys that a single column has.

        For rows that keep the first column of each of their keys: fewer are listed.
        How many are left depends on values, which XLA cannot compile.
        """
        repeats = self._last - self._first > 1
        before = tf.cumsum(tf.cast(repeats, tf.int32))
        before = tf.concat([[0], before], axis=0)
        rule = copy.copy(self)
        rule._starts = tf.gather(before, self._starts)
        rule._ends = tf.gather(before, self._ends)
        rule.mask = None
        rule.entries, rule._first, rule._last = (
            tf.boolean_mask(values, repeats)
            for values in (self.entries, self._first, self._last)
        )
        return rule

    def drops(self, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """Whether single pairs are dropped; for a rule of single entries.

        Args:
          rows: [n] int32 row numbers.
          columns: [n] int32.

        Returns:
          [n] bool.
        """
        rank = tf.gather(self.columns.rank, columns)
        return (tf.gather(self._first, rows) <= rank) & (
            rank < tf.gather(self._last, rows)
        )

    def of_rows(self, groups: tf.Tensor) -> Rule:
        """The rule of rows, from this one of groups of rows.

        Args:
          groups: [B] int32, the group of each row.
        """
        rule = copy.copy(self)
        if self._starts is None:
            rule.entries = tf.gather(self.entries, groups)
            rule.mask = None if self.mask is None else tf.gather(self.mask, groups)
            rule._first = tf.gather(self._first, groups)
            rule._last = tf.gather(self._last, groups)
        else:
            rule._starts = tf.gather(self._starts, groups)
            rule._ends = tf.gather(self._ends, groups)
        return rule

    def ranges_of(self, rows: AnyRows) -> tuple[tf.Tensor, tf.Tensor]:
        """`(first, last)`, [n] int32: row i drops the sorted columns `first:last`.

        Of a rule of single entries.
        """
        return rows.of(self._first), rows.of(self._last)

    def columns_in(self, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        """Which columns [C] are in sorted ranges `first:last`, [...]; [..., C] bool."""
        rank = self.columns.rank
        first, last = first[..., tf.newaxis], last[..., tf.newaxis]
        return (first <= rank) & (rank < last)

    def num_pairs(self, rows: AnyRows) -> tf.Tensor:
        """How many pairs the rows list, repeats counted; scalar int64."""
        if self._starts is None:
            first, last = self.ranges_of(rows)
            return tf.reduce_sum(tf.cast(last - first, tf.int64))
        matches = tf.cast(self._last - self._first, tf.int64)
        total = tf.cumsum(tf.concat([[0], matches], axis=0))
        ends, starts = rows.of(self._ends), rows.of(self._starts)
        return tf.reduce_sum(tf.gather(total, ends) - tf.gather(total, starts))

    def places(self, rows: AnyRows, starts: tf.Tensor) -> tf.Tensor:
        """Lists the dropped pairs of some rows.

        Args:
          rows: Which rows, n of them.
          starts: [n] int32, place of each row's first column in their scores.

        Returns:
          [p] int32 places in the scores. A pair may be listed more than once, and
          a row's own positive may be listed.
        """
        if self._starts is None:
            return self.places_in(starts, *self.ranges_of(rows))
        owners, entries = enumerate_ranges(rows.of(self._starts), rows.of(self._ends))
        return self.places_in(
            tf.gather(starts, owners),
            tf.gather(self._first, entries),
            tf.gather(self._last, entries),
        )

    def places_in(
        self, starts: tf.Tensor, first: tf.Tensor, last: tf.Tensor
    ) -> tf.Tensor:
        """Lists the pairs of rows with the sorted columns of a range each.

        Args:
          starts: [m] int32, place of a row's first column.
          first, last: [m] int32, the row's range.

        Returns:
          As `places`.
        """
        # A row's sorted columns, counted from where its scores start.
        sorted_places = tf.raw_ops.RaggedRange(
            starts=starts + first, limits=starts + last, deltas=1
        ).rt_dense_values
        members = sorted_places % self.num_columns
        return sorted_places - members + tf.gather(self.columns.order, members)

    def matrix(self, rows: AnyRows) -> tf.Tensor:
        """The same as booleans [n, C], made without a list; XLA compiles it."""
        if self._starts is None:
            return self.columns_in(*self.ranges_of(rows))
        rank = self.columns.rank
        if compiled_by_xla():
            covered = self._cover_by_places(rows.of(self._starts), rows.of(self._ends))
            return tf.gather(covered, rank, axis=1)
        # Rows of one key share their list: each distinct list is covered once.
        distinct, which = self._lists(rows)
        covered = self._cover(distinct[:, 0], distinct[:, 1])
        return tf.gather(tf.gather(covered, rank, axis=1), which)

    def num_lists(self, rows: AnyRows) -> tf.Tensor:
        """How many distinct lists some rows have, scalar int32; of a rule of lists."""
        return tf.shape(self._lists(rows)[0])[0]

    def _lists(self, rows: AnyRows) -> tuple[tf.Tensor, tf.Tensor]:
        """Starts and ends of the rows' distinct lists, and which each row has."""
        lists = tf.stack([rows.of(self._starts), rows.of(self._ends)], axis=1)
        return tf.raw_ops.UniqueV2(x=lists, axis=[0])

    def _cover(self, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
        """Which sorted columns each list matches, [lists, C + 1] bool."""
        # +1 where a range starts, -1 where one ends: the running sum is the
        # number of ranges that cover a place.
        owners, entries = enumerate_ranges(starts, ends)
        width = self.num_columns + 1
        places = tf.concat([self._first, self._last], axis=0)
        entries = tf.concat([entries, entries + tf.size(self._first)], axis=0)
        owners = tf.concat([owners, owners], axis=0)
        amounts = tf.where(entries < tf.size(self._first), 1, -1)
        steps = tf.math.unsorted_segment_sum(
            amounts,
            owners * width + tf.gather(places, entries),
            tf.size(starts) * width,
        )
        steps = tf.reshape(steps, tf.stack([tf.size(starts), width]))
        return tf.cumsum(steps, axis=1) > 0

    def _cover_by_places(self, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
        """The same in sizes that depend on no values, as XLA wants it.

        Every list takes as many places as the longest.
        """
        entries = starts[:, tf.newaxis] + tf.range(self._longest)
        present = tf.cast(entries < ends[:, tf.newaxis], tf.int32)
        entries = tf.where(present > 0, entries, 0)
        row = tf.broadcast_to(
            tf.range(tf.size(starts))[:, tf.newaxis], tf.shape(entries)
        )

        def count(column: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
            places = tf.stack([row, tf.gather(column, entries)], axis=-1)
            return tf.tensor_scatter_nd_add(steps, places, amount)

        steps = tf.zeros([tf.size(starts), self.num_columns + 1], tf.int32)
        steps = count(self._first, present)
        steps = count(self._last, -present)
        return tf.cumsum(steps, axis=1) > 0


def same_key(
    row_keys: tf.Tensor, columns: SortedColumns, mask: tf.Tensor | None = None
) -> Rule:
    """Drops columns that carry the row's key.

    With item ids as keys these are accidental hits: columns that hold the row's
    positive item again. With a user, session, query or request as key: a query
    is no evidence against what else the same user or request chose (Pinterest
    Engineering, "Scaling recommendation systems with request-level
    deduplication", 2026).

    Args:
      row_keys: [B] int64.
      columns: `SortedColumns` by the columns' keys.
      mask: [B] bool, which rows have a key; None: all.

    Returns:
      A `Rule`.
    """
    return Rule(row_keys, columns, mask=mask)


def known_positives(
    known_ids: tf.Tensor,
    row_starts: tf.Tensor,
    row_ends: tf.Tensor,
    longest: tf.Tensor,
    columns: SortedColumns,
) -> Rule:
    """Drops columns whose item is known to be a positive of the row.

    Args:
      known_ids: [L] int64, the rows' lists of known items, one after the other.
      row_starts: [B] int32, where row i's list starts.
      row_ends: [B] int32, one past where it ends.
      longest: The longest list's length, scalar int32.
      columns: `SortedColumns` by item id.

    Returns:
      A `Rule`.
    """
    return Rule(known_ids, columns, row_starts, row_ends, longest, of_items=True)


def shared_positives(
    row_keys: tf.Tensor,
    keys_of_positives: tf.Tensor,
    positive_ids: tf.Tensor,
    columns: SortedColumns,
    row_mask: tf.Tensor | None = None,
    mask: tf.Tensor | None = None,
) -> Rule:
    """Drops columns whose item is a positive of any row with the same key.

    Unlike `same_key` this reaches columns that came from another key's row or
    from a sampler (the rule of Pinterest's OmniSearchSage).

    Args:
      row_keys: [B] int64.
      keys_of_positives: [P] int64, of everyone's rows: with several replicas, more.
      positive_ids: [P] int64, their items.
      columns: `SortedColumns` by item id.
      row_mask: [B] bool, which rows have a key; None: all.
      mask: [P] bool, which positives' rows have a key; None: all.

    Returns:
      A `Rule`.
    """
    by_key = SortedKeys(keys_of_positives, mask)
    starts, ends = by_key.ranges(row_keys)
    if row_mask is not None:
        ends = tf.where(row_mask, ends, starts)
    return Rule(
        tf.gather(positive_ids, by_key.order),
        columns,
        row_starts=starts,
        row_ends=ends,
        longest=tf.size(keys_of_positives),
        of_items=True,
    )


class OtherKeys(Rule):
    """Drops columns that carry another key than the row's.

    Its lists are of two ranges: the keys before a row's own in sorted order, and those
    behind. Rows of one key share their list, but under XLA.

    Args:
      row_keys: [B] int64.
      columns: `SortedColumns` by the columns' keys.
    """

    def __init__(self, row_keys: tf.Tensor, columns: SortedColumns) -> None:
        if compiled_by_xla():
            distinct, lists = row_keys, tf.range(tf.size(row_keys))
        else:
            distinct, lists = tf.unique(row_keys)
        super().__init__(
            tf.repeat(distinct, 2),
            columns,
            row_starts=2 * lists,
            row_ends=2 * lists + 2,
            longest=2,
        )
        is_before = tf.equal(tf.range(tf.size(self.entries)) % 2, 0)
        before, behind = self._first, self._last
        self._first = tf.where(is_before, 0, behind)
        self._last = tf.where(is_before, before, columns.num_keyed)

    def lists_of(self, rows: AnyRows) -> tf.Tensor:
        """[n] int32, numbers of the rows' lists."""
        return rows.of(self._starts) // 2

    def columns_of_list(self, number: tf.Tensor) -> tf.Tensor:
        """[C] bool, the columns that rows with this list drop."""
        return tf.reduce_any(
            self.columns_in(
                self._first[2 * number : 2 * number + 2],
                self._last[2 * number : 2 * number + 2],
            ),
            axis=0,
        )


def other_keys(row_keys: tf.Tensor, columns: SortedColumns) -> OtherKeys:
    """Drops columns that carry another key than the row's.

    With strata as keys (market, category, language) a row is trained against its own
    stratum. Columns without a key stay.

    Args:
      row_keys: [B] int64.
      columns: `SortedColumns` by the columns' keys.
    """
    return OtherKeys(row_keys, columns)


def enumerate_ranges(starts: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Lists the members of many ranges: `(index of the range, member)`.

    Ragged kernels do it in one pass; `tf.repeat` would first make a matrix as wide
    as the longest range.
    """
    ranges = tf.raw_ops.RaggedRange(starts=starts, limits=ends, deltas=1)
    listed = tf.raw_ops.RaggedTensorToSparse(
        rt_nested_splits=[ranges.rt_nested_splits],
        rt_dense_values=ranges.rt_dense_values,
    )
    return tf.cast(listed.sparse_indices[:, 0], tf.int32), listed.sparse_values
