"""From the arguments of a task's call to the rules that drop negatives."""

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable
from tfrs_negatives.losses import rules


def collect_rules(
    num_rows,
    num_columns,
    *,
    remove_accidental_hits=False,
    candidate_ids=None,
    query_keys=None,
    candidate_keys=None,
    known_positive_ids=None,
    mask_shared_positives=False,
):
    """Builds the rules that the arguments ask for.

    Args:
      num_rows: B, scalar int32.
      num_columns: C, scalar int32.
      remove_accidental_hits, candidate_ids, query_keys, candidate_keys,
        known_positive_ids, mask_shared_positives: As in `tasks.Retrieval`.

    Returns:
      A list of `losses.rules.Rule`.

    Raises:
      ValueError: A rule without the ids or keys that it compares.
    """
    row_keys = _named_keys("query_keys", query_keys, num_rows)
    column_keys = _column_keys(candidate_keys, query_keys, num_columns)
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

    collected = []
    if any(by_id.values()):
        candidate_ids = vector("candidate_ids", candidate_ids, num_columns)
        ids = as_int64("candidate_ids", candidate_ids)
        columns = rules.SortedColumns(ids, num_columns)
    if remove_accidental_hits:
        collected.append(rules.same_key(ids[:num_rows], columns))
    if known_positive_ids is not None:
        entries = _known_entries(known_positive_ids, candidate_ids, num_rows)
        collected.append(rules.known_positives(*entries, columns))
    if mask_shared_positives:
        for keys in row_keys.values():
            collected.append(rules.shared_positives(keys, ids[:num_rows], columns))
    for name, keys in row_keys.items():
        by_key = rules.SortedColumns(column_keys.get(name, keys), num_columns)
        collected.append(rules.same_key(keys, by_key))
    return collected


def vector(name, values, size):
    """Returns `values` as a tensor, checked to be [size]."""
    values = tf.convert_to_tensor(values)
    hint = "Pass a vector; squeeze a trailing dimension of 1."
    _checks.check_rank(name, values, (1,), hint)
    return _checks.check_size(name, values, 0, size, hint)


def _named_keys(name, keys, size):
    """One key or a dict of keys, as a dict of int64 vectors."""
    keys = _as_dict(keys)
    labels = {key: name if key is None else f"{name}[{key!r}]" for key in keys}
    return {
        key: as_int64(labels[key], vector(labels[key], value, size))
        for key, value in keys.items()
    }


def _as_dict(keys):
    if keys is None:
        return {}
    return keys if isinstance(keys, dict) else {None: keys}


def _column_keys(candidate_keys, query_keys, num_columns):
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
    return _named_keys("candidate_keys", candidate_keys, num_columns)


def _known_entries(known, candidate_ids, num_rows):
    """Known ids as the arguments of `rules.known_positives`."""
    known = tf.convert_to_tensor(known) if not _is_ragged(known) else known
    hint = "Pass one list of ids for each row: [B, M], or a ragged [B, None]."
    _checks.check_rank("known_positive_ids", known, (2,), hint)
    check_comparable("known_positive_ids", known, "candidate_ids", candidate_ids)
    if _is_ragged(known):
        starts, ends = known.row_starts(), known.row_limits()
        starts = _checks.check_size("known_positive_ids", starts, 0, num_rows, hint)
        longest = tf.cast(tf.reduce_max(known.row_lengths()), tf.int32)
        flat = known.values
    else:
        known = _checks.check_size("known_positive_ids", known, 0, num_rows, hint)
        longest = _checks.size(known, 1)
        starts = tf.range(num_rows) * longest
        ends = starts + longest
        flat = tf.reshape(known, [-1])
    is_padding = tf.equal(flat, "") if flat.dtype == tf.string else flat < 0
    starts, ends = tf.cast(starts, tf.int32), tf.cast(ends, tf.int32)
    flat = as_int64("known_positive_ids", flat)
    return flat, starts, ends, longest, is_padding


def _is_ragged(value):
    return isinstance(value, tf.RaggedTensor)


def _need(value, asked, name, shape):
    if value is None:
        raise ValueError(
            f"`{asked}` compares `{name}`: expected `{name}` of shape {shape}, "
            f"received None. Pass `{name}` when calling the task, or leave the "
            "rule out."
        )
