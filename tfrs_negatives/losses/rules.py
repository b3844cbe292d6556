"""Which (row, column) pairs may not be negatives, as vectors of keys.

Every rule of the package has one form: row i owns a list of keys, column k has
one key, and the pair is dropped when column k's key is in row i's list.

| rule | keys of row i | key of column k |
|---|---|---|
| accidental hit | id of i's positive | id of k |
| same key | key of i | key of k |
| known positives | ids known for i | id of k |
| shared positives | ids of the positives of all rows with i's key | id of k |

The columns are sorted by key once, at O(C log C); every key in a list then
stands for a range of sorted columns. From the ranges a block of rows gets
either the list of its dropped pairs, at the cost of the pairs, or, where keys
collide so heavily that the list would be long, a matrix of the block's size.
"""

import functools

import tensorflow as tf

from tfrs_negatives.losses.overwrite import compiled_by_xla, overwrite

# Above this share of a block's scores, comparing them all costs less than
# listing the pairs.
_MANY_PAIRS = 0.02


class Rule:
    """One rule, ready to be applied to any block of rows.

    Args:
      entries: [L] int64, the rows' lists of keys, one after the other.
      column_keys: [n] int64, n <= C; columns from n on have no key.
      row_starts: [B] int32, where each row's list starts. None: row i's list is
        entry i alone.
      row_ends: [B] int32, one past where it ends.
      longest: No list is longer, scalar int32.
      ignored: [L] bool, entries that match nothing; None for none.
    """

    def __init__(
        self,
        entries,
        column_keys,
        row_starts=None,
        row_ends=None,
        longest=1,
        ignored=None,
    ):
        self._order = tf.argsort(column_keys, stable=True)
        ordered = tf.gather(column_keys, self._order)
        # Entry e matches the sorted columns first[e] to last[e] - 1.
        self._first = tf.searchsorted(ordered, entries, side="left")
        self._last = tf.searchsorted(ordered, entries, side="right")
        if ignored is not None:
            self._last = tf.where(ignored, self._first, self._last)
        self._starts, self._ends, self._longest = row_starts, row_ends, longest

    @property
    def _one_key_a_row(self):
        return self._starts is None

    def num_pairs(self, rows):
        """How many pairs the rows would list, repeats counted; scalar int64."""
        matches = tf.cast(self._last - self._first, tf.int64)
        if self._one_key_a_row:
            return tf.reduce_sum(rows.of(matches))
        total = tf.cumsum(tf.concat([[0], matches], axis=0))
        ends, starts = rows.of(self._ends), rows.of(self._starts)
        return tf.reduce_sum(tf.gather(total, ends) - tf.gather(total, starts))

    def pairs(self, rows):
        """Lists the dropped pairs of some rows.

        Args:
          rows: `row_blocks.Rows`.

        Returns:
          `(rows, columns)`, two int32 vectors of equal length, the rows counted
          from the first of `rows`. A pair may be listed more than once, and a
          row's own positive may be listed.
        """
        if self._one_key_a_row:
            first, last = rows.of(self._first), rows.of(self._last)
            owners, places = _enumerate_ranges(first, last)
        else:
            lists, entries = _enumerate_ranges(
                rows.of(self._starts), rows.of(self._ends)
            )
            matched, places = _enumerate_ranges(
                tf.gather(self._first, entries), tf.gather(self._last, entries)
            )
            owners = tf.gather(lists, matched)
        return owners, tf.gather(self._order, places)

    def matrix(self, rows, num_columns):
        """The same as booleans [n, C], made without a list; XLA compiles it."""
        # Each column's place in the sorted order; without a key, past the end.
        num_keyed = tf.size(self._order)
        rank = tf.tensor_scatter_nd_update(
            tf.fill([num_columns], num_keyed),
            self._order[:, tf.newaxis],
            tf.range(num_keyed),
        )
        if self._one_key_a_row:
            first = rows.of(self._first)[:, tf.newaxis]
            last = rows.of(self._last)[:, tf.newaxis]
            return (first <= rank) & (rank < last)

        # +1 where a range starts, -1 where one ends: the running sum is the
        # number of ranges that cover a place.
        starts, ends = rows.of(self._starts), rows.of(self._ends)
        entries = starts[:, tf.newaxis] + tf.range(self._longest)
        present = tf.cast(entries < ends[:, tf.newaxis], tf.int32)
        entries = tf.where(present > 0, entries, 0)
        row = tf.broadcast_to(tf.range(rows.size)[:, tf.newaxis], tf.shape(entries))

        def count(column, amount):
            places = tf.stack([row, tf.gather(column, entries)], axis=-1)
            return tf.tensor_scatter_nd_add(steps, places, amount)

        steps = tf.zeros([rows.size, num_columns + 1], tf.int32)
        steps = count(self._first, present)
        steps = count(self._last, -present)
        covered = tf.cumsum(steps, axis=1) > 0
        return tf.gather(covered, rank, axis=1)


