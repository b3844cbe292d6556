"""From the arguments of a task's call to the rules that drop negatives."""

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable, is_padding
from tfrs_negatives.losses import rules


def collect_rules(
    num_rows,
    num_candidates,
    columns,
    *,
    remove_accidental_hits=False,
    candidate_ids=None,
    query_keys=None,
    candidate_keys=None,
    known_positive_ids=None,
    mask_shared_positives=False,
    memory=None,
):
    """Builds the rules that the arguments ask for.

    Args:
      num_rows: B, scalar int32.
      num_candidates: C, scalar int32.
      columns: `tasks.columns.Columns`.
      remove_accidental_hits, candidate_ids, query_keys, candidate_keys,
        known_positive_ids, mask_shared_positives: As in `tasks.Retrieval`.
      memory: `layers.cross_batch_memory.Entries`, which become columns behind those of
        positives; None for none.

    Returns:
      A list of `losses.rules.Rule`.

    Raises:
      ValueError: A rule without the ids or keys that it compares.
    """
    row_keys = named_keys(query_keys, num_rows)
    candidate_keys = _candidate_keys(candidate_keys, query_keys, num_candidates)
    by_id = {
        "remove_accidental_hits=True": remove_accidental_hits,
        "known_positive_ids": known_positive_ids is not None,
        "mask_shared_positives=True": mask_shared_positives,
    }
    for rule, asked in by_id.items():
        if asked:
            _need(candidate_ids, rule, "candidate_ids", "[C]")
    if mask_shared_positives:
        _need(query_keys, "mask_shared_positives=True", "query_keys", "[B]")

    collected, num_columns = [], columns.num_columns
    if memory is not None:
        num_columns += tf.size(memory.ids)

    def sorted_columns(keys, of_memory):
        if memory is not None:
            keys = insert(keys, of_memory, columns.num_positives)
        return rules.SortedColumns(keys, num_columns)

    if any(by_id.values()):
        candidate_ids = vector("candidate_ids", candidate_ids, num_candidates)
        ids = as_int64("candidate_ids", candidate_ids)
        column_ids = columns.of(ids)
        by_item = sorted_columns(column_ids, memory and memory.ids)
    if remove_accidental_hits:
        collected.append(rules.same_key(ids[:num_rows], by_item))
    if known_positive_ids is not None:
        known = KnownPositives(known_positive_ids, candidate_ids, num_rows)
        collected.append(known.rule(by_item))
    for place, (name, keys) in enumerate(row_keys.items()):
        keys_of_positives = columns.of_positives(keys)
        if name in candidate_keys:
            keys_of_columns = columns.of(candidate_keys[name])
        else:
            keys_of_columns = keys_of_positives
        if mask_shared_positives:
            positives = column_ids[: columns.num_positives]
            collected.append(
                rules.shared_positives(keys, keys_of_positives, positives, by_item)
            )
        by_key = sorted_columns(keys_of_columns, memory and memory.keys[:, place])
        collected.append(rules.same_key(keys, by_key))
    return collected


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


def vector(name, values, size):
    """Returns `values` as a tensor, checked to be [size]."""
    values = tf.convert_to_tensor(values)
    hint = "Pass a vector; squeeze a trailing dimension of 1."
    _checks.check_rank(name, values, (1,), hint)
    return _checks.check_size(name, values, 0, size, hint)


def named_keys(keys, size, name="query_keys"):
    """One key or a dict of keys, as a dict of int64 vectors in the order of names."""
    keys = _as_dict(keys)
    labels = {key: name if key is None else f"{name}[{key!r}]" for key in keys}
    return {
        key: as_int64(labels[key], vector(labels[key], keys[key], size))
        for key in sorted(keys, key=str)
    }


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

    Raises:
      ValueError: Another rank or number of rows; strings among integers.
    """

    def __init__(self, known, comparable, num_rows):
        known = known if _is_ragged(known) else tf.convert_to_tensor(known)
        hint = "Pass one list of ids for each row: [B, M], or a ragged [B, None]."
        _checks.check_rank("known_positive_ids", known, (2,), hint)
        check_comparable("known_positive_ids", known, "candidate_ids", comparable)
        if _is_ragged(known):
            starts, ends = known.row_starts(), known.row_limits()
            starts = _checks.check_size("known_positive_ids", starts, 0, num_rows, hint)
            self.longest = tf.cast(tf.reduce_max(known.row_lengths()), tf.int32)
            self.rows = known.value_rowids()
            flat = known.values
        else:
            known = _checks.check_size("known_positive_ids", known, 0, num_rows, hint)
            self.longest = _checks.size(known, 1)
            starts = tf.range(num_rows) * self.longest
            ends = starts + self.longest
            flat = tf.reshape(known, [-1])
            self.rows = tf.range(tf.size(flat)) // tf.maximum(self.longest, 1)
        self.is_padding = is_padding(flat)
        self.starts, self.ends = tf.cast(starts, tf.int32), tf.cast(ends, tf.int32)
        self.ids = as_int64("known_positive_ids", flat)

    def rule(self, columns):
        """The rule that drops columns in the lists."""
        return rules.known_positives(
            self.ids, self.starts, self.ends, self.longest, self.is_padding, columns
        )


def _is_ragged(value):
    return isinstance(value, tf.RaggedTensor)


def _need(value, asked, name, shape):
    if value is None:
        raise ValueError(
            f"`{asked}` compares `{name}`: expected `{name}` of shape {shape}, "
            f"received None. Pass `{name}` when calling the task, or leave the "
            "rule out."
        )
