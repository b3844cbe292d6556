"""Which (row, column) pairs may not be negatives, as vectors of keys.

Every rule of the package has one form: row i owns a list of keys, column k has
one key, and the pair is dropped when column k's key is in row i's list. A rule
is therefore a few vectors. Its pairs are listed one row block at a time, by
looking the row's keys up among the sorted column keys, at a cost of
O(C log C) once and O(pairs) a block; no B x C matrix is formed.

| rule | keys of row i | key of column k |
|---|---|---|
| accidental hit | id of i's positive | id of k |
| same key | key of i | key of k |
| known positives | ids known for i | id of k |
| shared positives | ids of the positives of all rows with i's key | id of k |

The row's own positive, column i of row i, is exempt from every rule.
"""

import collections

import tensorflow as tf


class Rule(
    collections.namedtuple("Rule", "row_starts row_ends first last column_order")
):
    """One rule, ready to list its pairs.

    Row i owns the list entries `row_starts[i]:row_ends[i]`. Entry e matches the
    columns `column_order[first[e]:last[e]]`. All vectors are int32.
    """

    def pairs(self, begin, end):
        """Lists the dropped pairs of the rows `begin:end`.

        Args:
          begin: First row, scalar int32.
          end: One past the last row, scalar int32.

        Returns:
          `(rows, columns)`, two int32 vectors of equal length; rows count from
          `begin`.
        """
        rows, entries = _enumerate_ranges(
            self.row_starts[begin:end], self.row_ends[begin:end]
        )
        owners, places = _enumerate_ranges(
            tf.gather(self.first, entries), tf.gather(self.last, entries)
        )
        return tf.gather(rows, owners), tf.gather(self.column_order, places)


def dropped_pairs(rules, begin, end):
    """Lists the pairs of the rows `begin:end` that any rule drops.

    Args:
      rules: A list of at least one `Rule`.
      begin: First row, scalar int32.
      end: One past the last row, scalar int32.

    Returns:
      [P, 2] int32, (row, column); rows count from `begin`. No row's own
      positive is among them; a pair may be listed more than once.
    """
    pairs = tf.concat(
        [tf.stack(rule.pairs(begin, end), axis=1) for rule in rules], axis=0
    )
    is_positive = tf.equal(pairs[:, 0] + begin, pairs[:, 1])
    return tf.boolean_mask(pairs, ~is_positive)


def accidental_hits(positive_ids, candidate_ids):
    """Drops columns that hold the row's own positive item again.

    Args:
      positive_ids: [B] int64, id of each row's positive.
      candidate_ids: [C] int64, id of each column.

    Returns:
      A `Rule`.
    """
    return same_key(positive_ids, candidate_ids)


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
    each_row = tf.range(tf.size(row_keys))
    return _rule(row_keys, each_row, each_row + 1, column_keys)


def known_positives(known_ids, row_starts, row_ends, is_padding, candidate_ids):
    """Drops columns whose item is known to be a positive of the row.

    Args:
      known_ids: [L] int64, the rows' lists of known items, one after the other.
      row_starts: [B] int32, where row i's list starts.
      row_ends: [B] int32, one past where it ends.
      is_padding: [L] bool, entries to ignore.
      candidate_ids: [C] int64.

    Returns:
      A `Rule`.
    """
    rule = _rule(known_ids, row_starts, row_ends, candidate_ids)
    # An entry that ends where it starts matches no column.
    return rule._replace(last=tf.where(is_padding, rule.first, rule.last))


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
    sorted_keys = tf.gather(row_keys, order)
    return _rule(
        tf.gather(positive_ids, order),
        tf.searchsorted(sorted_keys, row_keys, side="left"),
        tf.searchsorted(sorted_keys, row_keys, side="right"),
        candidate_ids,
    )


def _rule(entries, row_starts, row_ends, column_keys):
    order = tf.argsort(column_keys, stable=True)
    sorted_keys = tf.gather(column_keys, order)
    return Rule(
        row_starts,
        row_ends,
        first=tf.searchsorted(sorted_keys, entries, side="left"),
        last=tf.searchsorted(sorted_keys, entries, side="right"),
        column_order=order,
    )


def _enumerate_ranges(starts, ends):
    """Lists the members of many ranges: `(index of the range, member)`."""
    lengths = ends - starts
    owners = tf.repeat(tf.range(tf.size(lengths)), lengths)
    shifts = starts - tf.cumsum(lengths, exclusive=True)
    return owners, tf.range(tf.size(owners)) + tf.gather(shifts, owners)
