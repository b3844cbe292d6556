"""Candidate ids: one per row of an index, looked up in both directions."""

from __future__ import annotations

import collections

import numpy as np
import tensorflow as tf

from tfrs_negatives.types import ListsLike, TensorLike

# What stands where a result row has no hit. It may be the id of a candidate as well:
# what tells of a missing hit is its score, -inf.
FILLERS = {
    tf.int32: -1,
    tf.int64: -1,
    tf.string: "",
    tf.float32: -1.0,
    tf.float64: -1.0,
}

# String ids are found by a 63-bit hash, then compared, so that lookups are exact.
_NUM_HASHES = 2**63 - 1


class Identifiers(tf.__internal__.tracking.AutoTrackable):
    """The ids of an index, as variables that a refresh assigns in place.

    Ids are sorted by an int64 or float64 key (for strings a hash that no two ids
    of the corpus share), so that the row of an id is found by binary search inside
    a graph, without a table of fixed content. Any number and any string can be an id,
    negative numbers and "" among them.

    Args:
      ids: `[N]` distinct ids, as `checked` returns them.

    Attributes:
      are_row_numbers: Whether nobody gave ids, so that these are the row numbers. For
        the owner to set.
    """

    are_row_numbers = False

    def __init__(self, ids: tf.Tensor) -> None:
        super().__init__()
        keys, order, salt = _sorted_keys(ids)
        filled = _filled(ids)
        self._ids, self._numbers = _variable(filled, "ids"), _lent(filled)
        self._keys = _variable(keys, "keys")
        self._order = _variable(order, "order")
        self._salt = tf.Variable(salt, trainable=False, name="salt")

    @property
    def dtype(self) -> tf.DType:
        """Dtype of the ids."""
        return self._ids.dtype

    def assign(self, ids: tf.Tensor) -> None:
        """Replaces all ids by others of the same dtype, in any number."""
        keys, order, salt = _sorted_keys(ids)
        filled = _filled(ids)
        self._ids.assign(filled)
        self._numbers = _lent(filled)
        self._keys.assign(keys)
        self._order.assign(order)
        self._salt.assign(salt)

    def variables(self) -> list[tf.Variable]:
        """All variables, a list."""
        return [self._ids, self._keys, self._order, self._salt]

    def values(self) -> tf.Tensor:
        """All ids, `[N]`."""
        return self._ids[1:]

    def num_rows(self) -> tf.Tensor:
        """Number of ids, a scalar int32 tensor."""
        return tf.shape(self._ids)[0] - 1

    def gather(self, positions: tf.Tensor) -> tf.Tensor:
        """Ids of the rows `positions` (int32, any shape); a filler where -1."""
        if self._numbers is not None and tf.executing_eagerly():
            # A third of the time of operations, which shows in a single query's.
            return tf.constant(self._numbers[np.asarray(positions) + 1])
        positions = tf.raw_ops.AddV2(x=positions, y=1)
        if isinstance(self._ids, tf.distribute.DistributedValues):
            return tf.gather(self._ids, positions)
        # The same in half the time when eager.
        return self._ids.sparse_read(positions)

    def positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Rows of `ids` (any shape) as int32; -1 where the index has no such id."""
        flat = tf.reshape(ids, [-1])
        place = tf.searchsorted(self._keys, _keys(flat, self._salt))
        place = tf.minimum(place, self.num_rows() - 1)
        candidate = tf.gather(self._order, place)
        match = tf.equal(self.gather(candidate), flat)
        return tf.reshape(tf.where(match, candidate, -1), tf.shape(ids))

    def positions_of_any(self, name: str, ids: tf.Tensor) -> tf.Tensor:
        """The same of ids of another integer type, which may be a wider one.

        Raises:
          ValueError: Strings for numbers, or the reverse.
        """
        if (ids.dtype == tf.string) != (self.dtype == tf.string):
            raise ValueError(
                f"`{name}` ({ids.dtype.name}) can never equal the ids of the index "
                f"({self.dtype.name}): pass both as strings or both as numbers."
            )
        if ids.dtype == self.dtype:
            return self.positions(ids)
        # A cast to a narrower dtype would make other ids of them.
        cast = tf.cast(ids, self.dtype)
        is_same = tf.equal(tf.cast(cast, ids.dtype), ids)
        return tf.where(is_same, self.positions(cast), -1)

    def positions_of_exclusions(self, exclusions: ListsLike) -> tf.Tensor:
        """Rows of excluded ids.

        Args:
          exclusions: Ids `[B, E]`, or a `tf.RaggedTensor`; Python lists too.

        Returns:
          `[B, E]` int32; -1 where the index has no such id and behind short rows.

        Raises:
          ValueError: for another dtype than the ids' or another rank than 2.
        """
        if isinstance(exclusions, tf.RaggedTensor):
            _check_exclusion_dtype(exclusions.dtype, self.dtype)
            found = exclusions.with_flat_values(self.positions(exclusions.flat_values))
            return found.to_tensor(-1)
        # Python numbers have no dtype of their own, arrays do.
        hint = None if hasattr(exclusions, "dtype") else self.dtype
        exclusions = tf.convert_to_tensor(exclusions, dtype_hint=hint)
        _check_exclusion_dtype(exclusions.dtype, self.dtype)
        if exclusions.shape.rank not in (None, 2):
            raise ValueError(
                "`exclusions` must have shape [queries, ids to exclude], received "
                f"shape {exclusions.shape}. Rows of different lengths are a "
                "tf.RaggedTensor."
            )
        return self.positions(exclusions)


def checked(identifiers: TensorLike | None, num_rows: int) -> tf.Tensor:
    """Returns `identifiers` as a `[num_rows]` tensor, after all checks.

    Args:
      identifiers: `[num_rows]` ids, or None for the row numbers as int32.
      num_rows: Number of candidates.

    Raises:
      ValueError: if they are no vector of that length, of no allowed dtype, not
        distinct, or NaN.
    """
    if identifiers is None:
        return tf.range(num_rows)
    ids = tf.convert_to_tensor(identifiers)
    if ids.shape.rank != 1:
        raise ValueError(
            f"`identifiers` must have shape [{num_rows}], received shape "
            f"{ids.shape}. Pass one id per candidate row."
        )
    if ids.dtype not in FILLERS:
        allowed = ", ".join(dtype.name for dtype in FILLERS)
        raise ValueError(
            f"`identifiers` must be one of {allowed}, received {ids.dtype.name}. "
            "Cast them first."
        )
    if ids.shape[0] != num_rows:
        raise ValueError(
            f"`candidates` has {num_rows} rows, but `identifiers` has "
            f"{ids.shape[0]}. Pass one id per candidate row, in the same order."
        )
    values = ids.numpy()
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError("`identifiers` contains NaN. Give each row a number.")
    check_distinct("identifiers", values)
    return ids


def check_distinct(name: str, values: np.ndarray) -> None:
    """Raises `ValueError` where an id of the array `values` occurs more than once."""
    if len(set(values.tolist())) == len(values):
        return
    counts = collections.Counter(values.tolist())
    example, count = counts.most_common(1)[0]
    repeated = sum(1 for c in counts.values() if c > 1)
    raise ValueError(
        f"`{name}` must be distinct, but {example!r} occurs {count} times "
        f"({repeated} ids are repeated). Keep one row of each."
    )


def _check_exclusion_dtype(dtype: tf.DType, expected: tf.DType) -> None:
    if dtype != expected:
        raise ValueError(
            f"`exclusions` must be {expected.name} like the ids of the index, "
            f"received {dtype.name}. Cast them, or index ids of that dtype."
        )


def _variable(value: TensorLike, name: str) -> tf.Variable:
    return tf.Variable(value, shape=[None], trainable=False, name=name)


def _filled(ids: tf.Tensor) -> tf.Tensor:
    """With the filler first, so that position -1 is looked up like all others."""
    return tf.concat([tf.constant([FILLERS[ids.dtype]], ids.dtype), ids], axis=0)


def _lent(filled: tf.Tensor) -> np.ndarray | None:
    """The memory of eager numbers as a NumPy array, not copied; None for strings."""
    return None if filled.dtype == tf.string else np.asarray(filled)


def _keys(ids: tf.Tensor, salt: str | tf.Variable) -> tf.Tensor:
    """Sortable keys of ids: the number itself, or a salted hash of a string."""
    if ids.dtype == tf.string:
        salted = tf.strings.join([salt, ids])
        return tf.strings.to_hash_bucket_fast(salted, _NUM_HASHES)
    return tf.cast(ids, tf.float64 if ids.dtype.is_floating else tf.int64)


def _sorted_keys(ids: tf.Tensor) -> tuple[np.ndarray, np.ndarray, str]:
    """Distinct keys in ascending order, the rows they belong to, and the salt."""
    attempt = 0
    while True:
        salt = str(attempt)
        keys = _keys(ids, salt).numpy()
        order = np.argsort(keys, kind="stable").astype(np.int32)
        keys = keys[order]
        # Two ids of one hash (about once in 20 million corpora of a million ids)
        # would hide each other: another salt parts them.
        if (keys[1:] != keys[:-1]).all():
            return keys, order, salt
        attempt += 1
