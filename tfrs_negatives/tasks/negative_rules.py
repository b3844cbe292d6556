"""From the arguments of a task's call to the rules that drop negatives."""

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable, is_padding, pairs
from tfrs_negatives.losses import rules

#: Stands for the key of a row or candidate that has none.
NO_KEY = -1


def collect_rules(
    num_rows,
    num_candidates,
    columns,
    *,
    remove_accidental_hits=False,
    candidate_ids=None,
    column_ids=None,
    query_keys=None,
    candidate_keys=None,
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
      remove_accidental_hits, candidate_ids, query_keys, candidate_keys,
        known_positive_ids, mask_shared_positives: As in `tasks.Retrieval`.
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
    row_keys = named_keys(query_keys, num_rows)
    candidate_keys = _candidate_keys(candidate_keys, query_keys, num_candidates)
    if mask_shared_positives:
        _need(query_keys, "mask_shared_positives=True", "query_keys", "[B]")

    collected, num_columns = [], columns.num_columns
    if memory is not None:
        num_columns += tf.size(memory.ids)

    def of_rows(values):
        return values if groups is None else tf.gather(values, groups.first)

    if column_ids is not None:
        by_item = rules.SortedColumns(column_ids, num_columns)
    if remove_accidental_hits and groups is None:
        collected.append(rules.same_key(column_ids[:num_rows], by_item))
    if known_positive_ids is not None:
        known = KnownPositives(known_positive_ids, candidate_ids, num_rows)
        collected.append(known.rule(by_item, groups and groups.first))
    for place, (name, keys) in enumerate(row_keys.items()):
        keys_of_positives = columns.of_positives(keys)
        if name in candidate_keys:
            keys_of_columns = columns.of(candidate_keys[name])
        else:
            keys_of_columns = keys_of_positives
        if mask_shared_positives:
            positives = column_ids[: columns.num_positives]
            collected.append(
                rules.shared_positives(
                    of_rows(_as_rows(keys)), keys_of_positives, positives, by_item
                )
            )
        if memory is not None:
            keys_of_columns = insert(
                keys_of_columns, memory.keys[:, place], columns.num_positives
            )
        by_key = rules.SortedColumns(keys_of_columns, num_columns)
        collected.append(rules.same_key(of_rows(_as_rows(keys)), by_key))
    return collected


def accidental_hits(column_ids, num_rows, rows):
    """The rule that drops columns that hold the row's own item again, for some rows.

    Args:
      column_ids: What `ids_of_columns` returned.
      num_rows: B, scalar int32.
      rows: [r] int32, distinct row numbers; other rows drop nothing.
    """
    by_item = rules.SortedColumns(column_ids, tf.size(column_ids))
    # Lists of one item each; those of other rows are empty.
    numbers, places = tf.range(tf.size(rows)), rows[:, tf.newaxis]
    none = tf.zeros(num_rows[tf.newaxis], tf.int32)
    return rules.Rule(
        tf.gather(column_ids, rows),
        by_item,
        row_starts=tf.tensor_scatter_nd_update(none, places, numbers),
        row_ends=tf.tensor_scatter_nd_update(none, places, numbers + 1),
    )


def ids_of_columns(candidate_ids, columns, memory=None):
    """[num_columns] int64, the items of the columns, the memory's among them.

    Args:
      candidate_ids: [C], checked.
      columns, memory: As in `collect_rules`.
    """
    ids = columns.of(as_int64("candidate_ids", candidate_ids))
    return ids if memory is None else insert(ids, memory.ids, columns.num_positives)


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
            _need(candidate_ids, rule, "candidate_ids", "[C]")
    return any(by_id.values())


def insert(values, others, num_rows):
    """Puts `others` behind the first `num_rows` values, the batch's own."""
    return tf.concat([values[:num_rows], others, values[num_rows:]], axis=0)


def batch_keys(query_keys, candidate_keys, num_rows, num_candidates):
    """[B, number of keys] int64, the keys of the batch's own candidates."""
    row_keys = named_keys(query_keys, num_rows)
    candidate_keys = _candidate_keys(candidate_keys, query_keys, num_candidates)
    keys = [candidate_keys.get(name, row_keys[name])[:num_rows] for name in row_keys]
    if not keys:
        return tf.zeros(tf.stack([num_rows, 0]), tf.int64)
    return tf.stack(keys, axis=1)


def vector(name, values, size=None):
    """Returns `values` as a tensor, checked to be [size], or of any size for None."""
    values = tf.convert_to_tensor(values)
    hint = "Pass a vector; squeeze a trailing dimension of 1."
    _checks.check_rank(name, values, (1,), hint)
    return values if size is None else _checks.check_size(name, values, 0, size, hint)


def named_keys(keys, size, name="query_keys"):
    """One key or a dict of keys, as a dict of int64 vectors in the order of names.

    Where there is none, negative or "", it is `NO_KEY`.
    """
    keys = _as_dict(keys)
    found = {}
    for key in sorted(keys, key=str):
        label = name if key is None else f"{name}[{key!r}]"
        values = vector(label, keys[key], size)
        numbers = as_int64(label, values)
        found[key] = tf.where(
            is_padding(values), tf.constant(NO_KEY, tf.int64), numbers
        )
    return found


def _as_rows(keys):
    """Keys of rows; those without one share it with no column, nor with each other."""
    return tf.where(tf.equal(keys, NO_KEY), keys - 1, keys)


def _as_dict(keys):
    if keys is None:
        return {}
    return keys if isinstance(keys, dict) else {None: keys}


def _candidate_keys(candidate_keys, query_keys, num_columns):
    if candidate_keys is None:
        return {}
    _need(query_keys, "candidate_keys", "query_keys", "[B]")
    by_name = (
        candidate_keys if isinstance(candidate_keys, dict) else {None: candidate_keys}
    )
    of_rows = query_keys if isinstance(query_keys, dict) else {None: query_keys}
    unknown = sorted(str(name) for name in by_name if name not in of_rows)
    if unknown:
        raise ValueError(
            f"`candidate_keys` has {unknown}, `query_keys` has "
            f"{sorted(str(name) for name in of_rows)}: expected the same names (pass "
            "both as one vector, or both as dicts)."
        )
    for name, value in by_name.items():
        check_comparable(
            "candidate_keys",
            tf.convert_to_tensor(value),
            "query_keys",
            tf.convert_to_tensor(of_rows[name]),
        )
    return named_keys(candidate_keys, num_columns, "candidate_keys")


class KnownPositives:
    """Lists of ids that rows are known to like, one list after the other.

    Args:
      known: [B, P], padded with any negative number or "", or ragged [B, None].
      comparable: Ids that they will be compared with, for their dtype.
      num_rows: B, scalar int32.
      name: The argument's name, for messages.

    Raises:
      ValueError: Another rank or number of rows; strings among integers.
    """

    def __init__(self, known, comparable, num_rows, name="known_positive_ids"):
        known = known if _is_ragged(known) else tf.convert_to_tensor(known)
        hint = "Pass one list of ids for each row: [B, M], or a ragged [B, None]."
        _checks.check_rank(name, known, (2,), hint)
        check_comparable(name, known, "candidate_ids", comparable)
        if _is_ragged(known):
            starts, ends = known.row_starts(), known.row_limits()
            starts = _checks.check_size(name, starts, 0, num_rows, hint)
            self.longest = tf.cast(tf.reduce_max(known.row_lengths()), tf.int32)
            self.rows = known.value_rowids()
            flat = known.values
        else:
            known = _checks.check_size(name, known, 0, num_rows, hint)
            self.longest = _checks.size(known, 1)
            starts = tf.range(num_rows) * self.longest
            ends = starts + self.longest
            flat = tf.reshape(known, [-1])
            self.rows = tf.range(tf.size(flat)) // tf.maximum(self.longest, 1)
        self.is_padding = is_padding(flat)
        self.starts, self.ends = tf.cast(starts, tf.int32), tf.cast(ends, tf.int32)
        self.ids = as_int64(name, flat)

    def rule(self, columns, rows=None):
        """The rule that drops columns in the lists, of all rows or of some."""
        starts, ends = self.starts, self.ends
        if rows is not None:
            starts, ends = tf.gather(starts, rows), tf.gather(ends, rows)
        return rules.known_positives(
            self.ids, starts, ends, self.longest, self.is_padding, columns
        )

    def identities(self, num_rows):
        """[B] int64, equal for rows that know the same; the order does not matter."""
        # A sum of hashes; different lists agree with a probability of 2^-64.
        hashes = pairs(tf.zeros_like(self.ids), self.ids)
        hashes = tf.where(self.is_padding, tf.zeros_like(hashes), hashes)
        return tf.math.unsorted_segment_sum(hashes, self.rows, num_rows)


def _is_ragged(value):
    return isinstance(value, tf.RaggedTensor)


def _need(value, asked, name, shape):
    if value is None:
        raise ValueError(
            f"`{asked}` compares `{name}`: expected `{name}` of shape {shape}, "
            f"received None. Pass `{name}` when calling the task, or leave the "
            "rule out."
        )
