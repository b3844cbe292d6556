"""Candidate ids: one per row of an index, looked up in both directions."""

import collections
import itertools

import numpy as np
import tensorflow as tf

# What fills a result row that has fewer than k hits. It can be no candidate's id.
PADDING = {
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
    a graph, without a table of fixed content.

    Args:
      ids: `[N]` distinct ids, as `checked` returns them.
    """

    def __init__(self, ids):
        super().__init__()
        keys, order, salt = _sorted_keys(ids)
        padded = _padded(ids)
        self._ids, self._numbers = _variable(padded, "ids"), _lent(padded)
        self._keys = _variable(keys, "keys")
        self._order = _variable(order, "order")
        self._salt = tf.Variable(salt, trainable=False, name="salt")

    @property
    def dtype(self):
        """Dtype of the ids."""
        return self._ids.dtype

    @property
    def padding(self):
        """The value that stands for "no id": -1, or "" for strings."""
        return PADDING[self.dtype]

    def assign(self, ids):
        """Replaces all ids by others of the same dtype, in any number."""
        keys, order, salt = _sorted_keys(ids)
        padded = _padded(ids)
        self._ids.assign(padded)
        self._numbers = _lent(padded)
        self._keys.assign(keys)
        self._order.assign(order)
        self._salt.assign(salt)

    def variables(self):
        """All variables, a list."""
        return [self._ids, self._keys, self._order, self._salt]

    def num_rows(self):
        """Number of ids, a scalar int32 tensor."""
        return tf.shape(self._ids)[0] - 1

    def any_negative(self):
        """Whether some id is a number below 0, a scalar bool tensor."""
        if self.dtype == tf.string:
            return tf.constant(False)
        # The keys of numbers are these, and sorted.
        return tf.reduce_any(self._keys[:1] < 0)

    def gather(self, positions):
        """Ids of the rows `positions` (int32, any shape); padding where -1."""
        if self._numbers is not None and tf.executing_eagerly():
            # A third of the time of operations, which shows in a single query's.
            return tf.constant(self._numbers[np.asarray(positions) + 1])
        positions = tf.raw_ops.AddV2(x=positions, y=1)
        if isinstance(self._ids, tf.distribute.DistributedValues):
            return tf.gather(self._ids, positions)
        # The same in half the time when eager.
        return self._ids.sparse_read(positions)

    def positions(self, ids):
        """Rows of `ids` (any shape) as int32; -1 where the index has no such id."""
        flat = tf.reshape(ids, [-1])
        place = tf.searchsorted(self._keys, _keys(flat, self._salt))
        place = tf.minimum(place, self.num_rows() - 1)
        candidate = tf.gather(self._order, place)
        match = tf.equal(self.gather(candidate), flat)
        return tf.reshape(tf.where(match, candidate, -1), tf.shape(ids))

    def convert(self, exclusions):
        """Turns `exclusions` into a `[B, E]` tensor of ids.

        Raises:
          ValueError: for another dtype than the ids' or another rank than 2.
        """
        if isinstance(exclusions, tf.RaggedTensor):
            _check_exclusion_dtype(exclusions.dtype, self.dtype)
            return exclusions.to_tensor(default_value=self.padding)
        # Python numbers have no dtype of their own, arrays do.
        hint = None if hasattr(exclusions, "dtype") else self.dtype
        exclusions = tf.convert_to_tensor(exclusions, dtype_hint=hint)
        _check_exclusion_dtype(exclusions.dtype, self.dtype)
        if exclusions.shape.rank not in (None, 2):
            raise ValueError(
                "`exclusions` must have shape [queries, ids to exclude], received "
                f"shape {exclusions.shape}. Fill short rows with {self.padding!r}."
            )
        return exclusions


def checked(identifiers, num_rows):
    """Returns `identifiers` as a `[num_rows]` tensor, after all checks.

    Args:
      identifiers: `[num_rows]` ids, or None for the row numbers as int32.
      num_rows: Number of candidates.

    Raises:
      ValueError: if they are no vector of that length, of no allowed dtype, not
        distinct, NaN, or contain the padding id.
    """
    if identifiers is None:
        return tf.range(num_rows)
    ids = tf.convert_to_tensor(identifiers)
    if ids.shape.rank != 1:
        raise ValueError(
            f"`identifiers` must have shape [{num_rows}], received shape "
            f"{ids.shape}. Pass one id per candidate row."
        )
    if ids.dtype not in PADDING:
        allowed = ", ".join(dtype.name for dtype in PADDING)
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
    padding = np.asarray(PADDING[ids.dtype], values.dtype)
    if ids.dtype == tf.string:
        padding = b""
    if (values == padding).any():
        raise ValueError(
            f"`identifiers` contains {PADDING[ids.dtype]!r}, which is kept for rows "
            "of a result that have too few hits. Give that candidate another id."
        )
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError("`identifiers` contains NaN. Give each row a number.")
    _check_distinct(values)
    return ids


def _check_distinct(values):
    if len(set(values.tolist())) == len(values):
        return
    counts = collections.Counter(values.tolist())
    name, count = counts.most_common(1)[0]
    repeated = sum(1 for c in counts.values() if c > 1)
    raise ValueError(
        f"`identifiers` must be distinct, but {name!r} occurs {count} times "
        f"({repeated} ids are repeated). Index each candidate once."
    )


def _check_exclusion_dtype(dtype, expected):
    if dtype != expected:
        raise ValueError(
            f"`exclusions` must be {expected.name} like the ids of the index, "
            f"received {dtype.name}. Cast them, or index ids of that dtype."
        )


def _variable(value, name):
    return tf.Variable(value, shape=[None], trainable=False, name=name)


def _padded(ids):
    """With the padding first, so that position -1 is looked up like all others."""
    return tf.concat([tf.constant([PADDING[ids.dtype]], ids.dtype), ids], axis=0)


def _lent(padded):
    """The memory of eager numbers as a NumPy array, not copied; None for strings."""
    return None if padded.dtype == tf.string else np.asarray(padded)


def _keys(ids, salt):
    """Sortable keys of ids: the number itself, or a salted hash of a string."""
    if ids.dtype == tf.string:
        salted = tf.strings.join([salt, ids])
        return tf.strings.to_hash_bucket_fast(salted, _NUM_HASHES)
    return tf.cast(ids, tf.float64 if ids.dtype.is_floating else tf.int64)


def _sorted_keys(ids):
    """Distinct keys in ascending order, the rows they belong to, and the salt."""
    for attempt in itertools.count():
        salt = str(attempt)
        keys = _keys(ids, salt).numpy()
        order = np.argsort(keys, kind="stable").astype(np.int32)
        keys = keys[order]
        # Two ids of one hash (about once in 20 million corpora of a million ids)
        # would hide each other: another salt parts them.
        if (keys[1:] != keys[:-1]).all():
            return keys, order, salt