def drop(rules, logits, rows, in_place):
    """Sets the scores of dropped pairs to -inf; no row's own positive is dropped.

    Args:
      rules: At least one `Rule`.
      logits: [n, C] scores of some rows; row i's positive is column i.
      rows: Which rows, `row_blocks.Rows`.
      in_place: Whether `logits` may be changed; not differentiable then.

    Returns:
      [n, C].
    """

    def listed():
        pairs = [rule.pairs(rows) for rule in rules]
        dropped_rows = tf.concat([pair[0] for pair in pairs], axis=0)
        dropped_columns = tf.concat([pair[1] for pair in pairs], axis=0)
        minus_inf = tf.fill(tf.shape(dropped_rows), nothing)
        return overwrite(logits, dropped_rows, dropped_columns, minus_inf, in_place)

    def compared():
        dropped = [rule.matrix(rows, tf.shape(logits)[1]) for rule in rules]
        return tf.where(functools.reduce(tf.logical_or, dropped), nothing, logits)

    nothing = tf.constant(float("-inf"), logits.dtype)
    positives = tf.gather(logits, rows.indices, batch_dims=1)
    with tf.control_dependencies([positives]):
        if compiled_by_xla():
            masked = compared()
        else:
            num_pairs = tf.add_n([rule.num_pairs(rows) for rule in rules])
            many = _MANY_PAIRS * tf.cast(tf.size(logits), tf.float32)
            masked = tf.cond(tf.cast(num_pairs, tf.float32) > many, compared, listed)
    return overwrite(masked, tf.range(rows.size), rows.indices, positives, in_place)


def accidental_hits(positive_ids, candidate_ids):
    """Drops columns that hold the row's own positive item again.

    Args:
      positive_ids: [B] int64, id of each row's positive.
      candidate_ids: [C] int64, id of each column.

    Returns:
      A `Rule`.
    """
    return Rule(positive_ids, candidate_ids)


def same_key(row_keys, column_keys):
    """Drops columns that carry the row's key (user, session, request, ...).

    A query is no evidence against what else the same user or request chose
    (Pinterest Engineering, "Scaling recommendation systems with request-level
    deduplication", 2026).

    Args:
      row_keys: [B] int64.
      column_keys: [n] int64, n <= C; columns from n on have no key and are kept.

    Returns:
      A `Rule`.
    """
    return Rule(row_keys, column_keys)


def known_positives(
    known_ids, row_starts, row_ends, longest, is_padding, candidate_ids
):
    """Drops columns whose item is known to be a positive of the row.

    Args:
      known_ids: [L] int64, the rows' lists of known items, one after the other.
      row_starts: [B] int32, where row i's list starts.
      row_ends: [B] int32, one past where it ends.
      longest: The longest list's length, scalar int32.
      is_padding: [L] bool, entries to ignore.
      candidate_ids: [C] int64.

    Returns:
      A `Rule`.
    """
    return Rule(known_ids, candidate_ids, row_starts, row_ends, longest, is_padding)


def shared_positives(row_keys, positive_ids, candidate_ids):
    """Drops columns whose item is a positive of any row with the same key.

    Unlike `same_key` this reaches columns that came from another key's row or
    from a sampler (the rule of Pinterest's OmniSearchSage).

    Args:
      row_keys: [B] int64.
      positive_ids: [B] int64.
      candidate_ids: [C] int64.

    Returns:
      A `Rule`.
    """
    order = tf.argsort(row_keys, stable=True)
    ordered = tf.gather(row_keys, order)
    return Rule(
        tf.gather(positive_ids, order),
        candidate_ids,
        row_starts=tf.searchsorted(ordered, row_keys, side="left"),
        row_ends=tf.searchsorted(ordered, row_keys, side="right"),
        longest=tf.size(row_keys),
    )


def _enumerate_ranges(starts, ends):
    """Lists the members of many ranges: `(index of the range, member)`."""
    lengths = ends - starts
    owners = tf.repeat(tf.range(tf.size(lengths)), lengths)
    shifts = starts - tf.cumsum(lengths, exclusive=True)
    return owners, tf.range(tf.size(owners)) + tf.gather(shifts, owners)
