"""Keys and lists of ids that come with the rows and candidates of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable, pairs
from tfrs_negatives.types import ListsLike, NamedLike, TensorLike


class Keys(NamedTuple):
    """One kind of key, such as the user, of rows or of candidates.

    Attributes:
      values: [n] int64, strings as hashes. Every value is a key.
      mask: [n] bool, where there is a key; None: everywhere.
    """

    values: tf.Tensor
    mask: tf.Tensor | None = None

    def map(self, function: Callable[[tf.Tensor], tf.Tensor]) -> Keys:
        """The keys after `function`, which moves rows of a tensor."""
        mask = None if self.mask is None else function(self.mask)
        return Keys(function(self.values), mask)

    def present(self) -> tf.Tensor:
        """[n] bool, where there is a key."""
        if self.mask is None:
            return tf.ones_like(self.values, tf.bool)
        return self.mask

    def respects(self) -> list[tf.Tensor]:
        """Integers [n] that are equal for rows that share the key, or both lack it."""
        if self.mask is None:
            return [self.values]
        values = tf.where(self.mask, self.values, tf.zeros_like(self.values))
        return [values, tf.cast(self.mask, tf.int64)]


#: `Keys` by their names; that of a single key is None.
NamedKeys: TypeAlias = dict[str | None, Keys]


def vector(name: str, values: TensorLike, size: tf.Tensor | None = None) -> tf.Tensor:
    """Returns `values` as a tensor, checked to be [size], or of any size for None."""
    values = _checks.dense(name, values)
    hint = "Pass a vector; squeeze a trailing dimension of 1."
    _checks.check_rank(name, values, (1,), hint)
    return values if size is None else _checks.check_size(name, values, 0, size, hint)


def keys_of_batch(
    query_keys: NamedLike | None,
    query_key_mask: NamedLike | None,
    candidate_keys: NamedLike | None,
    candidate_key_mask: NamedLike | None,
    num_rows: tf.Tensor,
    num_candidates: tf.Tensor,
) -> tuple[NamedKeys, NamedKeys]:
    """The keys of rows, and those that candidates have of their own.

    Args:
      query_keys, query_key_mask, candidate_keys, candidate_key_mask: As in
        `tasks.Retrieval`.
      num_rows: B, scalar int32.
      num_candidates: C, scalar int32.

    Returns:
      Two dicts, the rows' in the order of names. Both are empty without keys.

    Raises:
      ValueError: Other dtypes or shapes; a mask without keys; candidates' keys whose
        names the rows' do not have, or strings beside integers.
    """
    of_rows = _vectors("query_keys", query_keys, num_rows)
    if candidate_keys is not None:
        need(query_keys, "candidate_keys", "query_keys", "[B]")
    unknown = sorted(str(n) for n in _as_dict(candidate_keys) if n not in of_rows)
    if unknown:
        raise ValueError(
            f"`candidate_keys` has {unknown}, `query_keys` has "
            f"{sorted(map(str, of_rows))}: expected the same names (pass "
            "both as one vector, or both as dicts)."
        )
    of_candidates = _vectors("candidate_keys", candidate_keys, num_candidates)
    for name, values in of_candidates.items():
        check_comparable("candidate_keys", values, "query_keys", of_rows[name])
    return (
        _with_masks("query_keys", of_rows, "query_key_mask", query_key_mask),
        _with_masks(
            "candidate_keys", of_candidates, "candidate_key_mask", candidate_key_mask
        ),
    )


def need(value: object | None, asked: str, name: str, shape: str) -> None:
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
      starts, ends: [B] int32, where each row's list begins and ends.
      longest: The longest list's length, scalar int32.
      is_ragged: Whether only the ids themselves tell how long lists are.

    Raises:
      ValueError: Another rank or number of rows; strings among integers.
    """

    def __init__(
        self,
        known: ListsLike,
        comparable: tf.Tensor,
        num_rows: tf.Tensor,
        name: str = "known_positive_ids",
    ) -> None:
        self.is_ragged = isinstance(known, tf.RaggedTensor)
        known = known if self.is_ragged else _checks.dense(name, known)
        hint = "Pass one list of ids for each row: [B, M], or a ragged [B, None]."
        _checks.check_rank(name, known, (2,), hint)
        check_comparable(name, known, "candidate_ids", comparable)
        if self.is_ragged:
            starts, ends = known.row_starts(), known.row_limits()
            starts = _checks.check_size(name, starts, 0, num_rows, hint)
            # The longest of no lists is 0, not the least integer.
            lengths = tf.concat([[0], tf.cast(known.row_lengths(), tf.int32)], axis=0)
            self.longest = tf.reduce_max(lengths)
            self.rows = tf.cast(known.value_rowids(), tf.int32)
            flat = known.values
        else:
            known = _checks.check_size(name, known, 0, num_rows, hint)
            self.longest = _checks.size(known, 1)
            starts = tf.range(num_rows) * self.longest
            ends = starts + self.longest
            flat = tf.reshape(known, [-1])
            self.rows = tf.range(tf.size(flat)) // tf.maximum(self.longest, 1)
        self.starts, self.ends = tf.cast(starts, tf.int32), tf.cast(ends, tf.int32)
        self.ids = as_int64(name, flat)

    def identities(self, num_rows: tf.Tensor) -> tf.Tensor:
        """[B] int64, equal for rows that know the same; the order does not matter."""
        # A sum of hashes; different lists agree with a probability of 2^-64.
        hashes = pairs(tf.zeros_like(self.ids), self.ids)
        return tf.math.unsorted_segment_sum(hashes, self.rows, num_rows)


def _as_dict(keys: NamedLike | None) -> dict[str | None, TensorLike]:
    if keys is None:
        return {}
    return dict(keys.items()) if isinstance(keys, Mapping) else {None: keys}


def _label(name: str, key: str | None) -> str:
    return name if key is None else f"{name}[{key!r}]"


def _vectors(
    name: str, keys: NamedLike | None, size: tf.Tensor
) -> dict[str | None, tf.Tensor]:
    """Keys as tensors [size], in the order of their names."""
    keys = _as_dict(keys)
    return {
        key: vector(_label(name, key), keys[key], size) for key in sorted(keys, key=str)
    }


def _with_masks(
    name: str,
    keys: dict[str | None, tf.Tensor],
    mask_name: str,
    mask: NamedLike | None,
) -> NamedKeys:
    masks = _as_dict(mask)
    if any(key not in keys for key in masks):
        raise ValueError(
            f"`{mask_name}` says which rows have a key: expected the names of "
            f"`{name}`, {sorted(map(str, keys))}, received {sorted(map(str, masks))}. "
            "Pass both as one vector, or both as dicts."
        )
    found = {}
    for key, values in keys.items():
        mask = masks.get(key)
        if mask is not None:
            mask = _checks.check_mask(mask_name, mask, _checks.size(values))
        found[key] = Keys(as_int64(_label(name, key), values), mask)
    return found
