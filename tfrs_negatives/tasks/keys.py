"""Keys and lists of ids that come with the rows and candidates of a batch."""

from typing import NamedTuple

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable, pairs
from tfrs_negatives.losses import rules


class Keys(NamedTuple):
    """One kind of key, such as the user, of rows or of candidates.

    Attributes:
      values: [n] int64, strings as hashes. Every value is a key.
      mask: [n] bool, where there is a key; None: everywhere.
    """

    values: tf.Tensor
    mask: tf.Tensor | None = None

    def map(self, function):
        """The keys after `function`, which moves rows of a tensor."""
        mask = None if self.mask is None else function(self.mask)
        return Keys(function(self.values), mask)

    def present(self):
        """[n] bool, where there is a key."""
        if self.mask is None:
            return tf.ones_like(self.values, tf.bool)
        return self.mask

    def respects(self):
        """Integers [n] that are equal for rows that share the key, or both lack it."""
        if self.mask is None:
            return [self.values]
        values = tf.where(self.mask, self.values, tf.zeros_like(self.values))
        return [values, tf.cast(self.mask, tf.int64)]


def vector(name, values, size=None):
    """Returns `values` as a tensor, checked to be [size], or of any size for None."""
    values = _checks.dense(name, values)
    hint = "Pass a vector; squeeze a trailing dimension of 1."
    _checks.check_rank(name, values, (1,), hint)
    return values if size is None else _checks.check_size(name, values, 0, size, hint)


def row_keys(query_keys, query_key_mask, num_rows):
    """The rows' keys by name, in the order of names; a single key's name is None.

    Args:
      query_keys, query_key_mask: As in `tasks.Retrieval`.
      num_rows: B, scalar int32.

    Returns:
      Dict from names to `Keys`, empty without keys.

    Raises:
      ValueError: Other dtypes or shapes; a mask without keys.
    """
    return _named("query_keys", query_keys, "query_key_mask", query_key_mask, num_rows)


def keys_of_candidates(candidate_keys, candidate_key_mask, query_keys, num_candidates):
    """The candidates' own keys by name, for names that have them.

    Args:
      candidate_keys, candidate_key_mask, query_keys: As in `tasks.Retrieval`.
      num_candidates: C, scalar int32.

    Returns:
      Dict from names to `Keys`.

    Raises:
      ValueError: Names that the rows' keys do not have; strings beside integers; and
        as `row_keys`.
    """
    named = "candidate_keys", candidate_keys, "candidate_key_mask", candidate_key_mask
    if candidate_keys is None:
        return _named(*named, num_candidates)
    need(query_keys, "candidate_keys", "query_keys", "[B]")
    of_rows = _as_dict(query_keys)
    unknown = sorted(
        str(name) for name in _as_dict(candidate_keys) if name not in of_rows
    )
    if unknown:
        raise ValueError(
            f"`candidate_keys` has {unknown}, `query_keys` has "
            f"{sorted(str(name) for name in of_rows)}: expected the same names (pass "
            "both as one vector, or both as dicts)."
        )
    for name, value in _as_dict(candidate_keys).items():
        check_comparable(
            "candidate_keys",
            _checks.dense("candidate_keys", value),
            "query_keys",
            _checks.dense("query_keys", of_rows[name]),
        )
    return _named(*named, num_candidates)


def need(value, asked, name, shape):
    """Raises `ValueError` where what a rule compares is None."""
    if value is None:
        raise ValueError(
            f"`{asked}` compares `{name}`: expected `{name}` of shape {shape}, "
            f"received None. Pass `{name}` when calling the task, or leave the "
            "rule out."
        )


class KnownPositives:
    """Lists of ids that rows are known to like, one list after the other.

    Args:
      known: [B, P], of which every entry counts, or ragged [B, None].
      comparable: Ids that they will be compared with, for their dtype.
      num_rows: B, scalar int32.
      name: The argument's name, for messages.

    Attributes:
      ids: [L] int64, the lists one after the other.
      rows: [L] int32, the row of each entry.

    Raises:
      ValueError: Another rank or number of rows; strings among integers.
    """

    def __init__(self, known, comparable, num_rows, name="known_positive_ids"):
        is_ragged = isinstance(known, tf.RaggedTensor)
        known = known if is_ragged else _checks.dense(name, known)
        hint = "Pass one list of ids for each row: [B, M], or a ragged [B, None]."
        _checks.check_rank(name, known, (2,), hint)
        check_comparable(name, known, "candidate_ids", comparable)
        if is_ragged:
            starts, ends = known.row_starts(), known.row_limits()
            starts = _checks.check_size(name, starts, 0, num_rows, hint)
            # The longest of no lists is 0, not the least integer.
            lengths = tf.concat([[0], tf.cast(known.row_lengths(), tf.int32)], axis=0)
            self._longest = tf.reduce_max(lengths)
            self.rows = tf.cast(known.value_rowids(), tf.int32)
            flat = known.values
        else:
            known = _checks.check_size(name, known, 0, num_rows, hint)
            self._longest = _checks.size(known, 1)
            starts = tf.range(num_rows) * self._longest
            ends = starts + self._longest
            flat = tf.reshape(known, [-1])
            self.rows = tf.range(tf.size(flat)) // tf.maximum(self._longest, 1)
        self._starts, self._ends = tf.cast(starts, tf.int32), tf.cast(ends, tf.int32)
        self.ids = as_int64(name, flat)

    def rule(self, columns, rows=None):
        """The rule that drops columns in the lists, of all rows or of some."""
        starts, ends = self._starts, self._ends
        if rows is not None:
            starts, ends = tf.gather(starts, rows), tf.gather(ends, rows)
        return rules.known_positives(self.ids, starts, ends, self._longest, columns)

    def identities(self, num_rows):
        """[B] int64, equal for rows that know the same; the order does not matter."""
        # A sum of hashes; different lists agree with a probability of 2^-64.
        hashes = pairs(tf.zeros_like(self.ids), self.ids)
        return tf.math.unsorted_segment_sum(hashes, self.rows, num_rows)


def _as_dict(keys):
    if keys is None:
        return {}
    return keys if isinstance(keys, dict) else {None: keys}


def _named(name, keys, mask_name, mask, size):
    keys, masks = _as_dict(keys), _as_dict(mask)
    unknown = [key for key in masks if key not in keys]
    if unknown:
        raise ValueError(
            f"`{mask_name}` says which rows have a key: expected the names of "
            f"`{name}`, {sorted(map(str, keys))}, received {sorted(map(str, masks))}. "
            "Pass both as one vector, or both as dicts."
        )
    found = {}
    for key in sorted(keys, key=str):
        label = name if key is None else f"{name}[{key!r}]"
        values = as_int64(label, vector(label, keys[key], size))
        mask = masks.get(key)
        if mask is not None:
            mask = _checks.check_mask(mask_name, mask, size)
        found[key] = Keys(values, mask)
    return found
